"""The verifier's loop: follow claims, record beacons, draw, fetch, recompute, keep what came out.

Every step reads from the store what is left to do, and can be done again. What the chain or a worker does not answer is
left for the next pass.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from efedllm.chain.chain import Chain
from efedllm.chain.errors import ChainUnreachable, Reorganised, Reverted, TransactionError, UnknownBlock
from efedllm.chain.follower import Follower
from efedllm.chain.transactions import Sender
from efedllm.client.records import Unanswered
from efedllm.protocol.drawing import DrawPolicy, draw
from efedllm.protocol.merkle import tree_root
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Leaf, keccak_node

from .check import Case, Compute, Drawn, Setting, check, find_receipt, with_own_rows
from .docket import Docket
from .dossier import Dossier
from .draw_proof import prove_draw
from .evidence import keep_evidence, keep_file, pack_evidence
from .findings import About, Checked, Claim, Draw, Undrawn
from .following import ClaimLedger
from .history import published_tokens
from .plan import candidate, retry_delay
from .remedy import remedy_for
from .report import Report, fault_line, make_report
from .sources import Sources
from .store import Store
from .verdict import Fault, Missing, Outcome, Verdict, not_had

log = logging.getLogger("efedllm.verifier")

_NO_SEED = "the block that fixes its draws did not come yet, or was not confirmed"

PATIENCE = 3
"""Times that a worker is asked for what it keeps to itself before it is asked on the chain."""

OnVerdict = Callable[[Checked], None]


@dataclass(frozen=True)
class Parts:
    """What a verifier is made of. `on_verdict` hears of every verdict once it is on disk."""

    chain: Chain
    store: Store
    sources: Sources
    sender: Sender
    setting: Setting
    compute: Compute
    evidence_folder: Path
    on_verdict: OnVerdict
    docket: Docket | None = None
    """Where faults go that are to be taken to the chain; None: they are only told."""


class Verifier:
    """One deployment, one model. `compute` runs in a thread of its own."""

    def __init__(self, parts: Parts, clock: Callable[[], float] = time.time) -> None:
        self._parts, self._clock = parts, clock
        parameters = parts.chain.deployment.parameters
        self._follower = Follower(parts.chain.events("Channels"), ClaimLedger(parts.store))
        self._policy = DrawPolicy(parameters.minimum_rate_bps, parameters.first_slash, parameters.challenger_share_bps)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recompute")

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def step(self) -> None:
        """One pass over everything there is to do now. Raises ChainError, ModelError or StoreError."""
        await self.follow()
        await self.record_beacons()
        await self.draw()
        await self.check()

    async def head(self) -> int:
        """The latest block."""
        return await self._parts.chain.rpc.block_number()

    def is_done(self, block: int) -> bool:
        """Whether all claims up to `block` were read and have seeds; the same pass asked for what is behind them."""
        cursors = self._parts.store.cursors()
        is_read = bool(cursors) and cursors[0].block >= block
        return is_read and all(claim.block > block for claim in self._parts.store.seedless())

    def report(self) -> Report:
        """Everything known; claims that nothing was drawn from yet count as unavailable too."""
        store = self._parts.store
        seedless = [
            Undrawn(claim.worker, claim.index, at, not_had(claim.worker, Missing.SEED, _NO_SEED).verdict)
            for claim in store.seedless()
            for at in range(len(claim.entries))
        ]
        return make_report(store.checked(), [*store.waiting(), *seedless])

    # claims

    async def follow(self) -> None:
        """Enter the claims of all blocks confirmed since the last pass; forget those of blocks that were replaced."""
        await self._follower.catch_up()

    # beacons

    async def record_beacons(self) -> None:
        """Note the seeds that are fixed, and record the beacons that are due."""
        chain, store = self._parts.chain, self._parts.store
        due: set[int] = set()
        claims = store.seedless()
        if not claims:
            return
        # Seeds are read where events were read up to: whatever replaces that block takes them along.
        final = store.cursors()[0].block
        head = await chain.rpc.block_number()
        for claim in claims:
            seed = await chain.beacon.seed_for(claim.block, final)
            if seed is not None:
                store.set_seed(claim, seed, final)
            elif await chain.beacon.seed_for(claim.block) is None:
                first = await chain.beacon.first_candidate(claim.block)
                if (block := candidate(first, head)) is not None:
                    due.add(block)
        for block in sorted(due):
            try:
                await self._parts.sender.send(chain.beacon.record_beacon(block))
                log.info("recorded the beacon of block %d", block)
            except Reverted as error:
                # Somebody else was faster, or the node's head moved on: the next pass sees what is so.
                log.info("beacon of block %d: %s", block, error)
            except TransactionError as error:
                log.warning("beacon of block %d: %s", block, error)

    # draws

    async def draw(self) -> None:
        """Fetch the leaves behind claims whose seed is fixed, and draw among them."""
        for claim, at in self._parts.store.undrawn(self._clock()):
            entry = claim.entries[at]
            try:
                leaves = await self._parts.sources.leaves(claim.worker, entry)
            except Unanswered as error:
                self._put_off(claim, at, not_had(claim.worker, Missing.ANSWER, error).verdict)
                continue
            if not leaves or leaves[-1].after < entry.end or _root(leaves) != entry.receipts_root:
                reason = "the leaves handed out are not those under the root it claimed with"
                self._put_off(claim, at, not_had(claim.worker, Missing.BOOK, reason).verdict)
                continue
            assert claim.seed is not None
            drawn = draw(self._policy, claim.seed, entry, leaves)
            self._parts.store.set_drawn(claim, at, leaves, drawn)
            log.info("drew %d of %d receipts of claim %d of %s", len(drawn), len(leaves), claim.index, claim.worker)

    def _put_off(self, claim: Claim, entry: int, verdict: Verdict) -> None:
        due = self._clock() + retry_delay(self._parts.store.attempts(claim, entry))
        self._parts.store.set_undrawn(claim, entry, verdict, due)
        log.warning("claim %d of %s: leaves unavailable: %s", claim.index, claim.worker, verdict.reason)

    # checks

    async def check(self) -> None:
        """Check every drawn receipt that is due."""
        for item, attempts in self._parts.store.unchecked(self._clock()):
            await self._check(item, attempts)
        self._parts.sources.forget()

    async def _check(self, item: Draw, attempts: int) -> None:
        store = self._parts.store
        claim = store.claim_of(item)
        entry = claim.entries[item.entry]
        drawn = Drawn(item.worker, entry.channel, item.leaf)
        case = about = None
        try:
            record = await self._record(item)
        except Unanswered as error:
            verdict = not_had(item.worker, Missing.ANSWER, error).verdict
        else:
            case, about = await self._parts.sources.case(drawn, self._with_published(item, record))
            verdict = await self._judge(case)
            if verdict.kind is Missing.ROWS:
                case, verdict = await self._judge_without_rows(case, verdict)
            if verdict.kind is Fault.OUTPUT and verdict.position is None and about is not None:
                case, verdict = await self._locate(case, about, verdict)
        evidence = None
        if verdict.outcome is Outcome.FAULT and case is not None:
            data = pack_evidence(claim, item, store.leaves_of(item), case, verdict)
            evidence = keep_evidence(self._parts.evidence_folder, data, claim, item, verdict)
        dossier = self._dossier(claim, item, case, about, verdict, attempts) if case and about else None
        store.set_verdict(item, verdict, about, self._clock() + retry_delay(attempts), evidence, dossier)
        checked = Checked(item, about, verdict, evidence.path if evidence else None)
        if verdict.outcome is Outcome.FAULT:
            log.error("%s", fault_line(checked))
        elif verdict.outcome is Outcome.UNAVAILABLE:
            log.warning(
                "receipt 0x%s unavailable: %s: %s", item.leaf.receipt_digest.hex(), verdict.worker, verdict.reason
            )
        else:
            log.info("receipt 0x%s of %s: %s", item.leaf.receipt_digest.hex(), item.worker, verdict.outcome)
        self._parts.on_verdict(checked)

    async def _record(self, item: Draw) -> Record:
        """The worker's record, or what others of the path keep of the same receipt. Raises Unanswered."""
        try:
            return await self._parts.sources.record(item.worker, item.leaf.request_id)
        except Unanswered:
            others = self._parts.store.workers_of(item.leaf.request_id) - {item.worker}
            found = await self._parts.sources.stand_in(others, item.leaf.request_id, item.leaf.receipt_digest)
            if found is None:
                raise
            return found

    def _with_published(self, item: Draw, record: Record) -> Record:
        """The record with the tokens that a demand brought on the chain, which nobody can alter."""
        found = find_receipt(self._parts.setting.domain, record, item.leaf.receipt_digest)
        if self._parts.docket is None or found is None:
            return record
        tokens = published_tokens(self._parts.docket.events(), item.leaf.receipt_digest)
        if len(tokens) < found[0].promptCount + found[0].generated:
            return record
        prompt = found[0].promptCount
        return replace(record, prompt=tokens[:prompt], generated=tokens[prompt:])

    async def _judge_without_rows(self, case: Case, verdict: Verdict) -> tuple[Case, Verdict]:
        """The same with the rows that the verifier's own model gives, if they are what was signed for."""
        loop, setting = asyncio.get_running_loop(), self._parts.setting
        own = await loop.run_in_executor(self._thread, with_own_rows, setting, case, self._parts.compute)
        return (case, verdict) if own is None else (own, await self._judge(own))

    def _dossier(
        self, claim: Claim, item: Draw, case: Case, about: About, verdict: Verdict, attempts: int
    ) -> Dossier | None:
        """What is taken to the chain because of a verdict: faults at once, silence once it was asked a few times."""
        if self._parts.docket is None or (verdict.outcome is Outcome.UNAVAILABLE and attempts < PATIENCE):
            return None
        if remedy_for(self._parts.setting, case, verdict) is None:
            return None
        leaves = self._parts.store.leaves_of(item)
        data = pack_evidence(claim, item, leaves, case, verdict)
        path = keep_file(self._parts.evidence_folder, data, item, verdict)
        return Dossier(item, verdict, about.positions, str(path), prove_draw(self._policy, claim, item, leaves))

    async def _judge(self, case: Case) -> Verdict:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, check, self._parts.setting, case, self._parts.compute)

    async def _locate(self, case: Case, about: About, verdict: Verdict) -> tuple[Case, Verdict]:
        """The same fault with its first wrong position, if the next worker's rows tell it."""
        path = case.record.request.path
        if about.shard + 1 == len(path):
            return case, verdict
        downstream = await self._parts.sources.neighbour(path[about.shard + 1].worker, case.drawn.leaf.request_id)
        if downstream is None:
            return case, verdict
        located = replace(case, downstream=downstream)
        return located, await self._judge(located)


