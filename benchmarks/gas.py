"""Claim: on chain a paid request costs at most 15 gas. Real transactions, mined by a local chain."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding, VoucherClaim
from efedllm.chain.deployment import Deployment
from efedllm.chain.events import Claimed
from efedllm.chain.local import AnvilProcess, development_account
from efedllm.chain.stake_registry import Role
from efedllm.chain.transactions import Receipt, Sender, UnlockedAccount
from efedllm.protocol import eip712
from efedllm.protocol.vouchers import Book, Leaf

from .report import Result, at_most, reported
from .requests import new_key

OPEN_LIMIT, CLAIM_LIMIT, REQUEST_LIMIT = 65_000, 12_000, 15
LIMITED_BATCH, LIMITED_REQUESTS = 100, 1_000
"""Where the limits for claims and for requests hold: channels per transaction, requests per voucher."""

ETHER = 10**18
DEPOSIT = 10**21
PRICE = 10**15  # of a request, in base units
STAKE = 10**24
RING = 64


@dataclass(frozen=True)
class Size:
    """`batches`: channels per claim; `requests`: per voucher; `ring`: claims until every slot was used once."""

    batches: tuple[int, ...]
    requests: tuple[int, ...]
    ring: int

    @property
    def channels(self) -> int:
        return max(self.batches)


FULL = Size((1, 10, LIMITED_BATCH), (1, 100, LIMITED_REQUESTS), RING)
QUICK = Size((1, 3), (1, 5), 2)


class Payer:
    """One client's channel with the worker, and the book that both of them keep."""

    def __init__(self, chain: Chain, worker: str) -> None:
        self.account, self.session = new_key(), new_key()
        self.sender = chain.sender(self.account)
        self._chain = chain
        self._book = Book(self.account.address, worker, 0)
        self._requests = 0

    async def open(
        self, anvil: AnvilProcess, bank: Sender, workers: Sequence[str], allowance: int | None = None
    ) -> int:
        """Gas of funding new channels with these workers, with an allowance of just the deposits by default."""
        total = DEPOSIT * len(workers)
        anvil.rpc("anvil_setBalance", self.account.address, hex(ETHER))
        await bank.send(self._chain.token.transfer(self.account.address, 2 * total))
        await self.sender.send(self._chain.token.approve(self._chain.channels.address, allowance or total))
        call = self._chain.channels.fund(self.session.address, [Funding(worker, DEPOSIT) for worker in workers])
        receipt = await self.sender.send(call)
        self._book.epoch = (
            await self._chain.channels.channel_of(self.account.address, workers[0], self.session.address)
        ).epoch
        return receipt.gas_used

    def voucher(self, requests: int) -> VoucherClaim:
        """The voucher after so many more requests, one receipt each."""
        for _ in range(requests - 1):
            self._book.add(*self._next())
        leaf, replaces = self._next()
        voucher = self._book.voucher_after(leaf, replaces)
        self._book.add(leaf, replaces)
        return VoucherClaim.of(voucher, eip712.sign(self._chain.deployment.domain, voucher, self.session))

    def _next(self) -> tuple[Leaf, bool]:
        """The leaf of one more request; any digest will do, since claims do not open leaves."""
        self._requests += 1
        request_id = self._requests.to_bytes(32)
        return self._book.next_leaf(request_id, request_id, PRICE)


