"""Reads from the game, at one block, everything that a ledger knows of it."""

from collections.abc import Iterable

from efedllm.chain.abi import build
from efedllm.chain.batch import read_all
from efedllm.chain.chain import Chain
from efedllm.chain.dispute_game import DisputeGame, Fault
from efedllm.protocol.values import ZERO_ADDRESS

from .compare_games import GameSnapshot
from .folding import GameRules
from .state import Ledger

_NUMBERS = (
    "firstSlash", "firstSlashBps", "challengerShareBps", "poolShareBps", "baseBond", "forceFee", "demandFee",
    "moveDeadline", "longestGame",
)  # fmt: skip


async def read_game_rules(game: DisputeGame, block: int) -> GameRules:
    """What it fixed when it was created."""
    found = await read_all(game, block, [(name, ()) for name in (*_NUMBERS, "rewardPool")])
    values = dict(zip((*_NUMBERS, "rewardPool"), (value for (value,) in found), strict=True))
    return GameRules(
        address=game.address,
        first_slash=values["firstSlash"],
        first_slash_bps=values["firstSlashBps"],
        challenger_share_bps=values["challengerShareBps"],
        pool_share_bps=values["poolShareBps"],
        reward_pool=None if values["rewardPool"] == ZERO_ADDRESS else values["rewardPool"],
        base_bond=values["baseBond"],
        force_fee=values["forceFee"],
        demand_fee=values["demandFee"],
        move_deadline=values["moveDeadline"],
        longest_game=values["longestGame"],
    )


async def read_game_snapshot(
    chain: Chain, game: DisputeGame, rules: GameRules, ledger: Ledger, workers: Iterable[str], block: int
) -> GameSnapshot:
    """`workers`: all whose games are counted. Raises ChainError."""
    games = ledger.games
    ids, faults, shares, parts = list(games.games), list(games.faults), list(games.shares), list(games.parts)
    forced, owed = list(games.forced), [account.owner for account in ledger.balances if account.kind == "owed"]
    counted = sorted({*workers, *(state.worker for state in games.games.values())})
    found = iter(
        await read_all(
            game,
            block,
            [
                *[("recordOf", (worker,)) for worker in counted],
                *[("faultOf", tuple(key)) for key in faults],
                *[("sharesOf", (*key.fault, key.challenger)) for key in shares],
                *[("partOf", tuple(key)) for key in parts],
                *[("forcedUntil", (digest,)) for digest in forced],
                *[("owed", (account,)) for account in owed],
            ],
        )
    )
    untold = {state.moved_in for state in games.games.values() if state.deadline is None}
    return GameSnapshot(
        records={worker: _pair(next(found)) for worker in counted},
        faults={key: build(Fault, next(found)[0]) for key in faults},
        shares={key: int(next(found)[0]) for key in shares},
        parts={key: _part(next(found)) for key in parts},
        forced={digest: int(next(found)[0]) for digest in forced},
        owed={account: int(next(found)[0]) for account in owed},
        times={at: (await chain.rpc.block(at)).timestamp for at in untold},
        games=dict(zip(ids, await game.games_of(ids, block), strict=True)),
        balance=await chain.token.balance_of(game.address, block),
        demand_fee=rules.demand_fee,
    )


def _pair(values: tuple[int, int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _part(values: tuple[int, int, bool]) -> tuple[int, int, bool]:
    return int(values[0]), int(values[1]), bool(values[2])
