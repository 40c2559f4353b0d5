"""Fuzz the readers of files; `fuzz_kinds.py` lists the kinds and says what must hold.

python tests/fuzz/fuzz.py KIND [libFuzzer's options]          needs atheris, and goes by coverage
python tests/fuzz/fuzz.py KIND --mutations COUNT SEED         needs nothing, in limited memory
"""

from __future__ import annotations

import resource
import sys
import tempfile
from importlib import import_module
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "helpers")]

MEMORY = 3 << 30  # bytes of addresses


def by_mutations(name: str, count: int, seed: int) -> None:
    import fuzz_kinds

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sound = fuzz_kinds.fuzz(fuzz_kinds.KINDS[name], count, seed)
    print(f"{name}: {count} mutated files, {sound} of them sound")


def by_coverage(name: str, options: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["tinyrnn"]):
        import fuzz_kinds

        from tinyrnn.weights import SOURCES

        for module in (*SOURCES, "tinyrnn.loading", "tinyrnn.onnx.build", "tinyrnn.rtneural"):
            import_module(module)
    kind = fuzz_kinds.KINDS[name]
    seeds = kind.seeds()
    for seed in seeds:
        assert fuzz_kinds.check(kind, seed), "a sound file is refused"

    def one(data: bytes) -> None:
        fuzz_kinds.check(kind, data)

    folder = Path(
        tempfile.mkdtemp(prefix=f"fuzz-{name}-")
    )  # it stays: libFuzzer adds to it, and ends the process
    for number, seed in enumerate(seeds):
        (folder / str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], *options, str(folder)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    name, *options = sys.argv[1:]
    if options[:1] == ["--mutations"]:
        by_mutations(name, *map(int, options[1:]))
    else:
        by_coverage(name, options)
