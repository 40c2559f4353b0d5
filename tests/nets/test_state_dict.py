"""Weights by name: PyTorch's names, shapes and order; loading, reading sizes off tensors, saving."""

import json
import os

import numpy as np
import pytest
from elementwise_cases import ELEMENTWISE
from folders import EXAMPLES
from memory import within

import tinyrnn as tr
from tinyrnn.weights.safetensors import read_metadata, save_safetensors


def shapes(net):
    return {name: array.shape for name, array in net.state_dict().items()}


def assert_equal(got, want):
    """The same names in the same order, the same bits, the same types."""
    assert list(got) == list(want)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], strict=True)


def randomise(net):
    """Numbers in every tensor that no initialisation would give."""
    rng = np.random.default_rng(0)
    state = net.state_dict()
    for name, array in state.items():
        counts = array.dtype == np.int64
        state[name] = np.array(12345) if counts else rng.uniform(0.5, 2, array.shape).astype(np.float32)
    net.load_state_dict(state)
    return net


# ---- names, shapes, order -----------------------------------------------------------------------


def test_lstm_names():
    net = tr.LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2)
    assert list(shapes(net).items()) == [
        ("weight_ih_l0", (20, 3)),
        ("weight_hh_l0", (20, 2)),
        ("bias_ih_l0", (20,)),
        ("bias_hh_l0", (20,)),
        ("weight_hr_l0", (2, 5)),
        ("weight_ih_l0_reverse", (20, 3)),
        ("weight_hh_l0_reverse", (20, 2)),
        ("bias_ih_l0_reverse", (20,)),
        ("bias_hh_l0_reverse", (20,)),
        ("weight_hr_l0_reverse", (2, 5)),
        ("weight_ih_l1", (20, 4)),
        ("weight_hh_l1", (20, 2)),
        ("bias_ih_l1", (20,)),
        ("bias_hh_l1", (20,)),
        ("weight_hr_l1", (2, 5)),
        ("weight_ih_l1_reverse", (20, 4)),
        ("weight_hh_l1_reverse", (20, 2)),
        ("bias_ih_l1_reverse", (20,)),
        ("bias_hh_l1_reverse", (20,)),
        ("weight_hr_l1_reverse", (2, 5)),
    ]
    assert list(shapes(tr.LSTM(3, 5, bias=False, proj_size=2)).items()) == [
        ("weight_ih_l0", (20, 3)),
        ("weight_hh_l0", (20, 2)),
        ("weight_hr_l0", (2, 5)),
    ]


def test_gru_and_rnn_names():
    for layer, rows in ((tr.GRU, 15), (tr.RNN, 5)):
        assert list(shapes(layer(3, 5, num_layers=2)).items()) == [
            ("weight_ih_l0", (rows, 3)),
            ("weight_hh_l0", (rows, 5)),
            ("bias_ih_l0", (rows,)),
            ("bias_hh_l0", (rows,)),
            ("weight_ih_l1", (rows, 5)),
            ("weight_hh_l1", (rows, 5)),
            ("bias_ih_l1", (rows,)),
            ("bias_hh_l1", (rows,)),
        ]
        assert list(shapes(layer(3, 5, bias=False, bidirectional=True)).items()) == [
            ("weight_ih_l0", (rows, 3)),
            ("weight_hh_l0", (rows, 5)),
            ("weight_ih_l0_reverse", (rows, 3)),
            ("weight_hh_l0_reverse", (rows, 5)),
        ]


def test_cell_names():
    for cell, rows in ((tr.LSTMCell, 20), (tr.GRUCell, 15), (tr.RNNCell, 5)):
        assert list(shapes(cell(3, 5)).items()) == [
            ("weight_ih", (rows, 3)),
            ("weight_hh", (rows, 5)),
            ("bias_ih", (rows,)),
            ("bias_hh", (rows,)),
        ]
        assert list(shapes(cell(3, 5, bias=False))) == ["weight_ih", "weight_hh"]


def test_names_of_the_other_layers():
    for net, want in (
        (tr.Linear(3, 5), [("weight", (5, 3)), ("bias", (5,))]),
        (tr.Linear(3, 5, bias=False), [("weight", (5, 3))]),
        (tr.Embedding(7, 4), [("weight", (7, 4))]),
        (tr.Conv1d(6, 4, 3, groups=2), [("weight", (4, 3, 3)), ("bias", (4,))]),
        (tr.LayerNorm(5), [("weight", (5,)), ("bias", (5,))]),
        (tr.LayerNorm((2, 3)), [("weight", (2, 3)), ("bias", (2, 3))]),
        (tr.LayerNorm(5, bias=False), [("weight", (5,))]),
        (tr.LayerNorm(5, elementwise_affine=False), []),
        (tr.ReLU(), []),
        (tr.Dropout(), []),
        (tr.Flatten(), []),
        (tr.Softmax(dim=-1), []),
    ):
        assert list(shapes(net).items()) == want, net


