"""The setting of every run: the core it stays on, the clock, and the description of its numbers."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from work import Call

import tinyrnn as tr
from tinyrnn.cli.machine import caches, cpu

PACKAGES = ["torch", "onnxruntime", "onnx", "ai-edge-litert", "openvino", "ncnn", "numpy"]


def seconds_of(call: Call, times: int) -> float:
    """Seconds per call of a block of calls."""
    before = time.perf_counter_ns()
    for _ in range(times):
        call()
    return (time.perf_counter_ns() - before) / times / 1e9


def allowed() -> list[int]:
    """The cores that this process may use; where the system cannot say, all."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def stay_on(cores: list[int]) -> None:
    """Only these cores, where the system can do that; threads that begin later inherit it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def pin(core: int | None) -> int | None:
    """Stay on one core, the last unless told; None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(allowed()) if core is None else core
    try:
        stay_on([core])
    except OSError as error:
        sys.exit(f"--core {core}: {error.strerror}")
    return core


def about(core: int | None, packages: list[str] = PACKAGES) -> dict[str, Any]:
    """Date, machine and versions: no number means anything without them."""
    versions = {"tinyrnn": tr.__version__}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "caches": caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "pinned to": core,
        "isa": tr.isa(),
        "python": platform.python_version(),
        "versions": versions,
    }


def result_path(about: dict[str, Any], folder: Path) -> Path:
    """The path of a result: its date and its machine are its name."""
    machine = re.sub(r"[^a-z0-9]+", "-", about["cpu"].lower()).strip("-")[:40]
    return folder / f"{about['date']}-{machine}.json"
