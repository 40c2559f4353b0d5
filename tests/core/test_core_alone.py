"""The core as a library: installed by csrc/Makefile, used and as small as docs/c-guide.md says."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from folders import CSRC, DOCS, ROOT

import tinyrnn as tr

GUIDE = (DOCS / "c-guide.md").read_text() if DOCS.is_dir() else ""
PROGRAMS = ("run.c", "train.c")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
FORMATS = ("F16", "BF16", "INT8", "INT4")
OPTIONS = ("GRAPHS", "BIDIRECTIONAL", "PROJECTION", "TWO_ROUNDS", "CELL_OPTIONS", "HIDDEN")
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs/ beside the tests")


def block(mark: str) -> str:
    """The code block below a mark of the guide."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```c?\n(.*?)```", GUIDE, flags=re.S)
    assert found, mark
    return found[1]


CHECKED = """
#include <stdio.h>
#include <tinyrnn.h>

int main(void)
{
    for (int format = 0; format < TRNN_FORMAT_COUNT; format++) {
        const trnn_layer layer = {.type = &trnn_linear, .format = format, .as.linear = {5, 3, 1}};
        puts(trnn_status_text(trnn_layer_check(&layer)));
    }
    const trnn_recurrent_args sizes = {.input_size = 5, .hidden_size = 3, .bias = 1};
    trnn_layer cells[] = {{.type = &trnn_fastgrnn}, {.type = &trnn_gru_before_general}, {.type = &trnn_lstm},
                          {.type = &trnn_lstm}, {.type = &trnn_lstm}, {.type = &trnn_lstm}};
    for (int i = 0; i < 6; i++) cells[i].as.recurrent = sizes;
    cells[2].as.recurrent.proj_size = 2;
    cells[3].as.recurrent.bidirectional = 1;
    cells[4].as.recurrent.recurrent_dropout = 0.5f;
    for (int i = 0; i < 6; i++) puts(trnn_status_text(trnn_layer_check(&cells[i])));
    static char memory[20000];
    const trnn_reads reads[] = {{1, {0}}};
    trnn_sizes found;
    trnn_net net = trnn_chain(&cells[5], 1, (trnn_frame){1, 1, 5});
    if (trnn_plan_bytes(&net) > sizeof memory) return 1;
    puts(trnn_status_text(trnn_plan_init(memory, &net, 1, (const int32_t[]){1}, &found)));
    net.reads = reads;
    puts(trnn_status_text(trnn_plan_init(memory, &net, 1, (const int32_t[]){1}, &found)));
    return 0;
}
"""
LISTED = """
#include <stdio.h>
#include <tinyrnn.h>

int main(void)
{
    const trnn_kernels *list[16];
    const int32_t count = trnn_isa_list(list, 16);
    for (int32_t i = 0; i < count; i++) puts(trnn_isa_name(list[i]));
    return 0;
}
"""
VERSION = """
#include <tinyrnn.h>
extern const char *const version;
const char *const version = TINYRNN_VERSION;
"""
# The C library's names that the core and the guide's programs use: a cross compiler may come without one.
DECLARED = {
    "assert.h": "#define assert(truth) ((void)0)\n",
    "stdio.h": "int printf(const char *, ...);\n",
    "stdlib.h": "#include <stddef.h>\nvoid *aligned_alloc(size_t, size_t);\nvoid abort(void);\n",
    "string.h": "#include <stddef.h>\nvoid *memset(void *, int, size_t);\n"
    "void *memcpy(void *restrict, const void *restrict, size_t);\n",
}


def need(*tools: str) -> None:
    for tool in tools:
        if not shutil.which(tool):
            pytest.skip(f"no {tool} here")


def run(*command: str | Path) -> str:
    environment = {
        key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "CC", "CFLAGS"}
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(*arguments: str) -> None:
    run("make", "-C", CSRC, "-j2", *arguments)


def without(words: Iterable[str]) -> str:
    """The flags that leave these out."""
    return " ".join(f"-DTRNN_WITH_{word}=0" for word in words)


