"""What a request costs. Amounts are base units of the deployment's token; LLM tokens are counted, never weighed."""

from efedllm.protocol.objects import Hop, Request

CHUNK_POSITIONS = 64
"""Prompt positions that a path processes, and receipts, at a time."""
RECEIPT_TOKENS = 16
"""Generated tokens between receipts: half a credit window, so that paying for a half overlaps with the next one."""


def fee_of(hop: Hop, prompt_count: int, positions: int, generated: int) -> int:
    """Fee so far: every prompt position once it passed the shard, every generated token once it exists."""
    return min(positions, prompt_count) * hop.promptPrice + generated * hop.tokenPrice


def window_of(hop: Hop, credit_tokens: int) -> int:
    """Fee that a worker advances: for `credit_tokens` generated tokens, or for one prompt chunk and the receipt after
    it, whichever is more."""
    return max(
        credit_tokens * hop.tokenPrice,
        CHUNK_POSITIONS * hop.promptPrice + RECEIPT_TOKENS * hop.tokenPrice,
    )


def ceiling_of(hop: Hop, request: Request) -> int:
    """The most this hop can cost for this request."""
    return request.promptCount * hop.promptPrice + request.maxTokens * hop.tokenPrice


def is_due(prompt_count: int, positions: int, generated: int) -> bool:
    """Whether a receipt is due at these counts (besides the one at the end)."""
    if generated == 0:
        return 0 < positions < prompt_count and positions % CHUNK_POSITIONS == 0
    return generated == 1 or generated % RECEIPT_TOKENS == 0
