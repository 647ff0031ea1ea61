"""Models and receipts of many shapes, for tests of the trace."""

from __future__ import annotations

from hypothesis import strategies as st

from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.trace import Shape


def model_spec(
    *,
    hidden: int = 48,
    intermediate: int = 80,
    layers: int = 3,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 12,
    vocab: int = 300,
    context: int = 200,
    epsilon: int = 42950,
) -> ModelSpec:
    """A model of these dimensions; its roots are zero."""
    zero = bytes(32)
    return ModelSpec(
        semantics=1,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        context=context,
        epsilon=epsilon,
        op_table=zero,
        weights_root=zero,
        tokenizer_hash=zero,
        step_verifier="0x" + "00" * 20,
    )


LARGEST = model_spec(
    hidden=1 << 14,
    intermediate=1 << 16,
    layers=1 << 10,
    heads=1 << 8,
    kv_heads=1 << 8,
    head_dim=1 << 8,
    vocab=1 << 18,
    context=1 << 17,
    epsilon=1 << 32,
)
"""The largest dimensions that the registry takes, with heads as wide as they can be."""


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Any trace of a small or middling model."""
    kv_heads = draw(st.integers(1, 6))
    layers = draw(st.integers(1, 5))
    prompt = draw(st.one_of(st.integers(1, 9), st.integers(1, 800)))
    generated = draw(st.one_of(st.integers(0, 3), st.integers(0, 300)))
    if prompt == 1:
        generated = max(1, generated)
    start = draw(st.integers(0, layers - 1))
    return Shape(
        model=model_spec(
            hidden=draw(st.integers(1, 1200)),
            intermediate=draw(st.integers(1, 1500)),
            layers=layers,
            heads=kv_heads * draw(st.integers(1, 4)),
            kv_heads=kv_heads,
            head_dim=2 * draw(st.integers(1, 128)),
            vocab=draw(st.one_of(st.integers(1, 700), st.integers(1, 5000))),
            context=2000,
        ),
        start=start,
        end=draw(st.integers(start + 1, layers)),
        positions=prompt + generated - 1 if generated else draw(st.integers(1, prompt - 1)),
        prompt_count=prompt,
        generated=generated,
    )
