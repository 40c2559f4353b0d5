"""Layers of pictures and other frames before a recurrent layer: nets, files, errors, and the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tinyrnn as tr

T, B = 7, 3
FRAME = (2, 12, 17)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def reader(m: Any, layers: Callable[..., Any]) -> Any:
    """A small CRNN: each step is a picture."""
    return layers(
        {
            "conv": m.Conv2d(2, 5, 3, padding=1, bias=False),
            "norm": m.BatchNorm2d(5),
            "relu": m.ReLU(),
            "pool": m.MaxPool2d((2, 3)),
            "flat": m.Flatten(),
            "rnn": m.GRU(5 * 6 * 5, 21),
            "out": m.Linear(21, 4),
        }
    )


# ---- beside PyTorch -----------------------------------------------------------------------------


def of_torch(theirs: Any, x: Any, lengths: list[int] | None = None) -> Any:
    """PyTorch's layers on (T, B, frame): those before the GRU see (T * B, frame)."""
    import torch

    y = x.reshape(-1, *x.shape[2:])
    for name in ("conv", "norm", "relu", "pool", "flat"):
        y = theirs[name](y)
    y = y.reshape(*x.shape[:2], -1)
    if lengths is not None:
        y = torch.nn.utils.rnn.pack_padded_sequence(y, torch.tensor(lengths), enforce_sorted=False)
    y, _ = theirs["rnn"](y)
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=x.shape[0])
    return theirs["out"](y)


def both() -> tuple[tr.Sequential, Any]:
    """The net in both frameworks with the same weights, and statistics of their own."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    theirs = reader(torch.nn, torch.nn.ModuleDict)
    with torch.no_grad():
        theirs["norm"](torch.from_numpy(2 * normal(9, 5, 4, 4, seed=4) + 1))
        theirs["norm"].weight.uniform_(0.5, 1.5)
        theirs["norm"].bias.uniform_(-0.5, 0.5)
    net = reader(tr, tr.Sequential)
    assert net.load_state_dict(theirs.state_dict()) == ([], [])
    return net, theirs


def test_a_reader_runs_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    net, theirs = both()
    x = normal(T, B, *FRAME)
    with torch.no_grad():
        want = of_torch(theirs.eval(), torch.from_numpy(x)).numpy()
    y = net(x)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-5)
    stream = net.stream(batch=B, frame=FRAME)
    steps = np.stack([stream.step(frame) for frame in x])
    assert np.array_equal(steps, y)
    alone = net.stream(frame=FRAME)
    assert np.array_equal(np.stack([alone.step(frame) for frame in x[:, 1]]), y[:, 1])
    with torch.no_grad():
        some = of_torch(theirs, torch.from_numpy(x), [4, 7, 1]).numpy()
    np.testing.assert_allclose(net(x, lengths=[4, 7, 1]), some, rtol=0, atol=1e-5)


def test_a_reader_learns_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    net, theirs = both()
    x, dy = normal(T, B, *FRAME), normal(T, B, 4, seed=1)
    theirs.double().train()
    given = torch.from_numpy(x).double().requires_grad_()
    want = of_torch(theirs, given)
    want.backward(torch.from_numpy(dy).double())
    for threads in (1, 2):
        net.load_state_dict(both()[0].state_dict())
        net.train()
        net.zero_grad()
        y = net(x, threads=threads)
        dx = net.backward(dy)
        dx = dx[0] if isinstance(dx, tuple) else dx
        np.testing.assert_allclose(y, want.detach().numpy(), rtol=0, atol=2e-5)
        gradients = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
        for name, wanted in {**gradients, "dx": given.grad.numpy()}.items():
            got = dx if name == "dx" else net.grad_dict()[name]
            assert abs(got - wanted).max() < 2e-5 * abs(wanted).max(), name
        for name, buffer in theirs.named_buffers():
            np.testing.assert_allclose(net.state_dict()[name], buffer.numpy(), rtol=1e-5, atol=1e-6)


def test_an_optimiser_of_a_transposed_convolution_moves_to_pytorch_and_back() -> None:
    """Moments have the shapes of PyTorch's weights, which the core keeps otherwise."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2)
    net = tr.ConvTranspose1d.from_state_dict(theirs.state_dict(), stride=2, groups=2)
    ours_step, theirs_step = tr.optim.Adam(net, lr=0.01), torch.optim.Adam(theirs.parameters(), lr=0.01)
    x, dy = normal(5, 4, 9), normal(5, 6, 19, seed=1)
    net.train()
    for turn in range(4):
        if turn == 2:  # the state goes there and back
            theirs_step.load_state_dict(
                {
                    **theirs_step.state_dict(),
                    "state": {
                        i: {key: torch.as_tensor(value) for key, value in state.items()}
                        for i, state in ours_step.state_dict()["state"].items()
                    },
                }
            )
            ours_step = tr.optim.Adam(net, lr=0.01)
            ours_step.load_state_dict(theirs_step.state_dict())
        net.zero_grad()
        net(x)
        net.backward(dy)
        ours_step.step()
        theirs_step.zero_grad()
        theirs(torch.from_numpy(x)).backward(torch.from_numpy(dy))
        theirs_step.step()
        for name, tensor in theirs.state_dict().items():
            np.testing.assert_allclose(net.state_dict()[name], tensor.numpy(), rtol=0, atol=1e-5)


