"""Gas of whole transactions, as their receipts say it: the same figures on every machine, for the same contracts.

Refresh the committed figures after a change of the contracts, and look at what they say:

    make contracts && .venv/bin/python -m tests.gas.measure
"""

import json
import time
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from chain_scripts.creation import creation_address
from efedllm.chain.abi import interface
from efedllm.chain.channels import VoucherClaim
from efedllm.chain.local import AnvilProcess
from efedllm.protocol import eip712
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.objects import Voucher

SNAPSHOT = Path(__file__).with_name("snapshot.json")
DAY = 86_400
WINDOW, WITHDRAWAL_DELAY, UNBONDING = DAY, DAY * 3 // 2, 14 * DAY
DEPOSIT = 10**21
STEP = 10**15
STAKE = 10**24
RING = 64
CHANNELS = 100
REQUESTS = 1_000
"""Requests per voucher where a price per request is meant."""
UNLIMITED = (1 << 256) - 1


def address(name: str) -> str:
    """An account without a key; no byte of it is zero, since those cost less."""
    return to_checksum_address(bytes(byte or 1 for byte in keccak(text=name)[12:]))


def session_key(number: int) -> LocalAccount:
    account: LocalAccount = Account.from_key(keccak(text=f"session {number}"))
    return account


class Market:
    """All contracts on a chain of their own, a worker with stake, and transactions of anybody."""

    game = ""
    """The dispute game, where there is one."""

    def __init__(self, anvil: AnvilProcess) -> None:
        self._anvil = anvil
        anvil.rpc("anvil_autoImpersonateAccount", True)
        self.bank = address("bank")
        self.worker = address("worker")
        self.token = self._create("WorkToken", self.bank, 10**28)
        self.models = self._create("ModelRegistry")
        nonce = int(anvil.rpc("eth_getTransactionCount", self.bank, "latest"), 16)
        channels = creation_address(self.bank, nonce + 1)
        self.slasher = self._slasher(nonce)
        stakes = (self.token, self.models, channels, self.slasher, UNBONDING, 2 * DAY)
        self.stakes = self._create("StakeRegistry", stakes)
        parameters = (self.stakes, address("treasury"), 500, WINDOW, WITHDRAWAL_DELAY, 10)
        self.channels = self._create("Channels", parameters)
        assert self.channels == channels
        self.beacon = self._create("Beacon", 1, 1)
        self.domain = Domain(int(anvil.rpc("eth_chainId"), 16), self.channels)

    def _slasher(self, nonce: int) -> str:
        """Who can slash: somebody with an account. `nonce`: the bank's for the stake registry."""
        return address("slasher")

    def call(self, sender: str, contract: str, function: str, *arguments: object) -> int:
        """Gas of a transaction to the contract of that name."""
        places = {
            "WorkToken": self.token,
            "StakeRegistry": self.stakes,
            "Channels": self.channels,
            "Beacon": self.beacon,
            "DisputeGame": self.game,
        }
        return self._send(sender, places[contract], interface(contract).encode_call(function, *arguments))

    def endow(self, account: str, spender: str, allowance: int) -> None:
        self.call(self.bank, "WorkToken", "transfer", account, 10 * STAKE)
        self.call(account, "WorkToken", "approve", spender, allowance)

    def open(self, payer: str, allowance: int, workers: list[str]) -> int:
        """Gas of funding new channels of the payer, by the call that suits their number."""
        self.endow(payer, self.channels, allowance)
        key = session_key(0).address
        if len(workers) == 1:
            return self.call(payer, "Channels", "fundChannel", key, workers[0], DEPOSIT)
        return self.call(payer, "Channels", "fund", key, [(worker, DEPOSIT) for worker in workers])

    def claim(self, total: int, count: int, channels: int) -> int:
        """Gas of a claim with one voucher of each of the first channels."""
        packed = b"".join(self._voucher(number, total + number, count) for number in range(channels))
        return self.call(self.worker, "Channels", "claim", self.worker, packed)

    def pass_time(self, seconds: int) -> None:
        self._anvil.increase_time(seconds)

    @property
    def block(self) -> int:
        return int(self._anvil.rpc("eth_blockNumber"), 16)

    def _voucher(self, number: int, total: int, count: int) -> bytes:
        voucher = Voucher(
            address(f"payer {number}"), self.worker, 0, total, count, keccak(text=f"root {number} {total}")
        )
        return VoucherClaim.of(voucher, eip712.sign(self.domain, voucher, session_key(0))).pack()

    def _create(self, contract: str, *arguments: object) -> str:
        nonce = int(self._anvil.rpc("eth_getTransactionCount", self.bank, "latest"), 16)
        self._send(self.bank, None, interface(contract).creation_code(*arguments))
        return creation_address(self.bank, nonce)

    def _send(self, sender: str, to: str | None, data: bytes) -> int:
        if int(self._anvil.rpc("eth_getBalance", sender, "latest"), 16) < 10**18:
            self._anvil.rpc("anvil_setBalance", sender, hex(10**20))
        transaction = {"from": sender, "data": "0x" + data.hex(), "gas": hex(16_000_000)}
        sent = self._anvil.rpc("eth_sendTransaction", transaction | ({"to": to} if to else {}))
        while (receipt := self._anvil.rpc("eth_getTransactionReceipt", sent)) is None:
            time.sleep(0.01)
        assert receipt["status"] == "0x1", f"a transaction of {sender} to {to} failed"
        return int(receipt["gasUsed"], 16)


