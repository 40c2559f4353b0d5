"""Write the checksums of ``tinyrnn selftest`` into tinyrnn/cli/goldens.py and selftest.py; run it on x86-64.

    python tests/data/record_selftest.py

The results must be right, which other tests say. All
instruction sets with a fused multiply-add must agree, and all without.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import tinyrnn as tr
from tinyrnn._core import is_fused
from tinyrnn.cli import goldens, selftest


def on_each(run: Callable[[], goldens.Parts], fused: bool, what: str) -> bytes:
    """The one result of all instruction sets with a fused multiply-add, or without."""
    found = []
    for isa in tr.available_isas():
        if is_fused(isa) == fused:
            tr.set_isa(isa)
            found.append(b"".join(run()))
    assert found and set(found) == {found[0]}, f"{what}: instruction sets differ, or there are none"
    return found[0]


def replace(module: ModuleType, pattern: str, new: str) -> None:
    """Replace the one match of a pattern in a module's file."""
    path = Path(module.__file__ or "")
    text, count = re.subn(pattern, lambda found: found.expand(new), path.read_text(), flags=re.DOTALL)
    assert count == 1, pattern
    path.write_text(text)


def main() -> None:
    crcs, unfused = [], 0
    for case in goldens.cases():
        run = case.prepare()
        crcs.append(zlib.crc32(on_each(run, True, case.text)))
        unfused = zlib.crc32(on_each(run, False, case.text), unfused)
    lines = ["".join(f"{crc:08x}" for crc in crcs[i : i + 13]) for i in range(0, len(crcs), 13)]
    replace(goldens, r'(\nCRCS = """).*"""', "\\g<1>\\\\\n" + "\n".join(lines) + '\n"""')
    replace(goldens, r"\nUNFUSED = \w+", f"\nUNFUSED = 0x{unfused:08X}")
    x = selftest.points()
    for name in selftest.FUNCTIONS:
        crc = zlib.crc32(on_each(lambda name=name: (selftest.bits(name, x),), True, name))
        replace(selftest, rf'("{name}": \([^\n]*, )\w+\)', rf"\g<1>0x{crc:08X})")


if __name__ == "__main__":
    main()
