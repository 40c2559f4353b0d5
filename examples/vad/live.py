"""Show in a terminal how loud it is, and whether somebody speaks, as it is heard.

    python live.py silero_vad_16k.pt                          # a microphone; needs sounddevice
    python live.py silero_vad_16k.pt --input speech.wav       # a recording, as fast as it was spoken
    arecord -q -t raw -f S16_LE -r 16000 | python live.py silero_vad_16k.pt --input -

A line shows the level and the probability of speech while they change; each stretch of speech that is over is
printed above it. Ctrl-C ends it. Where no person watches, only the stretches are printed.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from vad import CHUNK, RATE, THRESHOLD, VAD, Array, Cutter, chunks_of, read_wav

FLOOR = -60.0  # dB below full scale: the left end of the bar
WIDTH = 20  # characters of a bar


def microphone() -> Iterator[Array]:
    """Chunks of 512 samples as a microphone hears them."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, the library below it is not
        raise RuntimeError(
            f"a microphone needs sounddevice ({error}): pip install sounddevice and sudo apt install "
            "libportaudio2, or pipe arecord into --input -"
        ) from error
    with sounddevice.InputStream(samplerate=RATE, channels=1, dtype="float32", blocksize=CHUNK) as heard:
        while True:
            block, overflowed = heard.read(CHUNK)
            if overflowed:
                print("samples were lost: this computer is too slow, or busy", file=sys.stderr)
            yield block[:, 0]


def piped() -> Iterator[Array]:
    """Chunks from standard input: 16 kHz, mono, 16 bit, no header. The last is filled up with zeros."""
    while data := sys.stdin.buffer.read(2 * CHUNK):
        samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768
        yield np.pad(samples, (0, CHUNK - len(samples)))


def played(path: Path, fast: bool) -> Iterator[Array]:
    """Chunks of a recording, each when it would have been heard."""
    due = time.monotonic()
    for chunk in chunks_of(read_wav(path)):
        due += CHUNK / RATE
        time.sleep(0 if fast else max(0.0, due - time.monotonic()))
        yield chunk


def level(chunk: Array) -> float:
    """The level of a chunk in dB: 0 for a constant at full scale, `FLOOR` at least."""
    power = float(np.mean(np.square(chunk)))
    return max(FLOOR, 10 * np.log10(power)) if power else FLOOR


def bar(part: float) -> str:
    """A bar that is filled to this part, 0 .. 1."""
    filled = round(WIDTH * min(max(part, 0.0), 1.0))
    return "#" * filled + "." * (WIDTH - filled)


def watch(vad: VAD, chunks: Iterator[Array], threshold: float) -> None:
    """Show levels and speech of all chunks, until they or the user's patience end."""
    watched = sys.stdout.isatty()
    wipe = "\r\x1b[K" if watched else ""  # clear the line, where there is one
    cutter, heard = Cutter(threshold), 0
    total = 0.0

    def tell(stretch: tuple[int, int] | None) -> float:
        if stretch is None:
            return 0.0
        start, end = stretch
        print(f"{wipe}{start / RATE:8.2f} - {end / RATE:.2f} s", flush=True)
        return (end - start) / RATE

    try:
        for chunk in chunks:
            heard += CHUNK
            probability = vad.probability(chunk)
            total += tell(cutter.hear(probability))
            if watched:
                decibels = level(chunk)
                state = "speech" if cutter.speaking else ""
                print(
                    f"{wipe}{heard / RATE:7.1f} s  {decibels:4.0f} dB {bar(1 - decibels / FLOOR)}  "
                    f"{probability:.2f} {bar(probability)}  {state}",
                    end="",
                    flush=True,
                )
    except KeyboardInterrupt:  # Ctrl-C ends it
        pass
    total += tell(cutter.end(heard))
    print(f"{wipe}{total:.1f} s of speech in {heard / RATE:.1f} s")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Show levels and speech as they are heard.")
    add = parser.add_argument
    add("checkpoint", type=Path, help="Silero VAD's state_dict: .pt or .safetensors")
    add("--input", metavar="WAV", help="a recording in place of a microphone; - for samples from a pipe")
    add("--fast", action="store_true", help="do not wait: hear the recording as fast as it can be computed")
    add("--threshold", type=float, default=THRESHOLD, help="where speech begins (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.threshold < 1:
        parser.error(f"--threshold is {arguments.threshold}, expected a number between 0 and 1")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    try:
        vad = VAD(arguments.checkpoint)
        if arguments.input is None:
            chunks = microphone()
        else:
            chunks = piped() if arguments.input == "-" else played(Path(arguments.input), arguments.fast)
        watch(vad, chunks, arguments.threshold)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: there is no such file")
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