def test_batch_norm_names():
    state = tr.BatchNorm1d(4).state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert state["num_batches_tracked"].shape == () and state["num_batches_tracked"].dtype == np.int64
    assert list(tr.BatchNorm1d(4, affine=False).state_dict()) == list(state)[2:]


def test_sequential_names():
    numbered = tr.Sequential(tr.Linear(2, 3), tr.ReLU(), tr.Linear(3, 4, bias=False))
    assert list(shapes(numbered).items()) == [
        ("0.weight", (3, 2)),
        ("0.bias", (3,)),
        ("2.weight", (4, 3)),
    ]
    named = tr.Sequential({"body": numbered, "norm": tr.BatchNorm1d(4), "rnn": tr.GRU(4, 1, bias=False)})
    assert list(shapes(named).items()) == [
        ("body.0.weight", (3, 2)),
        ("body.0.bias", (3,)),
        ("body.2.weight", (4, 3)),
        ("norm.weight", (4,)),
        ("norm.bias", (4,)),
        ("norm.running_mean", (4,)),
        ("norm.running_var", (4,)),
        ("norm.num_batches_tracked", ()),
        ("rnn.weight_ih_l0", (3, 4)),
        ("rnn.weight_hh_l0", (3, 1)),
    ]


def test_tensors_are_copies():
    net = tr.Linear(2, 3)
    mine = {"weight": np.ones((3, 2), np.float32), "bias": np.ones(3, np.float32)}
    net.load_state_dict(mine)
    mine["weight"][:] = 5
    net.state_dict()["weight"][:] = 6
    assert (net.state_dict()["weight"] == 1).all() and (net.weight == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        net.weight[:] = 7


# ---- loading ------------------------------------------------------------------------------------


def test_everything_that_does_not_fit_is_listed_and_nothing_changes():
    net = randomise(tr.Sequential({"rnn": tr.LSTM(3, 5), "norm": tr.BatchNorm1d(5), "out": tr.Linear(5, 2)}))
    before = net.state_dict()
    given = {name: array + 1 for name, array in before.items()}
    del given["rnn.bias_ih_l0"], given["norm.running_mean"]
    given["rnn.weight_ih_l1"] = np.zeros((20, 5))
    given["more"] = np.zeros(1)
    given["rnn.weight_hh_l0"] = np.zeros((20, 4))
    given["out.bias"] = np.zeros((2, 1))
    given["out.weight"] = np.zeros((2, 5), np.complex64)
    with pytest.raises(tr.WeightsError) as info:
        net.load_state_dict(given)
    assert str(info.value) == (
        "Error(s) in loading state_dict for Sequential:\n"
        '\tMissing key(s) in state_dict: "rnn.bias_ih_l0", "norm.running_mean".\n'
        '\tUnexpected key(s) in state_dict: "rnn.weight_ih_l1", "more".\n'
        "\tsize mismatch for rnn.weight_hh_l0: got shape (20, 4) in state_dict, "
        "expected (20, 5) in the net.\n"
        "\tout.weight: got dtype complex64, expected real numbers that fit float32.\n"
        "\tsize mismatch for out.bias: got shape (2, 1) in state_dict, expected (2,) in the net."
    )
    assert_equal(net.state_dict(), before)


@pytest.mark.parametrize("value", [np.zeros(2), np.array("three"), np.array(1j)], ids=str)
def test_a_counter_that_does_not_fit(value):
    net = randomise(tr.BatchNorm1d(2))
    before = net.state_dict()
    given = {name: array + 1 for name, array in before.items()} | {"num_batches_tracked": value}
    with pytest.raises(tr.WeightsError, match="num_batches_tracked"):
        net.load_state_dict(given)
    assert_equal(net.state_dict(), before)


def test_strict_false_takes_what_fits():
    net = tr.Sequential(tr.Linear(2, 3), tr.Linear(3, 2))
    before = net.state_dict()
    given = {"1.bias": np.array([8, 9]), "0.weight": np.full((3, 2), 7.0), "extra": np.zeros(1)}
    result = net.load_state_dict(given, strict=False)
    assert result.missing_keys == ["0.bias", "1.weight"]
    assert result.unexpected_keys == ["extra"]
    assert result == (["0.bias", "1.weight"], ["extra"])
    after = net.state_dict()
    assert (after["0.weight"] == 7).all() and after["1.bias"].tolist() == [8, 9]
    assert_equal(
        {name: after[name] for name in result.missing_keys},
        {name: before[name] for name in result.missing_keys},
    )


def test_strict_false_still_checks_the_shapes():
    net = tr.Linear(2, 3)
    before = net.state_dict()
    with pytest.raises(tr.WeightsError, match="size mismatch for weight") as info:
        net.load_state_dict({"weight": np.zeros((2, 3)), "bias": np.ones(3)}, strict=False)
    assert "Missing" not in str(info.value)
    assert_equal(net.state_dict(), before)


def test_strict_load_returns_no_keys():
    assert tr.Linear(2, 3).load_state_dict(tr.Linear(2, 3).state_dict()) == ([], [])


def test_a_missing_counter_is_forgiven():
    """PyTorch forgives it in a state_dict without metadata, and so do we."""
    net = randomise(tr.BatchNorm1d(2))
    state = net.state_dict()
    del state["num_batches_tracked"]
    assert net.load_state_dict(state) == ([], [])
    assert net.state_dict()["num_batches_tracked"] == 12345


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, ">f4"])
def test_other_dtypes_are_converted(dtype):
    net = tr.Linear(2, 3)
    weight = np.arange(6).reshape(2, 3).T.astype(dtype)  # and a transposed view
    net.load_state_dict({"weight": weight, "bias": [1, 2, 3]})
    np.testing.assert_array_equal(net.state_dict()["weight"], weight.astype(np.float32), strict=True)


