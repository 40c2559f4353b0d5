"""`from_torch`: modules with forwards of their own become nets with the same numbers."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from folders import DOCS

import tinyrnn as tr

torch = pytest.importorskip("torch")
nn = torch.nn

import notebook_models  # noqa: E402
import torch_models as models  # noqa: E402

from tinyrnn.modules.functions import FUNCTIONS  # noqa: E402

B, T, S = 11, 31, 23  # of the comparison; the examples have others


def floats(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def tokens(*shape, count=17):
    return torch.from_numpy(np.random.default_rng(1).integers(0, count, shape))


def exported(module, given, shapes=None):
    return torch.export.export(module, tuple(given), dynamic_shapes=shapes)


def file_of(program):
    file = io.BytesIO()
    torch.export.save(program, file)
    return file


def lengths(batch, steps):
    return torch.tensor([steps - i % (steps - 2) for i in range(batch)])


def perturbed(module):
    """Other numbers than those of new norms, so that nothing is zero or one; small enough not to saturate."""
    torch.manual_seed(3)
    with torch.no_grad():
        for one in [*module.parameters(), *module.buffers()]:
            if one.is_floating_point():
                one.add_(0.1 * torch.rand_like(one))
    return module.eval()


# Module, inputs by batch and steps, and their axes.
CASES = {
    "last step": (models.LastStep, lambda b, t: [floats(b, t, 6)], "BTF"),
    "last hidden": (models.LastHidden, lambda b, t: [floats(b, t, 6)], "BTF"),
    "both ends": (models.BothEnds, lambda b, t: [floats(b, t, 6)], "BTF"),
    "viewed states": (models.ViewedStates, lambda b, t: [floats(b, t, 6)], "BTF"),
    "time first": (models.TimeFirst, lambda b, t: [floats(t, b, 6)], "TBF"),
    "language model": (models.Embedded, lambda b, t: [tokens(t, b)], "TB"),
    "tied": (lambda: models.Embedded(tie=True), lambda b, t: [tokens(t, b)], "TB"),
    "one hot": (
        lambda: models.RowsByNumber(lambda _, i: torch.nn.functional.one_hot(i, 17).float()),
        lambda b, t: [tokens(b, t)],
        "BT",
    ),
    "rows of a table": (
        lambda: models.RowsByNumber(lambda eye, i: eye[i]),
        lambda b, t: [tokens(b, t)],
        "BT",
    ),
    "residual": (models.Residual, lambda b, t: [floats(b, t, 6)], "BTF"),
    "additive attention": (models.Additive, lambda b, t: [floats(b, t, 6)], "BTF"),
    "additive attention of each step": (models.AdditivePairs, lambda b, t: [floats(b, t, 6)], "BTF"),
    "attention over states": (models.AttentionOverStates, lambda b, t: [floats(b, t, 6)], "BTF"),
    "query attention": (models.Luong, lambda b, t: [floats(b, t, 6)], "BTF"),
    "self attention": (models.SelfAttention, lambda b, t: [floats(b, t, 6)], "BTF"),
    "heads by view": (models.Heads, lambda b, t: [floats(b, t, 6)], "BTF"),
    "heads by mask": (models.MaskedHeads, lambda b, t: [floats(b, t, 6)], "BTF"),
    "multihead": (models.Multihead, lambda b, t: [floats(b, t, 6)], "BTF"),
    "transformer": (models.Encoder, lambda b, t: [floats(b, t, 6)], "BTF"),
    "crnn": (models.CRNN, lambda b, t: [floats(b, 1, t, 10)], "BCTF"),
    "conv and gru": (models.ConvGRU, lambda b, t: [floats(b, 6, t)], "BFT"),
    "tcn": (models.TCN, lambda b, t: [floats(b, 6, t)], "BFT"),
    "gated convolutions": (models.GatedConv, lambda b, t: [floats(b, 6, t)], "BFT"),
    "two heads": (models.TwoHeads, lambda b, t: [floats(b, t, 6)], "BTF"),
    "a tuple": (models.Tupled, lambda b, t: [floats(b, t, 6)], "BTF"),
    "learned start": (models.LearnedStart, lambda b, t: [floats(b, t, 6)], "BTF"),
    "repeated": (models.Repeated, lambda b, t: [floats(b, t, 6)], "BTF"),
    "shared": (models.Shared, lambda b, t: [floats(b, t, 6)], "BTF"),
    "time distributed": (models.TimeDistributed, lambda b, t: [floats(b, t, 2, 7, 9)], "BTCHW"),
    "norms": (models.Norms, lambda b, t: [floats(b, t, 6)], "BTF"),
    "pooled": (models.Pooled, lambda b, t: [floats(b, t, 6)], "BTF"),
    "arithmetic": (models.Arithmetic, lambda b, t: [floats(b, t, 6)], "BTF"),
    "mask": (models.MaskInput, lambda b, t: [floats(b, t, 6), (floats(b, t, seed=2) > -1).long()], "BTF"),
    "padding mask": (models.PaddedAttention, lambda b, t: [floats(b, t, 6), floats(b, t, seed=2) > 1], "BTF"),
    "speaker": (models.Speaker, lambda b, t: [floats(b, t, 6), floats(b, 4, seed=2)], "BTF"),
    "caption": (models.Started, lambda b, t: [tokens(b, t), floats(b, 10)], "BT"),
    "sequences": (models.Cross, lambda b, t: [floats(b, t, 6), floats(b, t - 4, 5)], "BTF"),
    "translator": (models.Translator, lambda b, t: [tokens(b, t), tokens(b, t - 4)], "BT"),
    "text cnn": (models.TextCNN, lambda b, t: [tokens(b, t)], "BT"),
    "raw audio": (models.RawAudio, lambda b, t: [floats(b, t)], "BT"),
    "encoder and decoder": (models.Transformer, lambda b, t: [floats(b, t, 6), floats(b, t - 4, 5)], "BTF"),
    "sides of both": (models.SidesOfBoth, lambda b, t: [floats(b, t, 6)], "BTF"),
    "denoiser": (models.Denoiser, lambda b, t: [floats(b, t, 6)], "BTF"),
    "packed": (models.Packed, lambda b, t: [tokens(b, t), lengths(b, t)], "BT"),
    "unpacked": (
        models.Unpacked,
        lambda b, t: [floats(b, t, 6), lengths(b, t).sort(descending=True)[0]],
        "BTF",
    ),
    "packed, time first": (models.LengthsTimeFirst, lambda b, t: [floats(t, b, 6), lengths(b, t)], "TBF"),
    "mean within": (models.MeanWithin, lambda b, t: [floats(b, t, 6), lengths(b, t)], "BTF"),
    "gathered": (models.GatheredLast, lambda b, t: [floats(b, t, 6), lengths(b, t)], "BTF"),
    "dual path": (models.DualPath, lambda b, t: [floats(b, 6, t, 7)], "BCTF"),
    "bands first": (models.BandsFirst, lambda b, t: [floats(t, b, 6)], "TBF"),
    "lengths as a list": (
        lambda: models.PythonLengths("list"),
        lambda b, t: [floats(b, t, 6), lengths(b, t)],
        "BTF",
    ),
    "lengths of NumPy": (
        lambda: models.PythonLengths("numpy"),
        lambda b, t: [floats(b, t, 6), lengths(b, t)],
        "BTF",
    ),
    "caption loop": (models.CaptionLoop, lambda b, t: [floats(b, t, 6), floats(b, t - 4, 5, seed=2)], "BTF"),
    "memory": (models.Memory, lambda b, t: [floats(b, t, 6)], "BTF"),
    "coattention": (models.Coattention, lambda b, t: [floats(b, t, 6), floats(b, t - 4, 5, seed=2)], "BTF"),
    "projected, backwards": (models.ProjectedBackwards, lambda b, t: [floats(b, t, 6)], "BTF"),
    "filled": (models.Filled, lambda b, t: [floats(b, t, 6)], "BTF"),
    "logarithms": (models.LogSpace, lambda b, t: [floats(b, t, 6)], "BTF"),
    "additive attention of all": (models.AdditiveWhole, lambda b, t: [floats(b, t, 6)], "BTF"),
    "shifted": (models.Shifted, lambda b, t: [floats(b, t, 6)], "BTF"),
    "pyramid": (models.Pyramid, lambda b, t: [floats(b, t, 6)], "BTF"),
    "bands": (models.Bands, lambda b, t: [floats(b, 4, t, 3)], "BCTF"),
    "in place": (models.InPlace, lambda b, t: [floats(b, t, 6)], "BTF"),
    "numbers": (models.Predictor, lambda b, t: [floats(b, t)], "BT"),
}

# A decoder that attends, by its scores; one of these with a layer in place of a cell.
CASES |= {
    f"decoder, {name}": (
        lambda name=name: models.Decoder(models.SCORES[name], name == "dot"),
        lambda b, t: [floats(b, t, 6), floats(b, t - 4, 5, seed=2)],
        "BTF",
    )
    for name in models.SCORES
}

# Loops of Python over the steps, and the recurrent layers that they become.
LOOPS = {
    "lstm_cell": ["LSTM"],
    "stacked_cells": ["GRU", "RNN"],
    "cells_one_after_another": ["GRU", "RNN"],
    "own_formula": ["Delay"],
    "iterated": ["GRU"],
    "learned_state": ["GRU"],
    "encoded_state": ["Delay"],
    "fed_back": ["Delay", "LSTM"],
    "decoder": ["LSTM", "Delay", "LSTM = lstm"],
    "clipped_state": ["Delay", "Delay"],
    "zoned_out": ["Delay", "Delay"],
    "echo_state": ["Delay"],
    "masked_state": ["Delay"],
    "normed_state": ["Delay"],
}


def looped(name):
    return models.Cells(getattr(models, name))


CASES |= {
    name: (
        lambda name=name: looped(name),
        (lambda b, t: [floats(b, t, 6), floats(b, 4, seed=2)])
        if name == "encoded_state"
        else (lambda b, t: [floats(t, b, 6)])
        if name == "cells_one_after_another"
        else (lambda b, t: [floats(b, t, 6)]),
        "TBF" if name == "cells_one_after_another" else "BTF",
    )
    for name in LOOPS
}


def led(array, axes, net):
    """An array with the axes that the net reads: time and the batch first."""
    axes = axes[: array.ndim] if len(axes) > array.ndim else axes
    order = "BT" if net._batch_first else "TB"
    lead = [axes.index(one) for one in order if one in axes]
    return np.transpose(array, [*lead, *(i for i in range(array.ndim) if i not in lead)])


def fitted(got, shape):
    """The numbers of a net in the shape of the module's: batch, time and frame have different sizes."""
    if got.shape == shape:
        return got
    got = got.reshape([size for size in got.shape if size > 1])
    order = []
    for size in (one for one in shape if one > 1):
        order.append(next(i for i, own in enumerate(got.shape) if own == size and i not in order))
    return got.transpose(order).reshape(shape)


