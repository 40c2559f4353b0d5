"""Find speech in a recording with Silero VAD, its layers called one by one.

    python vad.py silero_vad_16k.pt speech.wav --plot speech.png

Prints the stretches of speech and the time that a chunk of 32 ms takes. README.md says where the checkpoint
comes from.
"""

import argparse
import importlib.util
import sys
import time
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr

RATE = 16000  # samples per second
CHUNK = 512  # samples that one probability is for: 32 ms
CONTEXT = 64  # samples of the chunk before that the model sees again
MIRROR = 64  # samples reflected at the right edge

# Silero's own defaults for cutting probabilities into stretches of speech.
THRESHOLD = 0.5  # speech begins here
HYSTERESIS = 0.15  # and ends this much lower
MIN_SPEECH = RATE * 250 // 1000
MIN_SILENCE = RATE * 100 // 1000
PAD = RATE * 30 // 1000  # added on both sides; less than half of MIN_SILENCE, so that none overlap

Array = NDArray[np.float32]
Segments = list[tuple[int, int]]


class VAD:
    """Silero's voice detector for 16 kHz: one probability of speech for every 512 samples.

    Parameters
    ----------
    path : str or Path
        Silero's ``silero_vad.jit``, or a ``.pt`` or ``.safetensors`` of the model's state_dict.

    Raises
    ------
    OSError, tinyrnn.LoadError
        If the file cannot be read.
    tinyrnn.WeightsError
        If it holds another model.
    """

    def __init__(self, path: str | Path) -> None:
        weights = {name.removeprefix("_model."): w for name, w in tr.load_weights(path).items()}
        self._window = np.zeros((1, CONTEXT + CHUNK + MIRROR), np.float32)
        try:
            stft = tr.Conv1d(1, 258, 256, stride=128, bias=False)
            stft.load_state_dict({"weight": weights["stft.forward_basis_buffer"]})
            encoder = [
                tr.Conv1d.from_state_dict(weights, f"encoder.{i}.reparam_conv", stride=stride, padding=1)
                for i, stride in enumerate((1, 2, 2, 1))
            ]
            lstm = tr.LSTMCell.from_state_dict(weights, "decoder.rnn")
            head = tr.Linear.from_state_dict(weights, "decoder.decoder.2")

            ((self._stft, self._waves),) = _streams([stft], self._window.shape)
            self._magnitude = np.zeros((129, 4), np.float32)
            layers: list[tr.Net] = []
            for convolution in encoder:
                layers += [convolution, tr.ReLU()]
            layers += [tr.Flatten(), lstm, tr.ReLU(), head, tr.Sigmoid()]
            self._layers = _streams(layers, self._magnitude.shape)
        except (KeyError, tr.WeightsError, tr.ShapeError) as error:
            raise tr.WeightsError(f"{path}: not Silero VAD for 16 kHz: {error}") from error
        self.reset()

    def shrink(self, samples: Array) -> None:
        """Take 0.4 of the memory: the LSTM in int8, the convolutions in float16, the rest as it is.

        int8 also rounds the input of a layer, to 255 levels of the largest. That suits the LSTM, but not
        magnitudes that span many powers of ten: with the first convolution in int8 probabilities move by up
        to 0.3, so they read floats.

        Parameters
        ----------
        samples : ndarray, float32
            Some seconds of speech, to calibrate the rounding of the LSTM's weights.
        """
        nets = [stream.net for stream, _ in self._layers]
        at = next(i for i, net in enumerate(nets) if isinstance(net, tr.LSTMCell))
        heard = []
        self.reset()
        for chunk in chunks_of(samples):
            self.probability(chunk)
            heard.append(self._layers[at - 1][1].copy())
        nets[at] = tr.quantize(nets[at], "int8", calibration=np.stack(heard))
        halves = [tr.quantize(net, "float16") if isinstance(net, tr.Conv1d) else net for net in nets]
        self._layers = _streams(halves, self._magnitude.shape)
        ((self._stft, self._waves),) = _streams([tr.quantize(self._stft.net, "float16")], self._window.shape)
        self.reset()

    @property
    def weight_bytes(self) -> int:
        """Memory that the weights take."""
        streams = [self._stft, *(stream for stream, _ in self._layers)]
        return sum(stream.net.memory(frame=stream.made_of[2]).weights for stream in streams)

    def reset(self) -> None:
        """Forget the recording: the next chunk begins another one."""
        self._window[:] = 0
        for stream, _ in self._layers:
            stream.reset()

    def probability(self, chunk: Array) -> float:
        """The probability, 0 .. 1, that the next 512 samples, floats in -1 .. 1, hold speech."""
        if chunk.shape != (CHUNK,) or chunk.dtype.kind != "f":
            raise ValueError(
                f"chunk: got {chunk.dtype} {chunk.shape}, expected float32 ({CHUNK},), in -1 .. 1"
            )
        window = self._window[0]
        end = CONTEXT + CHUNK
        window[:CONTEXT] = window[CHUNK:end]
        window[CONTEXT:end] = chunk
        window[end:] = window[end - 2 : end - 2 - MIRROR : -1]

        waves = self._stft.step(self._window, out=self._waves)
        np.multiply(waves, waves, out=waves)
        x = np.add(waves[:129], waves[129:], out=self._magnitude)  # squares of real and imaginary parts
        np.sqrt(x, out=x)
        for stream, out in self._layers:
            x = stream.step(x, out=out)
        return float(x[0])


