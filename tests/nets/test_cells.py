"""The recurrent cells that PyTorch lacks: other GRUs and LSTMs, and those for small machines.

Their witnesses are PyTorch's autograd with the formulas written out, live and recorded, the float64 oracles,
and ONNX Runtime's outputs.
"""

import copy
import json
import os
import pickle
import re
import sys
from pathlib import Path

import cell_cases
import dice
import numpy as np
import oracle
import oracle_gradients
import pytest
from cell_cases import (
    CLIPPED,
    FAST,
    GENERAL,
    LOW,
    MATRIX,
    NORMED,
    OUTPUT,
    SMALL,
    VARIANTS,
    ZONED,
    Case,
    case,
    gates_case,
    has_c,
    normed_case,
)
from folders import DATA, ROOT
from gradient_nets import Draw

import tinyrnn as tr
from tinyrnn import tracing
from tinyrnn.gates import FUNCTIONS

FORMATS = ("float16", "bfloat16", "int8", "int4")
SHARED = Path(os.environ.get("TINYRNN_DATA", ROOT.parent / "shared" / "data")).parent
ONNX = SHARED / "models" / "onnx_attributes"
EVERY = [*VARIANTS, *GENERAL, *NORMED, *MATRIX, *ZONED, *FAST, *LOW, OUTPUT[0], *SMALL]
NAMES = [
    "-".join((layer, *(v if isinstance(v, str) else k for k, v in options.items())))
    for layer, options in EVERY
]
variants = pytest.mark.parametrize(("layer", "options"), EVERY, ids=NAMES)
FUSED = [isa for isa in tr.available_isas() if isa not in ("scalar", "sse2")]


def names(given):
    return "hc"[: len(given.initial)]


def as_hx(parts):
    return tuple(parts) if len(parts) == 2 else parts[0]


def ours(given, net=None):
    """The output, the final states and all gradients, by name, in training mode."""
    net = net or given.net().train()
    y, final = net(given.x, as_hx(given.initial), lengths=given.lengths)
    dx, dinitial = net.backward(given.dy, as_hx(given.dfinal))
    final, dinitial = (part if isinstance(part, tuple) else (part,) for part in (final, dinitial))
    found = {"y": y, **dict(zip(names(given), final, strict=True)), "dx": dx}
    found |= {f"d{name}0": part for name, part in zip(names(given), dinitial, strict=True)}
    return found | {f"d {name}": array for name, array in net.grad_dict().items()}


def of_oracle(given, thrown=None):
    """The same in float64."""
    state, dstate = (dict(zip(names(given), part, strict=True)) for part in (given.initial, given.dfinal))
    ran = oracle_gradients.run(
        [("", given.layer, given.arguments)], given.tensors, given.x, state, given.lengths, {"dice": thrown}
    )
    dx, dinitial, grads = ran.backward(given.dy, dstate)
    y, final = ran.y, [ran.state[name] for name in names(given)]
    if thrown is None:
        y, final = oracle.run(
            given.layer, given.arguments, given.tensors, given.x, as_hx(given.initial), given.lengths
        )
        np.testing.assert_allclose(ran.y, y, rtol=1e-12, atol=1e-12)
        final = final if isinstance(final, tuple) else (final,)
    found = {"y": y, **dict(zip(names(given), final, strict=True)), "dx": dx}
    found |= {f"d{name}0": dinitial[name] for name in names(given)}
    return found | {f"d {name}": array for name, array in grads.items()}


def assert_near(got, want, tolerance):
    """Within ``tolerance`` of each array's largest entry."""
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert np.shape(got[name]) == array.shape, name
        apart = np.abs(np.asarray(got[name], np.float64) - array).max(initial=0.0)
        assert apart <= tolerance * max(1.0, np.abs(array).max(initial=0.0)), (name, apart)


# ---- PyTorch's autograd, live and recorded --------------------------------------------------------------


def written_out(given, thrown=None):
    pytest.importorskip("torch").set_num_threads(1)
    sys.path.append(str(DATA))
    try:
        from record_cells import results
    finally:
        sys.path.remove(str(DATA))
    want = results(given, thrown)
    assert_near(of_oracle(given, thrown), want, 1e-12)
    return want


def as_pytorch(given, tolerance=2e-5):
    assert_near(ours(given), written_out(given), tolerance)


@pytest.mark.parametrize(
    "variants",
    [VARIANTS, SMALL, FAST, OUTPUT, CLIPPED, MATRIX, LOW],
    ids=["variants", "small", "fast", "output", "clipped", "matrix", "low"],
)
@pytest.mark.parametrize("seed", range(240))
def test_as_pytorch_written_out(seed, variants):
    as_pytorch(case(seed, variants))


