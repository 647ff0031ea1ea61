"""The network that all tests of cheats at the till share: starting it takes longer than any of them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.end_to_end import losses
from tests.end_to_end.market import Market, open_market

RUNNING = pytest.StashKey[ExitStack]()


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Market]:
    with ExitStack() as running:
        request.config.stash[RUNNING] = running
        yield running.enter_context(open_market(tmp_path_factory.mktemp("market")))
    print("\n" + losses.table())


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Function | None) -> None:
    """Ends the network behind the last test in a row that uses it: seven idle programs would slow down all the rest."""
    is_used = nextitem is not None and "market" in nextitem.fixturenames
    if "market" in item.fixturenames and not is_used and RUNNING in item.config.stash:
        item.config.stash[RUNNING].close()