# The first and the last of this machine's instruction sets: a build may have any of them.
SOME = list(dict.fromkeys((tr.available_isas()[0], tr.available_isas()[-1])))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of an installed core."""
    need("make", "gcc")
    folder = tmp_path_factory.mktemp("core")
    flags = f"-O1 {' '.join(WARNINGS)}"
    make(
        "install",
        "CC=gcc",
        f"CFLAGS={flags}",
        f"PREFIX={folder}",
        f"BUILD={folder}",
        f"ISAS={' '.join(SOME)}",
    )
    return folder


def flags_of(prefix: Path) -> list[str]:
    """The flags that `pkg-config --cflags --libs tinyrnn` prints."""
    text = (prefix / "lib" / "pkgconfig" / "tinyrnn.pc").read_text()
    values = dict(re.findall(r"^(\w+)[:=] ?(.*)$", text, flags=re.M))
    assert values["Version"] == tr.__version__
    return f"{values['Cflags']} {values['Libs']}".replace("${prefix}", values["prefix"]).split()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_of_the_guide_in_the_smallest_build(tmp_path: Path, name: str) -> None:
    need("make", "gcc")
    flags = f"-O1 {without((*FORMATS, *OPTIONS))} {' '.join(WARNINGS)}"
    make("ISAS=scalar", f"BUILD={tmp_path}", f"CFLAGS={flags}", "CC=gcc")
    source, program = tmp_path / name, tmp_path / "program"
    source.write_text(block(name))
    run("gcc", "-std=c11", f"-I{tmp_path}", source, tmp_path / "libtinyrnn.a", "-o", program)
    assert run(program) == block(f"{name} prints")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_of_the_guide(installed: Path, tmp_path: Path, name: str) -> None:
    source, program = tmp_path / name, tmp_path / "program"
    source.write_text(block(name))
    run("gcc", "-std=c11", "-O1", *WARNINGS, source, *flags_of(installed), "-Wl,--gc-sections", "-o", program)
    assert run(program) == block(f"{name} prints")


def test_other_flags_build_everything_again(tmp_path: Path) -> None:
    need("make", "gcc")
    library, sizes = tmp_path / "libtinyrnn.a", []
    for flags in ("-O1", "-O1", "-O1 -DTRNN_WITH_INT8=0"):
        make("CC=gcc", f"CFLAGS={flags}", "ISAS=scalar", f"BUILD={tmp_path}")
        sizes.append((library.stat().st_mtime_ns, library.stat().st_size))
    assert sizes[0] == sizes[1]
    assert sizes[2][1] < sizes[1][1]


def test_the_header_needs_no_other(installed: Path, tmp_path: Path) -> None:
    header = installed / "include" / "tinyrnn.h"
    assert re.findall(r"^\s*#\s*include (.*)", header.read_text(), flags=re.M) == ["<stddef.h>", "<stdint.h>"]
    assert [path.name for path in header.parent.iterdir()] == ["tinyrnn.h"]
    alone = tmp_path / "alone.c"
    alone.write_text(VERSION)
    for language in ("c", "c++"):
        run("gcc", "-x", language, "-fsyntax-only", *WARNINGS, f"-I{header.parent}", alone)


def test_one_version() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    header = (CSRC / "tinyrnn.h").read_text()
    version = re.search(r'^version = "(.*)"', project, flags=re.M)
    macro = re.search(r'^#define TINYRNN_VERSION "(.*)"', header, flags=re.M)
    assert version and macro and version[1] == macro[1]


# ---- sizes ------------------------------------------------------------------------------------------------


class Target(NamedTuple):
    column: int  # of the guide's table
    tools: str  # what the compiler's name begins with
    flags: str


TARGETS = {
    "Cortex-M4": Target(0, "arm-none-eabi-", "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard"),
    "x86-64": Target(1, "", "-fno-asynchronous-unwind-tables -fno-pie"),
}


def rows() -> dict[tuple[str, str], list[int]]:
    """The guide's table: program and formats to bytes, one number a target."""
    table = GUIDE.partition("<!-- sizes -->")[2]
    lines = re.findall(r"^\| (\w+\.c) \| (.*?) \| (\d+) \| (\d+) \|$", table, flags=re.M)
    return {(program, formats): [int(a), int(b)] for program, formats, a, b in lines}