@pytest.mark.parametrize("seed", range(240))
def test_functions_of_gates_as_pytorch_written_out(seed):
    as_pytorch(gates_case(seed))


@pytest.mark.parametrize("seed", range(200))
def test_layer_norm_as_pytorch_written_out(seed):
    as_pytorch(normed_case(seed), 1e-4)  # the norm of numbers that hardly differ magnifies their rounding


def zoned_case(seed):
    """A layer with zoneout, and often with dropped states; or, as every sixth, with these alone."""
    draw = Draw(seed)
    layer, options = [*ZONED, ("LSTM", {}), *VARIANTS[:1]][seed % 7]
    p = round(float(draw.rng.uniform(0.1, 0.6)), 3) if seed % 7 > 4 or draw.flip() else 0.0
    return case(seed, [(layer, {**options, "recurrent_dropout": p})])


def sizes_of(given):
    return (*given.x.shape[:2], given.initial[0].shape[2], given.arguments["hidden_size"])


@pytest.mark.parametrize("seed", range(210))
def test_zoneout_and_recurrent_dropout_as_pytorch_written_out(seed):
    """In training with the numbers that a twin of the hash throws."""
    given = zoned_case(seed)
    net = given.net().train()
    found = ours(given, net)
    assert_near(found, written_out(given, dice.thrown(net, given.arguments, *sizes_of(given))), 2e-5)


@pytest.mark.parametrize("seed", range(21))
def test_zoneout_in_use_is_its_mean(seed):
    """And so it is in a net that trains around it."""
    given = zoned_case(seed)
    want = written_out(given, dice.mean(given.arguments, *sizes_of(given)[:3]))
    y, final = given.net()(given.x, as_hx(given.initial), lengths=given.lengths)
    final = final if isinstance(final, tuple) else (final,)
    inside = {"y": y, **dict(zip(names(given), final, strict=True))}
    assert_near(inside, {name: want[name] for name in inside}, 2e-5)
    net = tr.Sequential(given.net()).train()
    net[0].eval()
    state = {f"0.{name}": part for name, part in zip(names(given), given.initial, strict=True)}
    found = net(given.x, state=state, lengths=given.lengths)
    assert_near({"y": found, "dx": net.backward(given.dy)}, {"y": y, "dx": no_final(given)}, 2e-5)


def no_final(given):
    """The oracle's gradient of x without one of the final states."""
    zeros = given._replace(dfinal=[np.zeros_like(part) for part in given.dfinal])
    return of_oracle(zeros, dice.mean(given.arguments, *sizes_of(given)[:3]))["dx"]


def test_shares_of_what_is_dropped_and_of_what_stays():
    net = tr.LSTM(4, 400, zoneout=0.3, zoneout_cell=0.1, recurrent_dropout=0.2).train()
    net(np.zeros((20, 8, 4), np.float32))
    found = dice.thrown(net, net.config(), 20, 8, 400, 400)
    dropped = [np.mean(found.drop[0] == 0), found.h[0].mean(), found.c[0].mean()]
    np.testing.assert_allclose(dropped, [0.2, 0.3, 0.1], atol=0.03)
    before = found
    net(np.zeros((20, 8, 4), np.float32))
    again = dice.thrown(net, net.config(), 20, 8, 400, 400)
    assert (again.drop[0] != before.drop[0]).any() and (again.h[0] != before.h[0]).any()


RECORDED, CASES = {}, []
for recorded in (
    "cells.npz",
    "small_cells.npz",
    "fastgrnn.npz",
    "jordan.npz",
    "clipped.npz",
    "more_cells.npz",
    "low_rank.npz",
):
    with np.load(DATA / recorded) as file:
        RECORDED |= {name: file[name] for name in file.files}
        CASES += json.loads(str(file["index"]))["cases"]


@pytest.mark.parametrize("about", CASES, ids=lambda about: str(about["seed"]))
@pytest.mark.parametrize("isa", tr.available_isas())
def test_goldens(about, isa):
    tr.set_isa(isa)
    start = f"{about['seed']} "
    own = {name.removeprefix(start): array for name, array in RECORDED.items() if name.startswith(start)}
    given = {name.removeprefix("given "): own.pop(name) for name in list(own) if name.startswith("given ")}
    x, dy = given.pop("x"), given.pop("dy")
    initial, dfinal = (
        [given.pop(name) for name in pair if name in given] for pair in (("h0", "c0"), ("dh", "dc"))
    )
    recorded = Case(about["layer"], about["arguments"], given, x, initial, about["lengths"], dy, dfinal)
    assert_near(ours(recorded), own, 1e-5)
    assert_near(of_oracle(recorded), own, 1e-6)


