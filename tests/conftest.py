"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import ROOT

import tinyrnn as tr

_ASKED = os.environ.get("TINYRNN_ISA", "").strip()
if _ASKED not in ("", tr.isa()):  # the package warns, and takes another; a suite must not
    raise pytest.UsageError(f"TINYRNN_ISA is {_ASKED!r}, expected one of {' '.join(tr.available_isas())}")

# A shell starts what runs in the background without Ctrl-C, which tests send to themselves and to programs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put each test that is marked as long where a worker begins.

    `--dist worksteal` gives every worker an equal share in this order, and the last tests of a share to those
    who have none left. A long test that began late would keep one worker busy after all others.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    starts = [len(others) * worker // workers for worker in range(workers)] + [len(others)]
    items[:] = [
        item
        for worker in range(workers)
        for item in [*long[worker::workers], *others[starts[worker] : starts[worker + 1]]]
    ]


@pytest.fixture
def data_dir() -> Path:
    """The folder of real models and real input; the test skips where there is none."""
    folder = Path(os.environ.get("TINYRNN_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data here: set TINYRNN_DATA to its folder")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch in one thread, as many as this package takes."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> None:
    tr.manual_seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _same_isa_after() -> Iterator[None]:
    """A test may choose an instruction set; the next one starts as it did."""
    before = tr.isa()
    yield
    tr.set_isa(before)
