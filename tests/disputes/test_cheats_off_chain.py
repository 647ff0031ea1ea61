"""Every cheat ends with a proof or in silence, however it is defended: games without a chain."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_256

import numpy as np
import pytest

from efedllm.model.trace_rows import Values
from tests.support.cheat_model import CheatModel
from tests.support.cheat_session import Defence, Session, run
from tests.support.cheat_work import Committed, values_changed
from tests.support.cheats import CHEATS, By, Cheat, Place
from tests.support.mock_game import How, MockGame, Player, honest_player
from tests.verifier.path import case, setting
from verifier.check import check
from verifier.recompute import Recomputer, Shelf
from verifier.verdict import Fault, Outcome

BOUNDS = (0, 2, 4, 6)
PROMPT = [5, 9, 150, 33, 260, 41, 9]
TOKENS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CheatModel:
    return CheatModel.build(tmp_path_factory.mktemp("cheats"))


STATEMENTS = {
    "a wrong token count": Fault.RECEIPT,
    "a wrong fee": Fault.RECEIPT,
    "takes in other rows than its neighbour sent": Fault.LINK,
    "tokens after a stop id": Fault.PAST_STOP,
}
GAMES = [(cheat, place) for cheat in CHEATS if cheat.by is By.GAME and not cheat.silent for place in cheat.places]


SIGNED = [(cheat, place) for cheat in CHEATS if cheat.by is By.STATEMENT for place in cheat.places]


def name_of(one: Cheat | Place) -> str:
    return str(one) if isinstance(one, Cheat) else one.name.lower()


def noticed(model: CheatModel, cheat: Cheat, place: Place) -> Session:
    """Of a prompt with which the cheat changes what is signed: whoever samples the right tokens did nothing wrong."""
    for at in range(8):
        session = run(model, BOUNDS, [*PROMPT, *range(at)], TOKENS, cheat, place)
        own, receipt = honest_player(session.own(place).honest).committed, session.receipts[place]
        if (receipt.inputRoot, receipt.outputRoot) != (own.input.root, own.output.root):
            return session
    raise AssertionError("this cheat changes nothing")


@pytest.mark.parametrize(("cheat", "place"), GAMES, ids=name_of)
def test_every_cheat_loses(model: CheatModel, cheat: Cheat, place: Place) -> None:
    session = noticed(model, cheat, place)
    assert session.committed is not None
    own, descent = honest_player(session.own(place).honest), session.descent(place)
    for defence in Defence:
        worker = Player(session.committed, session.defence(defence))
        game = MockGame(descent, session.receipts[place], session.tokens, worker, own, cheat.silent)
        end = game.play()
        print(f"\n    {defence.value}: {end.how.value}, {end.side.name}, {end.step}, {end.moves} moves")
        assert end.how is not How.WON
        assert end.moves <= descent.longest()


@pytest.mark.parametrize(("cheat", "place"), SIGNED, ids=name_of)
def test_every_contradiction_is_seen(model: CheatModel, cheat: Cheat, place: Place) -> None:
    stop_ids = (run(model, BOUNDS, PROMPT, TOKENS, cheat, place).generated[1],) if cheat.ignores_stop else ()
    session = run(model, BOUNDS, PROMPT, TOKENS, cheat, place, stop_ids=stop_ids)
    manifest = model.weights.manifest
    recomputer = Recomputer(Shelf(model.folder, manifest.weights_root, model.backend, 6))
    verdict = check(setting(model.folder), case(session.records(), place), recomputer)
    assert (verdict.outcome, verdict.kind) == (Outcome.FAULT, STATEMENTS[cheat.name])
    assert verdict.worker == session.request.path[place].worker


def test_noise_in_any_tensor_is_shown_there(model: CheatModel) -> None:
    """Whatever bytes lie there: also such as no value has, in any part of a row of the first, a middle and the last."""
    session = run(model, (0, 6), PROMPT, TOKENS)
    own = honest_player(session.own(0).honest)
    shape = session.shape(0)
    for segment in (0, 3, shape.segments - 1):
        for tensor in range(shape.tensors(segment)):
            row = shape.rows(segment, tensor)[-1]
            for part, _ in enumerate(shape.parts(segment, tensor)):
                lie = values_changed(segment, tensor, noise(row), part, is_consistent=False)
                body = session.own(0).trace(lie=lie)
                committed = Committed(session.inputs[0], session.outputs[0])
                game = MockGame(session.descent(0), session.receipts[0], session.tokens, Player(committed, body), own)
                end = game.play()
                assert end.how is How.STEP and end.step is not None
                assert (end.step[:3], shape.find_element(end.step)[0]) == ((segment, tensor, row), part)


def noise(row: int) -> Callable[[int, Values], None]:
    def change(first: int, values: Values) -> None:
        if first <= row < first + len(values):
            one = values[row - first : row - first + 1]
            one.view(np.uint8)[:] ^= np.frombuffer(shake_256(b"noise").digest(one.nbytes), np.uint8)

    return change
