"""The lab's fixtures: a shop in a machine. Where that cannot be built or run, the tests are skipped in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cache import Missing, sweep, why_not_to_run
from tests.lab.prepared import installed, what_is_missing
from tests.lab.shop import Shop, shop

TOLD_MAX = 6000


@pytest.fixture(scope="session")
def lab() -> None:
    """The machine with the product; a skip where it cannot be built or run. Other machines are built when wanted."""
    why = why_not_to_run() or what_is_missing()
    if why:
        pytest.skip(why)
    try:
        sweep()
        installed().get()
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def front(lab: None, tmp_path: Path) -> Iterator[Shop]:
    """A shop of the test's own, woken in seconds, its service not started."""
    with shop(tmp_path, installed()) as found:
        yield found


@pytest.fixture(scope="module")
def open_shop(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop that the tests of a module share: the service runs."""
    with shop(tmp_path_factory.mktemp("shop"), installed()) as found:
        found.open()
        yield found


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell a failure when it happens: the others take their time."""
    if report.failed:
        print(f"\n{report.nodeid} failed\n{report.longreprtext[-TOLD_MAX:]}", flush=True)