def compared(module, net, given, axes):
    with torch.no_grad():
        expected = module(*given)
    ends = next((one.numpy() for one in given if one.ndim == 1), None)
    arrays = []
    frames = iter(net._ports_known().values())
    for one in given:
        if one.ndim == 1:
            continue
        own = axes[: one.ndim] if {T, T - 4} & set(one.shape) else "BF"
        array = led(one.float().numpy(), own, net)
        frame, _ = next(frames)
        array = array if frame else array.astype(np.int64)
        arrays.append(array.reshape(*array.shape[: len(set(own) & {"B", "T"})], *frame))
    got = net(*arrays, **({} if ends is None else {"lengths": ends}))
    if isinstance(got, dict):
        assert list(got) == list(expected)
        pairs = [(got[name], expected[name]) for name in got]
    else:
        pairs = list(zip(got, expected, strict=True)) if isinstance(got, tuple) else [(got, expected)]
    for one, other in pairs:
        other = other.numpy()
        one = fitted(one, other.shape)
        if ends is not None and T in other.shape[:2]:
            time = other.shape.index(T)
            inside = np.arange(T) < ends[:, None]
            inside = inside if time else inside.T
            one, other = one[inside], other[inside]
        assert np.isfinite(other).all() and (other.size == 1 or other.std() > 1e-3)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:Implicit dimension choice")
