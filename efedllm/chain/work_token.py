"""The payment token: any plain ERC-20; `WorkToken` on local deployments."""

from efedllm.chain.binding import Call, Contract
from efedllm.chain.rpc import BlockId


class WorkToken(Contract):
    async def balance_of(self, owner: str, block: BlockId = "latest") -> int:
        return int(await self._read("balanceOf", owner, block=block))

    async def allowance(self, owner: str, spender: str, block: BlockId = "latest") -> int:
        return int(await self._read("allowance", owner, spender, block=block))

    async def total_supply(self, block: BlockId = "latest") -> int:
        return int(await self._read("totalSupply", block=block))

    async def decimals(self) -> int:
        return int(await self._read("decimals", block="latest"))

    async def symbol(self) -> str:
        return str(await self._read("symbol", block="latest"))

    def approve(self, spender: str, amount: int) -> Call:
        return self._build("approve", spender, amount)

    def transfer(self, to: str, amount: int) -> Call:
        return self._build("transfer", to, amount)
