"""Decisions of the verifier's loop, as functions of plain values."""

HASH_HISTORY_BLOCKS = 256
"""Blocks whose hashes contracts can see; also the distance between a claim's candidates."""
SAFE_BLOCKS = 8
"""A hash this close to being forgotten is not recorded any more: the transaction could come too late."""
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 900.0


def candidate(first: int, head: int) -> int | None:
    """Candidate block to record now for a claim whose first one is `first`; None while there is none to record.

    The latest that is mined is the only one whose hash is still known, since candidates lie one history apart.
    """
    if head < first:
        return None
    latest = first + (head - first) // HASH_HISTORY_BLOCKS * HASH_HISTORY_BLOCKS
    return latest if head - latest < HASH_HISTORY_BLOCKS - SAFE_BLOCKS else None


def retry_delay(attempts: int) -> float:
    """Seconds until something that could not be had `attempts` times before is asked for again."""
    return float(min(FIRST_RETRY_SECONDS * 2 ** min(attempts, 20), LAST_RETRY_SECONDS))