@pytest.mark.parametrize("case", CASES)
def test_the_net_has_the_numbers_of_the_module(case):
    kind, make, axes = CASES[case]
    module = perturbed(kind())
    net = tr.from_torch(module, tuple(make(3, 14)))
    compared(module, net, make(B, T), axes)
    compared(module, net, make(1, T), axes)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_of_python_becomes_layers(name):
    kind, make, _axes = CASES[name]
    net = tr.from_torch(perturbed(kind()), tuple(make(3, 14)))
    kinds = [row[1] for row in net.summary().rows if row[1].split()[0] in ("LSTM", "GRU", "RNN", "Delay")]
    assert kinds == LOOPS[name]


@pytest.mark.parametrize("case", ["last step", "residual", "language model", "multihead", "tcn", "fed_back"])
def test_a_net_saves_and_loads(case, tmp_path):
    kind, make, axes = CASES[case]
    module = perturbed(kind())
    tr.from_torch(module, tuple(make(3, 14))).save(tmp_path / "net.safetensors")
    compared(module, tr.load(tmp_path / "net.safetensors"), make(B, T), axes)


def test_states_are_those_of_the_stream():
    module = perturbed(models.Streaming())
    states = torch.zeros(2, 3, 8), torch.zeros(2, 3, 8)
    net = tr.from_torch(module, (floats(3, 14, 6), states))
    x, h, c = floats(B, T, 6), floats(2, B, 8, seed=4), floats(2, B, 8, seed=5)
    with torch.no_grad():
        y, (hn, cn) = module(x, (h, c))
    got = net(x.numpy(), state={"lstm.h": h.numpy(), "lstm.c": c.numpy()})
    np.testing.assert_allclose(got, y.numpy(), rtol=1e-5, atol=1e-5)
    stream = net.stream(batch=B)
    stream.state = {"lstm.h": h.numpy(), "lstm.c": c.numpy()}
    steps = [stream.step(x[:, t].numpy()) for t in range(T)]
    np.testing.assert_allclose(np.stack(steps, 1), y.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stream.state["lstm.h"], hn.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stream.state["lstm.c"], cn.numpy(), rtol=1e-5, atol=1e-5)
    one = tr.from_torch(perturbed(models.OneState()), (floats(14, 3, 6), torch.zeros(1, 3, 8)))
    assert one.stream().state["gru.h"].shape == (1, 1, 8)
    two = tr.from_torch(models.Denoiser(), (floats(3, 14, 6), torch.zeros(1, 3, 8), torch.zeros(1, 3, 8)))
    assert list(two.stream().state) == ["gru1.h", "gru2.h"]


@pytest.mark.parametrize(
    "name, sizes, states, looping",
    [
        ("kept_state", (8, 8), ["lstm.h", "lstm.c"], True),
        ("own_kept_state", (8,), ["x1_state.past"], True),
        ("one_step", (8,), ["gru.h"], False),
        ("one_step_alone", (8,), ["gru.h"], False),
        ("one_step_of_two", (8, 8, 8), ["lstm.h", "lstm.c", "rnn.h"], False),
    ],
)
def test_states_of_cells_are_those_of_the_stream(name, sizes, states, looping):
    module = perturbed(looped(name))
    pack = (lambda a: [((a[0], a[1]), a[2])]) if len(sizes) == 3 else list
    x, begins = floats(B, T, 6), [floats(B, size, seed=4 + i) for i, size in enumerate(sizes)]
    example = [
        floats(3, 6) if not looping else floats(3, 14, 6),
        *pack([torch.zeros(3, one) for one in sizes]),
    ]
    net = tr.from_torch(module, tuple(example))
    stream = net.stream(batch=B)
    assert list(stream.state) == states
    stream.state = {key: one[None].numpy() for key, one in zip(states, begins, strict=True)}
    got = np.stack([stream.step(x[:, t].numpy()) for t in range(T)], 1)
    with torch.no_grad():
        if looping:
            expected, *after = module(x, *begins)
        else:
            ys, after = [], begins
            for t in range(T):
                y = module(x[:, t], *pack(after))
                y, *after = y if isinstance(y, tuple) else (y, y)
                after = [*after[0][0], after[0][1]] if len(sizes) == 3 else after
                ys.append(y)
            expected = torch.stack(ys, 1)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-5)
    for key, one in zip(states, after, strict=True):
        np.testing.assert_allclose(stream.state[key][0], one.numpy(), rtol=1e-5, atol=1e-5)


