"""The network that all tests of cheats at the till share: starting it takes longer than any of them."""

from collections.abc import Iterator

import pytest

from tests.end_to_end import losses
from tests.end_to_end.market import Market, open_market


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with open_market(tmp_path_factory.mktemp("market")) as opened:
        yield opened
    print("\n" + losses.table())
