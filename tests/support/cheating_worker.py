"""A worker that computes with one changed weight bit, flipped after the weights were checked.

`python -m tests.support.cheating_worker [options of efedllm worker]`: the demo and end-to-end tests run it.
"""

import argparse
import sys

from efedllm.errors import EfedllmError
from efedllm.model.shard import Shard
from worker import cli, program

FLIPPED_BIT = 0x40


def load_with_a_flipped_bit(options: program.Options, end: int) -> Shard:
    """The shard of an honest worker, but for one bit of one weight of its first layer's down projection."""
    import torch

    from efedllm.model.load import load
    from efedllm.numerics.backend import select

    torch.set_num_threads(options.threads)
    loaded = load(options.model, options.start, end)
    loaded.layers[0].down.q[0, 0] ^= FLIPPED_BIT
    return Shard(loaded, select(options.backend, options.device), options.device)


def main() -> int:
    commands = argparse.ArgumentParser().add_subparsers()
    cli.add_parser(commands)
    arguments = commands.choices["worker"].parse_args(sys.argv[1:])
    try:
        return cli.run(arguments, load_with_a_flipped_bit)
    except EfedllmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