# ---- the same bits ------------------------------------------------------------------------------

NETS: dict[str, tuple[Callable[[], tr.Net], tuple[int, ...]]] = {
    "pictures": (
        lambda: tr.Conv2d(3, 40, 3, padding=1),
        (3, 6, 7),
    ),  # 42 positions: near where the way changes
    "pictures in groups": (lambda: tr.Conv2d(6, 34, (2, 3), (1, 2), (1, 0), groups=2), (6, 7, 11)),
    "depthwise": (lambda: tr.Conv2d(5, 10, 3, padding="same", groups=5), (5, 6, 9)),
    "length": (lambda: tr.Conv1d(3, 70, 5, padding=2, padding_mode="reflect"), (3, 50)),
    "depthwise length": (lambda: tr.Conv1d(9, 9, 5, groups=9), (9, 45)),
    "transposed": (lambda: tr.ConvTranspose1d(5, 7, 4, 2, 1), (5, 9)),
    "maxima": (lambda: tr.MaxPool2d(3, 2, 1, ceil_mode=True), (3, 8, 9)),
    "means": (lambda: tr.AvgPool2d((2, 3), 1, 1, count_include_pad=False), (3, 8, 9)),
    "means of all": (lambda: tr.AdaptiveAvgPool2d(1), (3, 8, 9)),
    "maxima of some": (lambda: tr.AdaptiveMaxPool1d(4), (3, 9)),
    "groups": (lambda: tr.GroupNorm(3, 6), (6, 4, 5)),
    "instances": (lambda: tr.InstanceNorm1d(6, affine=True), (6, 19)),
    "batches": (lambda: tr.BatchNorm2d(6), (6, 4, 5)),
}


@pytest.mark.parametrize("name", NETS)
def test_a_frame_does_not_depend_on_its_neighbours(name: str) -> None:
    make, frame = NETS[name]
    tr.manual_seed(1)
    net = make()
    x = normal(T, B, *frame)
    found = {}
    for isa in tr.available_isas():
        tr.set_isa(isa)
        y = found[isa] = net(x)
        assert np.array_equal(net(x, threads=3), y)
        assert np.array_equal(net(x[2, 1:2]), y[2, 1:2])
        stream = net.stream(batch=B, frame=frame)
        assert np.array_equal(np.stack([stream.step(part) for part in x]), y)
    fused = [y for isa, y in found.items() if isa not in ("scalar", "sse2")]
    assert all(np.array_equal(y, fused[0]) for y in fused)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "int8", "int4"])
