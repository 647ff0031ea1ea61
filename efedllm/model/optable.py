"""The op table: which ops a token passes, in order. An op's index in its program is its coordinate in a trace."""

from enum import IntEnum
from hashlib import sha256


class Op(IntEnum):
    """Numbers of the ops in the table's bytes."""

    EMBED = 1
    NORM = 2
    LINEAR = 3
    ROTARY = 4
    QUANTISE = 5
    QUANTISE_QUERY = 6
    QUANTISE_KEY = 7
    QUANTISE_VALUE = 8
    SCORES = 9
    SOFTMAX = 10
    VALUES = 11
    ADD = 12
    SWIGLU = 13
    SAMPLE = 14


ENTRY = (Op.EMBED,)

LAYER = (
    Op.NORM,  # attention_norm
    Op.LINEAR,  # q
    Op.LINEAR,  # k
    Op.LINEAR,  # v
    Op.ROTARY,  # q
    Op.ROTARY,  # k
    Op.QUANTISE_QUERY,
    Op.QUANTISE_KEY,
    Op.QUANTISE_VALUE,
    Op.SCORES,
    Op.SOFTMAX,
    Op.VALUES,
    Op.QUANTISE,
    Op.LINEAR,  # o
    Op.ADD,
    Op.NORM,  # mlp_norm
    Op.LINEAR,  # gate
    Op.LINEAR,  # up
    Op.SWIGLU,
    Op.QUANTISE,
    Op.LINEAR,  # down
    Op.ADD,
)

EXIT = (
    Op.NORM,  # final_norm
    Op.LINEAR,  # head
    Op.SAMPLE,
)


def op_table() -> bytes:
    """For entry, layer and exit program: one byte with the number of ops, then one byte per op."""
    return b"".join(bytes((len(program), *program)) for program in (ENTRY, LAYER, EXIT))


def op_table_hash() -> bytes:
    """SHA-256 of `op_table()`, the form in which it enters the model id."""
    return sha256(op_table()).digest()
