"""The witness: sums only go up, and no backup of a data directory brings it down."""

from pathlib import Path

import pytest

from efedllm.errors import EfedllmError
from efedllm.storage.state import state_dir
from efedllm.storage.witness import Highest, Witness

CHANNELS, KEY, WORKER, OTHER = "0xC0" + "aA" * 19, "0xBb" + "11" * 19, "0x" + "22" * 20, "0x" + "33" * 20
ROOT = bytes(32)


class OwnError(EfedllmError):
    pass


def witness(folder: Path | None = None) -> Witness:
    return Witness(31337, CHANNELS, KEY, OwnError, folder)


def test_it_lies_in_the_state_directory_under_key_and_deployment() -> None:
    witness().close()
    assert (state_dir() / f"signed-31337-c0aaaaaa-bb{'11' * 19}.sqlite").exists()


def test_each_channel_and_epoch_counts_for_itself(tmp_path: Path) -> None:
    one = witness(tmp_path)
    assert one.highest(WORKER, 1) is None
    one.note(WORKER, 1, Highest(1 << 90, 1 << 63, ROOT))
    one.close()
    one = witness(tmp_path)
    assert one.highest(WORKER, 1) == Highest(1 << 90, 1 << 63, ROOT)
    assert one.highest(WORKER, 2) is None
    assert one.highest(OTHER, 1) is None
    one.note(WORKER, 2, Highest(1, 1, ROOT))
    assert one.highest(WORKER, 1) == Highest(1 << 90, 1 << 63, ROOT)
    one.close()


@pytest.mark.parametrize(
    "lower", [Highest(9, 3, ROOT), Highest(10, 3, b"\x01" * 32), Highest(10, 4, ROOT), Highest(11, 2, ROOT)]
)
def test_it_never_goes_back(tmp_path: Path, lower: Highest) -> None:
    one = witness(tmp_path)
    one.note(WORKER, 1, Highest(10, 3, ROOT))
    one.note(WORKER, 1, Highest(10, 3, ROOT))
    with pytest.raises(OwnError, match=r"vouchers of 10 base units were signed for worker .* before"):
        one.note(WORKER, 1, lower)
    one.note(WORKER, 1, Highest(11, 3, ROOT))
    assert one.highest(WORKER, 1) == Highest(11, 3, ROOT)
    one.close()


def test_two_copies_of_a_data_directory_are_not_used_at_once(tmp_path: Path) -> None:
    one = witness(tmp_path)
    with pytest.raises(OwnError, match=r"another program \(process \d+\) uses"):
        witness(tmp_path)
    one.close()
    witness(tmp_path).close()
