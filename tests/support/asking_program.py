"""A client that asks again and again, for tests that kill it:
`python -m tests.support.asking_program RPC DEPLOYMENT DATA_DIR PAUSE_FILE`.

Prints an object a line: `asking`, `piece` for every token, `answered`, `failed` with the line that a person would read,
and `paused` while PAUSE_FILE is there. Anything but an error that is meant for people ends it.
"""

import asyncio
import json
import sys
from itertools import count
from pathlib import Path

from efedllm.chain.deployment import Deployment
from efedllm.client.api import Client, Spending
from efedllm.errors import EfedllmError

QUESTIONS = (("ROMEO:", 8), ("KING HENRY:\nNow is the ", 24), ("First Citizen:\n", 40), ("JULIET:\nO ", 60))
"""Prompts and tokens: before the first receipt but one, between two, and over several."""
PER_CLIENT = 3
DEPOSIT = 10**17
"""A few requests' worth, so that channels are filled again and again."""
PAUSE_SECONDS = 0.2


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def ask_on(rpc: str, deployment: Deployment, data_dir: Path, pause: Path) -> None:
    numbers = count()
    while True:
        try:
            async with Client(rpc, deployment, data_dir, spending=Spending(deposit=DEPOSIT)) as client:
                for _ in range(PER_CLIENT):
                    await _wait(pause)
                    await _ask(client, next(numbers) % len(QUESTIONS))
        except EfedllmError as error:
            tell("failed", message=str(error))
            await asyncio.sleep(PAUSE_SECONDS)


async def _ask(client: Client, number: int) -> None:
    prompt, tokens = QUESTIONS[number]
    tell("asking", question=number)
    generation = client.generate(prompt, max_tokens=tokens, seed=number)
    async for _ in generation:
        tell("piece", tokens=len(generation.tokens))
    tell("answered", question=number, tokens=generation.tokens, cost=generation.cost)


async def _wait(pause: Path) -> None:
    """Upkeep goes on meanwhile: stopped in its midst, it would leave a voucher signed and not handed in."""
    if pause.exists():  # noqa: ASYNC240 - a moment
        tell("paused")
        while pause.exists():  # noqa: ASYNC110, ASYNC240 - another process removes it
            await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    asyncio.run(ask_on(sys.argv[1], Deployment.read(Path(sys.argv[2])), Path(sys.argv[3]), Path(sys.argv[4])))