def test_the_table_is_read() -> None:
    assert {program for program, _ in rows()} == set(PROGRAMS)


def text_of(tools: str, path: Path) -> int:
    """Bytes of code and constants of an object or a program."""
    return int(run(f"{tools}size", path).splitlines()[1].split()[0])


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The folders of libraries that are built: one for each target and set of formats."""
    return {}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("program", "formats"), rows())
def test_sizes(
    libraries: dict[tuple[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    program: str,
    formats: str,
) -> None:
    """A program takes what the table says of the core: no more, and at least nine tenths of it."""
    target = TARGETS[name]
    need("make", f"{target.tools}gcc")
    if not target.tools and platform.machine() != "x86_64":
        pytest.skip("not on x86-64")
    folder = libraries.get((name, formats))
    new = folder is None
    folder = libraries[name, formats] = folder or tmp_path_factory.mktemp("size")
    declared = folder / "libc"
    declared.mkdir(exist_ok=True)
    for header, text in DECLARED.items():
        (declared / header).write_text(text)
    flags = f"-Os -DNDEBUG {target.flags} -isystem{declared}"
    if new:
        kept = {"float32": (), "all five": FORMATS, "float32, with everything": OPTIONS}[formats]
        left_out = without(word for word in (*FORMATS, *OPTIONS) if word not in kept)
        make("ISAS=scalar", f"BUILD={folder}", f"CFLAGS={flags} {left_out} {' '.join(WARNINGS)}",
             f"CC={target.tools}gcc", f"AR={target.tools}ar")  # fmt: skip
    source, main, linked = (folder / f"{program}{ending}" for ending in ("", ".o", ".elf"))
    source.write_text(block(program))
    compiler = [f"{target.tools}gcc", "-std=c11", *flags.split()]
    run(*compiler, f"-I{folder}", "-c", source, "-o", main)
    alone = ["-nostdlib", "-static", "-Wl,-e,main", "-Wl,--unresolved-symbols=ignore-all"]
    run(*compiler, *alone, "-Wl,--gc-sections", main, folder / "libtinyrnn.a", "-o", linked)
    size = text_of(target.tools, linked) - text_of(target.tools, main)
    most = rows()[program, formats][target.column]
    assert 0.9 * most <= size <= most


def test_what_was_left_out(tmp_path: Path) -> None:
    need("make", "gcc")
    flags = f"-O1 {without((*FORMATS, *OPTIONS))} {' '.join(WARNINGS)}"
    make("ISAS=scalar", f"BUILD={tmp_path}", f"CFLAGS={flags}", "CC=gcc")
    source = tmp_path / "asked.c"
    source.write_text(CHECKED)
    run(
        "gcc",
        "-std=c99",
        *WARNINGS,
        f"-I{tmp_path}",
        source,
        tmp_path / "libtinyrnn.a",
        "-o",
        tmp_path / "asked",
    )
    missing = "this build of the core leaves that out"
    assert run(tmp_path / "asked").splitlines() == ["ok", *[missing] * 9, "ok", "ok", missing]


def test_instruction_sets(installed: Path, tmp_path: Path) -> None:
    """The library has those that ISAS names; without ISAS all that the target may have."""
    source, program = tmp_path / "listed.c", tmp_path / "listed"
    source.write_text(LISTED)
    run("gcc", "-std=c99", *WARNINGS, source, *flags_of(installed), "-o", program)
    assert run(program).split() == SOME
    built = run("make", "-C", CSRC, "-n", "CC=gcc", f"BUILD={tmp_path}")
    assert set(tr.available_isas()) <= set(re.findall(r"-DTRNN_ISA_NAME=(\w+)", built))