def _streams(layers: list[tr.Net], frame: tuple[int, ...]) -> list[tuple[tr.Stream, Array]]:
    """A stream of each layer, which reads the output of the one before it, and the array for its output."""
    streams = []
    for layer in layers:
        stream = layer.stream(frame=frame)
        out = stream.step(np.zeros(frame, np.float32))  # only for its shape
        streams.append((stream, out))
        frame = out.shape
    return streams


def read_wav(path: str | Path) -> Array:
    """The samples of a 16 kHz, mono, 16 bit WAV file, in -1 .. 1."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it ends too early"
        raise ValueError(f"{path}: not a WAV file that Python reads: {reason}") from error
    if rate != RATE:
        raise ValueError(f"{path}: got {rate} Hz, expected {RATE}: resample it first")
    if channels != 1:
        raise ValueError(f"{path}: got {channels} channels, expected mono: mix it down first")
    if width != 2:
        raise ValueError(f"{path}: got {8 * width} bit samples, expected 16 bit")
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768
    if not samples.size:
        raise ValueError(f"{path}: got no samples, expected at least one")
    return samples


def chunks_of(samples: Array) -> Array:
    """The samples in rows of 512, the last one padded with zeros."""
    return np.pad(samples, (0, -len(samples) % CHUNK)).reshape(-1, CHUNK)


class Cutter:
    """Cut probabilities into stretches of speech as they come, by Silero's ``get_speech_timestamps``.

    Parameters
    ----------
    threshold : float
        Speech begins at a chunk that reaches it, and ends with 100 ms that stay 0.15 below.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._enter, self._leave = threshold, max(threshold - HYSTERESIS, 0.01)
        self._start: int | None = None
        self._quiet: int | None = None
        self._at = 0

    @property
    def speaking(self) -> bool:
        """True within a stretch, which may still turn out to be too short."""
        return self._start is not None

    def hear(self, probability: float) -> tuple[int, int] | None:
        """Take the next chunk's probability. Return (first sample, end) of a stretch if that ends one."""
        at, found = self._at, None
        self._at += CHUNK
        if probability >= self._enter:
            self._start, self._quiet = at if self._start is None else self._start, None
        elif probability < self._leave and self._start is not None:
            self._quiet = at if self._quiet is None else self._quiet
            if at - self._quiet >= MIN_SILENCE:
                found = self._cut(self._quiet)
        return found

    def end(self, length: int) -> tuple[int, int] | None:
        """End the recording after so many samples. Return the stretch that was not over."""
        found = self._cut(length)
        return found and (found[0], min(found[1], length))

    def _cut(self, end: int) -> tuple[int, int] | None:
        start, self._start, self._quiet = self._start, None, None
        return None if start is None or end - start <= MIN_SPEECH else (max(0, start - PAD), end + PAD)


