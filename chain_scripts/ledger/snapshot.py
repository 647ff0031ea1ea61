"""Reads from the contracts, at one block, everything that a ledger knows of."""

from efedllm.chain.abi import build
from efedllm.chain.batch import read_all
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Account, Channel, Claim
from efedllm.chain.stake_registry import Participant

from .compare import Snapshot
from .fold import Rules
from .state import Ledger

PAGE = 500
"""Participants per call."""


async def read_rules(chain: Chain, block: int) -> Rules:
    """What the contracts fixed when they were created."""
    ((fee_bps,),) = await read_all(chain.channels, block, [("feeBps", ())])
    return Rules(chain.channels.address, chain.stakes.address, fee_bps)


async def read_snapshot(chain: Chain, ledger: Ledger, block: int) -> Snapshot:
    """Raises ChainError, also when the node has forgotten the state at `block`."""
    channels = list(ledger.channels)
    claims = [key for key, state in ledger.claims.items() if state.pending]
    # A forfeited amount may have become the earnings of anybody.
    workers = sorted(
        {key.worker for key in channels}
        | {key.worker for key in ledger.claims}
        | {account.owner for account in ledger.balances if account.kind == "earnings"}
    )
    of_channels = await read_all(
        chain.channels,
        block,
        [
            *[("channelOf", (key.payer, key.worker, key.session_key)) for key in channels],
            *[("accountOf", (worker,)) for worker in workers],
            *[("claimOf", (key.worker, key.number)) for key in claims],
            ("fees", ()),
        ],
    )
    values = iter(of_channels)
    found_channels = {key: build(Channel, next(values)[0]) for key in channels}
    found_accounts = {worker: build(Account, next(values)) for worker in workers}
    found_claims = {key: build(Claim, next(values)[0]) for key in claims}
    (fees,) = next(values)
    contracts = [chain.channels.address, chain.stakes.address]
    balances = await read_all(chain.token, block, [("balanceOf", (address,)) for address in contracts])
    return Snapshot(
        block=block,
        channels=found_channels,
        accounts=found_accounts,
        claims=found_claims,
        participants=await _participants(chain, block),
        fees=fees,
        balances={address: balance for address, (balance,) in zip(contracts, balances, strict=True)},
    )


async def _participants(chain: Chain, block: int) -> dict[str, Participant]:
    count = await chain.stakes.participant_count(block)
    pages = await read_all(
        chain.stakes, block, [("participants", (first, min(first + PAGE, count))) for first in range(0, count, PAGE)]
    )
    addresses = [address for (page,) in pages for address in page]
    states = await read_all(chain.stakes, block, [("participantOf", (address,)) for address in addresses])
    return {address: build(Participant, state) for address, (state,) in zip(addresses, states, strict=True)}
