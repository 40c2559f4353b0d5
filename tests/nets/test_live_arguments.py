"""Arguments that can be set on a layer: p, eps, momentum, negative_slope, and dropout between levels."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinyrnn as tr


class Case(NamedTuple):
    make: Callable[[Any], tr.Net]  # a net whose layer "0" or "1" has the argument
    layer: str
    name: str
    old: Any
    new: Any


def stack(kind: Any, **options: Any) -> Callable[[Any], tr.Net]:
    return lambda value: tr.Sequential(kind(3, 4, num_layers=3, dropout=value, **options), tr.Linear(4, 2))


def behind(kind: Any, name: str, *arguments: Any) -> Callable[[Any], tr.Net]:
    return lambda value: tr.Sequential(tr.Linear(3, 4), kind(*arguments, **{name: value}))


def constant(number: Any) -> tr.Net:
    return tr.Sequential(tr.Linear(3, 4), tr.Constant(number), tr.Reshape(1), tr.Linear(1, 4))


CASES = {
    "slope": Case(behind(tr.LeakyReLU, "negative_slope"), "1", "negative_slope", 0.01, 0.3),
    "ELU": Case(behind(tr.ELU, "alpha"), "1", "alpha", 1.0, 0.3),
    "CELU": Case(behind(tr.CELU, "alpha"), "1", "alpha", 1.0, 0.3),
    "beta": Case(behind(tr.Softplus, "beta"), "1", "beta", 1.0, 2.5),
    "threshold": Case(behind(tr.Softplus, "threshold"), "1", "threshold", 20.0, 0.25),
    "min_val": Case(behind(tr.Hardtanh, "min_val"), "1", "min_val", -1.0, 0.25),
    "max_val": Case(behind(tr.Hardtanh, "max_val"), "1", "max_val", 1.0, 0.25),
    "exponent": Case(behind(tr.Power, "exponent"), "1", "exponent", 2.0, 3.0),
    "scale": Case(behind(tr.Scale, "scale"), "1", "scale", 1.0, 0.5),
    "shift": Case(behind(tr.Scale, "shift"), "1", "shift", 0.0, 0.5),
    "value": Case(behind(tr.Pad, "value", (1, -1)), "1", "value", 0.0, 0.5),
    "number": Case(constant, "1", "number", 0.0, 0.5),
    "min": Case(behind(tr.Clip, "min"), "1", "min", None, 0.125),
    "max": Case(behind(tr.Clip, "max"), "1", "max", 0.5, None),
    "layer norm": Case(behind(tr.LayerNorm, "eps", 4), "1", "eps", 1e-5, 0.5),
    "group norm": Case(behind(tr.GroupNorm, "eps", 2, 4), "1", "eps", 1e-5, 0.5),
    "batch norm": Case(behind(tr.BatchNorm1d, "eps", 4), "1", "eps", 1e-5, 2.0),
    "momentum": Case(behind(tr.BatchNorm1d, "momentum", 4), "1", "momentum", 0.1, 0.7),
    "an average": Case(behind(tr.BatchNorm1d, "momentum", 4), "1", "momentum", 0.1, None),
    "no average": Case(behind(tr.BatchNorm1d, "momentum", 4), "1", "momentum", None, 0.25),
    "dropout": Case(behind(tr.Dropout, "p"), "1", "p", 0.5, 0.2),
    "some dropout": Case(behind(tr.Dropout, "p"), "1", "p", 0.0, 0.5),
    "no dropout": Case(behind(tr.Dropout, "p"), "1", "p", 0.5, 0.0),
    "LSTM": Case(stack(tr.LSTM), "0", "dropout", 0.5, 0.2),
    "GRU": Case(stack(tr.GRU), "0", "dropout", 0.0, 0.5),
    "RNN": Case(stack(tr.RNN), "0", "dropout", 0.5, 0.0),
}
UNSEEN = ("momentum", "p", "dropout")  # outside training they change nothing
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def made(case: Case, value: Any) -> tr.Net:
    """The case's net, the same weights each time; running statistics that are not where they begin."""
    tr.manual_seed(3)
    net = case.make(value)
    for name, array in net.state_dict().items():
        if "running" in name:
            setattr(net["1"], name.partition(".")[2], array + np.arange(1, 5))  # type: ignore[index]
    return net


def layer(net: Any, case: Case) -> Any:
    return net[case.layer]


