"""The C core by itself: its own tests (tests/c), and the law of who may include whom."""

from __future__ import annotations

import builtins
import os
import re
import shutil
import subprocess
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest
from folders import CSRC, ROOT, TESTS

import tinyrnn as tr
from tinyrnn import library

SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in {".c", ".h", ".inc", ".def"})


def name(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


def code(path: Path) -> str:
    """A source without its comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.DOTALL)


def entries(path: str) -> list[list[str]]:
    """The lines of a .def list, each as its arguments."""
    lines = re.findall(r"^TRNN_(?!ISA_EXPANDED)\w+\((.*)\)$", (CSRC / path).read_text(), flags=re.M)
    return [[field.strip().strip('"') for field in line.split(",")] for line in lines]


# ---- the tests that are C -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "tools"),
    [
        pytest.param("arm64", ["aarch64-linux-gnu-gcc", "qemu-aarch64-static"], marks=pytest.mark.long),
        pytest.param("armv7", ["arm-linux-gnueabihf-gcc", "qemu-arm-static"], marks=pytest.mark.long),
        pytest.param("riscv64", ["riscv64-linux-gnu-gcc", "qemu-riscv64-static"], marks=pytest.mark.long),
        pytest.param("elsewhere", ["clang"], marks=pytest.mark.long),
        pytest.param("freestanding", ["nm"], marks=pytest.mark.long),
        pytest.param("test", [], marks=pytest.mark.long),
        ("toys", []),
        ("small", []),
        pytest.param("sanitize", [], marks=pytest.mark.slow),
    ],
)
def test_make(target: str, tools: list[str]) -> None:
    for tool in ["make", "gcc", *tools]:
        if not shutil.which(tool):
            pytest.skip(f"no {tool} here")
    environment = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "CC", "FLAGS"}}
    command = ["make", f"-j{os.cpu_count()}", "-C", TESTS / "c", target]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, "\n".join((run.stdout + run.stderr).splitlines()[-40:])
    assert re.search(r"\d+ passed, 0 failed|the core needs mem|msvc: [1-9]\d* objects", run.stdout)


# ---- the law --------------------------------------------------------------------------------------

# What each file may include; the first pattern that fits a file is its law.
LAW = {
    "tinyrnn.h": {
        "<stddef.h>",
        "<stdint.h>",
        "status.def",
        "layers/layers.def",
        "*/losses.def",
        "*/optimisers.def",
    },
    "switches.h": set(),
    "config.h": {"<assert.h>", "<stddef.h>", "<stdint.h>", "<string.h>", "switches.h"},
    "layout.h": {"config.h"},
    "format.h": {"layout.h", "tinyrnn.h"},
    "index.h": {"<stddef.h>", "<stdint.h>"},
    "status.c": {"tinyrnn.h", "status.def"},
    "plan.h": {"layers/layer.h"},
    "graph.c": {"plan.h"},
    "loops.c": {"plan.h"},
    "views.c": {"plan.h"},
    "rates.c": {"plan.h"},
    "net.c": {"plan.h"},
    "train.c": {"plan.h", "layers/training.h"},
    "loss.c": {"loss/loss.h"},
    "pack.c": {"format.h"},
    "simd/vec.h": {"../config.h", "../format.h", "VF_HEADER(TRNN_ISA_NAME)"},
    "simd/by_hand/*.h": set(),
    "simd/vec_*.h": {
        "<xmmintrin.h>",
        "<emmintrin.h>",
        "<immintrin.h>",
        "<arm_neon.h>",
        "vec_*.h",
        "dot_*.h",
        "by_hand/*.h",
    },
    "simd/dot_*.h": set(),
    "cells/cell.h": {"<stdint.h>"},
    "cells/cells.def": {"*.inc"},
    "cells/*.inc": set(),
    "kernels/*.inc": set(),
    "kernels/maps.def": set(),
    "kernels/kernels.c": {
        "kernels.h",
        "../simd/vec.h",
        "../optim/optimiser.h",
        "*.inc",
        "kernels.def",
        "maps.def",
        "../cells/cells.def",
        "../optim/optimisers.def",
    },
    "kernels/kernels.h": {
        "../config.h",
        "../format.h",
        "../tinyrnn.h",
        "../cells/cell.h",
        "isa.def",
        "kernels.def",
    },
    "kernels/kernels.def": {"maps.def", "../cells/cells.def", "../optim/optimisers.def"},
    "kernels/cpu.h": {"isa.def"},
    "kernels/cpu.c": {"cpu.h", "<cpuid.h>", "<sys/auxv.h>"},
    "kernels/dispatch.c": {"../tinyrnn.h", "cpu.h", "kernels.h", "isa.def"},
    "layers/layer.h": {"../kernels/kernels.h", "../layout.h", "../tinyrnn.h"},
    "layers/layers.def": {"../cells/cells.def"},
    "layers/training.h": {"layer.h"},
    "layers/recurrent.h": {"training.h"},
    "layers/conv.h": {"training.h"},
    "layers/power.h": set(),
    "layers/power.c": {"power.h", "../config.h"},
    "layers/several.h": {"training.h"},
    "layers/layer.c": {"layer.h"},
    "layers/registry.c": {"layer.h", "layers.def"},
    "layers/cells.c": {"recurrent.h", "../cells/cells.def"},
    "layers/*.c": {"training.h", "recurrent.h", "conv.h", "several.h", "power.h", "../index.h"},
    "loss/loss.h": {"../kernels/kernels.h", "../layout.h", "../tinyrnn.h"},
    "loss/registry.c": {"loss.h", "losses.def"},
    "loss/*.c": {"loss.h", "../index.h"},
    "optim/optimiser.h": {"../kernels/kernels.h"},
    "optim/optimisers.def": {"*.inc"},
    "optim/*.inc": set(),
    "optim/optim.c": {"optimiser.h"},
    "optim/*.c": {"optimiser.h", "optimisers.def"},
    "*.def": set(),
}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_includes(path: Path) -> None:
    allowed = next((LAW[pattern] for pattern in LAW if fnmatch(name(path), pattern)), None)
    assert allowed is not None, f"{name(path)} has no law: say in tests/core/test_c.py what it may include"
    for include in re.findall(r"^\s*#\s*include\s+(.+?)\s*$", code(path), flags=re.M):
        included = include.strip('"')
        assert any(fnmatch(included, pattern) for pattern in allowed), f"{name(path)} includes {include}"


INTRINSIC = (
    r"\b(_mm\d*_\w+|__m(128|256|512)\w*|v(?![df]_)\w+q?_[fsu](8|16|32|64)\w*"
    r"|(float|u?int)\d+x\d+(x\d)?_t)\b"
)
HOSTED = (
    r"\b(malloc|calloc|realloc|free|alloca|[fs]?n?printf|puts|fopen|exit|abort|signal|pthread\w*"
    r"|(?<!__builtin_)(fmaf?|sqrtf?|expf?|tanhf?|logf?|powf?)(?=\())\b"
)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_vocabulary(path: Path) -> None:
    """Intrinsics live in simd/, the C library's name is said in config.h, and most of it nowhere."""
    text = code(path)
    if "simd" not in path.parts:
        assert not re.search(INTRINSIC, text)
    if path.name != "config.h":
        assert not re.search(r"\b(memcpy|memset|memmove)\b", text)
    assert not re.search(HOSTED, text)


def test_the_law_sees() -> None:
    """The patterns above find what they look for."""
    for word in ("_mm256_add_ps", "__m128i", "vaddq_f32", "vfmaq_f32", "float32x4_t", "int8x16x4_t"):
        assert re.search(INTRINSIC, f" {word}(")
    for call in ("malloc(", "printf(", "snprintf(", "sqrtf(", "x = expf(y)"):
        assert re.search(HOSTED, call)
    assert not re.search(HOSTED, "__builtin_fmaf(a, b, c) vf_sqrt(a) trnn_exp(b)")


def test_static_names_are_unique() -> None:
    """But for the operations, which every instruction set defines."""
    pattern = r"^(?:static|TRNN_INLINE)\b[^;={}()]*?(\w+)\("
    found = Counter(
        function
        for path in SOURCES
        if not path.name.startswith(("vec_", "dot_"))
        for function in re.findall(pattern, code(path), flags=re.M)
    )
    assert len(found) > 50
    assert [function for function, times in found.items() if times > 1] == []


# ---- the lists ------------------------------------------------------------------------------------


def listed(path: str, macro: str) -> list[list[str]]:
    """Each file that a list of files includes, and the names that its ``macro`` begins with."""
    files = re.findall(r'^#include "(\w+)\.inc"$', (CSRC / path).read_text(), flags=re.M)
    folder = (CSRC / path).parent
    assert sorted(files) == sorted(file.stem for file in folder.glob("*.inc"))
    found = []
    for file in files:
        text = code(folder / f"{file}.inc")
        (names,) = re.findall(rf"^{macro}(?:_TWO|_SCAN)?\(((?:\w+, )+)\.", text, flags=re.M)
        found.append([file, *names.removesuffix(", ").split(", ")])
    return found


# Who works with cells, optimisers and losses of any kind.
DRIVERS = [
    "layers/recurrent.*",
    "layers/bptt.c",
    "layers/cells.c",
    "layers/gates.c",
    "kernels/cell.inc",
    "kernels/kernels.[ch]",
]
DRIVERS += ["kernels/optim.inc", "optim/opt*.[ch]", "optim/registry.c", "loss.c", "loss/registry.c"]


@pytest.mark.parametrize("pattern", DRIVERS)
def test_drivers_know_no_name(pattern: str) -> None:
    """Files that work with any cell, optimiser or loss name none."""
    names = [file for file, *_ in listed("cells/cells.def", "TRNN_CELL")]
    names += [file for file, *_ in listed("optim/optimisers.def", "TRNN_OPTIMISER")]
    names += [f"trnn_loss_{loss}" for (loss,) in entries("loss/losses.def")]
    paths = sorted(CSRC.glob(pattern))
    assert paths
    assert names
    for path in paths:
        assert not re.search(rf"(?<![a-z])({'|'.join(names)})(?![a-z])", code(path), flags=re.I), path.name


def test_every_cell_is_there() -> None:
    """A file of cells/ is in the list, and holds the facts and the formula of its cell."""
    for file, name in listed("cells/cells.def", "TRNN_CELL"):
        assert file == name
        formulas = re.findall(r"^TRNN_INLINE void (\w+)\(", code(CSRC / "cells" / f"{file}.inc"), flags=re.M)
        rounds = re.findall(r"^TRNN_CELL(_TWO|_SCAN)?\(", code(CSRC / "cells" / f"{file}.inc"), flags=re.M)
        wanted = ["_forward", "_backward"]
        if rounds == ["_TWO"]:
            wanted = ["_first", *wanted, "_first_backward"]
        assert formulas == [f"{file}{end}" for end in wanted]


def test_every_optimiser_is_there() -> None:
    """A file of optim/ is in the list, and holds the facts, the rule and the formula of its optimiser."""
    for file, lower in listed("optim/optimisers.def", "TRNN_OPTIMISER"):
        assert file == lower
        text = code(CSRC / "optim" / f"{file}.inc")
        functions = re.findall(r"^(?:static|TRNN_INLINE) \w+ (\w+)\(", text, flags=re.M)
        assert functions == [f"{file}_states", f"{file}_coefficients", f"{file}_update"]


def test_every_layer_is_there() -> None:
    """A line of layers.def has its two tables in one file of layers/, and its arguments in tinyrnn.h."""
    layers = "\n".join(code(path) for path in sorted((CSRC / "layers").glob("*.c")))
    names = sorted(name for name, _ in entries("layers/layers.def"))
    families = "GENERAL|GENERAL_TWO|POOL|"
    families += "ELEMENTWISE|FAST|FAST_FORWARDS|OPERATION|COMPARISON|REDUCTION|SHARED_REDUCTION|OVER_TIME"
    both = re.findall(rf"^(?:{families}|CONVOLUTION)\((\w+)[,)]", layers, flags=re.M)
    types = re.findall(r"^const trnn_layer_type trnn_(\w+) =", layers, flags=re.M)
    trainings = re.findall(r"^const trnn_layer_training trnn_(\w+)_training =", layers, flags=re.M)
    assert sorted(types + both) == sorted(trainings + both) == names
    header = code(CSRC / "tinyrnn.h")
    for _, arguments in entries("layers/layers.def"):
        assert arguments == "none" or f"trnn_{arguments}_args {arguments};" in header


def test_nets_know_no_layer_by_name() -> None:
    """Only the registry names every layer; net.c and train.c go through the contract."""
    names = "|".join(name for name, _ in entries("layers/layers.def"))
    for path in SOURCES:
        if path.parent == CSRC and path.suffix == ".c":
            assert not re.search(rf"\btrnn_({names})\b|\bas\.\w+|->as\b", code(path)), name(path)
    naming = [path.name for path in SOURCES if "layers.def" in code(path)]
    assert sorted(naming) == ["registry.c", "tinyrnn.h"]


def test_every_loss_is_there() -> None:
    """A line of losses.def has a table in one file of loss/."""
    losses = "\n".join(code(path) for path in sorted((CSRC / "loss").glob("*.c")))
    tables = re.findall(r"^const trnn_loss_type trnn_loss_(\w+)", losses, flags=re.M)
    assert sorted(tables) == sorted(loss for (loss,) in entries("loss/losses.def"))


def test_every_instruction_set_is_there() -> None:
    """A line of isa.def has its operations in simd/ and its question in cpu.c, and no others are there."""
    names = {isa for isa, *_ in entries("kernels/isa.def")}
    assert {path.stem for path in (CSRC / "simd").glob("vec_*.h")} == {f"vec_{isa}" for isa in names}
    assert set(re.findall(r"\bint trnn_cpu_has_(\w+)\(void\)", code(CSRC / "kernels" / "cpu.c"))) == names
    assert set(tr.available_isas()) <= names


def test_every_status_is_there() -> None:
    """A line of status.def is returned somewhere, and its exception exists in Python."""
    sources = "\n".join(code(path) for path in SOURCES)
    for status, exception, _ in entries("status.def"):
        assert re.search(rf"\bTRNN_{status}\b", sources), f"{status} is never returned"
        if status != "OK":
            kind = getattr(tr, exception, None) or getattr(builtins, exception)
            assert issubclass(kind, (Exception, KeyboardInterrupt))


# ---- the border -----------------------------------------------------------------------------------

PACKAGE = ROOT / "tinyrnn"
BORDER = sorted(path for path in PACKAGE.iterdir() if path.suffix in {".pyx", ".pxi", ".pxd"})

# Which of our modules each may cimport.
CIMPORTS = {
    "_tinyrnn_h": set(),
    "_core": {"_tinyrnn_h"},
    "_kernels": {"_tinyrnn_h", "_core"},
    "_training": {"_tinyrnn_h", "_core"},
}


def cython_code(path: Path) -> str:
    """A source without docstrings and comments."""
    return re.sub(r'"{3}.*?"{3}|#[^\n]*', " ", path.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("path", BORDER, ids=lambda path: path.name)
def test_a_file_of_the_border_mirrors(path: Path) -> None:
    """It is short, sees what it may see, and asks no layer, loss or optimiser for its name."""
    text = cython_code(path)
    assert len(path.read_text().splitlines()) < 400
    assert {*re.findall(r"tinyrnn\.(\w+) cimport", text)} <= CIMPORTS.get(path.stem, set())
    headers = re.findall(r'cdef extern from "([^"]+)"', text)
    allowed = {
        "_tinyrnn_h.pxd": ["tinyrnn.h"],
        "_kernels.pyx": ["kernels/kernels.h"],
        "_machine.pxi": ["kernels/kernels.h"],
        "_rounds.pxi": ["Python.h"],
    }
    assert sorted(set(headers)) == allowed.get(path.name, [])
    if path.stem != "_kernels":
        assert not re.search(r"(?<!dtype\.)\bkind\s*(==|!=|in\b|not in\b)", text)


def test_subjects_of_the_core_know_those_before_them() -> None:
    subjects = re.findall(r'^include "(\w+\.pxi)"', (PACKAGE / "_core.pyx").read_text(), flags=re.M)
    assert len(subjects) == 9
    subjects.remove("_nonfinite.pxi")  # the rest of Stream
    texts = [cython_code(PACKAGE / subject) for subject in subjects]
    defined = r"^(?:cdef class (\w+)|c?p?def [^\n(]*?(\w+)\()"
    names = [{a or b for a, b in re.findall(defined, text, flags=re.M)} for text in texts]
    assert all(names) and "Layer" in names[subjects.index("_layers.pxi")]
    for place, text in enumerate(texts):
        for later in names[place + 1 :]:
            assert not [name for name in later if re.search(rf"\b{name}\b", text)], subjects[place]


def test_the_library_has_every_module() -> None:
    modules = {path.stem for path in BORDER if path.suffix == ".pyx"}
    assert modules == {"_core", *library.MODULES}
