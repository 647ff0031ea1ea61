"""`efedllm ask`: a question on the command line, the answer as it comes, then what it cost."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from efedllm.options import add_key_options, emit, password, progress, table

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.client.generation import Generation
    from efedllm.client.network import Token


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "ask",
        help="ask a model and pay the workers that answer",
        description="Find the cheapest workers, open channels where needed, stream the answer and pay for it.",
    )
    parser.add_argument("prompt", help="the text to continue")
    parser.add_argument("--model", metavar="NAME", help="name or 0x-id (default: the only one that is offered)")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="(default: 256, or what the context leaves)")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="X", help="0 is greedy (default: 0.8)")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="X", help="(default: 1, off)")
    parser.add_argument("--top-k", type=int, default=0, metavar="N", help="(default: 0, off)")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same answer (default: random)")
    parser.add_argument(
        "--deposit", metavar="AMOUNT", help="for a channel to be filled (default: some requests' worth)"
    )
    parser.add_argument("--max-cost", metavar="AMOUNT", help="refuse paths that could cost more (default: no limit)")
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    return asyncio.run(_ask(arguments))


async def _ask(arguments: Namespace) -> int:
    from efedllm.chain.amounts import parse_amount
    from efedllm.chain.chain import Chain
    from efedllm.client.api import Client, Spending

    async with await Chain.connect(arguments.rpc, arguments.deployment) as chain:
        deployment = chain.deployment
    amounts = [
        None if text is None else parse_amount(text, deployment.token_decimals)
        for text in (arguments.deposit, arguments.max_cost)
    ]
    spending = Spending(deposit=amounts[0], max_cost=amounts[1])
    highest = arguments.max_gas_price
    client = Client(arguments.rpc, deployment, arguments.data_dir, password(arguments), spending, max_gas_price=highest)
    async with client:
        generation = client.generate(
            arguments.prompt,
            arguments.model,
            arguments.max_tokens,
            arguments.temperature,
            arguments.top_p,
            arguments.top_k,
            arguments.seed,
        )
        try:
            async for piece in generation:
                if not arguments.json:
                    print(piece.text, end="", flush=True)
        finally:
            await generation.aclose()
            if generation.request_id is not None:
                if not arguments.json:
                    print(flush=True)
                progress(_summary(generation, client.network.token))
        if arguments.json:
            emit(arguments, result_of(generation), "")
    return 0


def result_of(generation: Generation) -> dict[str, Any]:
    """What --json prints; amounts in base units as decimal strings."""
    request = generation.request
    assert request is not None and generation.request_id is not None
    return {
        "text": generation.text,
        "tokens": generation.tokens,
        "reason": generation.reason,
        "request": "0x" + generation.request_id.hex(),
        "model": "0x" + request.modelId.hex(),
        "seed": "0x" + request.seed.hex(),
        "prompt_tokens": request.promptCount,
        "path": [
            {
                "worker": share.worker,
                "layers": [share.start, share.end],
                "cost": str(share.cost),
                "receipt": None if share.receipt is None else "0x" + share.receipt.digest.hex(),
            }
            for share in generation.shares
        ],
        "cost": str(generation.cost),
    }


def _summary(generation: Generation, token: Token) -> str:
    from efedllm.chain.amounts import format_amount

    shares = generation.shares
    rows = [
        (
            f"{share.start}:{share.end}",
            share.worker,
            format_amount(share.cost, token.decimals),
            "none" if share.receipt is None else "0x" + share.receipt.digest.hex(),
        )
        for share in shares
    ]
    total = format_amount(generation.cost, token.decimals)
    end = generation.reason or "cancelled or failed"
    return (
        f"{table(('layers', 'worker', f'paid {token.symbol}', 'receipt'), rows)}\n"
        f"{len(generation.tokens)} tokens ({end}) for {total} {token.symbol}"
    )
