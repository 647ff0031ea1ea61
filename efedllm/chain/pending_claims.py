"""A worker's claims that are not released yet, read from its ring of slots without any history."""

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Claim
from efedllm.chain.errors import Reverted
from efedllm.chain.participants import gather_some

_SLOTS = 64  # size of the ring in Channels


async def find_pending_claims(chain: Chain, worker: str, block: int | None = None) -> dict[int, Claim]:
    """Claims with something pending, by index, oldest first; as of one block (None: the latest)."""
    at = await chain.rpc.block_number() if block is None else block
    account = await chain.channels.account_of(worker, at)
    if account.pending == 0:
        return {}
    newest = range(max(0, account.next - _SLOTS), account.next)
    found = await gather_some(_in_slot_of(chain, worker, index, at) for index in newest)
    return {index: claim for index, claim in sorted(entry for entry in found if entry is not None) if claim.amount}


async def _in_slot_of(chain: Chain, worker: str, index: int, block: int) -> tuple[int, Claim] | None:
    """What lies in the slot of `index`: that claim, or an older one whose occupied slot was passed over since."""
    while index >= 0:
        try:
            return index, await chain.channels.claim_of(worker, index, block)
        except Reverted as error:
            if error.name != "NoClaim":
                raise
            index -= _SLOTS
    return None
