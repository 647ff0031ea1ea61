"""Creates contracts, several in a block where they do not need each other, and knows their addresses beforehand."""

from collections.abc import Callable, Sequence

from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from efedllm.chain.abi import interface
from efedllm.chain.binding import Call
from efedllm.chain.errors import DeploymentError
from efedllm.chain.rpc import Rpc
from efedllm.chain.transactions import Sender


class Creator:
    """Contracts created by one account; `first_block` is the block of the first of them, 0 before."""

    def __init__(self, rpc: Rpc, sender: Sender, tell: Callable[[str], None]) -> None:
        self._rpc = rpc
        self._sender = sender
        self._tell = tell
        self.first_block = 0

    @property
    def address(self) -> str:
        return self._sender.address

    async def create(self, contract: str, *arguments: object) -> str:
        """Address of a new `contract`. Raises Reverted if its constructor refuses the arguments."""
        return (await self.create_all([(contract, arguments)]))[0]

    async def create_all(self, contracts: Sequence[tuple[str, Sequence[object]]]) -> list[str]:
        """Like `create` for several with their arguments, which have no need of each other's code to be created."""
        calls = [
            Call(None, interface(contract).creation_code(*arguments), f"creation of {contract}")
            for contract, arguments in contracts
        ]
        addresses = []
        for (contract, _), receipt in zip(contracts, await self._sender.send_all(calls), strict=True):
            assert receipt.contract_address is not None
            self.first_block = self.first_block or receipt.block_number
            self._tell(f"{contract} at {receipt.contract_address}")
            addresses.append(receipt.contract_address)
        return addresses

    async def address_after(self, others: int) -> str:
        """Where the contract will be that is created when `others` were created first."""
        nonce = await self._rpc.transaction_count(self._sender.address) + others
        return creation_address(self._sender.address, nonce)

    def check_address(self, contract: str, created: str, wanted: str) -> None:
        if created != wanted:
            raise DeploymentError(
                f"{contract} is at {created} instead of {wanted}, since another program used {self._sender.address}"
                " meanwhile: deploy again"
            )


def creation_address(creator: str, nonce: int) -> str:
    """Address of the contract that `creator`'s transaction number `nonce` creates."""
    # RLP of [creator, nonce]; both are short, so every length fits its prefix byte.
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8)
    if not 0 < nonce < 0x80:
        number = bytes([0x80 + len(number)]) + number
    items = b"\x94" + to_canonical_address(creator) + number
    return to_checksum_address(keccak(bytes([0xC0 + len(items)]) + items)[12:])
