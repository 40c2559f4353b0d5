"""Quantised tensors, and the packed weights of dynamically quantised layers."""

import warnings

import numpy as np
import pytest
import weight_files as wf
from weight_files import Ops, call, tensor, value

import tinyrnn as tr
from tinyrnn.errors import LoadError
from tinyrnn.weights import load_weights

SIX = np.arange(-3, 3, dtype=np.int8)


@pytest.fixture
def load(tmp_path):
    def load(thing, storages=None):
        path = tmp_path / "model.pt"
        path.write_bytes(wf.pt(thing, storages or {"0": SIX.tobytes()}))
        return load_weights(path)

    return load


def quantised(shape=(2, 3), quantizer=None, key="0", dtype="QInt8Storage", rebuild="_rebuild_qtensor"):
    steps = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    quantizer = quantizer or (Ops(b"ctorch\nper_tensor_affine\n"), 0.5, 1)
    count = int(np.prod(shape))
    return call(
        f"torch._utils.{rebuild}", wf.storage(key, dtype, count), 0, shape, steps, quantizer, False, {}
    )


def channels(scales, zeros, axis=0, kind="per_channel_affine"):
    return Ops(f"ctorch\n{kind}\n".encode()), scales, zeros, axis


def script(state, name="quantized.LinearPackedParamsBase"):
    return Ops(b"ctorch\nScriptObject\n)\x81" + value((state, f"__torch__.torch.classes.{name}")) + b"b")


def level(one, other, biases=()):
    state = ("quantized_dynamic", list(biases), [], [1], [script(one), script(other)])
    return script(state, "rnn.CellParamsBase")


