"""A program that pays once, for tests that kill it: `python -m tests.support.paying_program URL KEY_FILE WEI`.

Prints one line when it holds the key, and one when the payment is mined.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from eth_account import Account

from efedllm.chain.binding import Call
from efedllm.chain.errors import ChainError
from efedllm.chain.rpc import Rpc
from efedllm.chain.transactions import Sender


async def pay(url: str, key: bytes, wei: int) -> None:
    async with Rpc(url) as rpc:
        account = Account.from_key(key)
        with Sender(rpc, await rpc.chain_id(), account, {}, confirmations=2) as sender:
            await sender.settle()
            print("ready", flush=True)
            receipt = await sender.send(Call("0x" + "11" * 20, b"", "payment", wei))
            print(f"mined {receipt.block_number}", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(pay(sys.argv[1], Path(sys.argv[2]).read_bytes(), int(sys.argv[3])))
    except ChainError as error:
        sys.exit(f"error: {error}")
