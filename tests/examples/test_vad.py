"""The example that finds speech: Silero VAD on real speech, and its rules and errors on made-up input."""

from __future__ import annotations

import importlib.util
import itertools
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from folders import EXAMPLES
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn import _core


def _load_example() -> ModuleType:
    path = EXAMPLES / "vad" / "vad.py"
    spec = importlib.util.spec_from_file_location("vad", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vad = _load_example()
Array = NDArray[np.float32]


def write_wav(
    path: Path, samples: NDArray[np.int16], rate: int = 16000, channels: int = 1, width: int = 2
) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture
def checkpoint(data_dir: Path) -> Path:
    return data_dir / "silero_vad_16k.pt"


@pytest.fixture
def speech(data_dir: Path) -> Path:
    return data_dir / "speech_16k.wav"


@pytest.fixture
def recorded(data_dir: Path) -> Array:
    """ONNX Runtime's probability for each chunk of the speech."""
    return np.load(data_dir / "silero_speech_16k_probs.npy")


def probabilities_of(model: object, samples: Array) -> Array:
    return np.array([model.probability(chunk) for chunk in vad.chunks_of(samples)], np.float32)  # type: ignore[attr-defined]


# ---- the model, on real speech ------------------------------------------------------------------


@pytest.mark.parametrize("isa", tr.available_isas())
def test_probabilities_are_the_recorded_ones(
    isa: str, checkpoint: Path, speech: Path, recorded: Array
) -> None:
    tr.set_isa(isa)
    found = probabilities_of(vad.VAD(checkpoint), vad.read_wav(speech))
    assert found.shape == recorded.shape == (1875,)
    assert np.abs(found - recorded).max() < 2e-5


def test_reset_gives_the_same_bits_again(checkpoint: Path, speech: Path) -> None:
    model = vad.VAD(checkpoint)
    samples = vad.read_wav(speech)[: 200 * vad.CHUNK]
    first = probabilities_of(model, samples)
    carried = probabilities_of(model, samples)
    model.reset()
    again = probabilities_of(model, samples)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != carried.tobytes()


def test_every_fused_isa_gives_the_same_bits(checkpoint: Path, speech: Path) -> None:
    samples = vad.read_wav(speech)[: 200 * vad.CHUNK]
    bits = {}
    for isa in filter(_core.is_fused, tr.available_isas()):
        tr.set_isa(isa)
        bits[isa] = probabilities_of(vad.VAD(checkpoint), samples).tobytes()
    if len(bits) < 2:
        pytest.skip("fewer than two instruction sets with a fused multiply-add here")
    assert len(set(bits.values())) == 1


def test_both_formats_of_the_checkpoint_give_the_same_bits(checkpoint: Path, speech: Path) -> None:
    samples = vad.read_wav(speech)[: 50 * vad.CHUNK]
    one = probabilities_of(vad.VAD(checkpoint), samples)
    two = probabilities_of(vad.VAD(checkpoint.with_suffix(".safetensors")), samples)
    assert one.tobytes() == two.tobytes()


def test_the_names_of_torchscript_give_the_same_bits(checkpoint: Path, speech: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{f"_model.{name}": w for name, w in tr.load_weights(checkpoint).items()})
    samples = vad.read_wav(speech)[: 20 * vad.CHUNK]
    found = [probabilities_of(vad.VAD(path), samples) for path in (checkpoint, tmp_path / "w.npz")]
    assert found[0].tobytes() == found[1].tobytes()


def test_script_prints_segments_and_writes_the_files_asked_for(
    checkpoint: Path, speech: Path, recorded: Array, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "probabilities"  # without a suffix: the name is taken as it is
    vad.main([str(checkpoint), str(speech), "--save-probabilities", str(saved)])
    *segments, total, timing, size = capsys.readouterr().out.splitlines()
    assert len(segments) == 19
    assert segments[0].split() == ["0.00", "-", "2.05", "s"]
    assert segments[-1].split() == ["57.51", "-", "59.58", "s"]
    assert total == "48.6 s of speech in 60.0 s, 19 segments"
    assert f"per chunk of 32 ms (median of 1875, {tr.isa()})" in timing
    assert size.endswith(" bytes of weights")
    with saved.open("rb") as file:
        array = np.load(file)
    assert array.dtype == np.float32
    assert np.abs(array - recorded).max() < 2e-5


@pytest.mark.parametrize("isa", tr.available_isas())
def test_smaller_weights_find_the_same_speech(
    isa: str, checkpoint: Path, speech: Path, recorded: Array
) -> None:
    tr.set_isa(isa)
    model, samples = vad.VAD(checkpoint), vad.read_wav(speech)
    whole = model.weight_bytes
    model.shrink(samples[: 10 * vad.RATE])
    assert model.weight_bytes < 0.41 * whole
    found = probabilities_of(model, samples)
    assert 1e-4 < np.abs(found - recorded).max() < 0.02
    wanted = vad.speech_segments(recorded, len(samples))
    assert len(wanted) == 19 and vad.speech_segments(found, len(samples)) == wanted


def test_script_with_smaller_weights(
    checkpoint: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = []
    for more in ([], ["--int8"]):
        vad.main([str(checkpoint), str(speech), *more])
        *_, total, _, size = capsys.readouterr().out.splitlines()
        assert total == "48.6 s of speech in 60.0 s, 19 segments"
        sizes.append(int(size.split()[0].replace(",", "")))
    assert sizes[1] < 0.41 * sizes[0]


def test_script_draws_a_png(checkpoint: Path, speech: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "speech.png"
    vad.main([str(checkpoint), str(speech), "--plot", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000


def test_chunk_of_another_size_or_unscaled_is_refused(checkpoint: Path) -> None:
    model = vad.VAD(checkpoint)
    for wrong in (np.zeros(511, np.float32), np.zeros((1, 512), np.float32), np.zeros(512, np.int16)):
        with pytest.raises(ValueError, match=r"chunk: .* expected float32 \(512,\)"):
            model.probability(wrong)


def test_silence_is_no_speech(checkpoint: Path) -> None:
    model = vad.VAD(checkpoint)
    assert probabilities_of(model, np.zeros(100 * vad.CHUNK, np.float32)).max() < 0.1


# ---- errors -------------------------------------------------------------------------------------


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    tr.LSTM(3, 5).save(path)
    with pytest.raises(tr.WeightsError, match=r"other\.safetensors: not Silero VAD for 16 kHz"):
        vad.VAD(path)


def test_checkpoint_with_other_sizes_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    weights = tr.load_weights(checkpoint)
    weights["encoder.1.reparam_conv.weight"] = np.zeros((64, 96, 3), np.float32)
    path = tmp_path / "other.npz"
    np.savez(path, **weights)
    with pytest.raises(tr.WeightsError, match=r"got frames of shape \(128, 4\), expected \(96, length\)"):
        vad.VAD(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 8000}, "got 8000 Hz, expected 16000"),
        ({"channels": 2}, "got 2 channels, expected mono"),
        ({"width": 1}, "got 8 bit samples, expected 16 bit"),
    ],
)
def test_recording_of_another_kind_is_refused(options: dict[str, int], message: str, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros(1024, np.int16), **options)
    with pytest.raises(ValueError, match=f"a.wav: {message}"):
        vad.read_wav(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a WAV"), (b"RIFF", "ends too early"), (b"ID3 this is an MP3", "RIFF")],
)
def test_file_that_is_no_recording_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        vad.read_wav(path)


def test_recording_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got no samples"):
        vad.read_wav(write_wav(tmp_path / "a.wav", np.zeros(0, np.int16)))


def test_recording_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    samples = np.arange(-500, 500, dtype=np.int16)
    path = write_wav(tmp_path / "a.wav", samples)
    path.write_bytes(path.read_bytes()[:-301])  # in the middle of a sample
    np.testing.assert_array_equal(vad.read_wav(path), samples[:849].astype(np.float32) / 32768)


@pytest.mark.parametrize("missing", ["checkpoint", "wav"])
def test_script_names_a_missing_file(missing: str, checkpoint: Path, speech: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    arguments = [absent, speech] if missing == "checkpoint" else [checkpoint, absent]
    with pytest.raises(SystemExit, match="absent: there is no such file"):
        vad.main([str(path) for path in arguments])


def test_script_tells_a_wrong_recording_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros(1024, np.int16), rate=44100)
    with pytest.raises(SystemExit, match=r"a\.wav: got 44100 Hz, expected 16000: resample it first$"):
        vad.main([str(checkpoint), str(path)])


@pytest.mark.parametrize("threshold", ["0", "1", "nan", "-2"])
def test_script_refuses_a_threshold_that_is_no_probability(
    threshold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        vad.main(["a.pt", "a.wav", f"--threshold={threshold}"])
    assert "expected a number between 0 and 1" in capsys.readouterr().err


# ---- from probabilities to stretches of speech --------------------------------------------------


def segments_of(*runs: tuple[int, float], threshold: float = 0.5) -> list[tuple[int, int]]:
    """The segments of (chunks, probability) runs, in chunks and without the padding."""
    probabilities = np.concatenate([np.full(count, value, np.float32) for count, value in runs])
    found = vad.speech_segments(probabilities, len(probabilities) * vad.CHUNK, threshold)
    return [((start + vad.PAD) // vad.CHUNK, (end - vad.PAD) // vad.CHUNK) for start, end in found]


def test_segment_begins_and_ends_with_speech() -> None:
    assert segments_of((10, 0.0), (20, 0.9), (10, 0.0)) == [(10, 30)]


def test_probability_between_the_thresholds_changes_nothing() -> None:
    assert segments_of((10, 0.4), (20, 0.9), (10, 0.4), (10, 0.0)) == [(10, 40)]
    assert segments_of((50, 0.4)) == []


def test_pause_shorter_than_100_ms_does_not_cut() -> None:
    assert segments_of((5, 0.0), (20, 0.9), (4, 0.0), (20, 0.9), (10, 0.0)) == [(5, 49)]
    assert segments_of((5, 0.0), (20, 0.9), (5, 0.0), (20, 0.9), (10, 0.0)) == [(5, 25), (30, 50)]


def test_speech_of_at_most_250_ms_is_dropped() -> None:
    assert segments_of((10, 0.0), (7, 0.9), (10, 0.0)) == []
    assert segments_of((10, 0.0), (8, 0.9), (10, 0.0)) == [(10, 18)]


def test_segments_stay_within_the_recording() -> None:
    speech = np.ones(20, np.float32)
    assert vad.speech_segments(speech, 20 * 512 - 100) == [(0, 20 * 512 - 100)]


def test_threshold_moves_both_ends() -> None:
    runs = ((10, 0.0), (20, 0.7), (10, 0.6), (10, 0.0))
    assert segments_of(*runs, threshold=0.8) == []
    assert segments_of(*runs, threshold=0.65) == [(10, 40)]
    assert segments_of(*runs, threshold=0.5) == [(10, 40)]


def test_one_probability_for_each_chunk() -> None:
    with pytest.raises(ValueError, match="probabilities: got 3, expected one for each chunk of 2560 samples"):
        vad.speech_segments(np.zeros(3, np.float32), 5 * vad.CHUNK)


def test_padding_never_makes_segments_overlap() -> None:
    probabilities = np.tile(np.repeat(np.float32([1, 0]), [10, 5]), 5)  # the shortest pause that cuts
    found = vad.speech_segments(probabilities, len(probabilities) * vad.CHUNK)
    assert len(found) == 5
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(found))