def test_a_convolution_of_one_row_is_one_of_length(name: str, bias: bool) -> None:
    """Conv1d and Conv2d have the same bits in every format."""
    for channels, out, groups, length in ((5, 37, 1, 60), (6, 8, 2, 60), (4, 4, 4, 60), (5, 37, 1, 11)):
        flat: tr.Net = tr.Conv1d(channels, out, 3, 2, 4, 2, groups, bias)
        high: tr.Net = tr.Conv2d(channels, out, (1, 3), (1, 2), (0, 4), (1, 2), groups, bias)
        state = flat.state_dict()
        high.load_state_dict({**state, "weight": state["weight"][:, :, np.newaxis]})
        if name != "float32":
            flat, high = tr.quantize(flat, name), tr.quantize(high, name)
        x = normal(4, channels, length)
        assert np.array_equal(high(x[:, :, np.newaxis])[:, :, 0], flat(x))


def test_a_depthwise_convolution_takes_only_its_weights() -> None:
    conv = tr.Conv2d(64, 64, 3, groups=64)
    assert conv._core_layer.nbytes < 64 * 10 * 4 + 1024


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["float32", "float16", "bfloat16", "int8", "int4"])
def test_files(tmp_path: Any, format: str) -> None:
    tr.manual_seed(1)
    net: tr.Net = tr.Sequential(
        tr.Conv2d(2, 4, (3, 2), (1, 2), "valid", bias=False),
        tr.BatchNorm2d(4, momentum=None),
        tr.AvgPool2d((2, 1), None, 0, True, False, 3),
        tr.MaxPool2d(2, 1, 1, (1, 2), False, True),
        tr.GroupNorm(2, 4, 1e-3),
        tr.InstanceNorm2d(4, affine=True),
        tr.AdaptiveMaxPool2d((1, None)),
        tr.Flatten(),
        tr.GRU(32, 5),
    )
    net = tr.Sequential(*net)
    x = normal(T, B, *FRAME)
    other: tr.Net = tr.Sequential(
        tr.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2), tr.InstanceNorm1d(6), tr.MaxPool1d(2), tr.AvgPool1d(3, 2, 1)
    )
    for one, given in ((net, x), (other, normal(5, 4, 20))):
        smaller = one if format == "float32" else tr.quantize(one, format)
        want = smaller(given)
        path = tmp_path / "net.safetensors"
        smaller.save(path)
        again = tr.load(path)
        assert again.config() == smaller.config() and repr(again) == repr(smaller)
        found = again(given)
        assert np.array_equal(
            found[0] if isinstance(found, tuple) else found, want[0] if isinstance(want, tuple) else want
        )
        assert again.formats == smaller.formats


def test_a_summary_names_the_frames() -> None:
    text = str(reader(tr, tr.Sequential).summary(frame=FRAME))
    for part in ("Conv2d", "(5, 12, 17)", "MaxPool2d", "(5, 6, 5)", "GRU"):
        assert part in text, text


