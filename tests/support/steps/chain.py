"""The step verifier on an Anvil of its own, asked by the hundred."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from efedllm.chain.abi import interface
from efedllm.chain.local import AnvilProcess, rpc
from efedllm.chain.solidity import standard_input

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / "build" / "steps"
BATCH = "0x00000000000000000000000000000000000057e9"
HARNESS = "0x00000000000000000000000000000000000057ea"
GAS = 1 << 40
CALL_SECONDS = 600


def compiled(source: str, contract: str) -> str:
    """Runtime code of a contract of the tests, compiled as the others are. Made again when a source changed."""
    given = standard_input(ROOT, [source], {"*": ["evm.deployedBytecode.object"], "": []})
    text = json.dumps(given)
    file = CACHE / f"{contract}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.hex"
    if not file.exists():
        result = subprocess.run(
            [ROOT / "tools" / "solc", "--standard-json"], input=text, capture_output=True, text=True, check=True
        )
        output = json.loads(result.stdout)
        errors = [error["formattedMessage"] for error in output.get("errors", ()) if error["severity"] == "error"]
        assert not errors, "\n".join(errors)
        CACHE.mkdir(parents=True, exist_ok=True)
        file.write_text(output["contracts"][source][contract]["evm"]["deployedBytecode"]["object"])
    return "0x" + file.read_text()


class StepChain:
    """Deploys the three contracts; `place` puts test code where no size limit is."""

    def __init__(self, anvil: AnvilProcess) -> None:
        self._anvil = anvil
        self._sender = anvil.accounts[0]
        anvil.rpc("evm_setBlockGasLimit", hex(GAS))
        self.attention = self.create("AttentionVerifier")
        self.sampling = self.create("SamplingVerifier")
        self.verifier = self.create("StepVerifier", self.attention, self.sampling)

    def create(self, contract: str, *arguments: object) -> str:
        receipt = self._send(None, interface(contract).creation_code(*arguments))
        assert receipt["status"] == "0x1", f"{contract} was not created"
        return str(receipt["contractAddress"])

    def gas(self, data: bytes) -> int:
        """Gas of a transaction to the verifier."""
        receipt = self._send(self.verifier, data)
        assert receipt["status"] == "0x1", "the verifier refused the trial"
        return int(receipt["gasUsed"], 16)

    def place(self, address: str, source: str, contract: str) -> None:
        self._anvil.rpc("anvil_setCode", address, compiled(source, contract))

    def judge(self, calls: Sequence[bytes]) -> list[bytes]:
        """Of each call its answer, or its error's selector and zeros."""
        data = keccak(text="judge(address,bytes[])")[:4] + encode(["address", "bytes[]"], [self.verifier, list(calls)])
        return list(decode(["bytes32[]"], self.call(BATCH, data))[0])

    def call(self, to: str, data: bytes) -> bytes:
        transaction = {"to": to, "data": "0x" + data.hex(), "gas": hex(GAS)}
        answer = rpc(self._anvil.url, "eth_call", transaction, "latest", timeout_seconds=CALL_SECONDS)
        return bytes.fromhex(str(answer).removeprefix("0x"))

    def _send(self, to: str | None, data: bytes) -> dict[str, str]:
        transaction = {"from": self._sender, "data": "0x" + data.hex(), "gas": hex(16_000_000)}
        sent = self._anvil.rpc("eth_sendTransaction", transaction | ({"to": to} if to else {}))
        while (receipt := self._anvil.rpc("eth_getTransactionReceipt", sent)) is None:
            time.sleep(0.01)
        return dict(receipt)
