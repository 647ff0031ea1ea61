"""The command `efedllm worker`."""

import asyncio
import json
import logging
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efedllm.options import add_key_options, password, progress

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Callable

    from efedllm.model.shard import Shard

    from .options import Options
    from .tracing import Weights


def add_parser(subparsers: "_SubParsersAction[ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "worker", help="host some layers of a model and earn with them", description="Serve until Ctrl-C or SIGTERM."
    )
    add_key_options(parser)
    parser.add_argument("--model", type=Path, required=True, metavar="OUT", help="folder of a built model")
    parser.add_argument(
        "--layers", type=layer_range, default="0:", metavar="A:B", help="half-open range (default: all)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--endpoint", metavar="URL", help="where others reach this worker (default: http://HOST:PORT)")
    parser.add_argument("--prompt-price", default="0.0001", metavar="TOKENS", help="per prompt token (default: 0.0001)")
    parser.add_argument(
        "--token-price", default="0.0004", metavar="TOKENS", help="per generated token (default: 0.0004)"
    )
    parser.add_argument("--backend", help="integer back end (default: the fastest that passes its self-test)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="compute threads (default: 1)")
    parser.add_argument("--sessions", type=int, default=8, help="requests served at a time (default: 8)")
    parser.add_argument("--grace", type=float, default=30.0, metavar="SECONDS", help="time to finish on SIGTERM")
    parser.add_argument("--no-claims", action="store_true", help="leave claiming and releasing to `efedllm claim`")
    parser.add_argument(
        "--claim-within",
        type=seconds,
        default=86_400,
        metavar="SECONDS",
        help="vouchers are claimed when the gas is at most 5 %% of their value, or they are worth the gas and this old "
        "(default: 86400), or their channel is closing",
    )
    parser.add_argument(
        "--gas-value",
        default="1000",
        metavar="TOKENS",
        help="what one whole coin of the chain is worth, to compare gas with vouchers (default: 1000)",
    )
    parser.add_argument("--log-json", action="store_true", help="one JSON object per log line")
    parser.set_defaults(run=run)


def layer_range(text: str) -> tuple[int, int | None]:
    """`A:B`, half-open; an empty end means to the last layer."""
    start, colon, end = text.partition(":")
    try:
        parsed = (int(start or 0), int(end) if end else None)
    except ValueError:
        parsed = (-1, None)
    if not colon or parsed[0] < 0 or (parsed[1] is not None and parsed[1] <= parsed[0]):
        raise ArgumentTypeError(f"{text!r} is no layer range such as 0:4 (layers 0, 1, 2 and 3)")
    return parsed


def seconds(text: str) -> int:
    """A duration."""
    if not text.isascii() or not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is no number of seconds such as 3600")
    return int(text)


def options(arguments: Namespace) -> "Options":
    """What was asked for, with the password that opens the keys."""
    from .options import Options

    start, end = arguments.layers
    return Options(
        model=arguments.model,
        start=start,
        end=end,
        data_dir=arguments.data_dir,
        rpc=arguments.rpc,
        deployment=arguments.deployment,
        password=password(arguments),
        host=arguments.host,
        port=arguments.port,
        endpoint=arguments.endpoint,
        prompt_price=arguments.prompt_price,
        token_price=arguments.token_price,
        backend=arguments.backend,
        device=arguments.device,
        threads=arguments.threads,
        sessions=arguments.sessions,
        grace_seconds=arguments.grace,
        claims=not arguments.no_claims,
        claim_within=arguments.claim_within,
        gas_value=arguments.gas_value,
        max_gas_price=arguments.max_gas_price,
    )


def set_up_logging(as_json: bool) -> None:
    """One line per event on standard error; never a prompt, never a key."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("efedllm").setLevel(logging.INFO)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def run(
    arguments: Namespace, load: "Callable[[Options, int], Shard] | None" = None, weights: "Weights | None" = None
) -> int:
    """Serve until told to stop. `load` makes the shard, `weights` opens what disputes are played with; by default both
    are the model's, checked."""
    from .program import load_shard
    from .program import run as serve

    def announce(text: str, event: dict[str, object]) -> None:
        if arguments.json:
            print(json.dumps(event), flush=True)
        else:
            progress(text)

    set_up_logging(arguments.log_json)
    asyncio.run(serve(options(arguments), announce, load or load_shard, weights))
    return 0
