"""A built model as the registry knows it."""

from efedllm.model.format import Manifest
from efedllm.model.optable import op_table_hash
from efedllm.numerics.limits import SEMANTICS
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.values import ZERO_ADDRESS


def model_spec(manifest: Manifest, step_verifier: str = ZERO_ADDRESS) -> ModelSpec:
    """The spec that this model is registered with. `step_verifier`: the contract that can judge it, zero for none."""
    d = manifest.dimensions
    return ModelSpec(
        semantics=SEMANTICS,
        hidden=d.hidden,
        intermediate=d.intermediate,
        layers=d.layers,
        heads=d.heads,
        kv_heads=d.kv_heads,
        head_dim=d.head_dim,
        vocab=d.vocab,
        context=d.context,
        epsilon=d.epsilon,
        op_table=op_table_hash(),
        weights_root=manifest.weights_root,
        tokenizer_hash=manifest.tokenizer_hash,
        step_verifier=step_verifier,
    )
