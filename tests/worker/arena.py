"""Workers with claims that can be disputed, on a real chain with a game, and challengers that play by a script."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from chain_scripts.creation import Creator, creation_address
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding, VoucherClaim
from efedllm.chain.deployment import Deployment
from efedllm.chain.dispute_game import BookLeaf, DisputeGame, Draw, Part
from efedllm.chain.errors import Reverted
from efedllm.chain.events import Claimed
from efedllm.chain.game_events import Demanded, LeafRevealed, Opened, Revealed, TracePosted
from efedllm.chain.local import AnvilProcess
from efedllm.chain.origin import Event
from efedllm.chain.stake_registry import Role
from efedllm.chain.transactions import UnlockedAccount
from efedllm.model.load import read_manifest
from efedllm.model.spec import model_spec
from efedllm.protocol import eip712
from efedllm.protocol.claims import GROUP, unpack_entries
from efedllm.protocol.descent import Descent, Spot
from efedllm.protocol.game import Game, Paper, Phase, Side
from efedllm.protocol.merkle import node_hash, prove
from efedllm.protocol.model_spec import ModelSpec, model_id
from efedllm.protocol.objects import Hop
from efedllm.protocol.trace_case import shape_of
from efedllm.protocol.values import ZERO_ADDRESS
from efedllm.protocol.vouchers import keccak_node
from tests.support.chain import WORK, new_account
from tests.worker.network import PROMPT_PRICE, TOKEN_PRICE, WorkerGroup
from tests.worker.payer import Payer, ask
from worker.defender import Build, Defender
from worker.notices import Notices
from worker.store import Store

MOVE_SECONDS = 600
STAKE, BOND = 1000 * WORK, 10 * WORK


async def deploy(chain: Chain) -> Deployment:
    """The contracts anew, with a game whose deadlines are long and whose every receipt is drawn."""
    account = (await chain.rpc.accounts())[0]
    creator = Creator(chain.rpc, chain.sender(UnlockedAccount(account)), lambda _: None)
    token = chain.token.address
    models = await creator.create("ModelRegistry")
    beacon = await creator.create("Beacon", 1, 1)
    paper, statement, trace = [await creator.create(f"{name}Judge") for name in ("Paper", "Statement", "Trace")]
    parts = [await creator.create(f"{name}Verifier") for name in ("Attention", "Sampling")]
    step_verifier = await creator.create("StepVerifier", *parts)
    nonce = await chain.rpc.transaction_count(account)
    channels, game = (creation_address(account, nonce + at) for at in (1, 2))
    unbonding = 100 * MOVE_SECONDS
    stakes = await creator.create("StakeRegistry", (token, models, channels, game, unbonding, 2))
    await creator.create("Channels", (stakes, ZERO_ADDRESS, 0, 3600, 7200, 10))
    shares = (10 * WORK, 1000, 4000, 1000, 10_000)
    judges = (beacon, paper, statement, trace, ZERO_ADDRESS)
    times = (MOVE_SECONDS, 100, 300, 12 * MOVE_SECONDS)
    created = await creator.create("DisputeGame", (stakes, *judges, *times, *shares, BOND, WORK, WORK))
    creator.check_address("DisputeGame", created, game)
    contracts = replace(
        chain.deployment.contracts,
        model_registry=models,
        stake_registry=stakes,
        channels=channels,
        beacon=beacon,
        dispute_game=game,
        step_verifier=step_verifier,
    )
    parameters = replace(
        chain.deployment.parameters,
        challenge_window_seconds=3600,
        withdrawal_delay_seconds=7200,
        unbonding_seconds=unbonding,
    )
    block = await chain.rpc.block_number()
    return replace(chain.deployment, contracts=contracts, parameters=parameters, deploy_block=block - 12)


@dataclass
class Party:
    """A worker of the arena: its keys, what it keeps, and the receipts that it claimed money for."""

    cold: LocalAccount
    hot: LocalAccount
    store: Path
    papers: list[Paper] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


@dataclass
class Arena:
    """One path of workers that served some requests and claimed their fees."""

    chain: Chain
    anvil: AnvilProcess
    model: ModelSpec
    folder: Path
    parties: list[Party]
    payer: Payer
    events: list[dict[str, object]] = field(default_factory=list)

    @property
    def game(self) -> DisputeGame:
        assert self.chain.game is not None
        return self.chain.game

    @classmethod
    async def open(
        cls, chain: Chain, anvil: AnvilProcess, folder: Path, data: Path, ranges: Sequence[tuple[int, int]]
    ) -> Arena:
        """`chain`: one with the contracts of `deploy`."""
        spec = model_spec(read_manifest(folder), chain.deployment.contracts.step_verifier)
        parties = []
        for _ in ranges:
            cold, hot = await new_account(chain, STAKE), await new_account(chain)
            sender = chain.sender(cold)
            await sender.send(chain.stakes.register(Role.WORKER, hot.address))
            await sender.send(chain.token.approve(chain.stakes.address, STAKE))
            await sender.send(chain.stakes.stake(STAKE))
            parties.append(Party(cold, hot, data / f"{cold.address}.sqlite"))
        await chain.sender(parties[0].cold).send(chain.models.register(spec, "tiny"))
        payer = Payer(await new_account(chain, 100 * WORK), Account.create(), chain.deployment.domain)
        arena = cls(chain, anvil, spec, folder, parties, payer)
        sender = chain.sender(payer.account)
        await sender.send(chain.token.approve(chain.channels.address, 100 * WORK))
        funding = [Funding(party.cold.address, WORK) for party in parties]
        await sender.send(chain.channels.fund(payer.session.address, funding))
        return arena

    async def serve(self, ranges: Sequence[tuple[int, int]], prompts: Sequence[list[int]], max_tokens: int) -> None:
        """Requests over all workers, each claimed at once, so that the receipt that it ended with can be disputed."""
        identities = [(party.cold.address, party.hot) for party in self.parties]
        data = self.parties[0].store.parent
        identity, domain = model_id(self.model), self.chain.deployment.domain
        group = WorkerGroup(self.folder, list(ranges), data, identities, identity, domain=domain)
        async with group:
            group.open_channels(self.payer.account.address, self.payer.session.address, WORK, epoch=0)
            books: dict[str, Any] = {}
            for prompt in prompts:
                path = [
                    Hop(party.cold.address, start, end, PROMPT_PRICE, TOKEN_PRICE)
                    for party, (start, end) in zip(self.parties, ranges, strict=True)
                ]
                request = self.payer.request(path, prompt, max_tokens, modelId=identity)
                await ask(group, self.payer, request, prompt, books, epoch=0)
                for worker, party in zip(group.workers, self.parties, strict=True):
                    await self._claim(worker.store, party)
        for worker in group.workers:
            worker.store.close()

    async def _claim(self, store: Store, party: Party) -> None:
        (held,) = store.best_vouchers()
        call = self.chain.channels.claim(party.cold.address, [VoucherClaim.of(held.voucher, held.signature)])
        receipt = await self.chain.sender(party.hot).send(call)
        (claimed,) = [event for event in receipt.events if isinstance(event, Claimed)]
        leaves = store.leaves_under(held.voucher.receiptsRoot)
        assert leaves is not None
        inputs = store.kept.inputs(leaves[-1].receipt_digest)
        assert inputs is not None and len(unpack_entries(claimed.entries)) <= GROUP
        at, last = len(leaves) - 1, leaves[-1]
        proof = prove([leaf.hash() for leaf in leaves], at, keccak_node)
        leaf = BookLeaf(last.receipt_digest, last.before, last.after, at, tuple(proof))
        groups = (bytes(keccak(b"\x00" + claimed.entries)),)
        party.papers.append(inputs.paper)
        party.parts.append(Part(claimed.claim_index, 0, claimed.entries, groups, leaf))

    def defender(self, party: Party, store: Store, build: Build, kind: Any = Defender, **options: Any) -> Defender:
        notices = Notices(lambda _, event: self.events.append(event))
        chain = options.pop("chain", self.chain)
        arguments = (chain, chain.game, party.cold.address, store, chain.sender(party.hot), build, notices, 0.05)
        made: Defender = kind(*arguments, **options)
        return made

    async def challenger(self, party: Party, seed: int = 0) -> Challenger:
        account = await new_account(self.chain, 10_000 * WORK)
        await self.chain.sender(account).send(self.chain.token.approve(self.game.address, 10_000 * WORK))
        return Challenger(self, party, account, random.Random(seed))

    async def moves_of(self, game_id: int) -> AsyncIterator[Event]:
        """What the worker did in a game."""
        async for page in self.chain.events("DisputeGame").read():
            for event in page.events:
                if isinstance(event, TracePosted | Revealed | LeafRevealed) and event.game_id == game_id:
                    yield event

    async def balance(self, address: str) -> int:
        return await self.chain.token.balance_of(address)

    def told(self, event: str) -> list[dict[str, object]]:
        return [one for one in self.events if one["event"] == event]


@dataclass
class Challenger:
    """Whoever opens games against a worker, right or wrong."""

    arena: Arena
    party: Party
    account: LocalAccount
    random: random.Random
    revealed: dict[int, tuple[bytes, ...]] = field(default_factory=dict)

    async def send(self, call: Any) -> Any:
        return await self.arena.chain.sender(self.account).send(call)

    async def open(self, number: int = 0) -> int:
        receipt = await self.send(self.arena.game.open(self.party.papers[number], self.draw(number)))
        (opened,) = [event for event in receipt.events if isinstance(event, Opened)]
        return opened.game_id

    async def demand(self, number: int = 0, chunk: int = 0) -> int:
        call = self.arena.game.demand(self.party.papers[number], self.draw(number), chunk)
        receipt = await self.send(call)
        (demanded,) = [event for event in receipt.events if isinstance(event, Demanded)]
        return demanded.game_id

    def draw(self, number: int) -> Draw:
        return Draw(part=self.party.parts[number])

    def paper_of(self, game: Game) -> Paper:
        domain = self.arena.chain.deployment.domain
        return next(one for one in self.party.papers if eip712.digest(domain, one.receipt) == game.receipt_digest)

    async def move(self, game_id: int, side: Side | None = None) -> bool:
        """A random move that the rules allow, down `side` or any; False where there is none to make."""
        game = await self.arena.game.game_of(game_id)
        paper = self.paper_of(game)
        descent = Descent(shape_of(self.arena.model, paper.request, paper.receipt))
        if game.phase is Phase.SIDE:
            sides = [one for one in (Side.INPUT, Side.BODY, Side.OUTPUT) if descent.words(one)]
            chosen = side if side in sides else self.random.choice(sides)
            await self.send(self.arena.game.choose_side(game_id, chosen, paper))
            return True
        if game.phase is not Phase.PICK:
            return False
        await self._pick(game_id, game, paper, descent)
        return True

    async def _pick(self, game_id: int, game: Game, paper: Paper, descent: Descent) -> None:
        spot = Spot(game.side, game.height, game.path, game.in_row)
        if game.height == 0:  # the side is a single row
            await self.send(self.arena.game.pick_row(game_id, 0, game.node, (), paper))
            return
        children = await self.children(game_id)
        digits = [at for at in range(len(children)) if not descent.is_empty(descent.child(spot, at))]
        digit = self.random.choice(digits)
        child, siblings = children[digit], siblings_of(children, digit)
        if descent.is_row_root(descent.child(spot, digit)):
            await self.send(self.arena.game.pick_row(game_id, digit, child, siblings, paper))
        else:
            await self.send(self.arena.game.pick(game_id, digit, child, siblings))

    async def children(self, game_id: int) -> tuple[bytes, ...]:
        """What was revealed last in a game."""
        revealed = [event async for event in self.arena.moves_of(game_id) if isinstance(event, Revealed)]
        return revealed[-1].children

    async def is_refused(self, call: Any) -> bool:
        try:
            await self.send(call)
        except Reverted:
            return True
        return False


def siblings_of(children: Sequence[bytes], digit: int) -> list[bytes]:
    """The way from one of the children up to the node."""
    found, level = [], list(children)
    while len(level) > 1:
        found.append(level[digit ^ 1])
        level = [node_hash(level[at], level[at + 1]) for at in range(0, len(level), 2)]
        digit >>= 1
    return found