def test_every_variant_is_recorded():
    seen = {(about["layer"], *sorted(set(about["arguments"]) & set(OPTIONS))) for about in CASES}
    recorded = [*VARIANTS, *SMALL, *FAST, *OUTPUT, *CLIPPED, *MATRIX, *LOW, *NORMED]
    assert seen >= {(layer, *sorted(set(options) & set(OPTIONS))) for layer, options in recorded}


OPTIONS = (
    "cell_clip",
    "reset_after",
    "peephole",
    "coupled",
    "activation",
    "recurrent_activation",
    "output_activation",
    "layer_norm",
    "u_rank",
    "w_rank",
)
TOLD = ("peephole", "layer_norm", "u_rank", "w_rank")  # by tensors


# ---- every way to run them -------------------------------------------------------------------------------


def draw(layer, options, seed=0, **arguments):
    """A layer with random weights, and an input (T, B, I)."""
    rng = np.random.default_rng(seed)
    net = getattr(tr, layer)(7, 21, **options, **arguments)
    net.load_state_dict(
        {name: rng.standard_normal(array.shape, np.float32) / 3 for name, array in net.state_dict().items()}
    )
    return net, rng.standard_normal((11, 3, 7), np.float32)


def is_zoned(options):
    return any(name.startswith("zoneout") for name in options)


def same(a, b):
    np.testing.assert_array_equal(a, b)


@variants
@pytest.mark.parametrize("format", ["float32", *FORMATS])
def test_same_bits_in_every_way(layer, options, format):
    net, x = draw(layer, options, num_layers=2)
    if format != "float32":
        net = tr.quantize(net, format)
    bits = []
    for isa in FUSED:
        tr.set_isa(isa)
        y, _ = net(x)
        bits.append(y)
        stream = net.stream(batch=3)
        same(np.stack([stream.step(frame) for frame in x]), y)
        chunks = net.stream(batch=3)
        same(np.concatenate([chunks.run(x[:4]), chunks.run(x[4:])]), y)
        same(net(x, threads=2)[0], y)
        for b in range(3):
            same(net(x[:, b])[0], y[:, b])
        shorter, _ = net(x, lengths=[11, 4, 9])
        same(shorter[:4, 1], y[:4, 1])
        assert not shorter[4:, 1].any() and not shorter[9:, 2].any()
    for other in bits[1:]:
        same(other, bits[0])


@variants
def test_a_forward_pass_in_training_has_the_bits_of_one_in_use(layer, options):
    for arguments in (
        {},
        {"bidirectional": True, "num_layers": 2},
        {"proj_size": 5} if layer == "LSTM" and not is_zoned(options) else {},
    ):
        net, x = draw(layer, options, **arguments)
        used, _ = net(x, lengths=[11, 3, 8])
        whole = tr.Sequential(net).train()
        net.train(not is_zoned(options))  # else the state stays by chance
        same(whole(x, lengths=[11, 3, 8]), used)


@variants
def test_a_cell_is_a_step_of_the_layer(layer, options):
    net, x = draw(layer, options)
    cell = getattr(tr, f"{layer}Cell")(7, 21, **options)
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in net.state_dict().items()})
    state = None
    y, _ = net(x)
    for t, frame in enumerate(x):
        state = cell(frame, state)
        same(state[0] if has_c(layer) else state, y[t])
    chosen = {name: value for name, value in options.items() if name not in TOLD}
    again = type(cell).from_state_dict(net.state_dict(), **chosen)
    assert again.config() == cell.config()
    same(np.asarray(again(x[0])), np.asarray(cell(x[0])))


@pytest.mark.parametrize("small", SMALL, ids=NAMES[-len(SMALL) :])
def test_quantised_small_cells(small):
    """Within what rounding the weights and the inputs explains; a cell's sums are those of a Linear layer."""
    layer, options = small
    net, x = draw(layer, options)
    weights = net.state_dict()
    linear = tr.Linear(7, len(weights["weight_ih_l0"]))
    linear.load_state_dict({name: weights[f"{name}_ih_l0"] for name in ("weight", "bias")})
    sums = tr.quantize(linear, "int8")(x)
    found, _ = tr.quantize(net, "int8")(x)
    core = {"weight_ih": np.eye(sums.shape[-1]), **{"weight_hh": weights.get("weight_hh_l0")}}
    states = [np.zeros(21)] * (1 + has_c(layer))
    for t, frame in enumerate(sums[:, 1]):
        states = oracle.step(layer, core, frame.astype(np.float64), tuple(states), options)
        np.testing.assert_allclose(found[t, 1], states[0], atol=2e-6, rtol=1e-5)