@pytest.mark.parametrize("prefix", ["decoder.rnn.", "decoder.rnn"])
def test_prefix(prefix):
    inner = tr.GRU(2, 3)
    state = {f"decoder.rnn.{name}": array for name, array in inner.state_dict().items()}
    state |= {"decoder.rnn2.weight_ih_l0": np.zeros(1), "encoder": np.zeros(1)}
    net = tr.GRU(2, 3)
    assert net.load_state_dict(state, prefix=prefix) == ([], [])
    assert_equal(net.state_dict(), inner.state_dict())
    del state["decoder.rnn.bias_hh_l0"]
    with pytest.raises(tr.WeightsError, match=r"decoder\.rnn") as info:
        net.load_state_dict(state, prefix=prefix)
    assert 'Missing key(s) in state_dict: "bias_hh_l0"' in str(info.value)


def test_prefix_of_nothing():
    with pytest.raises(tr.WeightsError, match=r"got 'encoder\.', expected .* \"decoder\.weight\""):
        tr.Linear(2, 3).load_state_dict({"decoder.weight": np.zeros(1)}, prefix="encoder.")


# ---- sizes read off tensors ---------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "decoder.rnn."])
@pytest.mark.parametrize(
    "net",
    [
        tr.LSTM(3, 5),
        tr.LSTM(3, 5, 2, bias=False, bidirectional=True, proj_size=2),
        tr.LSTM(17, 1, 3),
        tr.GRU(3, 5, bidirectional=True),
        tr.GRU(1, 16, 2, bias=False),
        tr.RNN(3, 5, 2),
        tr.LSTMCell(3, 5),
        tr.GRUCell(3, 5, bias=False),
        tr.RNNCell(3, 5),
        tr.Linear(3, 5),
        tr.Linear(3, 5, bias=False),
        tr.Conv1d(3, 5, 7),
        tr.Conv1d(3, 5, 1, bias=False),
    ],
    ids=repr,
)
def test_from_state_dict(net, prefix):
    state = {prefix + name: array for name, array in net.state_dict().items()}
    if prefix:
        state["decoder.other.weight_ih_l0"] = np.zeros((4, 4))
    read = type(net).from_state_dict(state, prefix=prefix)
    assert type(read) is type(net) and read.config() == net.config()
    assert_equal(read.state_dict(), net.state_dict())


def test_from_state_dict_with_arguments_that_tensors_do_not_show():
    options = {"stride": 2, "padding": 1, "dilation": 3, "groups": 2, "padding_mode": "reflect"}
    conv = tr.Conv1d(4, 6, 3, **options)
    assert tr.Conv1d.from_state_dict(conv.state_dict(), **options).config() == conv.config()
    rnn = tr.RNN(3, 5, 2, nonlinearity="relu", batch_first=True, dropout=0.5)
    read = tr.RNN.from_state_dict(rnn.state_dict(), nonlinearity="relu", batch_first=True, dropout=0.5)
    assert read.config() == rnn.config()


