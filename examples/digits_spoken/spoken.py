"""Spoken digits and their features: the data of this example, made by a seed.

    python spoken.py "three one four" --voice en-gb+f2      # the features, as characters, to look at

Speech comes from espeak-ng, which runs as a program and hands a recording over a pipe. Where it is not
installed, each digit is its pair of tones on a telephone's keypad (ITU-T Q.23), with a timbre, a pitch and a
speed that stand for the voice: a much easier task, there so that the example runs everywhere.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ACCENTS = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp"]
VARIANTS = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5"]
STRANGE_VARIANTS = ["Andy", "Annie", "linda", "Michael"]  # held out altogether
SPEEDS = [120, 140, 160, 180, 200, 220, 240]  # words per minute
PITCHES = [35, 50, 65]

BANDS = 24  # of the filter bank: the net's input at a step
HOP, WINDOW = 0.020, 0.032  # seconds

# Keypad: 1 2 3 / 4 5 6 / 7 8 9 / * 0 #, a row's tone with a column's, in Hz.
ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)
TONES = {0: (941, 1336)} | {n: (ROWS[(n - 1) // 3], COLUMNS[(n - 1) % 3]) for n in range(1, 10)}
TONE_RATE = 8000


class Speaker(NamedTuple):
    """A voice and a manner of speaking."""

    voice: str  # espeak-ng's: accent+variant
    speed: int  # words per minute
    pitch: int  # 0 .. 99


class Utterance(NamedTuple):
    """The input of the net, and the digits that were said."""

    features: Array  # (T, BANDS)
    digits: tuple[int, ...]
    speaker: Speaker


def has_espeak() -> bool:
    return shutil.which("espeak-ng") is not None


def speak(text: str, speaker: Speaker) -> tuple[Array, int]:
    """Samples within -1 .. 1 and their rate, from espeak-ng.

    Raises
    ------
    OSError
        If espeak-ng is not installed, has no such voice, or returns no recording.
    """
    voice, speed, pitch = speaker
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-z", "--stdout", text]
    done = subprocess.run(command, capture_output=True, check=False)
    try:
        with wave.open(io.BytesIO(done.stdout)) as file:
            # espeak-ng writes to a pipe, so its header claims more samples than there are.
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            return samples.astype(np.float32) / 32768, file.getframerate()
    except (wave.Error, EOFError):
        said = done.stderr.decode(errors="replace").strip() or "no recording came back"
        raise OSError(f"espeak-ng with voice {voice!r}: {said}") from None


def dial(digits: Sequence[int], speaker: Speaker) -> tuple[Array, int]:
    """The digits as keypad tones; the voice's name chooses the timbre."""
    timbre = np.random.default_rng(list(speaker.voice.encode())).uniform(0.0, 0.5, 3)
    length = 30 / speaker.speed  # of a tone, seconds; the pause after it is half as long
    time = np.arange(round(length * TONE_RATE)) / TONE_RATE
    envelope = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)
    pieces = [np.zeros(round(0.05 * TONE_RATE))]
    for digit in digits:
        tone = np.zeros(len(time))
        for frequency in TONES[digit]:
            phase = 2 * np.pi * frequency * (1 + (speaker.pitch - 50) / 1500) * time
            tone += np.sin(phase) + sum(a * np.sin(phase * (i + 2)) for i, a in enumerate(timbre))
        pieces += [0.1 * envelope * tone, np.zeros(len(time) // 2)]
    return np.concatenate(pieces).astype(np.float32), TONE_RATE


@cache
def filter_bank(rate: int, size: int) -> NDArray[np.float64]:
    """Triangles, (BANDS, size // 2 + 1), evenly apart in mel from 100 Hz to 4 kHz or half the rate."""
    mels = np.linspace(*(2595 * np.log10(1 + np.array([100, min(4000, rate / 2)]) / 700)), BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    below, middle, above = (edges[i : BANDS + i, None] for i in range(3))
    frequencies = np.arange(size // 2 + 1) * rate / size
    rising, falling = (frequencies - below) / (middle - below), (above - frequencies) / (above - middle)
    return np.maximum(0, np.minimum(rising, falling))


def log_energies(samples: Array, rate: int) -> NDArray[np.float64]:
    """Logarithms of the energy by band, with a floor, (T, BANDS).

    A step of 20 ms, a Hann window of 32 ms. A step needs no later one.
    """
    hop, window = round(HOP * rate), round(WINDOW * rate)
    if len(samples) < window:
        raise ValueError(f"{len(samples)} samples at {rate} Hz: shorter than a window of {WINDOW} s")
    size = 1 << (window - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop] * np.hanning(window)
    energy = np.abs(np.fft.rfft(frames, size)) ** 2 @ filter_bank(rate, size).T
    return np.log(energy + 1e-6)


def log_mel(samples: Array, rate: int) -> Array:
    """`log_energies` of a whole recording: each band less its mean, all over their deviation."""
    features = log_energies(samples, rate)
    return ((features - features.mean(0)) / max(features.std(), 1e-3)).astype(np.float32)


def record(digits: Sequence[int], speaker: Speaker, tones: bool = False) -> tuple[Array, int]:
    """Samples and their rate: the digits as a speaker says or dials them."""
    if tones:
        return dial(digits, speaker)
    return speak(" ".join(WORDS[digit] for digit in digits), speaker)


def speakers(seed: int) -> tuple[list[Speaker], list[Speaker], list[Speaker]]:
    """The speakers of training; known voices at new speeds; voices never heard."""
    generator = np.random.default_rng(seed)

    def pitch() -> int:
        return PITCHES[generator.integers(len(PITCHES))]

    train, test = [], []
    for voice in (f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS):
        held_out = generator.choice(len(SPEEDS), 2, replace=False)
        for i, speed in enumerate(SPEEDS):
            (test if i in held_out else train).append(Speaker(voice, speed, pitch()))
    strange = [
        Speaker(f"{accent}+{variant}", speed, pitch())
        for accent in ACCENTS
        for variant in STRANGE_VARIANTS
        for speed in SPEEDS
    ]
    return train, test, strange


def make_utterances(
    among: Sequence[Speaker], count: int, generator: np.random.Generator, tones: bool = False
) -> list[Utterance]:
    """``count`` strings of three to six digits, each by a speaker drawn."""
    drawn = []
    for _ in range(count):
        speaker = among[generator.integers(len(among))]
        digits = tuple(int(digit) for digit in generator.integers(0, 10, generator.integers(3, 7)))
        drawn.append((digits, speaker))

    def make(digits: tuple[int, ...], speaker: Speaker) -> Utterance:
        return Utterance(log_mel(*record(digits, speaker, tones)), digits, speaker)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a thread waits for espeak-ng most of its time
        return list(pool.map(make, *zip(*drawn, strict=True)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Print the features of a text as espeak-ng says it.")
    parser.add_argument("text", help='the text to say, such as "three one four"')
    parser.add_argument("--voice", default="en-us", help="espeak-ng's name of it")
    parser.add_argument("--speed", type=int, default=160, help="words per minute")
    parser.add_argument("--pitch", type=int, default=50, help="0 .. 99")
    options = parser.parse_args(arguments)
    if not has_espeak():
        sys.exit("espeak-ng is not installed (Debian: apt install espeak-ng)")
    try:
        features = log_mel(*speak(options.text, Speaker(options.voice, options.speed, options.pitch)))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    shades = " .:-=+*#%@"
    levels = np.clip((features.T[::-1] + 1.5) / 4 * len(shades), 0, len(shades) - 1).astype(int)
    for band in levels:
        print("".join(shades[level] for level in band))
    print(f"{len(features)} steps of {1000 * HOP:.0f} ms, {BANDS} bands, high ones above")


if __name__ == "__main__":
    main()
