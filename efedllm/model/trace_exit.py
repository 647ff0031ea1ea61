"""Values of the trace of the exit: final norm, head and sampling, with the histograms that its cuts are read from."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efedllm.model.trace_layer import chunk_of, norm
from efedllm.model.trace_rows import DTYPES, Rows, Values
from efedllm.numerics import fixed, ops
from efedllm.numerics.fixed import INT32_MIN
from efedllm.numerics.ops import LOG2_E
from efedllm.numerics.prepared import Backend
from efedllm.numerics.sampling import LARGEST_Z
from efedllm.numerics.weights import Gain, Matrix
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace_operand import TOP_P_OFF, draw, has_top_k, has_top_p
from efedllm.protocol.trace_tensors import DIGITS, TILE, Exit, Kind

Integers = NDArray[np.int64]
SHIFTS = (14, 7, 0)
"""Of the three digits of a distance."""


class ExitTrace:
    """Final norm and head with their weights, and a request's sampling."""

    def __init__(
        self,
        model: ModelSpec,
        final_norm: Gain,
        head: Matrix,
        exp2: Tensor,
        backend: Backend,
        sampling: Sampling,
        seed: bytes,
    ) -> None:
        self._model = model
        self._final_norm = final_norm
        self._head = backend.prepare(head)
        self._exp2 = fixed.expand_exp2(exp2)
        self._backend = backend
        self._sampling = sampling
        self._seed = seed
        self._tiles = -(-model.vocab // TILE)
        self.chunk = chunk_of(max(model.hidden, model.vocab))

    def __call__(self, x: Tensor, first: int, rows: Rows) -> None:
        """All tensors of positions `first ..`. x: int32 [R, hidden]."""
        q, scale = norm(Exit.FINAL_NORM, first, x, self._final_norm, self._model.epsilon, rows)
        logits = rows.put(Exit.LOGITS, 0, first, ops.linear(q, scale, self._head, self._backend))
        padded = torch.nn.functional.pad(logits, (0, self._tiles * TILE - self._model.vocab), value=INT32_MIN)
        maxima = rows.put(Exit.MAXIMA, 0, first, padded.view(len(x), -1, TILE).amax(-1))
        top = rows.put(Exit.MAXIMA, 1, first, maxima.amax(-1, keepdim=True))
        z, w = self._weights(logits, top, first, rows)
        for at in range(len(x)):
            self._sample(first + at, logits[at].numpy(), maxima[at].numpy(), int(top[at]), z[at], w[at], rows)

    def _weights(self, logits: Tensor, top: Tensor, first: int, rows: Rows) -> tuple[Integers, Integers]:
        """Distances and weights: int64 [R, vocab] each, zero at temperature 0."""
        if self._sampling.temperature:
            beta = LOG2_E // self._sampling.temperature
            behind = (top.to(torch.int64) - logits).clamp_(min=0)
            z = fixed.rounded_shift_(behind.mul_(beta), 16).clamp_(max=LARGEST_Z)
        else:
            z = torch.zeros(logits.shape, dtype=torch.int64)
        z = rows.put(Exit.DISTANCES, 0, first, z)
        w = fixed.exp2neg(z, self._exp2).to(torch.int64) if self._sampling.temperature else torch.zeros_like(z)
        return z.numpy(), rows.put(Exit.WEIGHTS, 0, first, w).numpy()

    def _sample(self, row: int, logits: Values, maxima: Values, top: int, z: Integers, w: Integers, rows: Rows) -> None:
        """Tensors 5 to 18 of one position."""

        def put(tensor: int, part: int, values: Values, kind: Kind) -> Any:
            """Numbers as they are on the wire -> those to compute with."""
            used = rows.put_array(tensor, part, row, values.astype(DTYPES[kind]).reshape(1, -1))[0]
            return used.astype(np.int64) if used.dtype.names is None else used

        top_k = self._sampling.topK if has_top_k(self._model, self._sampling) else None
        kept = w
        largest = self._cut(row, z, np.ones_like(z), top_k, False, put)
        if largest is not None:
            kept = np.where(z <= largest, kept, 0)
        top_p = self._sampling.topP if has_top_p(self._sampling) else None
        largest = self._cut(row, z, kept, top_p, True, put)
        if largest is not None:
            kept = np.where(z <= largest, kept, 0)

        padded = np.pad(kept, (0, self._tiles * TILE - len(kept))).reshape(-1, TILE)
        sums = put(Exit.SUMS, 0, padded.sum(axis=1), Kind.UINT64)
        total = int(put(Exit.SUMS, 1, sums.sum(keepdims=True), Kind.UINT64)[0])
        tile, rest = 0, 0
        if self._sampling.temperature:
            left = draw(self._seed, row + 1, total)
            below = np.cumsum(sums)
            tile = min(int(np.searchsorted(below, left, side="right")), self._tiles - 1)
            rest = left - (int(below[tile - 1]) if tile else 0)
            inside = int(np.searchsorted(np.cumsum(padded[tile]), rest, side="right"))
        else:
            tile = int(np.argmax(maxima == top))
            inside = int(np.argmax(logits[tile * TILE : (tile + 1) * TILE] == top))
        sample = np.zeros(1, DTYPES[Kind.SAMPLE])
        # Only sums that are a lie lead past the last token, or before the first.
        sample[0] = (min(tile * TILE + inside, self._model.vocab - 1), tile, rest & (2**64 - 1))
        put(Exit.SAMPLE, 0, sample, Kind.SAMPLE)

    def _cut(self, row: int, z: Integers, w: Integers, limit: int | None, is_mass: bool, put: Any) -> int | None:
        """Three histograms with their cuts; limit: the request's top-k or top-p -> the largest z that is kept.

        Without a limit the cut is off: its tensors are zero, and everything is kept.
        """
        histograms, kind = (Exit.MASSES_0, Kind.UINT64) if is_mass else (Exit.COUNTS_0, Kind.UINT16)
        sums_kind = Kind.UINT64 if is_mass else Kind.UINT32
        prefix, before, target = 0, 0, 0
        tile = np.arange(len(z)) // TILE
        for level, shift in enumerate(SHIFTS):
            bins = np.zeros(DIGITS * self._tiles, np.int64)
            if limit is not None:
                inside = z >> (shift + 7) == prefix
                at = ((z[inside] >> shift) & (DIGITS - 1)) * self._tiles + tile[inside]
                # Sums of up to 256 weights of at most 2^24 are exact in fp64.
                bins = np.bincount(at, w[inside], DIGITS * self._tiles).astype(np.int64)
            bins = put(histograms + 2 * level, 0, bins, kind)
            sums = put(histograms + 2 * level + 1, 0, bins.reshape(DIGITS, self._tiles).sum(axis=1), sums_kind)
            cut = np.zeros(1, DTYPES[Kind.CUT])
            if limit is not None:
                if level == 0:
                    target = -(-limit * int(sums.sum()) // TOP_P_OFF) if is_mass else limit
                below = np.cumsum(sums)
                digit = min(int(np.searchsorted(below, target - before, side="left")), DIGITS - 1)
                prefix = prefix << 7 | digit
                before += int(below[digit - 1]) if digit else 0
                # Only sums that are a lie leave these widths.
                cut[0] = (prefix & (2**32 - 1), 0, before & (2**64 - 1), target & (2**64 - 1))
            used = put(histograms + 2 * level + 1, 1, cut, Kind.CUT)[0]
            prefix, before, target = int(used["prefix"]), int(used["before"]), int(used["target"])
        return None if limit is None else prefix
