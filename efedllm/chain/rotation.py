"""Which hot key of a data directory counts: the chain says, after the delay of a rotation."""

from efedllm.chain.chain import Chain
from efedllm.chain.keys import KeyRole, KeyStore


async def settle_hot_key(chain: Chain, keys: KeyStore) -> bool:
    """Take the next hot key into use if it is the one that counts by now; returns whether that happened.

    For programs that are about to load the hot key. Raises KeyStoreError, ChainError.
    """
    if not keys.has_next(KeyRole.HOT):
        return False
    counting = await chain.stakes.hot_key_of(keys.find(KeyRole.COLD).address)
    if counting != keys.find_next(KeyRole.HOT).address:
        return False
    keys.promote_next(KeyRole.HOT)
    return True