def test_a_window_of_qrnn():
    """Equation 2 of the paper: the convolution over the last two inputs, as a window in front."""
    rng = np.random.default_rng(2)
    net = tr.Sequential(tr.TimeUnfold(2, padding="causal"), tr.Flatten(), tr.QRNN(6, 5))
    own = {name.removeprefix("2."): array.astype(np.float64) for name, array in net.state_dict().items()}
    x = rng.standard_normal((8, 1, 3), np.float32)
    before, now = own["weight_ih_l0"][:, ::2], own["weight_ih_l0"][:, 1::2]
    past = np.concatenate([np.zeros((1, 1, 3)), x[:-1]])
    sums = past @ before.T + x @ now.T + own["bias_ih_l0"]
    state = (np.zeros(5), np.zeros(5))
    stream = net.stream(frame=(3,))
    for t, frame in enumerate(sums[:, 0]):
        state = oracle.step("QRNN", {"weight_ih": np.eye(15)}, frame, state, {})
        np.testing.assert_allclose(stream.step(x[t, 0]), state[0], atol=1e-6)


# ---- files and names ------------------------------------------------------------------------------------


@variants
def test_files_copies_and_names(layer, options, tmp_path):
    net, x = draw(layer, options, bidirectional=True)
    y, _ = net(x)
    assert all(f"{name}={value!r}" in repr(net) for name, value in options.items())
    net.save(tmp_path / "net.safetensors")
    for other in (tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert repr(other) == repr(net)
        same(other(x)[0], y)
    chosen = {name: value for name, value in options.items() if name not in TOLD}
    same(type(net).from_state_dict(net.state_dict(), **chosen)(x)[0], y)
    small = tr.quantize(net, "int8")
    small.save(tmp_path / "small.safetensors")
    same(tr.load(tmp_path / "small.safetensors")(x)[0], small(x)[0])


def test_without_the_options_nothing_is_different():
    for net in (tr.LSTM(3, 4), tr.GRU(3, 4), tr.LSTMCell(3, 4), tr.GRUCell(3, 4)):
        assert not set(OPTIONS) & set(net.config())
        assert not any(option in repr(net) for option in OPTIONS)
    assert "weight_peephole_l0" not in tr.LSTM(3, 4).state_dict()


@pytest.mark.parametrize("ranks", [{}, {"w_rank": 3}, {"u_rank": 2}, {"w_rank": 6, "u_rank": 5}])
@pytest.mark.parametrize("kind", [tr.FastGRNN, tr.FastGRNNCell])
def test_parameters_of_edgeml(kind, ranks):
    """A state_dict of its FastGRNNCell for PyTorch, and its formula: x W1' W2' + h U1' U2'."""
    rng = np.random.default_rng(5)
    sizes = {"bias_gate": (1, 9), "bias_update": (1, 9), "zeta": (1, 1), "nu": (1, 1)}
    for letter, inputs in (("W", 4), ("U", 9)):
        rank = ranks.get(f"{letter.lower()}_rank")
        sizes |= {f"{letter}1": (rank, inputs), f"{letter}2": (9, rank)} if rank else {letter: (9, inputs)}
    given = {f"rnn.cell.{name}": rng.standard_normal(size, np.float32) for name, size in sizes.items()}
    net = kind.from_state_dict(given, "rnn.cell.")
    assert {name: getattr(net, name) for name in ("w_rank", "u_rank")} == {
        "w_rank": None,
        "u_rank": None,
        **ranks,
    }
    x, h = rng.standard_normal((5, 4), np.float32), rng.standard_normal((5, 9), np.float32)
    own = {name.removeprefix("rnn.cell."): array.astype(np.float64) for name, array in given.items()}
    a = np.zeros((5, 9))
    for letter, array in (("W", x), ("U", h)):
        for name in (letter, f"{letter}1", f"{letter}2"):
            array = array @ own[name].T if name in own else array
        a += array
    sigmoid = oracle.sigmoid
    z = sigmoid(a + own["bias_gate"])
    share = sigmoid(own["zeta"]) * (1.0 - z) + sigmoid(own["nu"])
    want = z * h + share * np.tanh(a + own["bias_update"])
    found = net(x, h) if kind is tr.FastGRNNCell else net(x[None], h[None])[1][0]
    np.testing.assert_allclose(found, want, atol=2e-6)


def test_transposed_parameters_of_edgeml():
    """Those of EdgeML for TensorFlow."""
    shapes = {"W1": (4, 3), "W2": (3, 9), "U": (9, 9), "bias_gate": (1, 9), "bias_update": (1, 9)}
    given = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(tr.WeightsError, match=r"FastGRNN: W2 has shape \(3, 9\), expected 9 rows, as bias_g"):
        tr.FastGRNN.from_state_dict(given)


@pytest.mark.parametrize("options", [{"u_rank": 5}, {"w_rank": 5}, {"u_rank": 8, "w_rank": 3}])
def test_calibration_of_low_ranks(options):
    """Each factor is rounded for what it reads; 11 * 21 numbers are no whole number of rows of 5."""
    net, _ = draw("FastGRNN", options, bidirectional=True)
    x = np.random.default_rng(7).standard_normal((11, 1, 7), np.float32)
    ((seen,),) = tracing.watch(net, x)
    for i, ((_, read),) in seen.reads().items():
        name, _ = seen.core.params[i]
        reverse = "_reverse" * name.endswith("_reverse")
        y = seen.y[:, 0, 21:] if reverse else seen.y[:, 0, :21]
        before = np.concatenate([y[1:], np.zeros((1, 21))] if reverse else [np.zeros((1, 21)), y[:-1]])
        own = seen.tensors(int(bool(reverse)))
        want = {"weight_ir": x[:, 0], "weight_ih": x[:, 0], "weight_hr": before, "weight_hh": before}
        if "w_rank" in options:
            want["weight_ih"] = x[:, 0] @ own["weight_ir"].T
        if "u_rank" in options:
            want["weight_hh"] = before @ own["weight_hr"].T
        np.testing.assert_allclose(read, want[name.removesuffix("_reverse")], atol=1e-5)
    rounded, calibrated = (tr.quantize(net, "int4", given).state_dict() for given in (None, x))
    for i, ((_, read),) in seen.reads().items():
        name = seen.core.params[i][0]
        own = name.replace("_reverse", "_l0_reverse") if "_reverse" in name else f"{name}_l0"
        apart = [(one[own] - seen.core.get(i)) @ read.T for one in (rounded, calibrated)]
        assert np.square(apart[1]).sum() <= np.square(apart[0]).sum(), name


@pytest.mark.parametrize("options", [{}, {"recurrent_activation": "hard_sigmoid"}])
def test_calibration_of_a_reset_before_the_product(options):
    """The rows of n see r h, as the oracle has it."""
    net, x = draw("GRU", {"reset_after": False, **options})
    ((seen,),) = tracing.watch(net, x)
    (reads,) = [parts for i, parts in seen.reads().items() if seen.core.params[i][0] == "weight_hh"]
    (first, h), (last, m) = reads
    assert (first, last) == (slice(0, 42), slice(42, None))
    w = {name: array.astype(np.float64) for name, array in net.state_dict().items()}
    a = x.reshape(-1, 7) @ w["weight_ih_l0"][:21].T + h @ w["weight_hh_l0"][:21].T
    r = oracle.gate(
        options.get("recurrent_activation", "sigmoid"), a + w["bias_ih_l0"][:21] + w["bias_hh_l0"][:21]
    )
    np.testing.assert_allclose(m, r[0] * h, atol=1e-5)


@variants
def test_calibration_takes_every_cell(layer, options):
    """A matrix becomes no worse for what it reads; an IndRNN's vector is none."""
    net, x = draw(layer, options, num_layers=2, bidirectional=True)
    rounded, calibrated = (tr.quantize(net, "int4", given).state_dict() for given in (None, x))
    (seen, _) = next(iter(tracing.watch(net, x)))
    for i, parts in seen.reads().items():
        name = seen.core.params[i][0]
        own = name.replace("_reverse", "_l0_reverse") if "_reverse" in name else f"{name}_l0"
        for rows, read in parts:
            apart = [((one[own] - seen.core.get(i))[rows]) @ read.T for one in (rounded, calibrated)]
            assert np.square(apart[1]).sum() <= np.square(apart[0]).sum() * 1.0001, name


def test_tensors():
    shapes = {
        name: array.shape for name, array in tr.LSTM(3, 8, proj_size=2, peephole=True).state_dict().items()
    }
    assert shapes["weight_peephole_l0"] == (24,) and shapes["weight_hr_l0"] == (2, 8)
    coupled = tr.LSTM(3, 8, coupled=True, peephole=True, bidirectional=True).state_dict()
    assert coupled["weight_ih_l0"].shape == (24, 3) and coupled["weight_peephole_l0_reverse"].shape == (16,)
    assert {*tr.LSTMCell(3, 4, peephole=True).state_dict()} >= {"weight_peephole", "weight_ih"}
    assert {*tr.GRU(3, 4, reset_after=False).state_dict()} == {*tr.GRU(3, 4).state_dict()}


def test_wrong_options():
    with pytest.raises(TypeError, match="GRU: reset_after is 'yes', expected True or False"):
        tr.GRU(3, 4, reset_after="yes")
    with pytest.raises(TypeError, match="LSTM: peephole is None, expected True or False"):
        tr.LSTM(3, 4, peephole=None)
    with pytest.raises(TypeError, match="LSTMCell: coupled is 2, expected True or False"):
        tr.LSTMCell(3, 4, coupled=2)
    with pytest.raises(ValueError, match="LSTM: peephole is 'full', expected False, True or 'matrix'"):
        tr.LSTM(3, 4, peephole="full")
    with pytest.raises(ValueError, match="LSTM: got layer_norm=True with peephole='matrix', expected one"):
        tr.LSTM(3, 4, peephole="matrix", layer_norm=True)
    with pytest.raises(ValueError, match="LSTM: got zoneout with proj_size=2, expected one of them"):
        tr.LSTM(3, 4, proj_size=2, zoneout_cell=0.1)
    with pytest.raises(ValueError, match=r"GRUCell: zoneout is 1.5, expected a finite number in 0.0 .. 1.0"):
        tr.GRUCell(3, 4, zoneout=1.5)
    with pytest.raises(ValueError, match="RNN: recurrent_dropout is -1"):
        tr.RNN(3, 4, recurrent_dropout=-1)
    with pytest.raises(ValueError, match="FastGRNN: u_rank is 5, expected at most hidden_size, 4"):
        tr.FastGRNN(3, 4, u_rank=5)
    with pytest.raises(ValueError, match="FastGRNNCell: w_rank is 5, expected at most hidden_size, 4"):
        tr.FastGRNNCell(8, 4, w_rank=5)
    with pytest.raises(TypeError, match="FastGRNN: w_rank is '2'"):
        tr.FastGRNN(3, 4, w_rank="2")
    for net in (tr.LSTM(3, 4, peephole="matrix"), tr.LSTM(3, 4, zoneout=0.1)):
        with pytest.raises(Exception, match="which ONNX' cells lack"):
            net.to_onnx(os.devnull)
    with pytest.raises(AttributeError, match="GRU.reset_after: got True"):
        tr.GRU(3, 4, reset_after=False).reset_after = True
    state = tr.LSTM(3, 4, peephole=True).state_dict()
    with pytest.raises(tr.WeightsError, match="weight_peephole_l0"):
        tr.LSTM(3, 4).load_state_dict(state)
    gru = {**tr.GRU(3, 4).state_dict(), "weight_peephole_l0": np.zeros(12, np.float32)}
    with pytest.raises(tr.WeightsError, match="weight_peephole_l0 is of peepholes, which only an LSTM has"):
        tr.GRU.from_state_dict(gru)


# ---- looking inside, and training ------------------------------------------------------------------------


@variants
def test_gates_and_gradients_can_be_seen(layer, options):
    net, x = draw(layer, options, bidirectional=True)
    found = tr.inspect.gate_activations(net, x).layers["l0"]
    letters = LETTERS.get(layer, "igo" if "coupled" in options else "ifgo")
    assert {name.removesuffix("_reverse") for name in found} == {*letters, "h"}
    if layer == "GRU" and not is_zoned(options):
        h = np.concatenate([np.zeros((1, 3, 21), np.float32), found["h"][:-1]])
        np.testing.assert_allclose(found["n"] + found["z"] * (h - found["n"]), found["h"], atol=1e-5)
    drift = tr.drift(net, tr.quantize(net, "int8"), x)
    assert all(f"l0.{letter}" in drift.parts for letter in letters)


LETTERS = {
    "RNN": "",
    "GRU": "rzn",
    "FastGRNN": "z",
    "MinGRU": "zn",
    "MinLSTM": "ifg",
    "QRNN": "zfo",
    "IndRNN": "",
    "Jordan": "",
}


@variants
def test_hidden_gradients(layer, options):
    """dL/dh_t is dy_t and what the steps after t, from h_t on, give back for their initial state."""
    net, x = draw(layer, options)
    dy = np.random.default_rng(5).standard_normal((11, 3, 21), np.float32)
    found = tr.inspect.hidden_gradients(net, x, dy=dy)["l0"]
    for t in (2, 9):
        _, state = net(x[: t + 1])
        whole = tr.Sequential(net).train()
        net.train(not is_zoned(options))  # else the state stays by chance
        state = state if has_c(layer) else (state,)
        whole(x[t + 1 :], state={f"0.{name}": part for name, part in zip("hc", state, strict=False)})
        _, dstate = whole.backward(dy[t + 1 :], {})
        np.testing.assert_allclose(found[t], dy[t] + dstate["0.h"][0], rtol=1e-5, atol=1e-6)
        net.eval()


@variants
def test_fit_learns(layer, options):
    """The sum of the last two inputs, which needs a memory; for small cells one that fades."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((64, 12, 1), np.float32)
    y = x + np.concatenate([np.zeros((64, 1, 1), np.float32), x[:, :-1]], 1)
    for t in range(2, 12 if (layer, options) in SMALL else 0):
        y[:, t] = x[:, t] + y[:, t - 1] / 2
    x = np.concatenate([x, np.ones_like(x)], -1)  # layer normalisation takes the size off a single number
    net = tr.Sequential(
        getattr(tr, layer)(2, 12, batch_first=True, **options), tr.Linear(options.get("output_size", 12), 1)
    )
    adam = tr.optim.Adam(net, lr=0.02)
    losses = net.fit(x, y, 25, 16, loss="mse", optimizer=adam, seed=1, verbose=0)["loss"]
    if is_zoned(options):  # what stays by chance is noise in training, and the mean in use a blend
        losses[-1] = net.evaluate(x, y, loss="mse")["loss"]
        assert losses[-1] < losses[0] / 5, losses
    else:
        assert losses[-1] < losses[0] / 10, losses


# ---- ONNX Runtime ----------------------------------------------------------------------------------------


ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}  # our gates in ONNX' i, z r n and i o f g
WORD = re.compile("(?<!^)(?=[A-Z])")


def of_onnx(op, attributes, arrays):
    """The layer of an ONNX node with such attributes and inputs W, R, B and P."""
    hidden = arrays["R"].shape[-1]
    coupled = bool(attributes.get("input_forget"))
    order = (0, 3, 1) if coupled else ORDER[op]

    def rows(array):
        return np.concatenate([array[gate * hidden : (gate + 1) * hidden] for gate in order])

    tensors = {}
    for d, reverse in enumerate(("", "_reverse")[: len(arrays["W"])]):
        tensors[f"weight_ih_l0{reverse}"] = rows(arrays["W"][d])
        tensors[f"weight_hh_l0{reverse}"] = rows(arrays["R"][d])
        bias_ih, bias_hh = np.split(arrays["B"][d], 2)
        tensors[f"bias_ih_l0{reverse}"], tensors[f"bias_hh_l0{reverse}"] = rows(bias_ih), rows(bias_hh)
        if "P" in arrays:  # i o f
            i, o, f = np.split(arrays["P"][d], 3)
            tensors[f"weight_peephole_l0{reverse}"] = np.concatenate([i, o] if coupled else [i, f, o])
    options = {"clip": attributes.get("clip")}
    if op == "GRU":
        options["reset_after"] = bool(attributes.get("linear_before_reset"))
    if op == "LSTM":
        options["coupled"] = coupled
    alpha, beta = (list(attributes.get(f"activation_{which}", ())) for which in ("alpha", "beta"))
    functions = []
    for word in attributes.get("activations", ()):
        name = WORD.sub("_", word).lower()
        numbers = [list_.pop(0) for list_, _ in zip((alpha, beta), FUNCTIONS[name], strict=False) if list_]
        functions.append((name, *numbers))
    names = {
        "RNN": ["nonlinearity"],
        "GRU": ["recurrent_activation", "activation"],
        "LSTM": ["recurrent_activation", "activation", "output_activation"],
    }[op]
    if functions:
        ways = [functions[d * len(names) :][: len(names)] for d in range(len(arrays["W"]))]
        pairs = [way if len(way) > 1 else way[0] for way in zip(*ways, strict=True)]
        options |= dict(zip(names, pairs, strict=True))
    return getattr(tr, op).from_state_dict(tensors, **options)


def assert_as_onnx(net, x, outputs, lengths=None, state=None):
    """Compare with ONNX' outputs Y (T, directions, B, H), Y_h and Y_c."""
    y, final = net(x, state=state or None, lengths=lengths)
    final = final if isinstance(final, tuple) else (final,)
    want = [np.concatenate([*outputs[0].swapaxes(0, 1)], -1), *outputs[1:]]
    for part, array in zip((y, *final), want, strict=True):
        np.testing.assert_allclose(part, array, rtol=2e-5, atol=2e-6)


NODES = [
    path.stem
    for path in sorted(ONNX.glob("*.onnx"))
    if "layout1" not in path.stem and "reverse" not in path.stem
]


@pytest.mark.parametrize("name", NODES or [None])
def test_recorded_onnx_nodes(name):
    """ONNX Runtime's recorded outputs; reverse nodes and layout 1 are for who reads ONNX files."""
    onnx = pytest.importorskip("onnx")
    if name is None:
        pytest.skip("no ONNX Runtime outputs here")
    (node,) = onnx.load(ONNX / f"{name}.onnx").graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    attributes["activations"] = [word.decode() for word in attributes.get("activations", ())]
    with np.load(ONNX / f"{name}.npz") as read:
        had = {key: read[key] for key in read.files}
    arrays = {key.removeprefix("in_"): array for key, array in had.items() if key.startswith("in_")}
    outputs = [had[f"out_{i}_ort"] for i in range(2 + (node.op_type == "LSTM"))]
    state = {key: arrays[key] for key in ("h", "c") if key in arrays}
    assert_as_onnx(of_onnx(node.op_type, attributes, arrays), arrays["X"], outputs, arrays.get("L"), state)


@pytest.mark.parametrize("seed", range(60))
def test_random_onnx_nodes(seed):
    """Random attributes, in ONNX Runtime as it is installed."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    draw = Draw(seed)
    op = ("RNN", "GRU", "LSTM")[seed % 3]
    gates, count = {"RNN": (1, 1), "GRU": (3, 2), "LSTM": (4, 3)}[op]
    ways, inputs, hidden, steps, batch = draw.int(1, 2), draw.int(1, 9), draw.int(1, 20), draw.int(1, 6), 3
    words = {"".join(map(str.title, name.split("_"))): defaults for name, defaults in FUNCTIONS.items()}
    chosen = [str(draw.rng.choice(list(words))) for _ in range(count * ways)]
    attributes = {
        "hidden_size": hidden,
        "direction": "bidirectional" if ways == 2 else "forward",
        "activations": chosen,
        "clip": 0.8,
    }
    for place, which in enumerate(("alpha", "beta")):
        number = [float(draw.rng.uniform(0.2, 0.9)) for word in chosen if len(words[word]) > place]
        if number:
            attributes[f"activation_{which}"] = number
    if op == "GRU" and draw.flip():
        attributes["linear_before_reset"] = 1
    arrays = {
        "W": draw.normal(ways, gates * hidden, inputs) / 2,
        "R": draw.normal(ways, gates * hidden, hidden) / 4,
        "B": draw.normal(ways, 2 * gates * hidden) / 2,
    }
    if op == "LSTM":
        attributes["input_forget"] = draw.int(0, 1)
        if draw.flip():
            arrays["P"] = draw.normal(ways, 3 * hidden) / 2
    x = draw.normal(steps, batch, inputs)
    given = {"X": x, **arrays}
    names = ["X", "W", "R", "B", "", "", "", "P"][: 8 if "P" in arrays else 4]
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (op == "LSTM")]
    node = onnx.helper.make_node(op, names, outputs, **attributes)
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        op,
        [onnx.helper.make_tensor_value_info(name, float32, array.shape) for name, array in given.items()],
        [onnx.helper.make_tensor_value_info(name, float32, None) for name in outputs],
    )
    opset = [onnx.helper.make_opsetid("", 14)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert_as_onnx(of_onnx(op, attributes, arrays), x, session.run(None, given))


def test_cases_reach_every_option():
    drawn = [case(seed) for seed in range(240)]
    for option in ("bias", "bidirectional", "proj_size"):
        assert len({bool(given.arguments.get(option)) for given in drawn}) == 2
    assert {bool(set(given.arguments) & {"peephole"}) for given in drawn} == {True, False}
    assert cell_cases.VARIANTS == VARIANTS and any(min(g.lengths) < len(g.x) for g in drawn)