def run(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """Gas used, as the receipts say it."""
    with AnvilProcess.start() as anvil, tempfile.TemporaryDirectory() as folder:
        tell("deploying on a local chain")
        deployment = deploy(anvil.url, Path(folder) / "deployment.json")
        return asyncio.run(_measure(anvil, deployment, QUICK if quick else FULL, tell))


def deploy(url: str, path: Path) -> Deployment:
    """What `efedllm deploy --local` puts on the chain at `url`."""
    command = [sys.executable, "-m", "efedllm.cli", "deploy", "--local", "--rpc", url, "--out", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Deployment.read(path)


async def _measure(
    anvil: AnvilProcess, deployment: Deployment, size: Size, tell: Callable[[str], None]
) -> list[Result]:
    async with await Chain.connect(anvil.url, deployment) as chain:
        bank = chain.sender(UnlockedAccount(development_account(anvil.url)))
        worker, hot = new_key(), new_key()
        await _register(anvil, chain, bank, worker, hot)
        tell(f"opening {size.channels} channels")
        payers = [Payer(chain, worker.address) for _ in range(size.channels)]
        opens = [await payer.open(anvil, bank, [worker.address]) for payer in payers]
        standing = await Payer(chain, worker.address).open(anvil, bank, [worker.address], 2**256 - 1)
        others = [new_key().address for _ in range(4)]
        four = await Payer(chain, worker.address).open(anvil, bank, others)
        claims = Claims(anvil, chain, chain.sender(worker), worker.address)
        tell(f"using {size.ring} slots of the ring of claims")
        first = [await claims.claim(payers[:1], 1) for _ in range(size.ring)]
        released = [await claims.release(receipt) for receipt in first]
        results = [
            at_most("open a channel, allowance of the deposit", median(opens[1:]), "gas", OPEN_LIMIT),
            at_most("open a channel, standing allowance", standing, "gas", OPEN_LIMIT),
            at_most("open 4 channels in one transaction, per channel", four / 4, "gas", OPEN_LIMIT),
            reported("first claim of a worker, 1 channel", first[0].gas_used, "gas"),
            reported("claim into an unused slot, 1 channel", first[-1].gas_used, "gas"),
            *await _claims(claims, payers, size, tell),
        ]
        return [*results, reported("release of a claim", median(released), "gas")]


async def _claims(claims: "Claims", payers: list[Payer], size: Size, tell: Callable[[str], None]) -> list[Result]:
    """Claims in steady state: every slot that is written was written before."""
    results = []
    for batch in size.batches:
        tell(f"claims of {batch}")
        receipt = await claims.claim(payers[:batch], 1)
        name, gas = f"claim of {batch} channel{'s' if batch > 1 else ''}, per channel", receipt.gas_used / batch
        limited = batch == LIMITED_BATCH
        results.append(at_most(name, gas, "gas", CLAIM_LIMIT) if limited else reported(name, gas, "gas"))
        await claims.release(receipt)
    beacons = []
    for requests in size.requests:
        tell(f"{requests} requests per voucher, {len(payers)} channels")
        receipt = await claims.claim(payers, requests)
        gas, count = receipt.gas_used, len(payers) * requests
        name = f"per request, {requests} per voucher"
        limited = requests == LIMITED_REQUESTS
        results.append(
            at_most(name, gas / count, "gas", REQUEST_LIMIT) if limited else reported(name, gas / count, "gas")
        )
        beacons.append(await claims.record_beacon(receipt))
        gas += beacons[-1] + await claims.release(receipt)
        results.append(reported(f"{name}, with beacon and release", gas / count, "gas"))
    return [*results, reported("recording a beacon", median(beacons), "gas")]


class Claims:
    """The worker's side of the ring."""

    def __init__(self, anvil: AnvilProcess, chain: Chain, sender: Sender, worker: str) -> None:
        self._anvil, self._chain, self._sender, self._worker = anvil, chain, sender, worker

    async def claim(self, payers: list[Payer], requests: int) -> Receipt:
        """One claim of every payer's channel, `requests` requests after the one before."""
        return await self._sender.send(
            self._chain.channels.claim(self._worker, [payer.voucher(requests) for payer in payers])
        )

    async def release(self, receipt: Receipt) -> int:
        """Gas of releasing a claim once its window has passed."""
        (event,) = [event for event in receipt.events if isinstance(event, Claimed)]
        self._anvil.increase_time(self._chain.deployment.parameters.challenge_window_seconds + 1)
        return (await self._sender.send(self._chain.channels.release(self._worker, event.claim_index))).gas_used

    async def record_beacon(self, receipt: Receipt) -> int:
        """Gas of fixing the seed that draws from a claim."""
        block = await self._chain.beacon.first_candidate(receipt.block_number)
        while await self._chain.rpc.block_number() <= block:
            self._anvil.mine()
        return (await self._sender.send(self._chain.beacon.record_beacon(block))).gas_used


async def _register(anvil: AnvilProcess, chain: Chain, bank: Sender, worker: LocalAccount, hot: LocalAccount) -> None:
    """Make `worker` one with stake enough that the window alone decides when a claim can be released."""
    anvil.rpc("anvil_setBalance", worker.address, hex(ETHER))
    await bank.send(chain.token.transfer(worker.address, STAKE))
    sender = chain.sender(worker)
    await sender.send(chain.stakes.register(Role.WORKER, hot.address))
    await sender.send(chain.token.approve(chain.stakes.address, STAKE))
    await sender.send(chain.stakes.stake(STAKE))
