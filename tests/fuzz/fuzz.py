"""Fuzz the readers of files; `fuzz_kinds.py` lists the kinds and says what must hold.

python tests/fuzz/fuzz.py KIND [libFuzzer's options]          needs atheris, and goes by coverage
python tests/fuzz/fuzz.py KIND --mutations COUNT SEED [BEGIN]  needs nothing, in limited memory

Mutations have numbers, so that one that fails is repeated: COUNT 1 of the same SEED from BEGIN on. A process
that crashes leaves its last input in fuzz-KIND-*/last, in the folder of temporary files. To run under
AddressSanitizer, build with CFLAGS and LDFLAGS "-fsanitize=address,undefined" and preload libasan.
"""

from __future__ import annotations

import resource
import signal
import sys
import tempfile
from importlib import import_module
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "helpers")]

MEMORY = 3 << 30  # bytes of addresses
HANGS = 10.0  # seconds of the processor after which a file is given up


def by_mutations(name: str, count: int, seed: int, begin: int = 0) -> None:
    import fuzz_kinds

    if not fuzz_kinds.SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _slow)
    signal.setitimer(signal.ITIMER_PROF, HANGS, HANGS)
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        last = Path(folder) / "last"
        sound = fuzz_kinds.fuzz(fuzz_kinds.KINDS[name], count, seed, begin, last, _restarted)
    signal.setitimer(signal.ITIMER_PROF, 0)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{name}: {count} mutated files from number {begin} of seed {seed}, {sound} of them sound, in "
        f"{used.ru_utime + used.ru_stime:.0f} s of the processor"
    )


def _restarted() -> None:
    signal.setitimer(signal.ITIMER_PROF, HANGS, HANGS)


def _slow(*_: object) -> None:
    raise TimeoutError(f"a file took more than {HANGS} s")


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
