"""The demo's dispute: what the chain said, transaction by transaction, and what came of it."""

import asyncio
from dataclasses import dataclass, field

from rich.console import Console

from efedllm.chain import local
from efedllm.chain.amounts import parse_amount
from efedllm.chain.chain import Chain
from efedllm.chain.game_events import Collected, Divided, Ended, Opened, Proven, Refunded
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.client.generation import Share
from efedllm.errors import EfedllmError
from efedllm.protocol.descent import Descent
from efedllm.protocol.game import Phase
from efedllm.protocol.objects import Request
from efedllm.protocol.trace_case import shape_of

from .dispute_story import Told, story
from .local_network import STAKE, LocalNetwork

GAME_SECONDS = 300
COLLECT_SECONDS = 60


class DemoError(EfedllmError):
    """Something came out otherwise than it should."""


@dataclass(frozen=True)
class Answer:
    """What a job brought: text, the signed request, and who had which part in it."""

    text: str
    request: Request
    shares: list[Share]

    @property
    def workers(self) -> list[str]:
        return [share.worker for share in self.shares]

    @property
    def cost(self) -> int:
        """Base units."""
        return sum(share.cost for share in self.shares)


@dataclass
class Stage:
    """A terminal, and numbered headings on it."""

    console: Console
    number: int = 0

    def scene(self, title: str) -> None:
        self.number += 1
        self.console.print(f"──── {self.number}. {title} ────", style="green")


@dataclass
class Sentence:
    """What the chain decided about a worker's request, and in which transactions. Amounts in base units."""

    worker: str
    descent: Descent
    names: dict[str, str]
    told: list[Told] = field(default_factory=list)
    slashed: int = 0
    pot: int = 0
    burned: int = 0
    refunded: int = 0
    collectable_at: int = 0

    def gas(self, *senders: str) -> int:
        """That these used, without any: all."""
        return sum(one.gas for one in self.told if not senders or one.sender in senders)


async def watch_game(stage: Stage, network: LocalNetwork, answer: Answer, shard: int) -> Sentence:
    """Show the game about a job's receipt of one shard, to the refund.

    Raises DemoError if it takes too long, or ends in another way than it should.
    """
    share = answer.shares[shard]
    assert share.receipt is not None
    async with await Chain.connect(network.rpc, network.deployment) as chain:
        model = await chain.models.spec_of(answer.request.modelId)
        descent = Descent(shape_of(model, answer.request, share.receipt.receipt))
        verifier = KeyStore(network.folder / "verifier").find(KeyRole.HOT).address
        names = {verifier: "verifier", await chain.stakes.hot_key_of(share.worker): "worker"}
        sentence = Sentence(share.worker, descent, names)
        try:
            async with asyncio.timeout(GAME_SECONDS):
                async for told in story(chain, descent, network.amount, names):
                    show(stage.console, network, sentence, told)
                    note(sentence, told)
                    if sentence.refunded:
                        break
        except TimeoutError as error:
            raise DemoError(f"the game did not end within {GAME_SECONDS} s") from error
        state = await chain.stakes.participant_of(share.worker)
        jailed = "jailed" if state.jailed else "not jailed"
        stage.console.print(f"\n  {share.worker} is {jailed}; its stake is {network.amount(state.stake)}")
    if not state.jailed or not sentence.slashed or sentence.refunded != share.cost:
        raise DemoError(f"the game ended otherwise than it should: {sentence}")
    return sentence


async def watch_collection(stage: Stage, network: LocalNetwork, sentence: Sentence) -> int:
    """Until the verifier has collected the pot; base units. Raises DemoError if it does not, or gets something else."""
    async with await Chain.connect(network.rpc, network.deployment) as chain:
        try:
            async with asyncio.timeout(COLLECT_SECONDS):
                async for told in story(chain, sentence.descent, network.amount, sentence.names):
                    for event in told.events:
                        if isinstance(event, Collected):
                            show(stage.console, network, sentence, told)
                            if event.amount != sentence.pot:
                                raise DemoError(f"{event.amount} were collected from a pot of {sentence.pot}")
                            return event.amount
        except TimeoutError as error:
            raise DemoError(f"nothing was collected within {COLLECT_SECONDS} s") from error
    raise AssertionError("the story has no end")


async def check_innocent(network: LocalNetwork, workers: list[str]) -> None:
    """Raises DemoError where anything was proven of these, or taken from them."""
    async with await Chain.connect(network.rpc, network.deployment) as chain:
        assert chain.game is not None
        for worker in workers:
            games, faults = await chain.game.record_of(worker)
            state = await chain.stakes.participant_of(worker)
            is_whole = state.stake == parse_amount(STAKE, chain.deployment.token_decimals)
            if games or faults or state.jailed or not is_whole:
                raise DemoError(f"the honest worker {worker} was slashed, or is to be: {state}")


def jump(console: Console, network: LocalNetwork, sentence: Sentence) -> None:
    """Turn the chain's clock to when the pot is payable, and say so."""
    now = int(local.rpc(network.rpc, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    seconds = max(network.deployment.parameters.challenge_window_seconds, sentence.collectable_at - now) + 2
    local.rpc(network.rpc, "evm_increaseTime", seconds)
    console.print(f"  the local chain's clock is turned forward by {seconds} s: until then claims can be challenged,")
    console.print("  and others could win a game about the same request and share in the pot")


def note(sentence: Sentence, told: Told) -> None:
    """What one more transaction decided."""
    sentence.told.append(told)
    for event in told.events:
        match event:
            case Opened() if event.worker != sentence.worker:
                raise DemoError(f"a game was opened against {event.worker}, which is honest")
            case Ended() if event.outcome is not Phase.CHALLENGER_WON:
                raise DemoError("the worker won the game")
            case Proven():
                sentence.collectable_at = event.collectable_at
            case Divided():
                sentence.slashed, sentence.pot, sentence.burned = event.amount, event.pot, event.burned
            case Refunded():
                sentence.refunded += event.amount


def show(console: Console, network: LocalNetwork, sentence: Sentence, told: Told) -> None:
    """A line for a transaction, whole hash included, and one for whatever follows from it."""
    first, *others = told.texts
    line = f"  {told.sender:8} {first:<62} {told.gas:>8,} gas  "
    console.print(line, f"[dim]0x{told.transaction.hex()}[/dim]", sep="")
    for text in others:
        console.print(f"  {'':8} {text}")
