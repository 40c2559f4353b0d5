"""Attributes: a public one takes effect or is an error when set, and dir() lists them all."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from folders import ROOT

import tinyrnn as tr
from tinyrnn.attributes import ADVICE

LAYERS = sorted(name for name in tr.Net.types if hasattr(tr, name) and name not in ("Sequential", "Graph"))


def make(name: str) -> tr.Net:
    """A layer with 4 for each argument that it needs."""
    kind = tr.Net.types[name]
    needed = [p for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
    return kind(**{parameter.name: 4 for parameter in needed})


def public(thing: object) -> list[str]:
    return [name for name in vars(thing) if not name.startswith("_")]


# ---- arguments that are fixed ------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_arguments_are_those_of_the_constructor(name: str) -> None:
    kind = tr.Net.types[name]
    assert kind.arguments == tuple(inspect.signature(kind).parameters)


# What takes effect when it is set: test_live_arguments.py.
LIVE = {
    "LeakyReLU": {"negative_slope"},
    "ELU": {"alpha"},
    "CELU": {"alpha"},
    "Softplus": {"beta", "threshold"},
    "Hardtanh": {"min_val", "max_val"},
    "Power": {"exponent"},
    "Scale": {"scale", "shift"},
    "Pad": {"value"},
    "Constant": {"number"},
    "DotProductAttention": {"scale"},
    "Clip": {"min", "max"},
    "LayerNorm": {"eps"},
    "BatchNorm1d": {"eps", "momentum"},
    "BatchNorm2d": {"eps", "momentum"},
    "GroupNorm": {"eps"},
    "InstanceNorm1d": {"eps"},
    "InstanceNorm2d": {"eps"},
    "Dropout": {"p"},
    **{
        kind: {"dropout"}
        for kind in ("RNN", "LSTM", "GRU", "MinGRU", "MinLSTM", "QRNN", "IndRNN", "FastGRNN", "Jordan")
    },
}


@pytest.mark.parametrize("name", LAYERS)
def test_no_other_argument_of_a_layer_can_be_set(name: str) -> None:
    net = make(name)
    before, weights = net.config(), net.state_dict()
    arguments = {*net.arguments, *public(net)} - {"training", "num_batches_tracked"}
    assert set(net.arguments) <= arguments
    arguments -= LIVE.get(name, set())
    tensors = set(weights)
    for argument in arguments:
        for value in (3, 64, 0.25, True, None, "relu", before.get(argument), np.zeros(2)):
            # Linear's bias is an argument and a tensor
            errors = (TypeError, tr.ShapeError) if argument in tensors else AttributeError
            with pytest.raises(errors, match=f"{name}.{argument}: {'' if argument in tensors else 'got'}"):
                setattr(net, argument, value)
        if argument not in tensors:
            with pytest.raises(AttributeError, match="cannot be deleted"):
                delattr(net, argument)
    assert net.config() == before
    assert all(np.array_equal(net.state_dict()[key], array) for key, array in weights.items())


def test_the_error_says_what_to_build() -> None:
    with pytest.raises(
        AttributeError, match=r"LSTM.hidden_size: got 3, .*LSTM\(input_size=8, hidden_size=3\)"
    ):
        tr.LSTM(8, 16).hidden_size = 3
    with pytest.raises(AttributeError, match=r"GRU\(input_size=8, hidden_size=16, bidirectional=True\)"):
        tr.GRU(8, 16).bidirectional = True
    with pytest.raises(AttributeError, match=r"Linear.bias: got ndarray, .*bias=\.\.\.\)"):
        tr.Linear(2, 3, bias=False).bias = np.zeros(3)


def test_a_constructor_called_again_changes_nothing() -> None:
    net = tr.LSTM(3, 4)
    with pytest.raises(AttributeError, match="input_size"):
        net.__init__(3, 64)  # type: ignore[misc]
    assert net(np.zeros((5, 3)))[0].shape == (5, 4)


def test_layers_of_a_net_cannot_be_exchanged() -> None:
    layers = {"lstm": tr.LSTM(3, 4), "out": tr.Linear(4, 2)}
    net = tr.Sequential(layers)
    layers["more"] = tr.Linear(2, 2)
    assert len(net) == 2
    with pytest.raises(AttributeError, match="Sequential.out: layers are fixed when the net is made"):
        net.out = tr.Linear(4, 3)
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del net.out
    with pytest.raises(TypeError):
        net._layers["out"] = tr.Linear(4, 3)
    with pytest.raises(AttributeError, match="__class__ cannot be set"):
        net.lstm.__class__ = tr.GRU


# ---- what may be set, and what is misspelt ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trainingg", "LSTM has no attribute 'trainingg' that could be set; did you mean 'training'"),
        ("weight_ih_10", "did you mean 'weight_ih_l0'"),
        ("foo", "LSTM has no attribute 'foo' that could be set$"),
        ("train", "LSTM.train is a method"),
        ("num_parameters", "LSTM.num_parameters is read-only"),
        ("num_batches_tracked", "no attribute 'num_batches_tracked'"),
        ("parameters", r"no attribute 'parameters' that could be set: state_dict\(\)"),
    ],
)
def test_unknown_attributes_are_errors(name: str, message: str) -> None:
    net = tr.LSTM(3, 4)
    with pytest.raises(AttributeError, match=message):
        setattr(net, name, True)
    with pytest.raises(AttributeError, match="Sequential has no attribute|is a method|is read-only"):
        setattr(tr.Sequential(net), name, True)


def test_training_is_set_like_train() -> None:
    net = tr.Sequential(tr.Linear(3, 4), tr.Dropout(0.5))
    net[1].training = True
    assert [mode for _, mode in net._modes()] == [False, False, True]
    for value in (1, None, "yes", np.True_):
        with pytest.raises(TypeError, match="Linear.training: got .*, expected True or False"):
            net[0].training = value


def test_a_tensor_is_set_to_an_array_of_its_shape() -> None:
    rng = np.random.default_rng(0)
    for net in (make(name) for name in LAYERS):
        for key in [tensor.name for tensor in net._tensors()]:
            before = net.state_dict()
            array = rng.random(before[key].shape)
            setattr(net, key, array)
            after = net.state_dict()
            assert np.array_equal(after[key], array.astype(np.float32)), key
            assert all(np.array_equal(after[other], before[other]) for other in after if other != key), key
            what = f"{type(net).__name__}.{key}: "
            with pytest.raises(tr.ShapeError, match=rf"{what}got shape \(7, 7, 7\), expected \("):
                setattr(net, key, np.zeros((7, 7, 7)))
            with pytest.raises(TypeError, match=f"{what}got None, expected an array"):
                setattr(net, key, None)
            with pytest.raises(TypeError, match=f"{what}got dtype"):
                setattr(net, key, np.full(array.shape, "a"))
            assert np.array_equal(getattr(net, key), array.astype(np.float32))
    net = tr.Sequential(tr.Linear(2, 2, bias=False))
    net[0].weight = [[1, 2], [3, 4]]
    assert net([1, 1]).tolist() == [3, 7]


def test_a_tensor_of_a_smaller_format_is_rounded() -> None:
    net = tr.quantize(tr.Linear(4, 3), "int8")
    net.weight = np.full((3, 4), 0.5)
    assert np.allclose(net.weight, 0.5) and net.formats == {"Linear": "int8"}


def test_the_count_of_batches_is_a_count() -> None:
    norm = tr.BatchNorm1d(3)
    norm.num_batches_tracked = np.int64(7)
    assert norm.state_dict()["num_batches_tracked"] == 7
    with pytest.raises(ValueError, match="BatchNorm1d.num_batches_tracked is -1"):
        norm.num_batches_tracked = -1
    assert norm.num_batches_tracked == 7


class Named(tr.Sequential):
    """A subclass as a user writes it."""

    def __init__(self, *layers: Any, title: str = "") -> None:
        self.early = 1
        super().__init__(*layers)
        self.title = title


class Halved(tr.GRU):
    def __init__(self, size: int) -> None:
        super().__init__(size, size // 2)
        self.note = 0


def test_a_subclass_has_attributes_of_its_own() -> None:
    net = Named(tr.LSTM(3, 4), title="a")
    net.title, net.more, net._private, net.early = "b", 1, 2, 3
    del net.more
    assert net.title == "b" and net(np.zeros((5, 3))).shape == (5, 4)
    gru = Halved(8)
    gru.note += 1
    for name in ("hidden_size", "proj_size", "nonlinearity", "num_layers"):
        with pytest.raises(AttributeError, match=f"Halved.{name}: got 3"):
            setattr(gru, name, 3)
        with pytest.raises(AttributeError):
            delattr(gru, name)
    with pytest.raises(tr.ShapeError):
        gru.weight_ih_l0 = np.zeros(3)
    tr.Net.types.pop("Named"), tr.Net.types.pop("Halved")


@pytest.mark.parametrize("name", LAYERS)
def test_copies_are_whole_and_apart(name: str) -> None:
    net = make(name)
    for twin in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.config() == net.config() and public(twin) == [*public(net), "training"]
        with pytest.raises(AttributeError):
            twin.foo = 1
        for tensor in net._tensors():
            setattr(twin, tensor.name, np.full(tensor.shape, 2.5))
            assert not np.any(getattr(net, tensor.name) == 2.5)


# ---- losses, optimisers, trainers, streams ------------------------------------------------------


@pytest.mark.parametrize("name", tr.losses.NAMES)
def test_no_argument_of_a_loss_can_be_set(name: str) -> None:
    loss = tr.losses.NAMES[name]()
    kind = type(loss).__name__
    assert {*inspect.signature(type(loss)).parameters, "core"} == {*public(loss)}
    for argument in public(loss):
        for value in ("none", np.ones(9, np.float32), 50, getattr(loss, argument)):
            with pytest.raises(AttributeError, match=f"{kind}.{argument}: got .*; build a new {kind}"):
                setattr(loss, argument, value)
    with pytest.raises(AttributeError, match="did you mean 'reduction'"):
        loss.reductoin = "sum"
    assert pickle.loads(pickle.dumps(loss)).reduction == "mean"


def test_the_weights_of_a_loss_cannot_be_written() -> None:
    for loss in (tr.CrossEntropyLoss([1, 2]), tr.BCEWithLogitsLoss(2.0, pos_weight=[1, 2])):
        with pytest.raises(ValueError, match="read-only"):
            loss.weight[0] = 3


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adagrad", "Adam", "AdamW"])
def test_hyperparameters_are_set_in_groups(name: str) -> None:
    optimizer = getattr(tr.optim, name)(tr.Linear(2, 2), lr=0.5)
    for option in set(optimizer._options) - {"lr"}:
        with pytest.raises(
            AttributeError, match=rf'{name}.{option}: .*param_groups\[0\]\["{option}"\] = 0.5'
        ):
            setattr(optimizer, option, 0.5)
    for fixed in ("param_groups", "defaults"):
        with pytest.raises(AttributeError, match=f"{name}.{fixed}: got list, but it is fixed"):
            setattr(optimizer, fixed, [])
    with pytest.raises(AttributeError, match="has no attribute 'learning_rate'"):
        optimizer.learning_rate = 0.1
    optimizer.lr, optimizer.skipped = 0.25, 0
    assert optimizer.param_groups[0]["lr"] == 0.25
    for groups in ([{}], optimizer.param_groups):
        optimizer.param_groups[:] = [*optimizer.param_groups, *groups]
        with pytest.raises(ValueError, match="param_groups has .* groups, expected 1, as at first"):
            optimizer.step()
        del optimizer.param_groups[1:]
    assert optimizer.step()


def test_a_trainer_is_laid_out_once() -> None:
    net = tr.Sequential(tr.LSTM(3, 4), tr.Linear(4, 2))
    loss = tr.MSELoss()
    trainer = net.trainer(tr.optim.SGD(net), loss, batch=2, steps=5)
    assert public(trainer) == ["net", "optimizer", "loss", "batch", "steps"]
    for name in public(trainer):
        with pytest.raises(
            AttributeError, match=rf"Trainer.{name}: got .*make another, net.trainer\(.*{name}="
        ):
            setattr(trainer, name, 64)
    for name in ("norm", "memory", "step"):
        with pytest.raises(AttributeError, match=f"Trainer.{name} is"):
            setattr(trainer, name, 64)
    with pytest.raises(AttributeError, match="did you mean 'optimizer'"):
        trainer.optimiser = 1
    assert trainer.step(np.zeros((5, 2, 3)), np.zeros((5, 2, 2))) >= 0


def test_a_stream_has_a_state_and_nothing_else_to_set() -> None:
    stream = tr.LSTM(3, 4).stream()
    for name in ("net", "batch", "raw_state", "made_of"):
        with pytest.raises(AttributeError, match=f"Stream.{name} is read-only"):
            setattr(stream, name, 64)
    with pytest.raises(AttributeError, match="did you mean 'state'"):
        stream.stat = {}
    with pytest.raises(AttributeError):
        stream.state.h = np.ones((1, 1, 4))  # state["h"] it is
    stream.state["h"] = np.ones((1, 1, 4))
    assert stream.copy().state["h"].all()


def test_a_callback_can_stop_a_run_and_nothing_else() -> None:
    seen: list[str] = []

    class Stopping(tr.callbacks.Callback):
        def on_epoch_end(self, run: Any, *_: Any) -> None:
            for name in ("stop_training", "stop_", "batch_size", "net", "epochs"):
                try:
                    setattr(run, name, True)
                except AttributeError as error:
                    seen.append(str(error))
            run.stop = True

    net = tr.Linear(2, 1)
    history = net.fit(
        np.ones((4, 2)), np.ones((4, 1)), epochs=3, loss="mse", verbose=0, callbacks=[Stopping()]
    )
    assert history.epochs == 1
    assert "has no attribute 'stop_training'" in seen[0] and "did you mean 'stop'" in seen[1]
    assert [text.partition(":")[0] for text in seen[2:]] == ["Run.batch_size", "Run.net", "Run.epochs"]


# ---- what is not there --------------------------------------------------------------------------

TORCH = (
    *("parameters", "named_parameters", "forward", "to", "cuda", "cpu", "float", "half", "double"),
    "extra_repr",
    *(
        "modules",
        "named_modules",
        "children",
        "register_forward_hook",
        "requires_grad_",
        "add_module",
        "apply",
    ),
    *("append", "buffers", "flatten_parameters", "reset_parameters", "register_buffer", "type", "compile"),
)
KERAS = ("compile", "get_weights", "set_weights", "weights", "layers", "count_params", "trainable", "draw")


@pytest.mark.parametrize("name", sorted({*TORCH, *KERAS}))
def test_names_of_other_frameworks_get_advice(name: str) -> None:
    for net in (tr.LSTM(3, 4), tr.ReLU(), tr.Sequential(tr.Linear(3, 4))):
        assert not hasattr(net, name) and getattr(net, name, 5) == 5
        with pytest.raises(AttributeError, match=f"{type(net).__name__} has no .* '{name}': ") as caught:
            getattr(net, name)
        assert ADVICE[name] in str(caught.value)
    assert tr.Sequential({name: tr.ReLU()})[name] is not None


def test_advice_hides_no_attribute() -> None:
    for name in (*LAYERS, "Sequential"):
        assert not {*ADVICE} & {*dir(tr.Net.types[name])}


def test_dir_lists_layers_tensors_and_public_names() -> None:
    net = tr.Sequential({"lstm": tr.LSTM(3, 4), "0": tr.Linear(4, 2)})
    assert {"lstm", "stream", "fit"} <= {*dir(net)} and "0" not in dir(net)
    assert {"weight_ih_l0", "bias_hh_l0", "hidden_size", "training"} <= {*dir(net.lstm)}
    assert {"running_mean", "num_batches_tracked"} <= {*dir(tr.BatchNorm1d(3))}
    assert [name for name in dir(tr) if not name.startswith("__")] == sorted(tr.__all__)
    assert "__version__" in dir(tr)


# ---- arguments that do not bind ------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LAYERS, "Sequential"])
def test_errors_of_arguments_name_the_layer(name: str) -> None:
    kind = tr.Net.types[name]
    with pytest.raises(TypeError, match=f"^{name}: got unknown argument 'foo', expected "):
        kind(foo=1)
    for argument in kind.arguments:
        unknown = f"^{name}: got unknown argument '{argument}x', expected .*; did you mean '{argument}'"
        with pytest.raises(TypeError, match=unknown):
            kind(**{argument + "x": 1})
    if name != "Sequential":
        with pytest.raises(TypeError, match=f"^{name}: too many positional arguments"):
            kind(*range(20))
        if any(p.default is p.empty for p in inspect.signature(kind).parameters.values()):
            with pytest.raises(TypeError, match=f"^{name}: missing a required argument"):
                kind()


def test_the_errors_within_a_constructor_are_its_own() -> None:
    with pytest.raises(TypeError, match="^LSTM: hidden_size is '4', expected an integer"):
        tr.LSTM(3, "4")
    with pytest.raises(TypeError, match="got unknown argument 'device', expected .*: leave it out"):
        tr.LSTM(3, 4, device="cpu")
    with pytest.raises(TypeError, match="LSTM: got unknown argument 'foo'"):
        tr.LSTM.from_state_dict(tr.LSTM(3, 4).state_dict(), foo=1)


NET = tr.Sequential(tr.LSTM(3, 4), tr.Linear(4, 2))


class Torch:
    """An object that has what tells PyTorch's from ours."""

    __module__ = "torch.nn.modules"
    reduction = "mean"

    def state_dict(self) -> dict[str, object]:
        return {}

    def __call__(self, *arguments: object) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: tr.optim.Adam(NET, learning_rate=1),
            "Adam: got .* 'learning_rate', expected params, lr, .*'lr'",
        ),
        (lambda: tr.optim.AdamW(NET, epsilon=1), "AdamW: .* 'epsilon', .*; did you mean 'eps'"),
        (lambda: tr.optim.SGD(), "SGD: missing a required argument: 'params'; expected params, lr"),
        (
            lambda: tr.optim.StepLR(tr.optim.SGD(NET), 2, gama=1),
            "StepLR: .* 'gama', .*; did you mean 'gamma'",
        ),
        (
            lambda: tr.MSELoss(reduce="sum"),
            "MSELoss: .* 'reduce', expected reduction; did you mean 'reduction'",
        ),
        (lambda: tr.callbacks.EarlyStopping(patienc=1), "EarlyStopping: .* 'patienc', .*'patience'"),
        (lambda: tr.LSTM(3, units=4), "LSTM: .* 'units', .*; did you mean 'hidden_size'"),
        (lambda: NET.fit([], [], lr=3), r"Net.fit: .* 'lr', expected x, y, .*: .*tr.optim.Adam\(net, lr="),
        (lambda: NET.fit([], [], epoch=3), "Net.fit: .* 'epoch', .*; did you mean 'epochs'"),
        (
            lambda: tr.Sequential([NET]),
            r"Sequential: layer .0. is list, .*: Sequential\(\*layers\) takes those of a list",
        ),
        (
            lambda: tr.Sequential(Torch()),
            r"Sequential: layer .0. is Torch, .*: tr.from_torch\(\) makes a net",
        ),
        (lambda: tr.Sequential(tr.LSTM), "Sequential: layer .0. is the class LSTM, .*: call it with its arg"),
        (lambda: tr.LSTM(3, 4, return_sequences=True), r"LSTM: .* 'return_sequences', .*: .*tr.LastStep\(\)"),
        (lambda: tr.concat(tr.Input(3)), "concat: got <Value of Input: .*, expected a list of values"),
        (lambda: tr.Input(3) - np.ones(3), "Subtract: got ndarray .*; an array is weights of a layer"),
        (
            lambda: NET.trainer(loss="mse", optimizer=tr.optim.SGD(NET)),
            r"trainer: loss is str, .* tr.MSELoss\(",
        ),
        (lambda: NET.load_state_dict("w.pt"), r"load_state_dict: got 'w.pt', .* tr.load_weights\(path\)"),
        (lambda: NET.fit([], [], loss=Torch()), "loss: got .*Torch.*, expected a name or a loss object"),
        (lambda: NET.fit([]), "Net.fit: missing a required argument: 'y'; expected x, y"),
        (lambda: NET.trainer(optimiser=3), "Net.trainer: .* 'optimiser', .*; did you mean 'optimizer'"),
        (lambda: NET.predict([], batchsize=1), "Net.predict: .* 'batchsize', .*; did you mean 'batch_size'"),
        (lambda: NET.stream(thread=2), "Net.stream: .* 'thread', .*; did you mean 'threads'"),
        (lambda: tr.quantize(NET, "int8", calibrate=1), "quantize: .* 'calibrate', .*'calibration'"),
    ],
)
def test_errors_of_arguments_name_the_nearest(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        call()


def test_the_constructor_of_a_users_optimiser_is_its_own() -> None:
    class Mine(tr.optim.SGD):
        def __init__(self, net: tr.Net, *, mine: int) -> None:
            super().__init__(net, mine=mine)  # type: ignore[call-arg]

    with pytest.raises(TypeError, match="^SGD: got unknown argument 'mine'"):
        Mine(NET, mine=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'yours'"):
        Mine(NET, yours=3)  # type: ignore[call-arg]


# ---- names that a module lacks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        (tr, "LTSM", "LSTM"),
        (tr, "lstm", "LSTM"),
        (tr, "Dense", "Linear"),
        (tr, "Sequental", "Sequential"),
        (tr, "load_weight", "load_weights"),
        (tr.optim, "Adm", "Adam"),
        (tr.optim, "adam", "Adam"),
        (tr.optim, "RMSProp", "RMSprop"),
        (tr.optim, "ReduceLRonPlateau", "ReduceLROnPlateau"),
    ],
)
def test_a_name_that_a_module_lacks(module: Any, name: str, meant: str) -> None:
    message = f"module '{module.__name__}' has no attribute '{name}'; did you mean '{meant}'?"
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert str(caught.value) == message
    assert not hasattr(module, name)
    with pytest.raises(AttributeError, match="has no attribute 'xyzzy'$"):
        module.xyzzy  # noqa: B018
    with pytest.raises(
        AttributeError, match="has no attribute '__optim__'$"
    ):  # asked by tools, seldom missed
        module.__optim__  # noqa: B018


def test_a_namespace_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'nn': layers are in tinyrnn itself, tr\.LSTM$"):
        tr.nn.LSTM(3, 4)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("argument", "name", "meant"),
    [
        ("loss", "mae", "l1"),
        ("loss", "sparse_categorical_crossentropy", "cross_entropy"),
        ("loss", "binary_crossentropy", "bce_with_logits"),
        ("optimizer", "adm", "adam"),
    ],
)
def test_a_loss_or_an_optimizer_by_a_wrong_name(argument: str, name: str, meant: str) -> None:
    x, y = np.zeros((1, 3, 3), np.float32), np.zeros((1, 3, 2), np.float32)
    arguments: Any = {"loss": "mse", argument: name}
    with pytest.raises(ValueError, match=f"{argument}: got '{name}', .*; did you mean '{meant}'"):
        NET.fit(x, y, **arguments)


def test_the_interpreter_adds_no_second_suggestion() -> None:
    code = "import tinyrnn as tr; tr.Sequental"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stderr.strip().splitlines()[-1].endswith("'Sequental'; did you mean 'Sequential'?")
