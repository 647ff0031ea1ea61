"""A worker that computes with one changed weight bit, flipped after the weights were checked.

`python -m tests.support.cheating_worker [options of efedllm worker]`: the demo and end-to-end tests run it. In a
dispute it defends what it computed, with a trace in which that weight is flipped too: nothing contradicts its receipt.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from efedllm.errors import EfedllmError
from worker import cli, program

if TYPE_CHECKING:
    from efedllm.model.load import LayerWeights
    from efedllm.model.shard import Shard
    from worker.tracing import Weights

FLIPPED_BIT = 0x40


def flipped(layer: LayerWeights) -> LayerWeights:
    """The layer, but for one bit of one weight of its down projection."""
    q = layer.down.q.clone()
    q[0, 0] ^= FLIPPED_BIT
    return replace(layer, down=replace(layer.down, q=q))


def load_with_a_flipped_bit(options: program.Options, end: int) -> Shard:
    """The shard of an honest worker, but for one bit of its first layer."""
    import torch

    from efedllm.model.load import load
    from efedllm.model.shard import Shard
    from efedllm.numerics.backend import select

    torch.set_num_threads(options.threads)
    loaded = load(options.model, options.start, end)
    first, *others = loaded.layers
    altered = replace(loaded, layers=(flipped(first), *others))
    return Shard(altered, select(options.backend, options.device), options.device)


def weights_with_a_flipped_bit(start: int) -> Weights:
    """What such a shard's trace is computed with, when it begins at layer `start`."""
    from efedllm.model.segment_weights import SegmentWeights

    class FlippedWeights(SegmentWeights):
        def layer(self, index: int) -> LayerWeights:
            layer = super().layer(index)
            return flipped(layer) if index == start else layer

    def open_folder(folder: Path, weights_root: bytes) -> SegmentWeights:
        return FlippedWeights(folder, weights_root)

    return open_folder


def main() -> int:
    commands = argparse.ArgumentParser().add_subparsers()
    cli.add_parser(commands)
    arguments = commands.choices["worker"].parse_args(sys.argv[1:])
    try:
        return cli.run(arguments, load_with_a_flipped_bit, weights_with_a_flipped_bit(arguments.layers[0]))
    except EfedllmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
