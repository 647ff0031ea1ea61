"""Reads from the contracts, at one block, everything that a ledger knows of."""

from efedllm.chain.abi import build
from efedllm.chain.batch import read_all, read_some
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Account, Channel, Claim
from efedllm.chain.stake_registry import Participant, Role, Service

from .compare import Snapshot
from .fold import Rules
from .snapshot_games import read_game_rules, read_game_snapshot
from .state import ClaimKey, Ledger

PAGE = 500
"""Participants per call."""


async def read_rules(chain: Chain, block: int) -> Rules:
    """What the contracts fixed when they were created."""
    ((fee_bps,),) = await read_all(chain.channels, block, [("feeBps", ())])
    ((delay,),) = await read_all(chain.stakes, block, [("hotKeyDelay", ())])
    ((first,), (spacing,)) = await read_all(chain.beacon, block, [("delayBlocks", ()), ("spacingBlocks", ())])
    game = await read_game_rules(chain.game, block) if chain.game else None
    return Rules(chain.channels.address, chain.stakes.address, fee_bps, delay, first, spacing, game)


async def read_snapshot(chain: Chain, ledger: Ledger, block: int, rules: Rules) -> Snapshot:
    """Raises ChainError, also when the node has forgotten the state at `block`."""
    channels = list(ledger.channels)
    participants = await _participants(chain, block)
    # A forfeited amount may have become the earnings of anybody.
    workers = sorted(
        {key.worker for key in channels}
        | {key.payer for key in channels}
        | {key.worker for key in ledger.claims}
        | {account.owner for account in ledger.balances if account.kind == "earnings"}
        | participants.keys()
    )
    of_channels = await read_all(
        chain.channels,
        block,
        [
            *[("channelOf", (key.payer, key.worker, key.session_key)) for key in channels],
            *[("accountOf", (worker,)) for worker in workers],
            ("fees", ()),
        ],
    )
    values = iter(of_channels)
    found_channels = {key: build(Channel, next(values)[0]) for key in channels}
    found_accounts = {worker: build(Account, next(values)) for worker in workers}
    (fees,) = next(values)
    contracts = [chain.channels.address, chain.stakes.address]
    balances = await read_all(chain.token, block, [("balanceOf", (address,)) for address in contracts])
    models = list(ledger.models)
    registered = await read_all(chain.models, block, [("isRegistered", (model,)) for model in models])
    offering = [
        address
        for address in sorted(participants.keys() | ledger.participants.keys())
        if address not in participants or participants[address].role is Role.WORKER
    ]
    services = await read_all(chain.stakes, block, [("serviceOf", (address,)) for address in offering])
    recorded = list(ledger.seeds)
    seeds = await read_all(chain.beacon, block, [("seedAt", (at,)) for at in recorded])
    made = list(ledger.claims.items())
    game = None
    if chain.game is not None and rules.game is not None:
        game = await read_game_snapshot(chain, chain.game, rules.game, ledger, participants, block)
    drawn = await read_all(chain.beacon, block, [("seedFor", (state.origin.block_number,)) for _, state in made])
    return Snapshot(
        block=block,
        timestamp=(await chain.rpc.block(block)).timestamp,
        channels=found_channels,
        accounts=found_accounts,
        claims=await _claims(chain, ledger, block),
        participants=participants,
        services={address: build(Service, state) for address, (state,) in zip(offering, services, strict=True)},
        models={model: bool(found) for model, (found,) in zip(models, registered, strict=True)},
        seeds={at: bytes(seed) for at, (seed,) in zip(recorded, seeds, strict=True)},
        claim_seeds={key: bytes(seed) if ready else None for (key, _), (ready, seed) in zip(made, drawn, strict=True)},
        fees=fees,
        balances={address: balance for address, (balance,) in zip(contracts, balances, strict=True)},
        game=game,
    )


async def _claims(chain: Chain, ledger: Ledger, block: int) -> dict[ClaimKey, Claim | None]:
    """The claims that hold a slot of a ring, released ones included."""
    keys = [ClaimKey(worker, number) for worker, ring in ledger.rings.items() for number in sorted(ring.values())]
    found = await read_some(chain.channels, block, [("claimOf", (key.worker, key.number)) for key in keys])
    return {key: None if values is None else build(Claim, values[0]) for key, values in zip(keys, found, strict=True)}


async def _participants(chain: Chain, block: int) -> dict[str, Participant]:
    count = await chain.stakes.participant_count(block)
    pages = await read_all(
        chain.stakes, block, [("participants", (first, min(first + PAGE, count))) for first in range(0, count, PAGE)]
    )
    addresses = [address for (page,) in pages for address in page]
    states = await read_all(chain.stakes, block, [("participantOf", (address,)) for address in addresses])
    return {address: build(Participant, state) for address, (state,) in zip(addresses, states, strict=True)}