# ---- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: tr.Conv2d(3, 4, (1, 2, 3)),
            ValueError,
            r"kernel_size is \(1, 2, 3\), expected one size, or",
        ),
        (
            lambda: tr.Conv2d(3, 4, 3, padding_mode="reflect"),
            ValueError,
            "expected 'zeros': pad the pictures",
        ),
        (lambda: tr.Conv2d(3, 4, 3, 2, "same"), ValueError, r"stride is \(2, 2\), expected 1"),
        (lambda: tr.Conv2d(3, 4, 3, 1, "some"), ValueError, "padding is 'some', expected an integer, two"),
        (
            lambda: tr.Conv2d(3, 4, 3, groups=2),
            ValueError,
            "in_channels is 3, expected a multiple of groups, 2",
        ),
        (lambda: tr.Conv2d(2**28, 2**28, 2**14), OverflowError, "too large"),
        (lambda: tr.ConvTranspose1d(3, 4, 3, 2, 0, 2), ValueError, "output_padding is 2, expected 0 .. 1"),
        (lambda: tr.ConvTranspose1d(3, 4, 3, padding_mode="reflect"), ValueError, "expected 'zeros'"),
        (lambda: tr.MaxPool2d(2, return_indices=True), ValueError, "return_indices is True, expected False"),
        (
            lambda: tr.MaxPool2d(2, padding=2),
            ValueError,
            "padding is 2, expected at most half of the kernel's 2",
        ),
        (lambda: tr.AvgPool1d((2, 3)), TypeError, r"kernel_size is \(2, 3\), expected an integer"),
        (lambda: tr.AvgPool2d(2, divisor_override=0), ValueError, "divisor_override is 0"),
        (lambda: tr.AdaptiveAvgPool1d(None), TypeError, "output_size is None, expected an integer"),
        (
            lambda: tr.AdaptiveAvgPool2d((1, 2, 3)),
            ValueError,
            "expected one size, or those of rows and columns",
        ),
        (lambda: tr.AdaptiveMaxPool1d(3, True), ValueError, "return_indices is True"),
        (lambda: tr.GroupNorm(2, 5), ValueError, "num_channels is 5, expected a multiple of num_groups, 2"),
        (
            lambda: tr.BatchNorm2d(3, track_running_stats=False),
            ValueError,
            "BatchNorm2d: .* inference needs them",
        ),
        (
            lambda: tr.InstanceNorm2d(3, track_running_stats=True),
            ValueError,
            "track_running_stats is True, expected False: .* use a BatchNorm2d",
        ),
    ],
)
def test_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (tr.Conv2d(3, 4, 3), (2, 2, 5, 5), r"got frames of shape \(2, 5, 5\), expected \(3, rows, columns\)"),
        (tr.Conv2d(3, 4, 3), (3, 5), r"input has shape \(3, 5\), expected \(..., 3, \?, \?\)"),
        (tr.Conv2d(3, 4, 3, padding=(0, 1)), (3, 2, 5), "got 2 . 0 . 0 padding rows, expected at least 3"),
        (tr.ConvTranspose1d(3, 4, 1, padding=1), (3, 2), "padding is 1, expected less than half of 2"),
        (tr.MaxPool2d(3), (1, 5, 2), "got 2 . 0 padding as columns, expected at least 3, the kernel's"),
        (tr.AvgPool1d(3), (1, 2), "got 2 . 0 padding as length"),
        (tr.BatchNorm2d(3), (2, 2, 5, 5), r"expected \(3, rows, columns\)"),
        (tr.GroupNorm(1, 4), (2, 3, 5), r"expected \(4, ...\) = \(num_channels, ...\)"),
        (tr.InstanceNorm1d(3), (2, 3, 1), "two numbers a channel or more: one has no variance"),
        (tr.Sequential(tr.Conv2d(3, 4, 3), tr.Flatten(2)), (2, 3, 5, 5), "are a part of a frame"),
    ],
)
def test_frames(net: tr.Net, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(tr.ShapeError, match=message):
        net(normal(*shape)) if not isinstance(net, tr.Sequential) else net.train()(normal(*shape))


def test_a_layer_in_a_graph_checks_its_frame_at_its_line() -> None:
    x = tr.Input(2, 8, 9)
    y = tr.MaxPool2d(2)(tr.Conv2d(2, 3, 3)(x))
    assert y.frame == (3, 3, 3)
    with pytest.raises(tr.ShapeError, match=r"GroupNorm: got frames of shape \(3, 3, 3\)"):
        tr.GroupNorm(1, 4)(y)
    net = tr.Net(x, tr.GRU(27, 4)(tr.Flatten()(tr.GroupNorm(3, 3)(y))))
    frames = normal(5, 2, 8, 9)
    stream = net.stream()
    assert np.array_equal(np.stack([stream.step(frame) for frame in frames]), net(frames))
