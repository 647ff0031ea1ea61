"""Any history of signing, kills, backups put back and lying workers: nothing is ever signed twice differently.

A rule-based machine drives one real `Channel` over a real store and witness on disk, against a worker in memory that is
honest or shows whatever it likes of what it holds.
"""

import asyncio
import itertools
import shutil
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from eth_account import Account
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from efedllm.client.channel import Channel
from efedllm.client.checking import Approved
from efedllm.client.errors import ClientError, FundingError, OldCopy, StoreError, Violation, WorkerFailed
from efedllm.client.network import ChannelState
from efedllm.client.store import KeptVoucher, SentVoucher, Store
from efedllm.protocol.eip712 import Domain, recover
from efedllm.protocol.errors import VoucherError
from efedllm.protocol.messages import Opened
from efedllm.protocol.objects import Receipt, Voucher
from efedllm.protocol.vouchers import Book, Leaf, accept
from efedllm.storage.witness import Highest, Witness
from tests.support.crashes import in_memory

DOMAIN = Domain(31337, "0x" + "c0" * 20)
SIGNER, PAYER, WORKER = Account.create(), Account.create().address, Account.create().address
KILLS = ("before it is kept", "before the witness", "before it is sent", "before it is taken", "before the answer")
LIES = ("nothing", "an older voucher", "a higher total", "a lower total", "no desk", "other leaves", "a forged voucher")


class Killed(BaseException):
    """The process ends here."""


class Worker:
    """What a worker holds of the channel in one epoch: vouchers with the leaves under them, in order."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.book = Book(PAYER, WORKER, epoch)
        self.held: list[tuple[Voucher, bytes, list[Leaf]]] = []
        self.receipts: dict[bytes, Receipt] = {}
        self.lie = ""

    def take(self, voucher: Voucher, signature: bytes, receipt: Receipt, digest: bytes) -> None:
        assert recover(DOMAIN, voucher, signature) == SIGNER.address
        if voucher.total > self.book.total:
            try:
                self.book.add(*accept(self.book, voucher, receipt, digest))
            except VoucherError as error:
                raise WorkerFailed(WORKER, "voucher", str(error)) from error
            self.held.append((voucher, signature, list(self.book.leaves)))

    def forget(self, count: int) -> None:
        """A backup is put back, receipts included."""
        self.held = self.held[: len(self.held) - count]
        self.book = Book.restore(PAYER, WORKER, self.epoch, self.held[-1][2] if self.held else [])
        self.receipts.clear()

    def named(self) -> int:
        if self.lie == "a higher total":
            return self.book.total + 7
        if self.lie in ("a lower total", "an older voucher") and len(self.held) > 1:
            return self.held[-2][0].total
        return 0 if self.lie == "nothing" else self.book.total

    # its desk

    def shown(self) -> tuple[Voucher, bytes] | None:
        if self.lie in ("nothing", "no desk") or not self.held:
            return None
        if self.lie == "an older voucher" and len(self.held) > 1:
            return self.held[-2][:2]
        voucher, signature, _ = self.held[-1]
        if self.lie == "a forged voucher":
            return Voucher(PAYER, WORKER, self.epoch, voucher.total + 5, voucher.count, voucher.receiptsRoot), signature
        return voucher, signature

    def leaves_under(self, root: bytes) -> list[Leaf]:
        leaves = next(leaves for voucher, _, leaves in self.held if voucher.receiptsRoot == root)
        if self.lie == "other leaves":
            last = leaves[-1]
            return [*leaves[:-1], Leaf(last.request_id, b"\x66" * 32, last.before, last.after)]
        return leaves


class Desk:
    """The worker's desk, counting what passes over it."""

    def __init__(self, machine: "Paying") -> None:
        self._machine = machine

    async def held(self, *_: object) -> tuple[Voucher, bytes] | None:
        return self._machine.worker.shown()

    async def leaves(self, root: bytes) -> list[Leaf]:
        return self._machine.worker.leaves_under(root)

    async def hand_in(self, vouchers: Sequence[KeptVoucher]) -> int | None:
        worker = self._machine.worker
        for kept in vouchers:
            self._machine.leaves_the_process(kept.sent.voucher)
        if worker.lie == "no desk":
            return None
        for kept in vouchers:
            assert kept.receipt is not None
            worker.take(kept.sent.voucher, kept.sent.signature, kept.receipt, kept.sent.receipt_digest)
        return worker.book.total