def test_a_step_of_a_layer_has_the_states_of_its_levels():
    module, start = perturbed(models.StepOfLevels()), (torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))
    net = tr.from_torch(module, (tokens(3), *start))
    words, (h, c) = tokens(T, B), (torch.zeros(2, B, 8), torch.zeros(2, B, 8))
    stream = net.stream(batch=B)
    assert list(stream.state) == ["lstm.h", "lstm.c"]
    with torch.no_grad():
        for word, y in zip(words, net(words.numpy()), strict=True):
            expected, h, c = module(word, h, c)
            np.testing.assert_allclose(stream.step(word.numpy()), expected.numpy(), rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(y, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_module_of_the_batch_of_the_example(rows):
    module = perturbed(models.OfSoManyRows(rows))
    sizes = (rows,) if rows else ()
    net = tr.from_torch(module, floats(14, *sizes, 6))
    x = floats(T, *sizes, 6, seed=3)
    with torch.no_grad():
        for one, other in zip(net(x.numpy()), module(x), strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-5)


def test_lengths_that_the_module_does_not_read():
    class Unread(models.BothEnds):
        def forward(self, x, lengths):
            return super().forward(x)

    module, x = perturbed(Unread()), floats(B, T, 6)
    net = tr.from_torch(module, (floats(3, 14, 6), lengths(3, 14)))
    with torch.no_grad():
        np.testing.assert_allclose(net(x.numpy()), module(x, None).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", [slice(None, 100), slice(-100, None)])
def test_a_module_that_takes_so_many_steps_at_most(part):
    module = _Odd(lambda _, x: x[:, part].tanh())
    net, x = tr.from_torch(module, floats(3, 14, 6)), floats(B, 120, 6)
    got = net(x.numpy())
    np.testing.assert_allclose(got[:, :100], x[:, :100].tanh().numpy(), rtol=1e-5, atol=1e-5)
    assert np.isnan(got[:, 100:]).all()
    embed = nn.Embedding(17, 4)
    with pytest.raises(tr.LoadError, match="at most 100 steps of indices"):
        tr.from_torch(_Odd(lambda _, x: embed(x[:, part])), tokens(3, 14), axes="BT")


@pytest.mark.parametrize(
    "kind, make, own",
    [
        (
            models.StepDecoder,
            lambda b, t: [tokens(b, 1), floats(1, b, 8), floats(b, t, 8)],
            lambda w, h, m: (w[:, 0], h.transpose(0, 1), m),
        ),
        (
            models.StepTimeFirst,
            lambda b, t: [tokens(1, b), floats(1, b, 8), floats(t, b, 8)],
            lambda w, h, m: (w[0], h.transpose(0, 1), m),
        ),
        (
            models.StepOfCells,
            lambda b, t: [floats(b, t, 6), floats(b, 8), floats(b, 8, seed=2)],
            lambda *given: given,
        ),
        (
            models.StepAsserted,
            lambda b, t: [tokens(b), floats(b, 8), floats(t, b, 8)],
            lambda *given: given,
        ),
    ],
)
def test_a_step_of_a_decoder_is_a_net_of_what_the_encoder_wrote(kind, make, own):
    """``own``: what the net reads, without steps of a number that is always 1."""
    module = perturbed(kind())
    net = tr.from_torch(module, tuple(make(3, 14)))
    for batch, steps in ((B, T), (1, 8)):
        given = make(batch, steps)
        got = net(*(one.numpy() for one in own(*given)))
        with torch.no_grad():
            for one, other in zip(got, module(*given), strict=True):
                np.testing.assert_allclose(one.reshape(other.shape), other.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masks", [True, False])
def test_lengths_go_through_strides(masks, recwarn):
    """Without masks the padding, where a convolution has written its bias, leaks into shorter rows."""
    module = perturbed(models.Subsampled(2, masks))
    net = tr.from_torch(module, (floats(3, 15, 6), lengths(3, 15)))
    assert [one for one in recwarn if "depend on padding" in str(one.message)] == [] or not masks
    x, ends = floats(B, T, 6), lengths(B, T)
    got = net(x.numpy(), lengths=ends.numpy())
    for row, size in enumerate(ends.tolist()):
        with torch.no_grad():
            alone = module(x[row : row + 1, :size], ends[row : row + 1])[0].numpy()
        assert net.output_lengths([size]).tolist() == [len(alone)]
        np.testing.assert_allclose(got[row, : len(alone)], alone, rtol=1e-5, atol=1e-5)
    if masks:
        one = tr.from_torch(perturbed(models.Subsampled()), (floats(3, 15, 6), lengths(3, 15)))
        assert one(x.numpy(), lengths=ends.numpy()).shape == (B, 16, 3)
    else:
        assert any("depend on padding" in str(one.message) for one in recwarn)


def test_a_module_that_does_something_else_at_odd_lengths_is_refused():
    with pytest.raises(tr.LoadError, match=r"shapes \[\(5, 37, 6\)\] output 'output' has shape .*, expected"):
        tr.from_torch(perturbed(models.AtOddLengths()), floats(3, 14, 6))


def test_inputs_of_the_proof_are_like_the_example():
    """A net that is chaotic about zero is tame where all inputs saturate it."""
    torch.manual_seed(0)
    module = nn.RNN(6, 64, batch_first=True)
    with torch.no_grad():
        module.weight_hh_l0.normal_(0, 4 / 8)
        module.weight_ih_l0.fill_(1)
    x = floats(3, 14, 6) / 10
    tr.from_torch(module, x + 3)
    with pytest.raises(tr.LoadError, match="output '0' differs by"):
        tr.from_torch(module, x)
    tr.from_torch(nn.GRU(6, 64, batch_first=True), torch.full((3, 14, 6), 1e4))  # as if it were zeros


def test_a_bar_shows_the_work(monkeypatch, capsys):
    monkeypatch.setattr("tinyrnn.progress.DELAY", 0.0)
    monkeypatch.setattr("tinyrnn.progress.PERIOD", 0.0)
    monkeypatch.setattr("tinyrnn.progress._is_watched", lambda: True)
    tr.from_torch(models.LastHidden(), floats(3, 14, 6))
    text = capsys.readouterr().err
    assert "running the module" in text and "comparing outputs" in text


@pytest.mark.parametrize(
    ("make", "shape"),
    [(models.Residual, (3, 14, 6)), (models.ConvGRU, (3, 6, 14))],
    ids=["Residual", "ConvGRU"],
)
def test_tensors_have_the_names_of_the_module(make, shape):
    module = perturbed(make())
    net = tr.from_torch(module, floats(*shape))
    own, state = module.state_dict(), net.state_dict()
    assert own.keys() == state.keys()
    assert all(np.array_equal(state[name], own[name].numpy()) for name in own)
    net.load_state_dict({name: array * 2 for name, array in state.items()})  # trained weights go the same way


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: nn.LSTM(6, 8, batch_first=True), (B, T, 6)),
        (lambda: nn.GRU(6, 8, 2, bidirectional=True), (T, B, 6)),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)), (B, T, 6)),
    ],
)
def test_no_example_is_needed_where_the_first_layer_tells_it(make, shape):
    module = make().eval()
    net = tr.from_torch(module)
    x = floats(*shape)
    with torch.no_grad():
        expected = module(x)
    expected = expected[0] if isinstance(expected, tuple) else expected
    outputs = net(x.numpy())
    got = (
        outputs[0]
        if isinstance(outputs, tuple)
        else next(iter(outputs.values()))
        if isinstance(outputs, dict)
        else outputs
    )
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_frames_without_time():
    module = perturbed(models.Perceptron())
    net = tr.from_torch(module, floats(3, 6))
    x = floats(B, 6)
    np.testing.assert_allclose(net(x.numpy()), module(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    pictures = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 2)
    ).eval()
    x = floats(B, 1, 14, 14)
    got = tr.from_torch(pictures, floats(3, 1, 14, 14))(x.numpy())
    np.testing.assert_allclose(got, pictures(x).detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*a loop over .* steps became layers of each step")
@pytest.mark.parametrize("axes", [None, "BFF"])
@pytest.mark.parametrize("kind, steps", [(models.Window, 12), (models.InputAttention, 8)])
def test_a_module_of_a_fixed_number_of_steps(kind, steps, axes):
    module = perturbed(kind())
    told = pytest.warns(UserWarning, match=rf"no steps, but frames of \({steps}, 6\)")
    with nullcontext() if axes else told:
        net = tr.from_torch(module, floats(3, steps, 6), axes=axes)
    x = floats(9, steps, 6, seed=2)
    with torch.no_grad():
        np.testing.assert_allclose(net(x.numpy()), module(x).numpy(), rtol=1e-5, atol=1e-5)


def test_a_module_that_fails_at_other_lengths_is_told_of_axes():
    class Odd(nn.Module):
        def forward(self, x):
            if x.size(1) != 14:
                raise ValueError("expected fourteen")
            return torch.cumprod(x, 1)

    with pytest.raises(tr.LoadError, match="cumprod of the module: this operation is not known"):
        tr.from_torch(Odd(), floats(3, 14, 6))
    with pytest.raises(tr.LoadError, match="fourteen.*; if other axes are the batch"):
        tr.from_torch(Odd(), floats(3, 14, 6), axes="BTF")


def test_axes_may_be_told():
    module = perturbed(nn.Sequential(nn.Linear(6, 4), nn.ReLU()))
    x = floats(T, B, 6)
    net = tr.from_torch(module, floats(14, 3, 6), axes="TBF")
    np.testing.assert_allclose(net(x.numpy()), module(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="expected a letter for each of"):
        tr.from_torch(module, floats(14, 3, 6), axes="TB")


def test_the_mode_of_the_module_stays_and_its_weights():
    module = models.LastHidden()
    before = {name: one.clone() for name, one in module.state_dict().items()}
    module.head.eval()
    tr.from_torch(module, floats(3, 14, 6))
    assert module.training and module.rnn.training and not module.head.training
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())


class _Odd(nn.Module):
    """Forwards that are refused."""

    def __init__(self, forward, cell=False):
        super().__init__()
        self.rnn = nn.GRUCell(6, 8) if cell else nn.GRU(6, 8, batch_first=True)
        self.lstm = nn.LSTMCell(6, 8)
        self.places = torch.rand(500, 6)
        self.own = forward

    def forward(self, *given):
        return self.own(self, *given)


def _steps(of, last=False):
    """A loop over a part of the steps, or with something that differs from step to step."""

    def forward(self, x):
        h, hs = torch.zeros(x.size(0), 8), []
        for t in of(x.size(1)):
            h = self.rnn(x[:, t] + (self.places[t] if last is None else 0), h)
            hs.append(h)
        return hs[5] if last else torch.stack(hs, 1)

    return forward


def _read_c(self, x):
    h = c = torch.zeros(x.size(0), 8)
    cs = []
    for t in range(x.size(1)):
        h, c = self.lstm(x[:, t], (h, c))
        cs.append(c)
    return torch.stack(cs, 1)


def _condition(self, x):
    h, _ = self.rnn(x)
    return h if h.sum() > 0 else -h


REFUSED = {
    "cumprod: .*not known": lambda self, x: torch.cumprod(self.rnn(x)[0], 1),
    "adds up along another axis": lambda self, x: torch.cumsum(self.rnn(x)[0], 2),
    "depends on their number": lambda self, x: self.rnn(x)[0][:, : x.size(1) // 2],
    "argmax: .*not known": lambda self, x: self.rnn(x)[0].argmax(-1),
    "draws random numbers": lambda self, x: nn.functional.dropout(self.rnn(x)[0]),
    "other numbers for each number": lambda self, x: (
        self.rnn(x)[0] + torch.linspace(0, 1, x.size(1))[:, None]
    ),
    "expected the first rows of a": lambda self, x: self.rnn(x)[0] + torch.arange(x.size(1)).sin()[:, None],
    "a sequence that was reversed": lambda self, x: self.rnn(x.flip(1), x.new_ones(1, len(x), 8))[0].flip(1),
    "depends on numbers|hands numbers": _condition,
    "across the batch": lambda self, x: nn.functional.batch_norm(
        self.rnn(x)[0][:, -1], None, None, training=True
    ),
    "does not depend on the inputs": lambda self, x: torch.zeros(3),
}


OF_PAIRS = {
    "sub": lambda a, b: (a - b).abs().sum(-1),
    "relu": lambda a, b: torch.relu(a + b).mean(2),
    "leaky_relu": lambda a, b: torch.nn.functional.leaky_relu((a + b).sum(-1)),
    "mean": lambda a, b: (a + b).mean(2),
    "div": lambda a, b: torch.tanh(a + b) / (1 + a),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OF_PAIRS)
def test_other_numbers_of_pairs_of_steps_are_refused(name):
    def forward(self, x):
        h, _ = self.rnn(x)
        return OF_PAIRS[name](h.unsqueeze(2), h.unsqueeze(1))

    module = _Odd(forward)
    with pytest.raises(tr.LoadError, match=r"test_from_torch\.py:\d+: .*two axes of time"):
        tr.from_torch(module, floats(3, 14, 6))
    with pytest.raises(tr.LoadError, match=r"two axes of time"):  # which nothing proves
        tr.load(file_of(exported(module.eval(), [floats(3, 14, 6)])))


OF_SCORES = {
    "fills scores with a number": lambda s, x: s.masked_fill(torch.ones(14, 14).triu(1) > 0, -1.0),
    "adds a number of each pair": lambda s, x: s + torch.arange(196.0).reshape(14, 14),
    "adds other numbers": lambda s, x: x[..., 0],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("message", OF_SCORES)
def test_numbers_that_a_softmax_sees_are_no_mask(message):
    """Nothing proves it of a program."""

    def forward(self, x):
        h = self.rnn(x)[0]
        found = OF_SCORES[message](h @ h.transpose(1, 2), x)
        if found.ndim < 3 or found.shape[1] != found.shape[2]:
            return nn.functional.scaled_dot_product_attention(h, h, h, attn_mask=found[:, None])
        return found.softmax(-1) @ h

    with pytest.raises(tr.LoadError, match=rf"test_from_torch\.py:\d+: .*{message}"):
        tr.load(file_of(exported(_Odd(forward).eval(), [floats(3, 14, 6)])))


def test_a_mask_of_truth_is_one_of_attention():
    def forward(self, x, mask):
        h = self.rnn(x)[0]
        return nn.functional.scaled_dot_product_attention(h, h, h, attn_mask=mask[:, None])

    module, given = perturbed(_Odd(forward)), [floats(3, 14, 6), floats(3, 14, seed=2) > -1]
    compared(module, tr.from_torch(module, tuple(given)), [floats(B, T, 6), floats(B, T, seed=3) > -1], "BTF")


BY_NUMBER = {
    "a step": lambda self, x: self.rnn(x)[0][:, 3],
    "all but one": lambda self, x: self.rnn(x)[0][:, 1:],
    "numbers of steps": lambda self, x: self.rnn(x)[0] + torch.arange(x.size(1))[None, :, None],
}


@pytest.mark.parametrize("name", BY_NUMBER)
def test_steps_by_their_number(name):
    module, x = _Odd(BY_NUMBER[name]), floats(2, 23, 6)
    found = tr.from_torch(module, floats(3, 14, 6))
    with torch.no_grad():
        wanted = module(x).numpy()
    y = np.asarray(found(x.numpy()))
    assert y.shape == wanted.shape and np.abs(y - wanted).max() <= 2e-5


def _mean_of_tokens(self, x, h):
    mask = (x > 0).float()
    return (h * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def _pooled_tokens(self, x, h):
    weights = h[..., 0].masked_fill(x == 0, -1e9).softmax(1)
    return torch.bmm(weights.unsqueeze(1), h)[:, 0]


OF_TOKENS = {
    "mean": _mean_of_tokens,
    "attention pool": _pooled_tokens,
    "sign": lambda self, x, h: h * torch.sign(x)[..., None],
    "number": lambda self, x, h: (h * torch.tensor(x.t().t(), dtype=torch.float)[..., None], x.bool().sum(1)),
}


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize("name", OF_TOKENS)
def test_masks_of_tokens(name):
    """Indices are numbers, too: those that are 0 do not count, wherever they stand."""

    def forward(self, x):
        return OF_TOKENS[name](self, x, self.rnn(nn.functional.embedding(x, self.places))[0])

    module = perturbed(_Odd(forward))
    found = tr.from_torch(module, torch.arange(42).reshape(3, 14) % 5)
    for B, T in ((1, 5), (4, 9)):
        x = torch.arange(1, B * T + 1).reshape(B, T) * 7 % 9
        with torch.no_grad():
            wanted = module(x)
        got = found(x.numpy())
        for one, other in zip(
            *((each if isinstance(each, tuple) else (each,)) for each in (got, wanted)), strict=True
        ):
            np.testing.assert_allclose(one, other.numpy().reshape(one.shape), rtol=1e-5, atol=1e-5)


def test_lengths_may_come_first():
    def forward(self, ends, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, ends, batch_first=True)
        return self.rnn(packed)[1][0]

    module, ends, x = _Odd(forward), torch.tensor([14, 9, 4]), floats(3, 14, 6)
    found = tr.from_torch(module, (ends, x))
    with torch.no_grad():
        wanted = module(ends, x).numpy()
    np.testing.assert_allclose(found(x.numpy(), lengths=ends.numpy()), wanted, atol=2e-5)
    with pytest.raises(ValueError, match="has 2 lengths and 1 other"):
        tr.from_torch(_Odd(lambda self, a, x, b: (self.rnn(x)[0], a, b)), (ends, x, ends.clone()))


def test_a_mask_with_the_batch_first_beside_steps_first():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(6, 8)

        def forward(self, x, mask):
            return self.rnn(x)[0] * mask.t()[..., None]

    module = Masked()
    found = tr.from_torch(module, (floats(14, 3, 6), floats(3, 14)))
    x, mask = floats(9, 2, 6), floats(2, 9)
    with torch.no_grad():
        wanted = module(x, mask).numpy()
    np.testing.assert_allclose(found(x.numpy(), mask.t()[..., None].numpy()), wanted, atol=2e-5)


@pytest.mark.filterwarnings("ignore:To copy construct")
def test_copies_of_inputs_are_inputs():
    """Numbers that `as_tensor` and `tensor` copy are no constants; those of `new_tensor` are."""

    def forward(self, x):
        return self.rnn(torch.as_tensor(x, dtype=torch.float))[0] * torch.tensor(x[..., :1]) + x.new_tensor(
            [0.5]
        )

    module = perturbed(_Odd(forward))
    compared(module, tr.from_torch(module, floats(3, 14, 6)), [floats(B, T, 6)], "BTF")


@pytest.mark.parametrize("message", REFUSED)
def test_an_operation_that_is_no_layer_is_named_with_its_line(message):
    with pytest.raises(tr.LoadError, match=message.replace(": ", " of .*: ")) as error:
        tr.from_torch(_Odd(REFUSED[message]), floats(3, 14, 6))
    if "depend on" not in message:
        assert re.search(r"test_from_torch\.py:\d+: ", str(error.value)), error.value


@pytest.mark.parametrize(
    "forward, message",
    [
        (_steps(lambda steps: range(0, steps, 2)), "a loop of Python goes once over all steps"),
        (_steps(lambda steps: reversed(range(steps))), "its steps are not alike"),
        (_steps(range, last=None), "other constants are read at each step"),
        (_read_c, "reads a state of a step that the next one alone reads"),
    ],
)
def test_a_loop_of_python_is_named_with_its_line(forward, message):
    with pytest.raises(tr.LoadError, match=rf"test_from_torch\.py:\d+: .*{message}"):
        tr.from_torch(_Odd(forward, cell=True), floats(3, 14, 6))


def test_one_step_of_a_loop_is_refused():
    with pytest.raises(tr.LoadError, match="step 5 of a loop is read, expected the last one, or all of them"):
        tr.from_torch(_Odd(_steps(range, last=True), cell=True), floats(3, 14, 6))


def test_a_step_that_is_an_output_is_named_by_its_line():
    def forward(self, x):
        h, hs = torch.zeros(x.size(0), 8), []
        for t in range(x.size(1)):
            h = self.rnn(x[:, t], h)
            hs.append(h)
        return hs, x.exp()

    loop = _Odd(forward, cell=True)
    with pytest.raises(tr.LoadError, match=r"gru_cell of rnn: step \d of a loop is read"):
        tr.from_torch(loop, floats(3, 14, 6))


def test_packed_steps_that_are_changed_are_refused():
    with pytest.raises(tr.LoadError, match=r"torch_models\.py:\d+: linear of fc: reads a packed sequence"):
        tr.from_torch(models.PackedData(), (floats(3, 14, 6), lengths(3, 14)))


def test_a_net_that_differs_is_refused_with_the_line_that_differs():
    """A mean over the padding, too, of rows that are shorter."""

    def forward(self, x, ends):
        packed = nn.utils.rnn.pack_padded_sequence(x, ends, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0].mean(1)

    with pytest.raises(tr.LoadError, match=r"test_from_torch\.py:\d+: mean of .*output 'output' differs by"):
        tr.from_torch(_Odd(forward), (floats(3, 14, 6), torch.tensor([14, 9, 4])))


@pytest.mark.parametrize(
    "module, example, kind, message",
    [
        (3, None, TypeError, "module is 3, expected a torch.nn.Module"),
        (nn.ReLU(), None, TypeError, "example is None"),
        (nn.Linear(6, 2), torch.zeros(3, 5), ValueError, "the module fails on the example"),
        (nn.ReLU(), (3,), ValueError, "fails on the example"),
        (nn.ReLU(), torch.tensor(1.0), ValueError, "has no axes"),
    ],
)
def test_arguments(module, example, kind, message):
    with pytest.raises(kind, match=message):
        tr.from_torch(module, example)


def test_without_torch_the_message_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import tinyrnn; tinyrnn.from_torch(1)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: from_torch: PyTorch is not installed: pip install torch" in found.stderr


def test_the_page_lists_the_functions():
    text = (DOCS / "pytorch-modules.md").read_text()
    listed = re.search(r"<!-- functions -->\n(.*?)\n<!-- end -->", text, re.S)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == sorted(FUNCTIONS)


# ---- quantised modules


def recurrent_kinds():
    return {nn.LSTM, nn.GRU, nn.Linear, nn.LSTMCell, nn.GRUCell, nn.RNNCell}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["padded", "packed", "LSTMCell", "GRUCell", "RNNCell", "relu"])
@pytest.mark.parametrize("dtype", ["qint8", "float16"])
def test_dynamically_quantised_modules(kind, dtype):
    torch.manual_seed(1)
    has_lengths = kind == "packed"
    if "Cell" in kind or kind == "relu":
        module = models.QuantisedCell(getattr(nn, "RNNCell" if kind == "relu" else kind), kind == "relu")
    else:
        module = models.QuantisedLevels(has_lengths)
    small = torch.ao.quantization.quantize_dynamic(
        module.eval(), recurrent_kinds(), dtype=getattr(torch, dtype)
    )
    net = tr.from_torch(small, (floats(2, 7, 5), lengths(2, 7)) if has_lengths else floats(2, 7, 5)).eval()
    own = "int8" if dtype == "qint8" else "float32"
    assert set(net.formats.values()) == {own} and "head" in net.formats
    x, rows = floats(B, T, 5), lengths(B, T)
    with torch.no_grad():
        want = (small(x, rows) if has_lengths else small(x)).numpy()
    got = net(x.numpy(), **({"lengths": rows.numpy()} if has_lengths else {}))
    got = got[0] if isinstance(got, tuple) else got
    # Both round what a layer reads: PyTorch all of it with one scale, tinyrnn each row.
    assert np.abs(got - want).max() < (0.06 if dtype == "qint8" else 2e-3) * np.abs(want).max()
    if dtype == "qint8":
        head = small.head.weight()
        codes = np.maximum(head.int_repr().numpy(), -127) * np.float32(head.q_scale())
        assert np.array_equal(net.state_dict()["head.weight"], codes)


# ---- in the ways of tutorials and notebooks


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", notebook_models.MODELS)
def test_models_of_tutorials_at_other_sizes(name):
    kind, make = notebook_models.MODELS[name]
    torch.manual_seed(0)
    module = perturbed(kind())
    net = tr.from_torch(module, make(3, 14))
    for batch, steps in ((1, 9), (5, 23)):
        given = make(batch, steps)
        with torch.no_grad():
            wanted = module(*given)
        frames = [frame for frame, _ in net._ports_known().values()]
        arrays = [one.numpy() for one in given]
        if name == "CRNN":
            arrays = [array.transpose(0, 3, 1, 2) for array in arrays]
        elif len(frames) == len(arrays) == 1 and frames[0] == (1,) and arrays[0].ndim == 2:
            arrays = [arrays[0][..., None]]
        got = net(*arrays)
        got, wanted = ([one] if not isinstance(one, tuple) else list(one) for one in (got, wanted))
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert np.isfinite(one).all()
            np.testing.assert_allclose(fitted(one, tuple(other.shape)), other.numpy(), rtol=2e-5, atol=2e-5)


class Places(nn.Module):
    """Positions from a table of so many rows, or from a line."""

    def __init__(self, rows):
        super().__init__()
        self.table = nn.Embedding(max(rows, 1), 6)
        self.rnn = nn.GRU(6, 4, batch_first=True)
        self.rows = rows

    def forward(self, x):
        places = torch.arange(x.size(1))
        more = self.table(places)[None] if self.rows else 0.01 * places[None, :, None]
        return self.rnn(x + more)[0]


def test_positions_end_with_their_table():
    module = Places(120).eval()
    net = tr.from_torch(module, floats(2, 7, 6))
    got = net(floats(2, 130, 6).numpy())[0] if isinstance(net(floats(2, 3, 6).numpy()), tuple) else None
    got = net(floats(2, 130, 6).numpy()) if got is None else got
    assert np.isfinite(got[:, :120]).all() and np.isnan(got[:, 120:]).all()
    stream = net.stream(batch=2)
    x = floats(2, 20, 6)
    with torch.no_grad():
        wanted = module(x).numpy()
    for t in range(20):
        np.testing.assert_allclose(stream.step(x[:, t].numpy()), wanted[:, t], rtol=1e-5, atol=1e-5)
    with pytest.warns(
        UserWarning, match=r"test_from_torch\.py:\d+: of a table of 1100 positions the net has 1024"
    ):
        tr.from_torch(Places(1100).eval(), floats(2, 7, 6))
    net, x = tr.from_torch(Places(0).eval(), floats(2, 7, 6)), floats(2, 500, 6)
    assert np.isfinite(net(x.numpy())).all()


def test_a_loop_that_is_not_rolled_is_told():
    def forward(self, x):
        h = x[:, 0]
        for t in range(x.size(1)):
            h = torch.tanh(x[:, t] + (0.5 if t % 3 else -0.5) * h)
        return h

    with pytest.warns(
        UserWarning, match=r"test_from_torch\.py:\d+: a loop over 14 steps became layers of each"
    ):
        net = tr.from_torch(_Odd(forward), floats(3, 14, 6))
    x = floats(2, 14, 6)
    got = net(x.numpy().transpose(0, 2, 1))  # the numbers of a frame, which are alike, are its time
    np.testing.assert_allclose(got[..., 0], forward(None, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["StatsPool", "FlipGRU", "DayLast", "CumFeat", "Forecaster", "MinGated"])
def test_lengths_and_files_of_models_of_tutorials(name, tmp_path):
    kind, make = notebook_models.MODELS[name]
    module = perturbed(kind())
    net, (x,), ends = tr.from_torch(module, make(3, 14)), make(3, 20), [20, 11, 7]
    net.save(tmp_path / "net.safetensors")
    got = tr.load(tmp_path / "net.safetensors").eval()(x.numpy(), lengths=ends)
    for row, end in enumerate(ends):
        with torch.no_grad():
            wanted = module(x[row : row + 1, :end])[0].numpy()
        one = got[row] if got[row].shape == wanted.shape else got[row][:end]
        np.testing.assert_allclose(one, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_refused():
    with pytest.raises(
        TypeError, match="module has a RecursiveScriptModule, .*pass the module that it was made"
    ):
        tr.from_torch(nn.Sequential(torch.jit.script(nn.Linear(6, 2))), floats(3, 14, 6))


def test_the_module_keeps_its_threads_and_mode():
    threads = torch.get_num_threads()
    module = models.LastStep().train()
    tr.from_torch(module, floats(3, 14, 6))
    assert torch.get_num_threads() == threads and module.training and module.lstm.training


class Comparing(nn.Module):
    """Compares a size with a number far from those of the example."""

    def __init__(self, test):
        super().__init__()
        self.gru, self.test, self.number = nn.GRU(3, 4, batch_first=True), test, 8

    def forward(self, x):
        y = self.gru(x)[0]
        return y * 2 if self.test(self, x) else y


@pytest.mark.parametrize(
    ("test", "shape"),
    [
        (lambda self, x: x.shape[1] > 100, "(3, 101, 3)"),
        (lambda self, x: x.size(1) == self.number, "(3, 8, 3)"),
        (lambda self, x: x.shape[0] > 8, "(9, 7, 3)"),
    ],
)
def test_both_sides_of_a_number_that_sizes_are_compared_with(test, shape):
    with pytest.raises(tr.LoadError, match=rf"{__name__}.py:\d+: on inputs of shapes .{re.escape(shape)}"):
        tr.from_torch(perturbed(Comparing(test)), floats(3, 7, 3))