# ---- against PyTorch itself


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("dtype", ["qint8", "float16"])
def test_dynamically_quantised_layers_give_their_numbers(torch, tmp_path, dtype, whole):
    torch.manual_seed(1)
    nn = torch.nn
    model = nn.ModuleDict(
        {
            "lstm": nn.LSTM(3, 4, num_layers=2, bidirectional=True),
            "one": nn.LSTM(3, 4, bidirectional=True),
            "two": nn.GRU(3, 4, num_layers=2),
            "gru": nn.GRU(4, 4),
            "head": nn.Linear(4, 2),
            "plain": nn.Linear(4, 2, bias=False),
            "cell": nn.LSTMCell(3, 4),
            "norm": nn.LayerNorm(4),
        }
    )
    kinds = {nn.LSTM, nn.GRU, nn.Linear, nn.LSTMCell}
    small = torch.ao.quantization.quantize_dynamic(model, kinds, dtype=getattr(torch, dtype))
    torch.save(small if whole else small.state_dict(), tmp_path / "m.pt")
    got = load_weights(tmp_path / "m.pt")
    want = model.state_dict()
    scales = {name + "_scale" for name in want if "weight" in name and "norm" not in name}
    assert got.keys() == want.keys() | (scales if dtype == "qint8" else set())
    floats = {name: got[name] for name in want}
    for name in scales if dtype == "qint8" else ():
        codes = name.removesuffix("_scale")
        assert got[codes].dtype == np.int8 and got[codes].min() >= -127
        floats[codes] = got[codes] * got[name][:, None]
    for name, numbers in want.items():
        assert floats[name].dtype == np.float32
        matrix = numbers.ndim == 2
        step = float(numbers.abs().max()) / 127 if dtype == "qint8" and matrix else 1e-3 * matrix
        assert np.abs(floats[name] - numbers.numpy()).max() <= step * 0.51 + 1e-7, name
    head = small["head"].weight()
    if dtype == "qint8":
        assert np.array_equal(got["head.weight"], np.maximum(head.int_repr().numpy(), -127))
        assert np.array_equal(got["head.weight_scale"], np.float32([head.q_scale()] * 2))
    else:
        assert np.array_equal(got["head.weight"], head.numpy())
    own = "int8" if dtype == "qint8" else "float32"
    lstm = tr.LSTM.from_state_dict(got, prefix="lstm")
    assert lstm.num_layers == 2 and lstm.bidirectional
    cell = tr.LSTMCell.from_state_dict(got, prefix="cell")
    for layer in (lstm, cell, tr.LSTM.from_state_dict(got, prefix="cell")):
        assert set(layer.formats.values()) == {own}
    again = tr.LSTMCell.from_state_dict(tr.LSTM.from_state_dict(got, prefix="cell").state_dict())
    assert np.array_equal(again.weight_ih, cell.weight_ih)
    assert tr.Linear.from_state_dict(got, prefix="plain").formats == {"Linear": own}
    plain = tr.LSTM(3, 4, num_layers=2, bidirectional=True)
    plain.load_state_dict(got, prefix="lstm")
    assert np.array_equal(plain.weight_hh_l1, floats["lstm.weight_hh_l1"])
    x = np.random.default_rng(0).standard_normal((20, 2, 3)).astype(np.float32)
    want = small["lstm"](torch.from_numpy(x))[0].detach().numpy()
    assert np.abs(lstm(x)[0] - want).max() < 0.02  # both round what they read, PyTorch all of it by one scale


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zeros", [0, 3])
def test_weights_with_scales_and_zeros_for_channels(torch, tmp_path, zeros):
    numbers = torch.randn(4, 3)
    weight = torch.quantize_per_channel(
        numbers, torch.rand(4).double() + 0.01, torch.full((4,), zeros), 0, torch.qint8
    )
    packed = torch.ops.quantized.linear_prepack(weight, torch.ones(4))
    torch.save(
        {"h._packed_params._packed_params": packed, "h._packed_params.dtype": torch.qint8}, tmp_path / "m.pt"
    )
    got = load_weights(tmp_path / "m.pt")
    if zeros:
        assert list(got) == ["h.weight", "h.bias"]
        np.testing.assert_allclose(got["h.weight"], weight.dequantize().numpy(), rtol=1e-6)
    else:
        assert np.array_equal(got["h.weight"], np.maximum(weight.int_repr().numpy(), -127))
        assert np.array_equal(got["h.weight_scale"], weight.q_per_channel_scales().float().numpy())


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors_of_pytorch(torch, tmp_path):
    numbers = torch.randn(4, 3)
    scales, zeros = torch.rand(4).double() + 0.01, torch.tensor([0, 1, -2, 3])
    tensors = {
        "whole": torch.quantize_per_tensor(numbers, 0.03, 2, torch.qint8),
        "unsigned": torch.quantize_per_tensor(numbers, 0.03, 120, torch.quint8),
        "wide": torch.quantize_per_tensor(numbers, 1e-6, 0, torch.qint32),
        "rows": torch.quantize_per_channel(numbers, scales, zeros, 0, torch.qint8),
        "columns": torch.quantize_per_channel(numbers, scales[:3], zeros[:3], 1, torch.qint8),
    }
    torch.save(tensors, tmp_path / "m.pt")
    got = load_weights(tmp_path / "m.pt")
    for name, quantised_numbers in tensors.items():
        want = quantised_numbers.dequantize().numpy()
        np.testing.assert_allclose(got[name], want, rtol=1e-6, atol=0)


# ---- without PyTorch


def test_codes_become_numbers(load):
    got = load({"w": quantised()})["w"]
    assert got.dtype == np.float32 and np.array_equal(got, (SIX.reshape(2, 3) - 1) * 0.5)
    scales = tensor((2,), key="1", count=2)
    zeros = tensor((2,), key="2", dtype="int64", count=2)
    more = {"1": np.float32([0.5, 2]).tobytes(), "2": np.int64([0, 1]).tobytes(), "0": SIX.tobytes()}
    got = load({"w": quantised(quantizer=channels(scales, zeros))}, more)["w"]
    assert np.array_equal(got, (SIX.reshape(2, 3) - [[0], [1]]) * [[0.5], [2]])


BIAS = tensor((2,), key="1", count=2)
MORE = {"0": SIX.tobytes(), "1": np.float32([1, 2]).tobytes()}


