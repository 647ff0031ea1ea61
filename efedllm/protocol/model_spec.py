"""What a model id commits to: `keccak256(abi.encode(ModelSpec))`, as `ModelRegistry` computes it."""

from dataclasses import astuple, dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak

_TYPES = ("uint16", *["uint32"] * 8, "uint64", *["bytes32"] * 3, "address")


@dataclass(frozen=True)
class ModelSpec:
    """Everything that the model id commits to, in the contract's order; `epsilon` is the RMSNorm epsilon times 2^32."""

    semantics: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    epsilon: int
    op_table: bytes
    weights_root: bytes
    tokenizer_hash: bytes
    step_verifier: str


def model_id(spec: ModelSpec) -> bytes:
    """32 bytes; equals `ModelRegistry.idOf`."""
    return bytes(keccak(encode(_TYPES, astuple(spec))))