@pytest.mark.parametrize("layer, cell", [(tr.LSTM, tr.LSTMCell), (tr.GRU, tr.GRUCell), (tr.RNN, tr.RNNCell)])
def test_a_cell_and_a_layer_of_one_level_read_each_other(layer, cell):
    small = cell(3, 5)
    state = {f"decoder.rnn.{name}": array for name, array in small.state_dict().items()}
    net = layer.from_state_dict(state, prefix="decoder.rnn.")
    assert net.config() == layer(3, 5).config()
    assert_equal(cell.from_state_dict(net.state_dict()).state_dict(), small.state_dict())
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(net(x)[0], small(x)[0] if cell is tr.LSTMCell else small(x))


def test_a_convolution_of_one_tap_is_a_linear():
    conv = tr.Conv1d(3, 5, 1)
    linear = tr.Linear.from_state_dict(conv.state_dict())
    np.testing.assert_array_equal(linear.weight, conv.weight[:, :, 0])


def zeros(**given):
    return {name: np.zeros(shape) for name, shape in given.items()}


LEVEL = zeros(weight_ih_l0=(20, 3), weight_hh_l0=(20, 5))


@pytest.mark.parametrize(
    "layer, state, words",
    [
        (tr.LSTM, {}, "LSTM: weight_ih_l0 is missing"),
        (tr.LSTM, zeros(weight_ih_l0=(20, 3)), "LSTM: weight_hh_l0 is missing: got"),
        (tr.LSTM, LEVEL | zeros(weight_ih_l0=(20,)), r"weight_ih_l0 has shape \(20,\), expected two axes"),
        (tr.LSTM, LEVEL | zeros(weight_ih_l0=(18, 3)), "expected a multiple of 4 rows"),
        (tr.LSTM, LEVEL | zeros(weight_ih_l0=(0, 3)), "expected a multiple of 4 rows"),
        (tr.LSTM, LEVEL | zeros(weight_hh_l0=(20, 4)), "size mismatch for weight_hh_l0"),
        (tr.LSTM, LEVEL | zeros(bias_ih_l0=(20,)), 'Missing key.*"bias_hh_l0"'),
        (tr.LSTM, LEVEL | zeros(weight_ih_l2=(20, 5)), 'Unexpected key.*"weight_ih_l2"'),
        (tr.LSTM, LEVEL | zeros(weight_hr_l0=(2, 5)), "size mismatch for weight_hh_l0"),
        (tr.GRU, LEVEL, r"weight_hh_l0 has shape \(20, 5\), .* look like an LSTM's weights, use tr.LSTM$"),
        (tr.GRU, LEVEL | zeros(weight_ih_l0=(20, 3), weight_hh_l0=(20, 3)), "expected a multiple of 3 rows"),
        (tr.GRU, tr.RNN(3, 6).state_dict(), "look like an RNN's weights, use tr.RNN$"),
        (tr.GRU, LEVEL | zeros(weight_ih_l0=(15, 3), weight_hr_l0=(2, 5)), "projection, which only an LSTM"),
        (tr.LSTMCell, tr.LSTM(3, 5, 2).state_dict(), 'Unexpected key.*"weight_ih_l1"'),
        (
            tr.LSTMCell,
            tr.LSTM(3, 5, bidirectional=True).state_dict(),
            'Unexpected key.*"weight_ih_l0_reverse"',
        ),
        (tr.Linear, {}, "Linear: weight"),
        (tr.Linear, zeros(weight=(5, 3, 2)), r"Linear: weight has shape \(5, 3, 2\)"),
        (tr.Linear, zeros(weight=(5, 3), bias=(4,)), "size mismatch for bias"),
        (tr.Linear, zeros(weight=(5, 3), extra=(1,)), 'Unexpected key.*"extra"'),
        (tr.Conv1d, {}, "Conv1d: weight"),
        (tr.Conv1d, zeros(weight=(5, 3)), r"Conv1d: weight has shape \(5, 3\)"),
    ],
)
def test_from_the_wrong_state_dict(layer, state, words):
    with pytest.raises(tr.WeightsError, match=words):
        layer.from_state_dict(state)
    with pytest.raises(tr.WeightsError, match=r"got 'model\.', expected"):
        layer.from_state_dict(state, prefix="model.")


@pytest.mark.parametrize(
    "layer, state",
    [
        (tr.LSTM, LEVEL | zeros(weight_hr_l0=(5, 5))),  # a projection as large as the state
        (tr.LSTM, LEVEL | zeros(weight_ih_l0=(20, 0))),
        (tr.Linear, zeros(weight=(0, 3))),
        (tr.Conv1d, zeros(weight=(5, 3, 0))),
    ],
)
def test_from_sizes_that_no_layer_has(layer, state):
    with pytest.raises(tr.WeightsError):
        layer.from_state_dict(state)


