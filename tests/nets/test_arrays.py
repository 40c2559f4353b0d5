"""Arrays on their way into the core: from any layout it gets aligned, C-contiguous numbers."""

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn._core import Layer, as_indices
from tinyrnn.arrays import as_floats, as_lengths, as_plain, is_plain


def crooked(array):
    """A copy of an array that starts at an odd address, as `numpy.frombuffer` makes of a message's bytes."""
    data = bytes(1) + array.tobytes()
    view = np.frombuffer(data, array.dtype, offset=1).reshape(array.shape)
    assert not view.flags.aligned
    return view


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("change", [
    as_floats,
    lambda x, _: as_plain(x, np.float32),
    lambda x, _: as_indices(x.astype(np.int32) if x.flags.aligned else crooked(x.astype(np.int32)), ""),
    lambda x, _: as_indices(x.astype(np.int64) if x.flags.aligned else crooked(x.astype(np.int64)), ""),
])  # fmt: skip
def test_crooked_numbers_are_copied(change):
    straight = np.arange(12, dtype=np.float32).reshape(3, 4)
    for given in (crooked(straight), straight, straight.T, straight[::2], np.asfortranarray(straight)):
        taken = change(given, "x")
        assert taken.flags.aligned and taken.flags.c_contiguous
        np.testing.assert_array_equal(taken, given)
    assert not is_plain(crooked(straight), np.float32)
    assert as_floats(straight, "x") is straight


def test_lengths_are_copied():
    """The core goes by them while the caller's may change."""
    lengths = np.array([3, 1, 2], np.int32)
    taken = as_lengths(lengths, "x", 3, 3, "steps")
    lengths[:] = 1 << 30
    assert taken.tolist() == [3, 1, 2]
    assert as_lengths(crooked(taken), "x", 3, 3, "steps").flags.aligned


def test_every_entry_takes_unaligned_and_strided_arrays():
    """On ARM a float that starts at an odd address is a fault."""
    x, net = numbers(6, 2, 5), tr.Sequential(tr.LSTM(5, 7), tr.Linear(7, 3))
    stream, other = net.stream(2), net.stream(2)
    np.testing.assert_array_equal(stream.run(crooked(x)), other.run(x))
    np.testing.assert_array_equal(stream.step(crooked(x[0])), other.step(x[0]))
    stream.state = {name: crooked(value) for name, value in other.state.items()}
    assert stream.state.tobytes() == other.state.tobytes()
    ends = np.array([6, 2], np.int32)
    np.testing.assert_array_equal(net(crooked(x), lengths=crooked(ends)), net(x, lengths=ends))
    index = np.arange(6, dtype=np.int32)
    table = tr.Sequential(tr.Embedding(6, 5), tr.GRU(5, 4))
    np.testing.assert_array_equal(table.stream().run(crooked(index)), table.stream().run(index))

    target, classes = numbers(6, 2, 3), np.ones((6, 2), np.int32)
    for loss, y in ((tr.MSELoss(), target), (tr.CrossEntropyLoss(), classes)):
        assert loss(crooked(target), crooked(y))[0] == loss(target, y)[0]
        trainer = net.trainer(tr.optim.SGD(net, lr=0.0), loss, batch=2, steps=6)
        assert trainer.step(crooked(x), crooked(y), crooked(ends)) == trainer.step(x, y, ends)
    net.train()
    net(crooked(x))
    net.backward(crooked(target))


@pytest.mark.parametrize("format", ["float32", "float16", "bfloat16", "int8", "int4"])
def test_weights_may_be_crooked(format):
    weights = numbers(4, 40)
    layer = Layer("linear", in_features=40, out_features=4).reformatted(format)
    if format == "float32":
        layer.set(0, crooked(weights))
        np.testing.assert_array_equal(layer.get(0), weights)
        return
    codes = np.arange(160).reshape(4, 40).astype(np.int8 if format.startswith("int") else np.uint16) % 8
    scales = {"int8": np.ones(4, np.float32), "int4": np.ones((4, 2), np.float32)}.get(format)
    for crook in (crooked, np.array):
        given = codes if codes.itemsize == 1 else crook(codes)
        layer.set_codes(0, given, None if scales is None else crook(scales))
        np.testing.assert_array_equal(layer.codes(0)[0], codes)


def test_masked_arrays():
    """A mask is NumPy's way to say that numbers are missing: it is never left out unseen."""
    x = np.ma.masked_greater(np.arange(12, dtype=np.float32).reshape(6, 2), 8)
    net = tr.GRU(2, 3)
    data = np.zeros((3, 6, 2), np.float32)
    for call in (
        lambda: net(x),
        lambda: net.stream().run(x),
        lambda: net.fit(x[np.newaxis], np.zeros((1, 3)), loss="mse"),
        lambda: net.evaluate(data, np.ma.masked_equal([0, 1, 0], 1), loss="cross_entropy"),
        lambda: tr.Embedding(20, 4)(x.astype(int)),
        lambda: tr.Linear(2, 6).load_state_dict({"weight": x, "bias": np.zeros(6)}),
    ):
        with pytest.raises(ValueError, match="got masked numbers, expected all of them"):
            call()
    whole = np.ma.masked_greater(x.data, 99)
    np.testing.assert_array_equal(net(whole)[0], net(x.data)[0])


def test_lists_of_different_lengths():
    """They are an error of shapes in every place, which names what it can."""
    net, ragged = tr.Linear(1, 2), [[1], [2, 3]]
    before = net.weight
    with pytest.raises(
        tr.ShapeError, match="^Linear.weight: got lists of different lengths, expected an array"
    ):
        net.weight = ragged
    with pytest.raises(tr.ShapeError, match="got lists of different lengths, expected an array"):
        net(ragged)
    with pytest.raises(tr.WeightsError, match="got lists of different lengths, expected an array"):
        net.load_state_dict({"weight": ragged, "bias": [0, 0]})
    assert np.array_equal(net.weight, before)


@pytest.mark.parametrize("x", ["speech.wav", None, {"x": np.zeros((3, 2))}], ids=lambda x: type(x).__name__)
def test_what_is_no_array(x):
    """A path of a file, above all: its type says more than the shape () that NumPy gives it."""
    net = tr.LSTM(2, 3)
    message = f"got {type(x).__name__}, expected an array of numbers"
    calls = [net, net.predict, net.stream().step, net.stream().run]
    for call in calls[:1] + calls[2:] if isinstance(x, dict) else calls:  # predict takes inputs by name
        with pytest.raises(TypeError, match=message):
            call(x)
