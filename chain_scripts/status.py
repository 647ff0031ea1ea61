"""`efedllm status`: the network as the chain has it, at one block."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from efedllm.options import add_chain_options, emit, table

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain
    from efedllm.chain.channels import Account
    from efedllm.chain.participants import Offer
    from efedllm.chain.stake_registry import Participant


@dataclass(frozen=True)
class Network:
    """What the chain says: models (name, layers) by id; participants, accounts and offers by address; open games and
    faults by worker, empty where nobody can slash."""

    block: int
    models: Mapping[bytes, tuple[str, int]]
    participants: Mapping[str, Participant]
    accounts: Mapping[str, Account]
    offers: Mapping[str, Offer]
    records: Mapping[str, tuple[int, int]]
    own: tuple[str, int, int] | None  # address, wei, base units of the token

    def name(self, model_id: bytes) -> str:
        """A model whose registration is not confirmed yet has none."""
        return self.models[model_id][0] if model_id in self.models else model_id.hex()[:12]

    @property
    def disputes(self) -> tuple[int, int]:
        """Open games and faults in all."""
        return sum(games for games, _ in self.records.values()), sum(faults for _, faults in self.records.values())

    def gaps(self, model_id: bytes) -> list[tuple[int, int]]:
        """Layers of the model that no active worker serves."""
        from efedllm.chain.participants import uncovered

        offers = [offer for offer in self.offers.values() if offer.model_id == model_id]
        return uncovered(offers, self.models[model_id][1])


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "status",
        help="show models, workers, prices, stakes and what is missing",
        description="Show models, workers, prices, stakes and which layers lack workers, all as of one block.",
    )
    add_chain_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _status)


async def _status(arguments: Namespace, chain: Chain) -> int:
    network = await _read(arguments, chain)
    emit(arguments, _result(chain, network), _text(chain, network))
    return 0


async def _read(arguments: Namespace, chain: Chain) -> Network:
    from efedllm.chain.events import ModelRegistered
    from efedllm.chain.keys import KeyRole, KeyStore
    from efedllm.chain.participants import find_offers, find_participants, gather_some
    from efedllm.chain.stake_registry import Role

    block = await chain.rpc.block_number()
    models: dict[bytes, tuple[str, int]] = {}
    async for page in chain.events("ModelRegistry").read(last=block):
        for event in page.events:
            if isinstance(event, ModelRegistered):
                models[event.model_id] = (event.name, event.spec.layers)
    participants = await find_participants(chain, block)
    workers = [address for address, state in participants.items() if state.role is Role.WORKER]
    accounts = await gather_some(chain.channels.account_of(worker, block) for worker in workers)
    game = chain.game
    records = [] if game is None else await gather_some(game.record_of(worker, block) for worker in workers)
    store, own = KeyStore(arguments.data_dir), None
    if store.has(KeyRole.COLD):
        address = store.find(KeyRole.COLD).address
        own = (address, await chain.rpc.balance(address, block), await chain.token.balance_of(address, block))
    return Network(
        block=block,
        models=models,
        participants=participants,
        accounts=dict(zip(workers, accounts, strict=True)),
        offers={offer.worker: offer for offer in await find_offers(chain, block=block)},
        records=dict(zip(workers, records, strict=game is not None)),
        own=own,
    )


def _result(chain: Chain, network: Network) -> dict[str, object]:
    return {
        "chain_id": chain.deployment.chain_id,
        "block": network.block,
        "models": [
            {"model_id": "0x" + model_id.hex(), "name": name, "layers": layers, "uncovered": network.gaps(model_id)}
            for model_id, (name, layers) in network.models.items()
        ],
        "workers": [_worker(network, worker) for worker in network.accounts],
        "verifiers": [
            {"verifier": address, "hot_key": state.hot_key, "stake": str(state.stake), "jailed": state.jailed}
            for address, state in network.participants.items()
            if address not in network.accounts
        ],
        "disputes": _disputes(network) if chain.game else None,
        "own": network.own and {"address": network.own[0], "eth": str(network.own[1]), "work": str(network.own[2])},
    }


def _disputes(network: Network) -> dict[str, object]:
    open_games, faults = network.disputes
    return {"open_games": open_games, "faults": faults}


def _worker(network: Network, worker: str) -> dict[str, object]:
    state, account, offer = network.participants[worker], network.accounts[worker], network.offers.get(worker)
    open_games, faults = network.records.get(worker, (0, 0))
    return {
        "worker": worker,
        "hot_key": state.hot_key,
        "stake": str(state.stake),
        "unbonding": str(state.unbonding),
        "jailed": state.jailed,
        "open_games": open_games,
        "faults": faults,
        "pending": str(account.pending),
        "earnings": str(account.earnings),
        "service": offer
        and {
            "model_id": "0x" + offer.model_id.hex(),
            "start": offer.start,
            "end": offer.end,
            "prompt_price": str(offer.prompt_price),
            "token_price": str(offer.token_price),
            "endpoint": offer.endpoint,
        },
    }


def _text(chain: Chain, network: Network) -> str:
    from efedllm.chain.amounts import format_amount

    def show(amount: int) -> str:
        return format_amount(amount, chain.deployment.token_decimals)

    parts = [f"chain {chain.deployment.chain_id}, block {network.block}; amounts in {chain.deployment.token_symbol}"]
    models = [
        (name, layers, _coverage(network.gaps(model_id)), "0x" + model_id.hex())
        for model_id, (name, layers) in network.models.items()
    ]
    parts.append(table(("model", "layers", "coverage", "id"), models) if models else "no models are registered")
    rows = []
    for worker, account in network.accounts.items():
        state, offer = network.participants[worker], network.offers.get(worker)
        served = f"{network.name(offer.model_id)} {offer.start}:{offer.end}" if offer else _why_idle(state)
        prices = (show(offer.prompt_price), show(offer.token_price)) if offer else ("", "")
        money = (show(state.stake), show(account.pending), show(account.earnings))
        rows.append((worker, served, *prices, *money, *network.records.get(worker, ())))
    disputes = ("open games", "faults") if network.records else ()
    headings = ("worker", "serves", "per prompt token", "per token", "stake", "pending", "earnings", *disputes)
    parts.append(table(headings, rows) if rows else "no workers are registered")
    verifiers = [(a, show(state.stake)) for a, state in network.participants.items() if a not in network.accounts]
    if verifiers:
        parts.append(table(("verifier", "stake"), verifiers))
    if chain.game:
        open_games, faults = network.disputes
        parts.append(f"disputes: {open_games} open, {faults} faults proven; the game at {chain.game.address} slashes")
    if network.own:
        parts.append(f"you: {network.own[0]} with {show(network.own[2])} and {format_amount(network.own[1], 18)} ETH")
    return "\n\n".join(parts)


def _coverage(gaps: list[tuple[int, int]]) -> str:
    return "lacks workers for layers " + ", ".join(f"{start}:{end}" for start, end in gaps) if gaps else "complete"


def _why_idle(state: Participant) -> str:
    if state.jailed:
        return "nothing: jailed"
    if state.unbonding:
        return "nothing: unbonding"
    return "nothing" if state.stake else "nothing: no stake"