class Paying(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.memory = ExitStack()
        self.folder = self.memory.enter_context(in_memory())
        self.data, self.state = self.folder / "data", self.folder / "state"
        self.backups: list[Path] = []
        self.numbers = itertools.count(1)
        self.request, self.fee = 1, 0
        self.sent: dict[int, list[Voucher]] = {}
        self.epoch, self.claimed, self.was_restored = 0, 0, False
        self.worker = Worker(0)
        self.kill = ""
        self.is_open = False
        self.start()

    def teardown(self) -> None:
        self.end()
        self.loop.close()
        self.memory.close()

    # the process

    def start(self) -> None:
        self.store = Store(self.data / "client.sqlite")
        self.witness = Witness(DOMAIN.chain_id, DOMAIN.verifying_contract, SIGNER.address, StoreError, self.state)
        self.channel = Channel(self.store, self.witness, SIGNER, DOMAIN, PAYER, WORKER)
        self.is_open = False
        self.kill = ""
        self.new_request()
        keep, note = self.store.keep_voucher, self.witness.note

        def keep_voucher(*arguments: Any) -> None:
            self.dies("before it is kept")
            keep(*arguments)
            self.dies("before the witness")

        def note_highest(worker: str, epoch: int, highest: Highest) -> None:
            note(worker, epoch, highest)
            self.dies("before it is sent")

        self.store.keep_voucher = keep_voucher  # type: ignore[method-assign]
        self.witness.note = note_highest  # type: ignore[method-assign]
        self.refresh()

    def end(self) -> None:
        self.store.close()
        self.witness.close()

    def refresh(self) -> None:
        self.channel.update(ChannelState(10**9, self.claimed, False, self.epoch))

    def new_request(self) -> None:
        self.request, self.fee = next(self.numbers), 0

    def dies(self, where: str) -> None:
        if self.kill == where:
            raise Killed

    def run(self, work: Callable[[], Coroutine[Any, Any, object]]) -> ClientError | None:
        """What came of it; a kill starts the process anew."""
        try:
            self.loop.run_until_complete(work())
        except Killed:
            self.end()
            self.start()
        except ClientError as error:
            assert "\n" not in str(error)
            self.is_open = False
            return error
        return None

    def leaves_the_process(self, voucher: Voucher) -> None:
        """The one rule: what goes out was sent before, or is higher than all of that."""
        sent = self.sent.setdefault(voucher.epoch, [])
        if voucher in sent:
            return
        assert all(voucher.total > other.total and voucher.count >= other.count for other in sent), (voucher, sent)
        sent.append(voucher)

    async def deliver(self, sent: SentVoucher) -> int:
        self.leaves_the_process(sent.voucher)
        self.dies("before it is taken")
        receipt = self.worker.receipts.get(sent.receipt_digest)
        if receipt is None:
            raise WorkerFailed(WORKER, "voucher", "the voucher names a receipt that this worker did not sign")
        self.worker.take(sent.voucher, sent.signature, receipt, sent.receipt_digest)
        self.dies("before the answer")
        return sent.voucher.total

    # what happens

    @rule(lie=st.sampled_from(("", "", "", *LIES)))
    def opens_a_request(self, lie: str) -> None:
        self.worker.lie = lie
        self.refresh()
        was_restored = self.was_restored

        async def work() -> None:
            async with self.channel.lock:
                opened = Opened(bytes(32), self.epoch, self.worker.named(), 100)
                await self.channel.reconcile(opened, self.deliver, Desk(self))

        error = self.run(work)
        self.worker.lie = ""
        self.is_open = error is None
        assert isinstance(error, OldCopy | Violation | WorkerFailed | None)
        if not lie and not was_restored:
            assert error is None, error
        if not lie and error is None:
            assert self.worker.book.total == self.channel.signed
            assert self.worker.book.leaves[-1:] == self.channel._book.leaves[-1:]

    @rule(lie=st.sampled_from(("", *LIES)))
    def tends_the_channel(self, lie: str) -> None:
        self.worker.lie = lie
        self.refresh()
        error = self.run(lambda: self.channel.settle(Desk(self)))
        self.worker.lie = ""
        if not lie and not self.was_restored:
            assert error is None, error
        if not lie and error is None:
            assert self.worker.book.total == self.channel.signed

    @precondition(lambda self: self.is_open)
    @rule(added=st.integers(1, 4), same=st.booleans(), kill=st.sampled_from(("", "", *KILLS)))
    def pays(self, added: int, same: bool, kill: str) -> None:
        if not same:
            self.new_request()
        self.fee += added
        number = next(self.numbers).to_bytes(32)
        receipt = Receipt(
            self.request.to_bytes(32), 0, WORKER, PAYER, self.epoch, 1, 1, 1, *([number] * 4), self.fee
        )  # fmt: skip
        self.worker.receipts[number] = receipt
        self.kill = kill
        error = self.run(lambda: self.channel.pay(Approved(0, receipt, number, b"signed"), self.deliver))
        self.kill = ""
        assert error is None or isinstance(error, OldCopy | WorkerFailed | FundingError)

    @rule()
    def is_killed(self) -> None:
        self.end()
        self.start()

    @rule()
    def makes_a_backup(self) -> None:
        self.end()
        copy = self.folder / f"backup {len(self.backups)}"
        shutil.copytree(self.data, copy)
        self.backups.append(copy)
        self.start()

    @precondition(lambda self: self.backups)
    @rule(data=st.data())
    def puts_a_backup_back(self, data: st.DataObject) -> None:
        copy = data.draw(st.sampled_from(self.backups))
        self.end()
        shutil.rmtree(self.data)
        shutil.copytree(copy, self.data)
        self.was_restored = True
        self.start()

    @precondition(lambda self: self.backups)
    @rule(data=st.data(), lie=st.sampled_from(LIES), added=st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def an_old_copy_pays_a_liar(self, data: st.DataObject, lie: str, added: list[int]) -> None:
        """The attack that all this is against, often enough to be found."""
        self.puts_a_backup_back(data)
        self.opens_a_request(lie)
        for amount in added if self.is_open else []:
            self.pays(amount, same=False, kill="")

    @precondition(lambda self: self.worker.held)
    @rule(data=st.data())
    def worker_puts_a_backup_back(self, data: st.DataObject) -> None:
        self.worker.forget(data.draw(st.integers(1, len(self.worker.held))))

    @rule()
    def worker_claims(self) -> None:
        self.claimed = max(self.claimed, self.worker.book.total)

    @rule()
    def channel_is_closed_and_opened_again(self) -> None:
        self.epoch, self.claimed = self.epoch + 1, 0
        self.worker = Worker(self.epoch)
        self.is_open = False
        self.new_request()
        self.refresh()

    @invariant()
    def nobody_holds_more_than_was_sent(self) -> None:
        highest = max((voucher.total for voucher in self.sent.get(self.epoch, [])), default=0)
        assert self.worker.book.total <= highest


TestPaying = Paying.TestCase
TestPaying.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