def speech_segments(probabilities: Array, length: int, threshold: float = THRESHOLD) -> Segments:
    """(first sample, end) of each stretch of speech in a recording.

    Parameters
    ----------
    probabilities : ndarray, (chunks,)
    length : int
        Samples of the recording.
    threshold : float
        As `Cutter` takes it.
    """
    if len(probabilities) != -(-length // CHUNK):
        raise ValueError(
            f"probabilities: got {len(probabilities)}, expected one for each chunk of {length} samples"
        )
    cutter = Cutter(threshold)
    found = [*map(cutter.hear, probabilities), cutter.end(length)]
    return [one for one in found if one is not None]


def plot(path: Path, samples: Array, probabilities: Array, segments: Segments, threshold: float) -> None:
    """Draw the probability over the waveform, with the speech shaded, in rows of about 20 s."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    times = np.arange(len(probabilities) + 1) * (CHUNK / RATE)
    bars = chunks_of(samples).reshape(-1, CHUNK // 4)  # as fine as a pixel
    bar_times = np.arange(len(bars)) * (CHUNK / 4 / RATE)
    middle, scale = 0.5, 0.5 / max(np.abs(samples).max(), 1e-3)
    low, high = middle + scale * bars.min(axis=1), middle + scale * bars.max(axis=1)
    duration = len(samples) / RATE
    rows = min(max(round(duration / 20), 1), 12)

    size = (14, 0.8 + 1.9 * rows)
    figure, axes = pyplot.subplots(rows, 1, figsize=size, squeeze=False, layout="constrained")
    for row, axis in enumerate(axes[:, 0]):
        for start, end in segments:
            axis.axvspan(start / RATE, end / RATE, color="#d3eede", linewidth=0)
        axis.fill_between(bar_times, low, high, color="#8d99a6", linewidth=0.3)
        axis.axhline(threshold, color="#2f3a45", linewidth=0.7, linestyle=(0, (1, 3)))
        axis.stairs(probabilities, times, color="#c0392b", linewidth=1.2, baseline=None)
        axis.set_xlim(row * duration / rows, (row + 1) * duration / rows)
        axis.set_ylim(-0.02, 1.02)
        axis.set_yticks([0, threshold, 1])
        axis.set_ylabel("probability")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].fill_between([], [], color="#8d99a6", label="waveform")
    axes[0, 0].plot([], [], color="#c0392b", label="probability of speech")
    axes[0, 0].plot([], [], color="#2f3a45", linewidth=0.7, linestyle=(0, (1, 3)), label="threshold")
    axes[0, 0].fill_between([], [], color="#d3eede", label="speech found")
    figure.legend(loc="outside upper left", ncols=4, fontsize=10, frameon=False)
    axes[-1, 0].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Find speech in a recording with Silero VAD.")
    add = parser.add_argument
    add("checkpoint", type=Path, help="Silero VAD's state_dict: .pt or .safetensors")
    add("wav", type=Path, help="the recording: 16 kHz, mono, 16 bit")
    add("--threshold", type=float, default=THRESHOLD, help="where speech begins (default: %(default)s)")
    add("--int8", action="store_true", help="smaller weights, rounded by the recording's first ten seconds")
    add("--plot", type=Path, metavar="PNG", help="draw the probability over the waveform; needs matplotlib")
    add("--save-probabilities", type=Path, metavar="NPY", help="one float32 for each chunk of 512 samples")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.threshold < 1:
        parser.error(f"--threshold is {arguments.threshold}, expected a number between 0 and 1")
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which is not installed")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    vad = VAD(arguments.checkpoint)
    samples = read_wav(arguments.wav)
    if arguments.int8:
        vad.shrink(samples[: 10 * RATE])
    chunks = chunks_of(samples)
    probabilities = np.empty(len(chunks), np.float32)
    nanoseconds = np.empty(len(chunks))
    for i, chunk in enumerate(chunks):
        before = time.perf_counter_ns()
        probabilities[i] = vad.probability(chunk)
        nanoseconds[i] = time.perf_counter_ns() - before

    segments = speech_segments(probabilities, len(samples), arguments.threshold)
    for start, end in segments:
        print(f"{start / RATE:8.2f} - {end / RATE:.2f} s")
    speech = sum(end - start for start, end in segments) / RATE
    print(f"{speech:.1f} s of speech in {len(samples) / RATE:.1f} s, {len(segments)} segments")
    print(f"{np.median(nanoseconds) / 1000:.1f} µs per chunk of 32 ms (median of {len(chunks)}, {tr.isa()})")
    print(f"{vad.weight_bytes:,} bytes of weights")

    if arguments.save_probabilities:
        with open(arguments.save_probabilities, "wb") as file:
            np.save(file, probabilities)
    if arguments.plot:
        plot(arguments.plot, samples, probabilities, segments, arguments.threshold)


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    try:
        run(arguments)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: there is no such file")
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
