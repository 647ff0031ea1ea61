"""Start-up and end of a verifier: everything that can be wrong is found before it follows the first claim."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from efedllm.chain.amounts import format_amount, parse_amount
from efedllm.chain.chain import Chain
from efedllm.chain.dispute_game import DisputeGame
from efedllm.chain.follower import Follower
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.rotation import settle_hot_key
from efedllm.chain.stake_registry import Participant, Role
from efedllm.client.records import Reader, RecordSource
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.requests import ModelLimits

from .challenger import Challenger
from .check import Compute, Setting
from .court import ChainCourt
from .errors import StartError
from .findings import Checked
from .following import GameLedger
from .report import Report, describe
from .service import Parts, Verifier, run_once, run_together
from .sources import Sources
from .store import Store, store_path
from .verdict import Outcome

log = logging.getLogger("efedllm.verifier")

Announce = Callable[[str, dict[str, object]], None]
"""Tells a person one line, and machines the same as a map; an empty line is for machines only."""


@dataclass(frozen=True)
class Options:
    """What the operator chose; times in seconds."""

    model: Path
    once: bool
    wait_seconds: float
    poll_seconds: float
    data_dir: Path
    rpc: str
    deployment: Path | None
    password: str
    backend: str | None
    threads: int
    max_gas_price: int
    """Wei."""
    challenge: bool | None = None
    """Whether faults are taken to the chain; None: where there is a dispute game, unless `once`."""
    bond_budget: str | None = None
    """Whole tokens that may be bound in bonds at a time; None: all that the hot key holds."""


async def run(options: Options, announce: Announce) -> Report:
    """Verify until SIGTERM or SIGINT, or once.

    Raises StartError, ChainError, ModelError, NumericsError or StoreError.
    """
    from efedllm.model.load import read_manifest
    from efedllm.model.spec import model_spec

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keys = KeyStore(options.data_dir)
    cold = keys.find(KeyRole.COLD).address
    keys.load(KeyRole.HOT, options.password)  # a wrong password is told before anything else
    manifest = read_manifest(options.model)
    d = manifest.dimensions
    async with await Chain.connect(options.rpc, options.deployment, max_fee_wei=options.max_gas_price) as chain:
        identity = model_id(model_spec(manifest, chain.deployment.contracts.step_verifier))
        limits = ModelLimits(identity, d.layers, d.vocab, d.context)
        if not await chain.models.is_registered(limits.model_id):
            raise StartError(
                f"model {manifest.name} is not registered here: run `efedllm model register {options.model}`"
            )
        await settle_hot_key(chain, keys)
        hot = keys.load(KeyRole.HOT, options.password)
        check_participant(await chain.stakes.participant_of(cold), cold, hot.address)
        compute = await asyncio.to_thread(_compute, options, manifest.weights_root, d.layers)
        deployment = chain.deployment
        store = Store(store_path(options.data_dir, deployment.chain_id, deployment.contracts.channels))
        try:
            async with RecordSource(deployment.domain, Reader(cold, hot)) as records:
                parts = Parts(
                    chain=chain,
                    store=store,
                    sources=Sources(chain.stakes, records, deployment.domain),
                    sender=chain.sender(hot),
                    setting=Setting(deployment.domain, limits, d.hidden),
                    compute=compute,
                    evidence_folder=options.data_dir / "evidence",
                    on_verdict=lambda found: announce("", _event(found)),
                    docket=store.docket(hot.address) if does_challenge(options, chain.game) else None,
                )
                verifier = Verifier(parts)
                challenger = await _challenger(options, chain, parts, manifest.weights_root, announce)
                announce(
                    f"verifier {cold} watches every claim for {manifest.name}"
                    + ("" if challenger else ", and only tells of faults"),
                    {"event": "watching", "verifier": cold, "challenges": challenger is not None},
                )
                try:
                    if options.once:
                        await run_once(verifier, stop, options.wait_seconds, options.poll_seconds, challenger)
                    else:
                        await run_together(
                            [verifier, *([challenger] if challenger else [])], stop, options.poll_seconds
                        )
                finally:
                    verifier.close()
                    if challenger is not None:
                        challenger.close()
                return verifier.report()
        finally:
            store.close()


def check_participant(participant: Participant, cold: str, hot: str) -> None:
    """Raises StartError unless workers will answer this verifier."""
    if participant.role is not Role.VERIFIER:
        raise StartError(f"{cold} is not registered as a verifier: run `efedllm stake AMOUNT --role verifier` first")
    if participant.jailed:
        raise StartError(f"{cold} is jailed: start again with another --data-dir")
    if hot not in (participant.hot_key, participant.next_hot_key):
        raise StartError(f"the hot key {hot} is not the registered one, {participant.hot_key}: use that data directory")


def does_challenge(options: Options, game: DisputeGame | None) -> bool:
    """Raises StartError where challenges are asked for and there is nothing that could judge them."""
    if options.challenge and game is None:
        raise StartError("there is no dispute game in this deployment: run without --challenge")
    return game is not None and (options.challenge is True or (options.challenge is None and not options.once))


async def _challenger(
    options: Options, chain: Chain, parts: Parts, weights_root: bytes, announce: Announce
) -> Challenger | None:
    """What plays the games, if any are to be played; says so where the hot key holds too little for a bond."""
    game = chain.game
    if parts.docket is None or game is None:
        return None
    from efedllm.model.segment_weights import SegmentWeights
    from efedllm.numerics.backend import select

    from .tracer import Tracer

    decimals, symbol = chain.deployment.token_decimals, chain.deployment.token_symbol
    budget = None if options.bond_budget is None else parse_amount(options.bond_budget, decimals)
    court = ChainCourt(chain, game, parts.sender)
    held, bond = await court.balance(), await game.number("baseBond")
    if min(held, held if budget is None else budget) < bond:
        announce(
            f"a bond takes {format_amount(bond, decimals)} {symbol}, and the hot key {court.address} may use less"
            f" (it holds {format_amount(held, decimals)}): send it tokens, nobody is challenged before",
            {"event": "float", "account": court.address, "held": str(held), "bond": str(bond)},
        )
    weights = await asyncio.to_thread(SegmentWeights, options.model, weights_root)
    tracer = Tracer(weights, select(options.backend), parts.compute.rows)
    follower = Follower(chain.events("DisputeGame"), GameLedger(parts.docket))
    return Challenger(court, parts.docket, tracer, parts.setting, follower, budget, announce, time.time)


def _event(found: Checked) -> dict[str, object]:
    """`fault` or `checked`; the line for people is in the log."""
    return {"event": "fault" if found.verdict.outcome is Outcome.FAULT else "checked", **describe(found)}


def _compute(options: Options, weights_root: bytes, layers: int) -> Compute:
    """Checked weights behind a back end that passed its self-test. Raises ModelError or NumericsError."""
    import torch

    from efedllm.numerics.backend import select

    from .recompute import Recomputer, Shelf

    torch.set_num_threads(options.threads)
    return Recomputer(Shelf(options.model, weights_root, select(options.backend), layers))
