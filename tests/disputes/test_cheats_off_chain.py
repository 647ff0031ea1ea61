"""Every cheat, however it is defended, ends with a proof or in silence: games without a chain, to find what none can catch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cheat_model import CheatModel
from tests.support.cheat_session import Session, run
from tests.support.cheats import CHEATS, By, Cheat, Place
from tests.support.mock_game import End, How, MockGame, Player, honest_player

BOUNDS = (0, 2, 4, 6)
PROMPT = [5, 9, 150, 33, 260, 41, 9]
TOKENS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CheatModel:
    return CheatModel.build(tmp_path_factory.mktemp("cheats"))


GAMES = [(cheat, place) for cheat in CHEATS if cheat.by is By.GAME for place in cheat.places]


def games(session: Session) -> dict[str, End]:
    """Of every defence."""
    at = session.at
    assert session.committed is not None and session.cheat is not None
    own = honest_player(session.own(at).honest)
    ends = {}
    for name, body in session.defences.items():
        worker = Player(session.committed, body)
        receipt = session.receipts[at]
        game = MockGame(session.descent(at), receipt, session.tokens, worker, own, session.cheat.silent)
        ends[name] = game.play()
        assert ends[name].moves <= session.descent(at).longest()
    return ends


@pytest.mark.parametrize(("cheat", "place"), GAMES, ids=lambda one: str(one) if isinstance(one, Cheat) else one.name)
def test_every_cheat_loses(model: CheatModel, cheat: Cheat, place: Place) -> None:
    session = run(model, BOUNDS, PROMPT, TOKENS, cheat, place)
    own, receipt = honest_player(session.own(place).honest).committed, session.receipts[place]
    assert (receipt.inputRoot, receipt.outputRoot) != (own.input.root, own.output.root), "nobody would notice"
    for name, end in games(session).items():
        print(f"\n    {name}: {end.how.value}, {end.side.name}, {end.step}, {end.moves} moves")
        assert end.how is not How.WON
