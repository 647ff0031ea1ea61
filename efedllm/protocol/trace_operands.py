"""What every element of a trace is computed from: the columns "from" of docs/trace.md, in their order."""

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.merkle import LEAF_BYTES
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape, Step
from efedllm.protocol.trace_operand import Choice, InputToken, MatrixRow, Operand, WeightLeaf, has_top_k, has_top_p
from efedllm.protocol.trace_sources import Sources
from efedllm.protocol.trace_tensors import BLOCK, TILE, Exit, Layer, Program


def choice_of(shape: Shape, sampling: Sampling, step: Step) -> Choice | None:
    """What `operands` has to be told of an element besides its place."""
    match shape.program(step.segment):
        case Program.ENTRY:
            return Choice.TOKEN
        case Program.LAYER if step.tensor == Layer.SWIGLU:
            return Choice.SIGMOID
        case Program.LAYER if step.tensor == Layer.WEIGHTS and not _is_behind(shape, step):
            return Choice.EXP2
        case Program.EXIT if step.tensor == Exit.WEIGHTS and sampling.temperature:
            return Choice.EXP2
        case Program.EXIT if step.tensor == Exit.SAMPLE:
            return Choice.TILE
    return None


def _is_behind(shape: Shape, step: Step) -> bool:
    """Whether an element at `(h, j)` of scores or weights has `j > p`."""
    _, at = shape.find_element(step)
    return at % (BLOCK * shape.blocks) > step.row