# ---- files --------------------------------------------------------------------------------------

ANY = np.random.default_rng(1).standard_normal((4, 6, 8), dtype=np.float32)


@pytest.mark.parametrize(
    "net, x",
    [
        (tr.RNN(8, 5, 2, nonlinearity="relu", bias=False, batch_first=True), ANY),
        (tr.LSTM(8, 17, 2, bidirectional=True, proj_size=3, dropout=0.25), ANY),
        (tr.GRU(8, 16, 3), ANY),
        (tr.RNNCell(8, 5, nonlinearity="relu"), ANY[0]),
        (tr.LSTMCell(8, 5, bias=False), ANY[0]),
        (tr.GRUCell(8, 5), ANY[0]),
        (tr.Linear(8, 5, bias=False), ANY),
        (tr.Embedding(9, 3), np.arange(9)),
        (tr.Conv1d(6, 4, 3, 2, 2, 2, 2, False, "reflect"), ANY),
        (tr.Conv1d(6, 4, 3, padding="same"), ANY),
        (tr.LayerNorm((6, 8), eps=1e-3, bias=False), ANY),
        (tr.LayerNorm(8, elementwise_affine=False), ANY),
        (tr.BatchNorm1d(6, eps=1e-3, momentum=None), ANY),
        (tr.ReLU(inplace=True), ANY),
        (tr.LeakyReLU(0.3), ANY),
        (tr.PReLU(), ANY),
        (tr.PReLU(6, init=-0.5), ANY),
        *((getattr(tr, layer)(**arguments), np.abs(ANY)) for layer, arguments in ELEMENTWISE),
        (tr.Sigmoid(), ANY),
        (tr.Tanh(), ANY),
        (tr.Dropout(0.1), ANY),
        (tr.Flatten(0, 1), ANY),
        (tr.Softmax(), ANY),
        (tr.LogSoftmax(dim=-2), ANY),
        (
            tr.Sequential(
                {
                    "front": tr.Sequential(tr.Conv1d(6, 4, 3), tr.BatchNorm1d(4), tr.ReLU(), tr.Flatten()),
                    "back": tr.Sequential({"deep": tr.Sequential(tr.Linear(24, 2), tr.LogSoftmax(-1))}),
                }
            ),
            ANY,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, tr.Net) else "",
)
def test_save_and_load(tmp_path, net, x):
    randomise(net)
    path = tmp_path / "net.safetensors"
    net.save(path)
    again = tr.load(path)
    assert type(again) is type(net) and repr(again) == repr(net) and again.config() == net.config()
    assert_equal(again.state_dict(), net.state_dict())
    outputs = [one(x) for one in (net, again)]
    outputs = [y if isinstance(y, np.ndarray) else y[0] for y in outputs]
    np.testing.assert_array_equal(*outputs, strict=True)
    stored = tr.load_weights(path)
    assert_equal({name: stored[name] for name in net.state_dict()}, net.state_dict())
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_save_writes_the_architecture(tmp_path):
    path = tmp_path / "net.safetensors"
    tr.Sequential({"a": tr.Dropout(0.5)}).save(path)
    assert json.loads(read_metadata(path)["tinyrnn"]) == {
        "version": 1,
        "written_by": tr.__version__,
        "net": {
            "type": "Sequential",
            "layers": {"a": {"type": "Dropout", "arguments": {"p": 0.5, "inplace": False}}},
        },
    }


@pytest.mark.parametrize("broken", ["open", "fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "net.safetensors"
    tr.Linear(2, 3).save(path)
    before = path.read_bytes()

    def fail(*args, **options):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="disk full"):
            tr.Linear(20, 30).save(path)
        with pytest.raises(OSError, match="disk full"):
            tr.Linear(20, 30).save(tmp_path / "new.safetensors")
    assert os.listdir(tmp_path) == ["net.safetensors"] and path.read_bytes() == before


def test_save_where_it_cannot_be(tmp_path):
    for path in (tmp_path / "no" / "net.safetensors", tmp_path):
        with pytest.raises(OSError):
            tr.Linear(2, 3).save(path)
    assert os.listdir(tmp_path) == []


def test_load_of_weights_alone(tmp_path):
    path = tmp_path / "net.safetensors"
    save_safetensors(path, tr.Linear(2, 3).state_dict())
    with pytest.raises(tr.LoadError, match=r"net\.safetensors.*no architecture.*load_state_dict"):
        tr.load(path)


def test_load_of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        tr.load(tmp_path / "net.safetensors")
    (tmp_path / "net.safetensors").write_bytes(b"")
    with pytest.raises(tr.LoadError):
        tr.load(tmp_path / "net.safetensors")


def one(kind, **arguments):
    return {"type": kind, "arguments": arguments}


def row(**layers):
    return {"type": "Sequential", "layers": layers}


def nested(depth):
    """Text of a Sequential in a Sequential, and so on."""
    head = '{"type": "Sequential", "layers": {"0": '
    return '{"net": ' + head * depth + json.dumps(one("ReLU")) + "}}" * depth + "}"


LINEAR = {"in_features": 2, "out_features": 3}
RECURRENT = {"input_size": 2, "hidden_size": 3}
HUGE = 2**28

HOSTILE = {
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "a number": "12",
    "no net": '{"version": 1}',
    "net is null": '{"net": null}',
    "net is text": '{"net": "Linear"}',
    "net is a list": '{"net": [1]}',
    "a number of 5000 digits": f'{{"net": {"9" * 5000}}}',
    "nested 17": nested(17),
    "nested 1000": nested(1000),
    "nested 100000": nested(100_000),
    "no type": {"arguments": LINEAR},
    "no arguments": {"type": "Linear"},
    "unknown type": one("Transformer"),
    "a private type": one("_Recurrent", **RECURRENT),
    "the base type": one("Net"),
    "type is a module": one("os.system"),
    "type is null": one(None),
    "type is a list": one(["Linear"], **LINEAR),
    "type is an object": one({"Linear": 1}, **LINEAR),
    "arguments is a list": {"type": "Linear", "arguments": [2, 3]},
    "arguments is a list of lists": {"type": "Linear", "arguments": [[2], [3]]},
    "arguments is text": {"type": "Linear", "arguments": "in"},
    "arguments is null": {"type": "Linear", "arguments": None},
    "arguments is a number": {"type": "Linear", "arguments": 7},
    "unknown argument": one("Linear", **LINEAR, device="cuda"),
    "self": one("Linear", **LINEAR, self=1),
    "a dunder": one("Linear", **LINEAR, __class__="x"),
    "missing argument": one("Linear", in_features=2),
    "text for a size": one("Linear", in_features="2", out_features=3),
    "a float for a size": one("Linear", in_features=2.0, out_features=3),
    "true for a size": one("Linear", in_features=True, out_features=3),
    "a list for a size": one("Linear", in_features=[2], out_features=3),
    "zero": one("Linear", in_features=0, out_features=3),
    "negative": one("Linear", in_features=-2, out_features=3),
    "beyond int64": one("Linear", in_features=2**64, out_features=3),
    "text for a flag": one("Linear", **LINEAR, bias="yes"),
    "NaN": one("LayerNorm", normalized_shape=4, eps=float("nan")),
    "infinity": one("LeakyReLU", negative_slope=float("inf")),
    "infinite axis": one("Flatten", start_dim=float("inf")),
    "text for a number": one("Dropout", p="0.5"),
    "shape of text": one("LayerNorm", normalized_shape="44"),
    "shape of nothing": one("LayerNorm", normalized_shape=[]),
    "shape of shapes": one("LayerNorm", normalized_shape=[[4]]),
    "null kernel": one("Conv1d", in_channels=2, out_channels=3, kernel_size=None),
    "kernel of text": one("Conv1d", in_channels=2, out_channels=3, kernel_size="3"),
    "padding of lists": one("Conv1d", in_channels=2, out_channels=3, kernel_size=3, padding=[1, 2]),
    "zero groups": one("Conv1d", in_channels=2, out_channels=3, kernel_size=3, groups=0),
    "unhashable mode": one("Conv1d", in_channels=2, out_channels=3, kernel_size=3, padding_mode=["zeros"]),
    "unknown nonlinearity": one("RNN", **RECURRENT, nonlinearity={"tanh": 1}),
    "huge hidden_size": one("LSTM", input_size=2, hidden_size=HUGE),
    "huge input_size": one("GRU", input_size=HUGE, hidden_size=HUGE),
    "hidden_size beyond": one("LSTM", input_size=2, hidden_size=10**12),
    "10**9 layers": one("LSTM", **RECURRENT, num_layers=10**9),
    "a huge kernel": one("Conv1d", in_channels=HUGE, out_channels=HUGE, kernel_size=HUGE),
    "a huge norm": one("LayerNorm", normalized_shape=[HUGE, HUGE]),
    "layers missing": {"type": "Sequential"},
    "layers is a list": {"type": "Sequential", "layers": [one("ReLU")]},
    "no layers": row(),
    "a layer is null": row(a=None),
    "an empty name": row(**{"": one("ReLU")}),
    "a dotted name": row(**{"a.b": one("ReLU")}),
}

# Architectures that stand, but not on the tensors of the file.
MISFITS = {
    "1000 huge layers": one("RNN", input_size=2, hidden_size=2**14, num_layers=1000),
    "a huge table": one("Embedding", num_embeddings=HUGE, embedding_dim=HUGE),
    "a huge matrix": one("Linear", in_features=HUGE, out_features=HUGE),
    "misshapen tensors": one("Linear", in_features=3, out_features=2),
    "missing tensors": row(a=one("Linear", **LINEAR)),
    "unexpected tensors": one("ReLU"),
    "another layer's tensors": one("RNN", **RECURRENT),
}


@pytest.mark.parametrize("name", [*HOSTILE, *MISFITS])
def test_load_of_a_hostile_architecture(tmp_path, name):
    path = tmp_path / "net.safetensors"
    hostile = (HOSTILE | MISFITS)[name]
    text = hostile if isinstance(hostile, str) else json.dumps({"version": 1, "net": hostile})
    save_safetensors(path, tr.Linear(**LINEAR).state_dict(), {"tinyrnn": text})
    with within(32 << 20), pytest.raises(tr.LoadError, match=r"net\.safetensors") as info:
        tr.load(path)
    assert ("in loading state_dict" in str(info.value)) == (name in MISFITS)


def test_the_good_twin_of_the_hostile_files_loads(tmp_path):
    path = tmp_path / "net.safetensors"
    net = one("Linear", **LINEAR)
    save_safetensors(
        path, tr.Linear(**LINEAR).state_dict(), {"tinyrnn": json.dumps({"version": 1, "net": net})}
    )
    assert tr.load(path).config() == {"in_features": 2, "out_features": 3, "bias": True}


def test_a_small_file_cannot_ask_for_many_layers(tmp_path):
    level = {"type": "LSTM", "arguments": {"input_size": 1, "hidden_size": 1, "num_layers": 1024}}
    net = {"type": "Sequential", "layers": {str(i): level for i in range(50)}}
    path = tmp_path / "many.safetensors"
    save_safetensors(path, {}, {"tinyrnn": json.dumps({"version": 1, "net": net})})
    with pytest.raises(tr.LoadError, match="got 51201 layers, expected at most 1000 for 0 tensors"):
        tr.load(path)


@pytest.mark.parametrize(("kind", "most", "tensors"), [(tr.Tanh, 1000, 0), (tr.PReLU, 8000, 8000)])
def test_save_refuses_more_layers_than_load(tmp_path, kind, most, tensors):
    path = tmp_path / "net.safetensors"
    layers = [kind() for _ in range(most)]
    net = tr.Sequential(*layers)  # a net counts as one, too
    message = rf"net\.safetensors: got {most + 1} layers, expected at most {most} for {tensors} tensors"
    with pytest.raises(ValueError, match=message):
        net.save(path)
    assert not list(tmp_path.iterdir())
    if not tensors:
        tr.Sequential(*layers[1:]).save(path)
        assert len(tr.load(path)) == most - 1


@pytest.mark.parametrize("name", ["net.pt", "net.PTH", "net.npz"])
def test_save_refuses_a_name_that_load_would(tmp_path, name):
    with pytest.raises(ValueError, match="expected .safetensors, which save writes"):
        tr.Linear(2, 3).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_load_of_a_checkpoint_says_what_to_do():
    with pytest.raises(tr.LoadError, match="holds weights but no architecture"):
        tr.load(EXAMPLES / "charlm" / "charlm.pt")


def test_a_forgotten_prefix_is_named():
    state = {f"decoder.rnn.{name}": array for name, array in tr.LSTM(2, 3).state_dict().items()}
    with pytest.raises(tr.WeightsError, match=r"weight_ih_l0 is missing[;:] .* pass prefix='decoder.rnn.'"):
        tr.LSTM.from_state_dict(state)
    with pytest.raises(tr.WeightsError, match="a tensor's name is 0, expected a string"):
        tr.LSTM(2, 3).load_state_dict({0: np.zeros(2)})


@pytest.mark.parametrize("prefix", ["modules.", "model.", "encoder.rnn."])
def test_a_prefix_that_all_names_share_is_named(prefix):
    net = tr.Sequential({"lstm": tr.LSTM(2, 3), "out": tr.Linear(3, 1)})
    state = {prefix + name: array for name, array in net.state_dict().items()}
    with pytest.raises(tr.WeightsError, match=rf"there with a prefix: pass prefix='{prefix}'\.$"):
        net.load_state_dict(state)
    with pytest.raises(tr.WeightsError, match=rf"pass prefix='saved\.{prefix}'\.$"):
        net.load_state_dict({f"saved.{name}": array for name, array in state.items()}, prefix="saved")
    assert net.load_state_dict(state, prefix=prefix) == ([], [])
    for layer, saved in ((tr.Linear, "out"), (tr.Conv1d, "out"), (tr.LSTM, "lstm"), (tr.LSTMCell, "lstm")):
        with pytest.raises(tr.WeightsError, match=f"pass prefix='{prefix}{saved}.'"):
            layer.from_state_dict(state)
    del state[f"{prefix}out.bias"]  # with it missing there, too, the prefix would not help
    with pytest.raises(tr.WeightsError, match="Missing") as caught:
        net.load_state_dict(state)
    assert "prefix" not in str(caught.value)


def test_prefixes_of_two_submodules_are_named():
    state = {f"{at}.{name}": a for at in "ab" for name, a in tr.GRU(2, 3).state_dict().items()}
    with pytest.raises(tr.WeightsError, match="pass prefix='a.' or prefix='b.'"):
        tr.GRU(2, 3).load_state_dict(state)


KINDS = {"RNN": "an RNN", "LSTM": "an LSTM", "GRU": "a GRU"}


@pytest.mark.parametrize("cell", ["", "Cell"])
@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("ours", KINDS)
@pytest.mark.parametrize("sizes", [(3, 4), (4, 4), (12, 12), (5, 36)])
def test_weights_of_another_kind_are_recognised(ours, theirs, cell, sizes):
    state = getattr(tr, theirs + cell)(*sizes).state_dict()
    layer = getattr(tr, ours + cell)
    if ours == theirs:
        assert layer.from_state_dict(state).hidden_size == sizes[1]
        return
    key = "weight_hh" if cell else "weight_hh_l0"
    words = rf"{key} has shape .*: these look like {KINDS[theirs]}'s weights, use tr.{theirs}{cell}"
    with pytest.raises(tr.WeightsError, match=f"^{ours}{cell}: {words}$"):
        layer.from_state_dict(state)
    with pytest.raises(tr.WeightsError, match=f"\t{words}.$"):
        layer(*sizes).load_state_dict(state)
    net = tr.Sequential({"rnn": layer(*sizes)})
    with pytest.raises(tr.WeightsError, match=f"\trnn.{words}.$"):
        net.load_state_dict({f"rnn.{name}": array for name, array in state.items()})


def test_missing_tensors_are_called_missing():
    bias = {"bias": np.zeros(3)}
    for layer in (tr.Linear, tr.Conv1d):
        with pytest.raises(tr.WeightsError, match=f'^{layer.__name__}: weight is missing: got "bias"$'):
            layer.from_state_dict(bias)
    with pytest.raises(tr.WeightsError, match="^Linear: weight is missing: got no tensors$"):
        tr.Linear.from_state_dict({})


def test_a_cell_speaks_of_its_own_names():
    weights = zeros(weight_ih=(12, 3), weight_hh=(12, 3))
    wrong = (
        {},
        zeros(weight_ih=(12, 3)),
        weights | zeros(weight_ih=(12,)),
        weights | zeros(weight_ih=(13, 3)),
        weights | zeros(bias_ih=(12,)),
        weights | zeros(weight_hh=(12, 2)),
        zeros(weight_ih=(12, 3), bias_hh=(12,)),
    )
    for layer in (tr.RNNCell, tr.LSTMCell, tr.GRUCell):
        for state in wrong:
            with pytest.raises(tr.WeightsError) as caught:
                layer.from_state_dict(state)
            assert layer.__name__ in str(caught.value) and "_l0" not in str(caught.value)


def test_lists_that_are_no_arrays_are_reported():
    state = tr.LSTM(2, 3).state_dict() | {"weight_hh_l0": [[1, 2], [3]]}
    with pytest.raises(tr.WeightsError):
        tr.LSTM(2, 3).load_state_dict(state)


def test_an_entry_without_a_name_is_an_unexpected_one():
    """Found by a fuzzer: it was taken for the scales of a float32 matrix."""
    net = tr.Linear(2, 3)
    with pytest.raises(tr.WeightsError, match="Unexpected key.*''"):
        net.load_state_dict(dict(net.state_dict()) | {"": np.zeros(3)})
    assert net.load_state_dict(dict(net.state_dict()) | {"": np.zeros(3)}, strict=False).unexpected_keys == [
        ""
    ]