def data(net: tr.Net, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Input and target of a batch of 5."""
    rng = np.random.default_rng(seed)
    shape = (7, 5) if net._recurrent else (5,)
    return rng.normal(size=(*shape, 3)).astype(np.float32), rng.normal(
        size=(*shape, 2 if net._recurrent else 4)
    ).astype(np.float32)


def same(one: Any, other: Any) -> None:
    for key, array in one.state_dict().items():
        assert np.array_equal(array, other.state_dict()[key]), key


# ---- where it takes effect -----------------------------------------------------------------------


@every_case
def test_calls(case: Case) -> None:
    net, wanted = made(case, case.old), made(case, case.new)
    x, _ = data(net)
    before = net(x)
    setattr(layer(net, case), case.name, case.new)
    assert np.array_equal(net(x), wanted(x))
    if case.name not in UNSEEN:
        assert not np.array_equal(net(x), before)
    setattr(layer(net, case), case.name, case.old)
    assert np.array_equal(net(x), before)


@every_case
def test_an_open_stream_at_its_next_step(case: Case) -> None:
    net, wanted = made(case, case.old), made(case, case.new)
    streams = [one.stream(5, frame=(3,)) for one in (net, wanted)]
    x = np.random.default_rng(1).normal(size=(4, 5, 3)).astype(np.float32)
    first = [stream.step(x[0]).copy() for stream in streams]
    setattr(layer(net, case), case.name, case.new)
    for frame in x[1:]:
        assert np.array_equal(streams[0].step(frame), streams[1].step(frame))
    assert np.array_equal(streams[0].run(x), streams[1].run(x))
    assert np.array_equal(first[0], first[1]) == (case.name in UNSEEN)


@every_case
def test_a_call_in_training_mode_and_its_way_back(case: Case) -> None:
    found = []
    for value in (case.old, case.new):
        net = made(case, value).train()
        x, dy = data(net)
        if value is case.old:
            net(x)
            setattr(layer(net, case), case.name, case.new)
            net.load_state_dict(made(case, case.new).state_dict())
        tr.manual_seed(8)
        net._practised().seed = 5
        net._practised().passes = 0
        y = net(x)
        dx = net.backward(dy)
        found.append((y, dx, *net.grad_dict().values(), *net.state_dict().values()))
    assert all(map(np.array_equal, *found))


@every_case
@pytest.mark.parametrize("threads", [1, 2])
def test_a_trainer_at_its_next_step(case: Case, threads: int) -> None:
    trained = []
    for value in (case.old, case.new):
        net = made(case, value)
        optimizer = tr.optim.SGD(net, lr=0.1)
        trainer = net.trainer(optimizer, tr.MSELoss(), batch=5, steps=7, threads=threads)
        x, y = data(net)
        if value is case.old:
            trainer.step(x, y)
            setattr(layer(net, case), case.name, case.new)
            net.load_state_dict(made(case, case.new).state_dict())
        net._practised().seed, net._practised().passes = 5, 0
        losses = [trainer.step(*data(net, seed)) for seed in range(3)]
        trained.append((net, losses, trainer.memory.tape))
    (one, losses, tape), (other, wanted, room) = trained
    assert losses == wanted and tape == room
    same(one, other)


def test_a_layer_in_evaluation_mode_drops_nothing_whatever_is_set() -> None:
    tr.manual_seed(0)
    net = tr.Sequential(tr.Linear(3, 4), tr.Dropout(0.5))
    net.train()[1].eval()
    trainer = net.trainer(tr.optim.SGD(net, lr=0.0), tr.MSELoss(), batch=5)
    x, y = data(net)
    wanted, loss = net(x), trainer.step(x, y)
    net[1].p = 0.9
    assert np.array_equal(net(x), wanted) and trainer.step(x, y) == loss


def test_dropout_in_a_trainer_without_any_before() -> None:
    """Its memory is laid out anew; the state that is carried fits all the same."""
    net = made(CASES["GRU"], 0.0)
    trainer = net.trainer(tr.optim.SGD(net, lr=0.0), tr.MSELoss(), batch=5, steps=7)
    state, (x, y) = trainer.new_state(), data(net)
    plain, room = trainer.step(x, y, state=state), trainer.memory.tape
    net["0"].dropout = 0.5  # type: ignore[index]
    assert len({trainer.step(x, y, state=state) for _ in range(4)} - {plain}) == 4
    assert trainer.memory.tape > room
    net["0"].dropout = 0.0  # type: ignore[index]
    state.numbers[:] = 0
    assert trainer.step(x, y, state=state) == plain and trainer.memory.tape == room


@every_case
def test_repr_files_copies_and_pickles(case: Case, tmp_path: Path) -> None:
    net = made(case, case.old)
    setattr(layer(net, case), case.name, case.new)
    assert f"{case.name}={case.new!r}" in repr(net)
    assert repr(net) == repr(made(case, case.new))
    path = tmp_path / "net.safetensors"
    net.save(path)
    x, _ = data(net)
    for twin in (tr.load(path), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert getattr(layer(twin, case), case.name) == case.new
        assert np.array_equal(twin(x), net(x))
        setattr(layer(twin, case), case.name, case.old)
        assert getattr(layer(net, case), case.name) == case.new


def test_a_layer_within_two_nets() -> None:
    shared = tr.LeakyReLU(0.5)
    nets = [tr.Sequential(shared), tr.Sequential(tr.Flatten(0), shared)]
    for net in nets:
        assert net([-2.0]).tolist() == [-1.0]
    shared.negative_slope = 0.25
    for net in nets:
        assert net([-2.0]).tolist() == [-0.5]


# ---- what is refused -----------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("bad", [-0.5, 1.5, float("nan"), float("inf"), "0.1", True, [0.1], None])
def test_what_the_constructor_refuses(case: Case, bad: Any) -> None:
    net = made(case, case.old)
    x, _ = data(net)
    before = net(x)
    try:
        case.make(bad)
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error)) as caught:
            setattr(layer(net, case), case.name, bad)
        assert str(caught.value) == str(error)
        assert getattr(layer(net, case), case.name) == case.old
        assert np.array_equal(net(x), before)
    else:
        setattr(layer(net, case), case.name, bad)
        assert getattr(layer(net, case), case.name) == bad


def test_a_cell_has_no_levels_to_drop_between() -> None:
    for cell in (tr.RNNCell(3, 4), tr.LSTMCell(3, 4), tr.GRUCell(3, 4)):
        with pytest.raises(AttributeError, match=r"Cell.dropout: got 0.5, but it is fixed"):
            cell.dropout = 0.5


def test_dropout_of_one_level_is_warned_of() -> None:
    lstm = tr.LSTM(3, 4)
    with pytest.warns(UserWarning, match="LSTM: dropout is 0.5 with num_layers=1") as caught:
        lstm.dropout = 0.5
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lstm.dropout = 0.0
        tr.LSTM(3, 4, num_layers=2).dropout = 0.5


def test_live_arguments_cannot_be_deleted() -> None:
    net = tr.Dropout()
    with pytest.raises(AttributeError, match="Dropout.p cannot be deleted"):
        del net.p
    assert net.p == 0.5


# ---- PyTorch ---------------------------------------------------------------------------------------


def test_pytorch_goes_by_them_alike() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 4)).astype(np.float32)
    for kind, arguments, name, value in (
        ("LeakyReLU", (), "negative_slope", 0.3),
        ("ELU", (), "alpha", 0.3),
        ("CELU", (), "alpha", 0.3),
        ("Softplus", (), "beta", 2.5),
        ("Softplus", (), "threshold", 0.25),
        ("Hardtanh", (), "min_val", 0.25),
        ("Hardtanh", (), "max_val", 0.25),
        ("LayerNorm", (4,), "eps", 0.5),
        ("BatchNorm1d", (4,), "eps", 2.0),
        ("BatchNorm1d", (4,), "momentum", 0.7),
        ("BatchNorm1d", (4,), "momentum", None),
        ("Dropout", (), "p", 0.0),
        ("Dropout", (), "p", 1.0),
    ):
        ours, theirs = getattr(tr, kind)(*arguments), getattr(torch.nn, kind)(*arguments)
        for training in (False, True, False):
            ours.train(training), theirs.train(training)
            setattr(ours, name, value), setattr(theirs, name, value)
            with torch.no_grad():
                wanted = theirs(torch.from_numpy(x)).numpy()
            assert np.allclose(ours(x), wanted, atol=1e-6), (kind, name, training)
        for key, array in ours.state_dict().items():
            assert np.allclose(array, theirs.state_dict()[key].numpy(), atol=1e-6), (kind, name, key)