def test_packed_weights_have_the_names_of_layers(load):
    pair = (quantised(), BIAS)
    got = load({"f.scale": BIAS, "f._packed_params.dtype": 1, "f._packed_params._packed_params": pair}, MORE)
    assert list(got) == ["f.weight", "f.bias"]
    got = load(
        {"c._packed_weight_ih": script(pair), "c._packed_weight_hh": script((quantised(), None))}, MORE
    )
    assert list(got) == ["c.weight_ih", "c.bias_ih", "c.weight_hh"]
    square = quantised((3, 2))
    one = level((quantised(), None), (square, None), [BIAS, BIAS])
    names = {f"r._all_weight_values.{i}.param": one for i in range(2)}
    ends = ["_l0", "_l0_reverse"]
    parts = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert list(load(names, MORE)) == [f"r.{part}{end}" for end in ends for part in parts]
    other = level((square, None), (square, None), [BIAS, BIAS])
    names["r._all_weight_values.1.param"] = other
    assert "r.weight_hh_l1" in load(names, MORE)


@pytest.mark.parametrize(
    "thing, words",
    [
        (
            {"w": quantised(quantizer=(Ops(b"ctorch\nper_tensor_affine\n"), 1, 1))},
            "w: quantised in another way",
        ),
        ({"w": quantised(quantizer=(Ops(b"ctorch\nper_tensor_affine\n"), 0.5, 1 << 40))}, "in another way"),
        ({"w": quantised(quantizer=(Ops(b"ctorch\nother\n"), 0.5, 1))}, "w: quantised in another way"),
        ({"w": quantised(quantizer=channels(BIAS, BIAS, 2))}, "w: quantised in another way"),
        (
            {"w": quantised(quantizer=channels(BIAS, BIAS, 1))},
            "w: expected a scale and a zero point for each",
        ),
        ({"w": quantised(quantizer=channels(BIAS, 3))}, "w: quantised in another way"),
        ({"w": quantised(quantizer=channels(quantised(), quantised()))}, "w: quantised in another way"),
        ({"w": quantised(dtype="QUInt4x2Storage")}, "w: dtype quint4x2 cannot be read"),
        (
            {
                f"r._all_weight_values.{i}.param": level((quantised(), BIAS), (quantised(), BIAS))
                for i in (0, 1)
            },
            "do not tell two levels from two directions",
        ),
        ({"r._all_weight_values.1.param": level((quantised(), BIAS), (quantised(), BIAS))}, "have holes"),
    ],
)
def test_hostile_quantised_tensors(load, thing, words):
    with pytest.raises(LoadError, match=words):
        load(thing, MORE)


@pytest.mark.parametrize(
    "part",
    [
        script((3, None)),
        script((quantised((6,)), None)),
        script(("x", [], [], [], [])),
        script(("x", [3, 4], [], [], [script((quantised(), None))] * 2)),
        Ops(b"ctorch\nScriptObject\n)\x81"),
    ],
)
def test_what_is_not_packed_is_left(load, part):
    """No tensor is found in it, so that the weights beside it are read."""
    names = ("r._all_weight_values.0.param", "c._packed_weight_ih", "f._packed_params._packed_params")
    assert list(load({"w": quantised()} | dict.fromkeys(names, part), MORE)) == ["w"]


def test_no_warning_of_numbers_out_of_range(load):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = load({"w": quantised(quantizer=(Ops(b"ctorch\nper_tensor_affine\n"), 1e308, 1))})
        pair = quantised(quantizer=(Ops(b"ctorch\nper_tensor_affine\n"), 1e308, 0)), None
        packed = load({"f.scale": BIAS, "f._packed_params._packed_params": pair}, MORE)
    assert np.isinf(got["w"][0]).all() and np.isinf(packed["f.weight_scale"]).all()
    with pytest.raises(tr.WeightsError, match="weight_scale: holds a number that is not finite"):
        tr.Linear.from_state_dict(packed, prefix="f")