def measure(anvil: AnvilProcess) -> dict[str, int]:
    """Name -> gas of one transaction."""
    market = Market(anvil)
    worker = market.worker
    market.open(address("first"), UNLIMITED, [worker])  # the contract's own balance is zero once only
    gas = {
        "open a channel, allowance of the deposit": market.open(address("exact"), DEPOSIT, [worker]),
        "open a channel, standing allowance": market.open(address("standing"), UNLIMITED, [worker]),
        "open 4 channels": market.open(address("four"), UNLIMITED, [address(f"other {i}") for i in range(4)]),
        "add to a channel": market.call(
            address("standing"), "Channels", "fundChannel", session_key(0).address, worker, DEPOSIT
        ),
    }
    market.endow(worker, market.stakes, UNLIMITED)
    gas["register"] = market.call(worker, "StakeRegistry", "register", 1, address("hot"))
    gas["stake"] = market.call(worker, "StakeRegistry", "stake", STAKE)
    for number in range(CHANNELS):
        market.open(address(f"payer {number}"), UNLIMITED, [worker])

    gas["first claim of a worker, 1 channel"] = market.claim(STEP, 1, 1)
    for slot in range(2, RING + 1):
        gas["claim into an unused slot, 1 channel"] = market.claim(STEP * slot, slot, 1)
    market.pass_time(WINDOW + 1)
    for index in range(RING):
        gas["release"] = market.call(worker, "Channels", "release", worker, index)

    # From here on every slot that a claim writes was written before.
    for step, size in enumerate((1, 10, CHANNELS), 1):
        gas[f"claim of {size} channel{'s' if size > 1 else ''}"] = market.claim(STEP * (RING + step), RING + step, size)
    gas[f"claim of {CHANNELS} channels, {REQUESTS} requests each"] = market.claim(STEP * (RING + 4), REQUESTS, CHANNELS)
    gas["record a beacon"] = market.call(worker, "Beacon", "recordBeacon", market.block - 1)
    slasher, client = market.slasher, address("payer 1")
    gas["freeze part of a claim"] = market.call(slasher, "Channels", "freeze", worker, RING, STEP // 4)
    gas["forfeit half of a claim"] = market.call(slasher, "Channels", "forfeit", worker, RING, STEP // 2, client)
    gas["slash"] = market.call(slasher, "StakeRegistry", "slash", worker, STEP, client)
    gas["withdraw earnings"] = market.call(worker, "Channels", "withdrawEarnings", worker)
    gas["withdraw fees"] = market.call(worker, "Channels", "withdrawFees")
    key = session_key(0).address
    gas["request a close"] = market.call(client, "Channels", "requestClose", key, [worker])
    market.pass_time(WITHDRAWAL_DELAY)
    gas["finish a close"] = market.call(client, "Channels", "finishClose", key, [worker])
    gas["request an unbond"] = market.call(worker, "StakeRegistry", "requestUnbond", STEP)
    market.pass_time(UNBONDING)
    gas["withdraw stake"] = market.call(worker, "StakeRegistry", "withdrawStake", worker)
    return gas


def per_unit(gas: dict[str, int]) -> dict[str, float]:
    """Name -> gas of what the limits are about."""
    opening = [gas["open a channel, allowance of the deposit"], gas["open a channel, standing allowance"]]
    claims, large = gas[f"claim of {CHANNELS} channels"], gas[f"claim of {CHANNELS} channels, {REQUESTS} requests each"]
    return {
        "open a channel": max(opening),
        "open 4 channels, each": gas["open 4 channels"] / 4,
        f"claim of {CHANNELS} channels, each": max(claims, large) / CHANNELS,
        "request": large / (CHANNELS * REQUESTS),
    }


LIMITS: dict[str, float] = {
    "open a channel": 65_000,
    "open 4 channels, each": 65_000,
    f"claim of {CHANNELS} channels, each": 12_000,
    "request": 15,
}


def main() -> None:
    with AnvilProcess.start() as anvil:
        SNAPSHOT.write_text(json.dumps(measure(anvil), indent=1) + "\n")
    print(SNAPSHOT)


if __name__ == "__main__":
    main()
