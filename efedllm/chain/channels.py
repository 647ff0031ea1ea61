"""Payment channels, claims and earnings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from efedllm.chain.abi import build
from efedllm.chain.binding import Call, Contract
from efedllm.chain.rpc import BlockId
from efedllm.protocol.eip712 import compact
from efedllm.protocol.objects import Voucher


@dataclass(frozen=True)
class Channel:
    """Base units; `closing_at` is 0, or the unix second from which the payer may take back what is not claimed."""

    deposit: int
    claimed: int
    closing_at: int
    epoch: int

    @property
    def available(self) -> int:
        """What vouchers can still draw on, those already held by the worker included."""
        return self.deposit - self.claimed


@dataclass(frozen=True)
class Funding:
    worker: str
    amount: int


@dataclass(frozen=True)
class VoucherClaim:
    """A voucher as a claim carries it; `r` and `vs` are the compact signature of EIP-2098."""

    payer: str
    epoch: int
    total: int
    count: int
    receipts_root: bytes
    r: bytes
    vs: bytes

    @classmethod
    def of(cls, voucher: Voucher, signature: bytes) -> Self:
        r, vs = compact(signature)
        return cls(voucher.payer, voucher.epoch, voucher.total, voucher.count, voucher.receiptsRoot, r, vs)

    def pack(self) -> bytes:
        """139 bytes, as `IChannels.claim` reads them."""
        return b"".join(
            (
                bytes.fromhex(self.payer[2:]),
                self.total.to_bytes(12),
                self.receipts_root,
                self.r,
                self.vs,
                self.epoch.to_bytes(3),
                self.count.to_bytes(8),
            )
        )


@dataclass(frozen=True)
class Claim:
    """One batch in a worker's ring; `amount` is what is left, `frozen` how much of it is under dispute."""

    amount: int
    claimed_at: int
    block_number: int
    frozen: int
    commitment: bytes


@dataclass(frozen=True)
class Account:
    """A worker's money: `pending` is claimed but not released, `earnings` can be withdrawn.

    `next` is the lowest index that the next claim can get; indices below it may have been skipped.
    """

    next: int
    pending: int
    earnings: int
    last_claim_at: int


class Channels(Contract):
    async def channel_of(self, payer: str, worker: str, session_key: str, block: BlockId = "latest") -> Channel:
        """All zero for a channel that was never opened."""
        return build(Channel, await self._read("channelOf", payer, worker, session_key, block=block))

    async def claim_of(self, worker: str, claim_index: int, block: BlockId = "latest") -> Claim:
        return build(Claim, await self._read("claimOf", worker, claim_index, block=block))

    async def account_of(self, worker: str, block: BlockId = "latest") -> Account:
        return build(Account, await self._read_all("accountOf", worker, block=block))

    async def releasable_at(self, worker: str, claim_index: int, block: BlockId = "latest") -> int:
        """Unix seconds; `stake_registry.FOREVER` while it can not be released at all."""
        return int(await self._read("releasableAt", worker, claim_index, block=block))

    async def fees(self, block: BlockId = "latest") -> int:
        return int(await self._read("fees", block=block))

    async def domain_separator(self) -> bytes:
        return bytes(await self._read("domainSeparator", block="latest"))

    def fund(self, session_key: str, channels: Sequence[Funding]) -> Call:
        """A single channel takes the call that is cheaper for one; both have the same effects."""
        if len(channels) == 1:
            return self._build("fundChannel", session_key, channels[0].worker, channels[0].amount)
        return self._build("fund", session_key, list(channels))

    def request_close(self, session_key: str, workers: Sequence[str]) -> Call:
        return self._build("requestClose", session_key, list(workers))

    def finish_close(self, session_key: str, workers: Sequence[str]) -> Call:
        return self._build("finishClose", session_key, list(workers))

    def claim(self, worker: str, vouchers: Sequence[VoucherClaim]) -> Call:
        """To be sent with the worker's cold or hot key; the index is in the event `Claimed`."""
        return self._build("claim", worker, b"".join(voucher.pack() for voucher in vouchers))

    def release(self, worker: str, claim_index: int) -> Call:
        return self._build("release", worker, claim_index)

    def withdraw_earnings(self, to: str) -> Call:
        return self._build("withdrawEarnings", to)

    def withdraw_fees(self) -> Call:
        return self._build("withdrawFees")