def operands(shape: Shape, sampling: Sampling, step: Step, choice: int | None = 0) -> tuple[Operand, ...]:
    """Operands of an element, in the order in which they are opened; none where the element is a constant.

    choice: the number that `choice_of` asks for. Raises ProtocolError for a step that is not there, and for a token or
    tile past the vocabulary.
    """
    part, at = shape.find_element(step)
    sources = Sources(shape, step)
    match shape.program(step.segment):
        case Program.ENTRY:
            if choice is None or not 0 <= choice < shape.model.vocab:
                raise ProtocolError(f"token {choice} is not below the vocabulary of {shape.model.vocab}")
            tiles = -(-shape.model.hidden // LEAF_BYTES)
            return InputToken(step.row), WeightLeaf("embedding", choice * tiles + at // LEAF_BYTES)
        case Program.LAYER:
            return _layer(sources, Layer(step.tensor), part, at, choice)
        case Program.EXIT:
            return _exit(sources, sampling, Exit(step.tensor), part, at, choice)


def _table(name: str, leaf: int | None) -> tuple[Operand, ...]:
    return () if leaf is None else (WeightLeaf(name, leaf),)


def _layer(sources: Sources, tensor: Layer, part: int, at: int, choice: int | None) -> tuple[Operand, ...]:
    name = f"layers.{sources.shape.layer(sources.step.segment)}"
    match tensor:
        case Layer.ATTENTION_NORM:
            return sources.norm(None, f"{name}.attention_norm", part, at)
        case Layer.LINEAR_Q | Layer.LINEAR_K | Layer.LINEAR_V:
            short = {Layer.LINEAR_Q: "q", Layer.LINEAR_K: "k", Layer.LINEAR_V: "v"}[tensor]
            return sources.row(Layer.ATTENTION_NORM), MatrixRow(f"{name}.{short}", at)
        case Layer.ROTARY_Q | Layer.ROTARY_K:
            return sources.rotary(Layer.LINEAR_Q if tensor is Layer.ROTARY_Q else Layer.LINEAR_K, at)
        case Layer.QUERY | Layer.KEY | Layer.VALUE:
            source = {Layer.QUERY: Layer.ROTARY_Q, Layer.KEY: Layer.ROTARY_K, Layer.VALUE: Layer.LINEAR_V}[tensor]
            return sources.quantised_heads(source, part, at)
        case Layer.QUANTISE_MIXED:
            return sources.quantised(Layer.MIXED, part, at)
        case Layer.LINEAR_O:
            return sources.row(Layer.QUANTISE_MIXED), MatrixRow(f"{name}.o", at)
        case Layer.ADD_ATTENTION:
            return sources.residual_leaf(at), sources.leaf(Layer.LINEAR_O, 0, at)
        case Layer.MLP_NORM:
            return sources.norm(Layer.ADD_ATTENTION, f"{name}.mlp_norm", part, at)
        case Layer.LINEAR_GATE | Layer.LINEAR_UP:
            short = "gate" if tensor is Layer.LINEAR_GATE else "up"
            return sources.row(Layer.MLP_NORM), MatrixRow(f"{name}.{short}", at)
        case Layer.SWIGLU:
            both = sources.leaf(Layer.LINEAR_GATE, 0, at), sources.leaf(Layer.LINEAR_UP, 0, at)
            return (*both, *_table("sigmoid", choice))
        case Layer.QUANTISE_SWIGLU:
            return sources.quantised(Layer.SWIGLU, part, at)
        case Layer.LINEAR_DOWN:
            return sources.row(Layer.QUANTISE_SWIGLU), MatrixRow(f"{name}.down", at)
        case Layer.ADD_MLP:
            return sources.leaf(Layer.ADD_ATTENTION, 0, at), sources.leaf(Layer.LINEAR_DOWN, 0, at)
        case _:
            return _attention(sources, tensor, part, at, choice)


def _attention(sources: Sources, tensor: Layer, part: int, at: int, choice: int | None) -> tuple[Operand, ...]:
    model, blocks, row = sources.shape.model, sources.shape.blocks, sources.step.row
    head_dim, group = model.head_dim, model.heads // model.kv_heads
    match tensor:
        case Layer.VALUE_BLOCKS:
            above, position = at // BLOCK, row * BLOCK + at % BLOCK  # above: g, or (g, i)
            return (sources.leaf(Layer.VALUE, part, above, position),) if position < sources.shape.positions else ()
        case Layer.SCORES:
            head, position = divmod(at, BLOCK * blocks)
            if position > row:
                return ()
            cached = head // group
            return (
                sources.leaf(Layer.QUERY, 0, head),
                *sources.leaves(Layer.QUERY, 1, head * head_dim, head_dim),
                sources.leaf(Layer.KEY, 0, cached, position),
                *sources.leaves(Layer.KEY, 1, cached * head_dim, head_dim, position),
            )
        case Layer.WEIGHTS:
            head, position = divmod(at, BLOCK * blocks)
            if position > row:
                return ()
            top = sources.leaf(Layer.MAXIMA, 1, head)
            return sources.leaf(Layer.SCORES, 0, at), top, *_table("exp2", choice)
        case Layer.MAXIMA | Layer.SUMS | Layer.LARGEST if part == 1:
            return sources.leaves(tensor, 0, at * blocks, blocks)
        case Layer.MAXIMA:
            return (sources.leaf(Layer.SCORES, 0, at * BLOCK),)
        case Layer.SUMS:
            return (sources.leaf(Layer.WEIGHTS, 0, at * BLOCK),)
        case Layer.LARGEST:
            head, block = divmod(at, blocks)
            maxima = sources.leaf(Layer.VALUE_BLOCKS, 0, head // group * BLOCK, block)
            return sources.leaf(Layer.WEIGHTS, 0, at * BLOCK), maxima
        case Layer.PROBABILITIES:
            head, position = divmod(at, BLOCK * blocks)
            maxima = sources.leaf(Layer.VALUE_BLOCKS, 0, head // group * BLOCK, position // BLOCK)
            return sources.leaf(Layer.WEIGHTS, 0, at), maxima, sources.leaf(Layer.LARGEST, 1, head)
        case Layer.PARTIAL_SUMS:
            above, block = divmod(at, blocks)
            head, i = divmod(above, head_dim)
            values = sources.leaf(Layer.VALUE_BLOCKS, 1, (head // group * head_dim + i) * BLOCK, block)
            return sources.leaf(Layer.PROBABILITIES, 0, (head * blocks + block) * BLOCK), values
        case Layer.MIXED:
            head = at // head_dim
            sums = sources.leaves(Layer.PARTIAL_SUMS, 0, at * blocks, blocks)
            return *sums, sources.leaf(Layer.SUMS, 1, head), sources.leaf(Layer.LARGEST, 1, head)
    raise AssertionError(f"tensor {tensor} is none of attention's")


_COUNTS = (Exit.COUNTS_0, Exit.COUNTS_1, Exit.COUNTS_2)
_TOP_K = (Exit.TOP_K_0, Exit.TOP_K_1, Exit.TOP_K_2)
_MASSES = (Exit.MASSES_0, Exit.MASSES_1, Exit.MASSES_2)
_TOP_P = (Exit.TOP_P_0, Exit.TOP_P_1, Exit.TOP_P_2)


def _exit(
    sources: Sources, sampling: Sampling, tensor: Exit, part: int, at: int, choice: int | None
) -> tuple[Operand, ...]:
    tiles, is_random = sources.shape.tiles, sampling.temperature != 0
    match tensor:
        case Exit.FINAL_NORM:
            return sources.norm(None, "final_norm", part, at)
        case Exit.LOGITS:
            return sources.row(Exit.FINAL_NORM), MatrixRow("head", at)
        case Exit.MAXIMA:
            return sources.leaves(tensor, 0, 0, tiles) if part else (sources.leaf(Exit.LOGITS, 0, at * TILE),)
        case Exit.DISTANCES:
            return (sources.leaf(Exit.LOGITS, 0, at), sources.leaf(Exit.MAXIMA, 1, 0)) if is_random else ()
        case Exit.WEIGHTS:
            return (sources.leaf(Exit.DISTANCES, 0, at), *_table("exp2", choice)) if is_random else ()
        case Exit.SUMS if part == 1:
            return sources.leaves(tensor, 0, 0, tiles) if is_random else ()
        case Exit.SUMS:
            return (*_kept_tile(sources, at), *_cuts(sources, sampling)) if is_random else ()
        case Exit.SAMPLE:
            if choice is None or not 0 <= choice < tiles:
                raise ProtocolError(f"tile {choice} is not below the {tiles} tiles of the vocabulary")
            if not is_random:
                maxima = (*sources.leaves(Exit.MAXIMA, 0, 0, tiles), sources.leaf(Exit.MAXIMA, 1, 0))
                return *maxima, sources.leaf(Exit.LOGITS, 0, choice * TILE)
            sums = (*sources.leaves(Exit.SUMS, 0, 0, tiles), sources.leaf(Exit.SUMS, 1, 0))
            return *sums, *_kept_tile(sources, choice), *_cuts(sources, sampling)
        case _ if tensor in _COUNTS + _TOP_K:
            return _cut_operands(sources, tensor, part, at) if has_top_k(sources.shape.model, sampling) else ()
        case _:
            return _cut_operands(sources, tensor, part, at, sampling) if has_top_p(sampling) else ()


def _kept_tile(sources: Sources, tile: int) -> tuple[Operand, ...]:
    """Distances and weights of a tile."""
    return sources.leaf(Exit.DISTANCES, 0, tile * TILE), sources.leaf(Exit.WEIGHTS, 0, tile * TILE)


def _cuts(sources: Sources, sampling: Sampling) -> tuple[Operand, ...]:
    """The last cut of top-k and of top-p, as far as they are on."""
    top_k = (sources.leaf(Exit.TOP_K_2, 1, 0),) if has_top_k(sources.shape.model, sampling) else ()
    top_p = (sources.leaf(Exit.TOP_P_2, 1, 0),) if has_top_p(sampling) else ()
    return *top_k, *top_p


def _cut_operands(
    sources: Sources, tensor: Exit, part: int, at: int, sampling: Sampling | None = None
) -> tuple[Operand, ...]:
    """Of histograms and cuts; sampling: of top-p, whose masses are those of the tokens that top-k keeps."""
    histograms, cuts = (_COUNTS, _TOP_K) if sampling is None else (_MASSES, _TOP_P)
    tiles = sources.shape.tiles
    level = (histograms if tensor in histograms else cuts).index(tensor)
    before = (sources.leaf(cuts[level - 1], 1, 0),) if level else ()
    if tensor in cuts:
        if part == 0:
            return sources.leaves(histograms[level], 0, at * tiles, tiles)
        return sources.leaf(tensor, 0, 0), *before
    tile = at % tiles
    if sampling is None:
        return sources.leaf(Exit.DISTANCES, 0, tile * TILE), *before
    top_k = (sources.leaf(Exit.TOP_K_2, 1, 0),) if has_top_k(sources.shape.model, sampling) else ()
    return *_kept_tile(sources, tile), *top_k, *before