class Stepper(Protocol):
    """Something that does all there is to do now, pass after pass."""

    async def step(self) -> object: ...


class Player(Stepper, Protocol):
    """`Challenger`."""

    def is_done(self) -> bool: ...


async def run_once(
    verifier: Verifier,
    stop: asyncio.Event,
    wait_seconds: float,
    poll_seconds: float,
    player: Player | None = None,
) -> None:
    """Passes until every claim mined by now was drawn and every drawn receipt was asked for, and until the games about
    what was found are over, or time is up."""
    target = await verifier.head()
    deadline = time.monotonic() + wait_seconds
    while not stop.is_set():
        await verifier.step()
        if player is not None:
            await player.step()
        if verifier.is_done(target) and (player is None or player.is_done()):
            return
        if time.monotonic() >= deadline:
            log.warning("blocks did not come in time: some claims have no seed yet or games no end, run again")
            return
        await asyncio.sleep(poll_seconds)


async def run_together(steppers: Sequence[Stepper], stop: asyncio.Event, poll_seconds: float) -> None:
    """All of them at once, each at its own pace, until `stop` or until one of them fails."""
    running = [asyncio.ensure_future(run_forever(one, stop, poll_seconds)) for one in steppers]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        for one in running:
            if one.done():
                one.result()
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def run_forever(stepper: Stepper, stop: asyncio.Event, poll_seconds: float) -> None:
    """Pass after pass until `stop`. An unreachable chain is waited for."""
    while not stop.is_set():
        work = asyncio.ensure_future(stepper.step())
        ended = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                try:
                    work.result()
                except (ChainUnreachable, UnknownBlock, Reorganised) as error:
                    log.warning("%s; waiting", error)
                try:
                    await asyncio.wait_for(ended, poll_seconds)
                except TimeoutError:
                    continue
        finally:
            for task in (work, ended):
                task.cancel()
            await asyncio.gather(work, ended, return_exceptions=True)


def _root(leaves: list[Leaf]) -> bytes:
    return tree_root([leaf.hash() for leaf in leaves], keccak_node)
