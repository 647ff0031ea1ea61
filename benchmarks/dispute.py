"""Claim: every step check of a dispute fits one transaction. Real transactions, mined by a local chain."""

from collections.abc import Callable

from efedllm.chain.game_events import Refunded, Revealed
from efedllm.chain.local import AnvilProcess
from efedllm.protocol.descent import Descent
from efedllm.protocol.trace import Shape
from tests.gas.measure_steps import LIMIT, LINEAR_LIMIT, LINEARS, SHAPE, measure
from tests.support.shapes import model_spec

from .game import play
from .report import Result, at_most, reported

COLUMNS, TOY_COLUMNS = 4096, 96
GAME_LIMIT, ROUND_LIMIT = 1_600_000, 100_000
"""A game of more rounds than this one's may cost a round more for each."""
MEDIUM = Shape(
    model_spec(
        hidden=1024, intermediate=2816, layers=16, heads=16, kv_heads=16, head_dim=64, vocab=32_000, context=2048
    ),
    0, 16, 1024, 960, 65,
)  # fmt: skip
TOY = Shape(
    model_spec(hidden=64, intermediate=128, layers=2, heads=2, kv_heads=1, head_dim=32, vocab=512, context=512),
    0, 2, 40, 30, 11,
)  # fmt: skip


def run(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """Gas used, as the receipts say it: at hidden 4096 the figures that tests/gas/steps.json has."""
    sizes = {"toy": TOY} if quick else {"hidden 1024": MEDIUM, "hidden 4096": SHAPE}
    results: list[Result] = []
    for size, shape in sizes.items():
        tell(f"every step check at {size}")
        with AnvilProcess.start() as anvil:
            gas = measure(anvil, shape)
        results += [_judged(f"{size}: {name}", name in LINEARS and shape is SHAPE, cost) for name, cost in gas.items()]
        results.append(reported(f"{size}: dearest check", max(gas.values()), "gas"))
    return [*results, *_game(quick, tell)]


def _game(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """A whole game, transaction by transaction; large models and long contexts need more rounds: it says how many."""
    columns = TOY_COLUMNS if quick else COLUMNS
    tell(f"a game about a linear of {columns:,} columns, between programs")
    sentence = play(columns)
    name = f"game, {columns:,} columns{', toy' if quick else ''}"
    moves = [(told, told.events[0]) for told in sentence.told if not isinstance(told.events[0], Refunded)]
    results = [
        reported(f"{name}: {number}. {told.sender}, {told.texts[0].partition(':')[0]}", told.gas, "gas")
        for number, (told, _) in enumerate(moves, 1)
    ]
    reveals = [at for at, (_, event) in enumerate(moves) if isinstance(event, Revealed)]
    rounds = [moves[at][0].gas + moves[at + 1][0].gas for at in reveals]
    whole = sum(told.gas for told, _ in moves)
    results.append(at_most(f"{name}: a round, both moves", max(rounds[:-1], default=rounds[0]), "gas", ROUND_LIMIT))
    results.append(reported(f"{name}: the round that ends at a row, both moves", rounds[-1], "gas"))
    results.append(at_most(f"{name}: whole, {len(rounds)} rounds", whole, "gas", GAME_LIMIT))
    longest = (Descent(SHAPE).longest() - 4) // 2
    results.append(reported(f"{name}: rounds at 32 layers, 4,096 positions", longest, "at most"))
    return results


def _judged(name: str, is_linear: bool, cost: int) -> Result:
    return at_most(name, cost, "gas", LINEAR_LIMIT if is_linear else LIMIT)
