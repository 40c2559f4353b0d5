"""Optimisers: PyTorch's parameters and state after 50 steps; saved and loaded; groups, clipping, errors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from folders import DATA
from optim_cases import OPTIMISERS, STEPS, flat, gradients, weights

import tinyrnn as tr
from tinyrnn._training import STATES

GOLDENS = DATA / "optim.npz"

# Relative to the largest number. What is seen is 4e-7.
TOLERANCE = 1e-5


def built() -> tr.Sequential:
    net = tr.Sequential(tr.LSTM(3, 5), tr.LayerNorm(5), tr.Linear(5, 2))
    net.load_state_dict(weights())
    return net


def put(net: tr.Net, grads: dict[str, np.ndarray]) -> None:
    """Gradients by name, as a backward pass leaves them."""
    for prefix, leaf in net._leaves():
        for tensor in leaf._tensors():
            if prefix + tensor.name in grads:
                gradient = grads[prefix + tensor.name].reshape(tensor.core.params[tensor.param][1])
                tensor.core.pack_into(tensor.param, tensor.core.gradients(), np.ascontiguousarray(gradient))
                tensor.core.graded |= 1 << tensor.param


def got(net: tr.Net) -> dict[str, np.ndarray]:
    """The gradients by name."""
    return {
        prefix + tensor.name: tensor.core.unpack_from(tensor.param, tensor.core.gradients())
        for prefix, leaf in net._leaves()
        for tensor in leaf._tensors()
    }


def trained(net: tr.Net, optimizer: tr.optim.Optimizer, first: int = 0, last: int = STEPS) -> np.ndarray:
    for step in range(first, last):
        put(net, gradients(step))
        assert optimizer.step()
    return flat(net.state_dict().values())


def made(case: str, net: tr.Net, **more: Any) -> tr.optim.Optimizer:
    kind, arguments = OPTIMISERS[case]
    optimizer: tr.optim.Optimizer = getattr(tr.optim, kind)(net, **{**arguments, **more})
    return optimizer


def near(array: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(array, wanted, rtol=0, atol=TOLERANCE * max(np.abs(wanted).max(), 1e-30))


def states_of(optimizer: tr.optim.Optimizer) -> dict[str, np.ndarray]:
    state = optimizer.state_dict()["state"]
    return {name: flat(state[i][name] for i in state) for name in state.get(0, {})}


# ---- the formulas ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", OPTIMISERS)
def test_goldens(case: str) -> None:
    net = built()
    optimizer = made(case, net)
    with np.load(GOLDENS) as goldens:
        near(trained(net, optimizer), goldens[case])
        states = states_of(optimizer)
        assert {f"{case}/{name}" for name in states} == {
            name for name in goldens if name.startswith(f"{case}/")
        }
        for name, array in states.items():
            near(array, goldens[f"{case}/{name}"])


@pytest.mark.parametrize("case", OPTIMISERS)
@pytest.mark.parametrize("l1", [0, 0.05])
@pytest.mark.parametrize("clip", ["", "norm", "value"])
def test_against_torch(case: str, l1: float, clip: str) -> None:
    torch = pytest.importorskip("torch")
    net = built()
    ours = made(case, net, l1=l1)
    params = {name: torch.nn.Parameter(torch.from_numpy(w)) for name, w in weights().items()}
    kind, arguments = OPTIMISERS[case]
    theirs = getattr(torch.optim, kind)(params.values(), **arguments)
    sign = -1 if arguments.get("maximize") else 1
    for step in range(STEPS):
        grads = gradients(step)
        for name, param in params.items():
            param.grad = torch.from_numpy(grads[name].copy())
        put(net, grads)
        if clip == "norm":
            norm = torch.nn.utils.clip_grad_norm_(params.values(), 0.5)
            assert tr.optim.clip_grad_norm(net, 0.5) == pytest.approx(float(norm), rel=1e-6)
        elif clip == "value":
            torch.nn.utils.clip_grad_value_(params.values(), 0.3)
            tr.optim.clip_grad_value(net, 0.3)
        for param in params.values():
            param.grad += sign * l1 * torch.sign(param.detach())
        ours.step()
        theirs.step()
    near(flat(net.state_dict().values()), flat(param.detach().numpy() for param in params.values()))


@pytest.mark.parametrize("case", OPTIMISERS)
def test_same_bits_on_every_instruction_set(case: str) -> None:
    results = {}
    for isa in tr.available_isas():
        tr.set_isa(isa)
        net = built()
        results[isa] = trained(net, made(case, net, l1=0.01))
    fused = [isa for isa in results if tr._core.is_fused(isa)]
    for isa in fused[1:]:
        assert results[isa].tobytes() == results[fused[0]].tobytes(), isa
    for array in results.values():
        near(array, results[tr.available_isas()[-1]])


@pytest.mark.parametrize("case", OPTIMISERS)
def test_padding_stays_zero(case: str) -> None:
    """Packed weights are zero beyond their tensors, whatever eps and the initial sums are."""
    net = built()
    eps = {} if OPTIMISERS[case][0] == "SGD" else {"eps": 0.0}
    trained(net, made(case, net, l1=0.1, **eps))
    for _, leaf in net._leaves():
        for core in leaf._cores():
            again = np.zeros_like(core.packed())
            for i in range(len(core.params)):
                core.pack_into(i, again, core.get(i))
            np.testing.assert_array_equal(core.packed(), again)


def test_no_gradient_at_all() -> None:
    """0 / 0 is 0: without eps, too, a tensor that never had a gradient stays as it is."""
    for kind in (tr.optim.RMSprop, tr.optim.Adagrad, tr.optim.Adam):
        net = built()
        put(net, {name: np.zeros_like(array) for name, array in weights().items()})
        optimizer = kind(net, eps=0)
        optimizer.step()
        assert all(one["step"] == 1 for one in optimizer.state_dict()["state"].values())
        np.testing.assert_array_equal(flat(net.state_dict().values()), flat(weights().values()))


def test_a_variance_never_turns_negative() -> None:
    """Under a constant gradient, v and the square of its mean are the same but for rounding."""
    net = built()
    optimizer = tr.optim.RMSprop(net, alpha=0.5, centered=True)
    grads = {name: np.full_like(w, 0.3) for name, w in weights().items()}
    for _ in range(100):
        put(net, grads)
        optimizer.step()
    assert np.isfinite(flat(net.state_dict().values())).all()


def test_running_statistics_are_left_alone() -> None:
    net = tr.Sequential(tr.Linear(3, 4), tr.BatchNorm1d(4))
    before = net.state_dict()
    put(net, {name: np.ones_like(array) for name, array in before.items() if "num" not in name})
    optimizer = tr.optim.Adam(net, weight_decay=0.1)
    optimizer.step()
    after = net.state_dict()
    assert optimizer.param_groups[0]["params"] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    for name in before:
        assert np.array_equal(before[name], after[name]) == ("running" in name or "num" in name), name


def test_a_layer_frozen_by_itself() -> None:
    """Whichever net it is frozen through, and whichever the optimiser was given."""
    net = built()
    optimizer = tr.optim.SGD([{"params": net[0]}, {"params": net[2]}], lr=1)
    net.freeze("2")
    trained(net, optimizer, 0, 1)
    np.testing.assert_array_equal(net[2].weight, weights()["2.weight"])
    assert not np.array_equal(net[0].weight_hh_l0, weights()["0.weight_hh_l0"])


def test_training_as_torch_does() -> None:
    """Gradients through time, then the step, 50 times over."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(4, 9)
    ours = tr.LSTM(4, 9)
    ours.load_state_dict(theirs.state_dict())
    ours.train()
    mine, other = tr.optim.Adam(ours, lr=0.01), torch.optim.Adam(theirs.parameters(), lr=0.01)
    rng = np.random.RandomState(0)
    for _ in range(STEPS):
        x, target = (rng.standard_normal((6, 3, size)).astype(np.float32) for size in (4, 9))
        y, _ = ours(x)
        mine.zero_grad()
        ours.backward(y - target)
        norm = tr.optim.clip_grad_norm(ours, 1.5)
        mine.step()
        other.zero_grad()
        (0.5 * (theirs(torch.from_numpy(x))[0] - torch.from_numpy(target)).square().sum()).backward()
        assert norm == pytest.approx(
            float(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.5)), rel=1e-4
        )
        other.step()
    near(flat(ours.state_dict().values()), flat(param.detach().numpy() for param in theirs.parameters()))


def test_a_shared_layer_is_updated_once() -> None:
    layer = tr.Linear(2, 2, bias=False)
    net, other = tr.Sequential(layer, layer), tr.Sequential(tr.Linear(2, 2), layer)
    layer.load_state_dict({"weight": np.zeros((2, 2))})
    put(layer, {"weight": np.ones((2, 2), np.float32)})
    optimizer = tr.optim.SGD([net, other], lr=1)
    optimizer.step()
    assert optimizer.param_groups[0]["params"] == ["0.weight", "0.weight", "0.bias"]
    np.testing.assert_array_equal(layer.weight, -np.ones((2, 2)))


def test_zero_grad() -> None:
    net = built()
    optimizer = tr.optim.SGD(net, lr=0.1)
    put(net, gradients(0))
    optimizer.zero_grad()
    assert not any(gradient.any() for gradient in got(net).values())


def by_hand(net: tr.Net, x: np.ndarray) -> None:
    """Forwards, and backwards from the output itself."""
    output = net(x)
    net.backward(output[0] if isinstance(output, tuple) else output)


@pytest.mark.parametrize("case", OPTIMISERS)
def test_tensors_without_a_gradient_are_skipped(case: str) -> None:
    """Two nets share an optimiser: only a net that went backwards since zero_grad moves, decays and counts.

    PyTorch does the same, since its zero_grad makes gradients None.
    """
    torch = pytest.importorskip("torch")
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    nets = [tr.Linear(3, 5).train(), tr.Linear(3, 7).train()]
    twins = [torch.nn.Linear(3, size) for size in (5, 7)]
    for net, twin in zip(nets, twins, strict=True):
        net.load_state_dict(twin.state_dict())
    kind, arguments = OPTIMISERS[case]
    arguments = {"weight_decay": 0.1, **arguments}
    mine = getattr(tr.optim, kind)(nets, **arguments)
    theirs = getattr(torch.optim, kind)([p for twin in twins for p in twin.parameters()], **arguments)

    def agree(what: str) -> None:
        ours, other = mine.state_dict()["state"], theirs.state_dict()["state"]
        kept = [i for i in ours if ours[i].get("step", 1) > 0]
        assert kept == [i for i in sorted(other) if other[i].get("step", 1) > 0], what
        for i in kept:
            for name, value in other[i].items():
                if value is not None:
                    near(np.asarray(ours[i][name]), value.numpy())
        for net, twin in zip(nets, twins, strict=True):
            for name, param in twin.named_parameters():
                near(net.state_dict()[name], param.detach().numpy())

    def move(*which: int) -> None:
        for i in which:
            by_hand(nets[i], x)
            (0.5 * twins[i](torch.from_numpy(x)).square().sum()).backward()

    turns: list[tuple[str, tuple[int, ...]]] = [
        ("nothing yet", ()),
        ("one", (0,)),
        ("nothing after zero_grad", ()),
        ("both", (0, 1)),
        ("the other", (1,)),
        ("both again", (1, 0)),
    ]
    for what, which in turns:
        mine.zero_grad()
        theirs.zero_grad()
        move(*which)
        for _ in range(2):  # a gradient stays until it is cleared
            assert mine.step()
            theirs.step()
            agree(what)
    nets[0].zero_grad()
    twins[0].zero_grad()
    mine.step()
    theirs.step()
    agree("one net cleared by itself")
    assert tr.optim.clip_grad_norm(nets[0], 1.0) == 0.0
    assert not any(array.any() for array in nets[0].grad_dict().values())


def test_a_tensor_frozen_at_the_backward_has_no_gradient() -> None:
    """Tensor by tensor within a layer; a tensor frozen after it loses its gradient at zero_grad, too."""
    torch = pytest.importorskip("torch")
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    net, twin = tr.Linear(3, 5).train(), torch.nn.Linear(3, 5)
    net.load_state_dict(twin.state_dict())
    mine = tr.optim.AdamW(net, lr=0.1, weight_decay=0.5)
    theirs = torch.optim.AdamW(twin.parameters(), lr=0.1, weight_decay=0.5)

    def backward() -> None:
        by_hand(net, x)
        (0.5 * twin(torch.from_numpy(x)).square().sum()).backward()

    def step() -> None:
        mine.step()
        theirs.step()
        for name, param in twin.named_parameters():
            near(net.state_dict()[name], param.detach().numpy())
        assert {i: int(one["step"]) for i, one in mine.state_dict()["state"].items()} == {
            i: int(one["step"]) for i, one in sorted(theirs.state_dict()["state"].items())
        }

    def freeze(frozen: bool) -> None:
        (net.freeze if frozen else net.unfreeze)("bias")
        twin.bias.requires_grad_(not frozen)

    freeze(True)
    backward()
    freeze(False)
    step()
    backward()
    step()
    freeze(True)
    mine.zero_grad()
    theirs.zero_grad()
    freeze(False)
    step()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trainer_moves_its_own_net_alone(threads: int) -> None:
    """Its step clears all gradients of the optimiser: another net's tensors have none then."""
    net, other = tr.Sequential(tr.LSTM(3, 4), tr.Linear(4, 2)), tr.Linear(3, 2)
    optimizer = tr.optim.AdamW([net, other], lr=0.1, weight_decay=0.5)
    other.train()
    by_hand(other, np.ones((2, 3), np.float32))
    trainer = net.trainer(optimizer, tr.MSELoss(), batch=2, steps=3, threads=threads)
    before = other.state_dict()
    x, y = np.ones((3, 2, 3), np.float32), np.ones((3, 2, 2), np.float32)
    for count in (1, 2):
        trainer.step(x, y)
        np.testing.assert_equal(other.state_dict(), before)
        steps = [int(one["step"]) for one in optimizer.state_dict()["state"].values()]
        assert steps == [count] * 6
    moved = net.state_dict()
    optimizer.step()  # the trainer's gradients are still there, as after a loop by hand
    assert not np.array_equal(net.state_dict()["1.bias"], moved["1.bias"])
    np.testing.assert_equal(other.state_dict(), before)
    moved = net.state_dict()
    optimizer.zero_grad()
    optimizer.step()
    np.testing.assert_equal(net.state_dict(), moved)
    trainer.step(x, y)  # zero_grad between two of its steps changes nothing
    assert [int(one["step"]) for one in optimizer.state_dict()["state"].values()] == [4] * 6


# ---- state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", OPTIMISERS)
def test_goes_on_to_the_same_bits(case: str) -> None:
    whole, first, second = built(), built(), built()
    optimizer = made(case, whole)
    wanted = trained(whole, optimizer)
    saved = made(case, first)
    trained(first, saved, 0, 20)
    state = saved.state_dict()
    second.load_state_dict(first.state_dict())
    loaded = getattr(tr.optim, OPTIMISERS[case][0])(second)
    trained(second, loaded, 0, 1)  # what it remembers is replaced
    second.load_state_dict(first.state_dict())
    loaded.load_state_dict(state)
    trained(first, saved, 20, 22)  # a state_dict is a copy
    assert trained(second, loaded, 20).tobytes() == wanted.tobytes()
    for name, array in states_of(optimizer).items():
        assert array.tobytes() == states_of(loaded)[name].tobytes()


@pytest.mark.parametrize("case", OPTIMISERS)
def test_state_to_and_from_torch(case: str) -> None:
    torch = pytest.importorskip("torch")
    kind, arguments = OPTIMISERS[case]
    net = built()
    ours = made(case, net)
    params = {name: torch.nn.Parameter(torch.from_numpy(w)) for name, w in weights().items()}
    theirs = getattr(torch.optim, kind)(params.values(), **arguments)

    def step_torch(first: int, last: int) -> None:
        for step in range(first, last):
            for name, gradient in gradients(step).items():
                params[name].grad = torch.from_numpy(gradient)
            theirs.step()

    step_torch(0, 15)
    net.load_state_dict({name: param.detach() for name, param in params.items()})
    ours.load_state_dict(theirs.state_dict())
    trained(net, ours, 15, 30)
    for name, array in net.state_dict().items():
        params[name].data = torch.from_numpy(array)
    state = ours.state_dict()
    state["state"] = {
        i: {name: torch.from_numpy(np.asarray(value)) for name, value in one.items()}
        for i, one in state["state"].items()
    }
    theirs.load_state_dict(state)
    step_torch(30, STEPS)
    final = flat(param.detach().numpy() for param in params.values())
    with np.load(GOLDENS) as goldens:
        near(final, goldens[case])
    assert set(theirs.state_dict()["param_groups"][0]) >= set(arguments)


def test_state_dict_is_as_torch_has_it() -> None:
    torch = pytest.importorskip("torch")
    for case, (kind, arguments) in OPTIMISERS.items():
        net = built()
        ours = made(case, net)
        params = {name: torch.nn.Parameter(torch.from_numpy(w)) for name, w in weights().items()}
        theirs = getattr(torch.optim, kind)(params.values(), **arguments)
        for steps in (0, 1):
            mine, state = ours.state_dict(), theirs.state_dict()
            assert mine["state"].keys() == state["state"].keys()
            for i, one in state["state"].items():
                assert {name: tuple(value.shape) for name, value in one.items()} == {
                    name: value.shape for name, value in mine["state"][i].items()
                }
                assert {str(value.dtype) for value in one.values()} == {
                    f"torch.{value.dtype}" for value in mine["state"][i].values()
                }
            for name, value in state["param_groups"][0].items():
                assert mine["param_groups"][0][name] == value, (case, name)
            if steps == 0:
                trained(net, ours, 0, 1)
                for name, gradient in gradients(0).items():
                    params[name].grad = torch.from_numpy(gradient)
                theirs.step()


def wrong_states(state: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """The words that a message must have, and the way to spoil a state_dict of Adam for it."""

    def at(*path: Any, value: Any = None) -> Callable[[], Any]:
        def spoil() -> None:
            inner = state
            for key in path[:-1]:
                inner = inner[key]
            if value is None:
                del inner[path[-1]]
            else:
                inner[path[-1]] = value

        return spoil

    return {
        "got \"state\", expected a mapping with 'state' and 'param_groups'": at("param_groups"),
        "got int and dict, expected a list of 'param_groups'": at("param_groups", value=3),
        "a group has no 'params'": at("param_groups", 0, "params"),
        "groups of [1] tensors, expected [8]": at("param_groups", 0, "params", value=[0]),
        "lr is -1": at("param_groups", 0, "lr", value=-1),
        "0.weight_hh_l0: exp_avg has shape (2,), expected (20, 5)": at(
            "state", 1, "exp_avg", value=np.zeros(2)
        ),
        'lacks "exp_avg_sq"': at("state", 7, "exp_avg_sq"),
        'lacks "step"': at("state", 7, "step"),
        'has "momentum_buffer"': at("state", 0, "momentum_buffer", value=np.zeros((20, 3))),
        "step is -1": at("state", 0, "step", value=-1),
        "step is 0.5": at("state", 0, "step", value=np.array(0.5)),
        "exp_avg: got dtype": at("state", 0, "exp_avg", value=np.array("no")),
        'state of "9": no group has such a tensor': at("state", 9, value={"step": 1}),
    }


@pytest.mark.parametrize("message", wrong_states({}))
def test_a_wrong_state_changes_nothing(message: str) -> None:
    net = built()
    optimizer = tr.optim.Adam(net)
    trained(net, optimizer, 0, 3)
    before = optimizer.state_dict()
    state = copy.deepcopy(before)
    wrong_states(state)[message]()
    with pytest.raises((TypeError, ValueError)) as error:
        optimizer.load_state_dict(state)
    assert message in str(error.value)
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_a_state_of_another_optimiser() -> None:
    net = built()
    sgd, adam = tr.optim.SGD(net, momentum=0.5), tr.optim.Adam(net)
    trained(net, adam, 0, 1)
    with pytest.raises(
        tr.WeightsError,
        match='0.weight_ih_l0: state has "exp_avg", "exp_avg_sq" and lacks "momentum_buffer": expected',
    ):
        sgd.load_state_dict({**adam.state_dict(), "param_groups": sgd.state_dict()["param_groups"]})


def untold(optimizer: Any, net: tr.Net, state: Any) -> None:
    """A WeightsError, and nothing has changed."""
    before, numbers = copy.deepcopy(optimizer.state_dict()), net.state_dict()
    with pytest.raises(tr.WeightsError, match=f"{type(optimizer).__name__}: .*(has|lacks) .*expected"):
        optimizer.load_state_dict(state)
    np.testing.assert_equal(optimizer.state_dict(), before)
    np.testing.assert_equal(net.state_dict(), numbers)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("target", OPTIMISERS)
def test_each_kind_of_state_into_each_kind_of_optimiser(target: str, steps: int) -> None:
    """Another kind's state is refused: fresh or not, ours or PyTorch's, with any options."""
    torch = pytest.importorskip("torch")
    name = OPTIMISERS[target][0]
    kin = {"Adam", "AdamW"} if name in ("Adam", "AdamW") else {name}
    for source in OPTIMISERS:
        kind, arguments = OPTIMISERS[source]
        from_net, net = built(), built()
        saved = made(source, from_net)
        trained(from_net, saved, 0, steps)
        params = [torch.nn.Parameter(torch.from_numpy(w)) for w in weights().values()]
        theirs = getattr(torch.optim, kind)(params, **arguments)
        for step in range(steps):
            for param, gradient in zip(params, gradients(step).values(), strict=True):
                param.grad = torch.from_numpy(gradient)
            theirs.step()
        optimizer = made(target, net)
        trained(net, optimizer, 0, 1)
        for state in (saved.state_dict(), theirs.state_dict()):
            if kind not in kin:
                untold(optimizer, net, state)
                continue
            optimizer.load_state_dict(state)
            group = optimizer.param_groups[0]
            if "Adam" in name:  # as PyTorch's: an AdamW stays one, an Adam takes what is loaded
                decoupled = name == "AdamW" or state["param_groups"][0]["decoupled_weight_decay"]
                assert group["decoupled_weight_decay"] == decoupled
            assert all(group[option] == value for option, value in arguments.items())


@pytest.mark.parametrize("kind", ["Adamax", "NAdam", "RAdam", "Adadelta", "ASGD", "Rprop"])
def test_a_state_of_an_unknown_optimiser(kind: str) -> None:
    torch = pytest.importorskip("torch")
    params = [torch.nn.Parameter(torch.from_numpy(w)) for w in weights().values()]
    state = getattr(torch.optim, kind)(params).state_dict()
    for name in ("SGD", "RMSprop", "Adagrad", "Adam", "AdamW"):
        net = built()
        untold(getattr(tr.optim, name)(net), net, state)


def test_a_state_of_an_early_pytorch() -> None:
    """Its groups lack options that came later: ours are kept."""
    for case, lacking in (
        ("SGD", ("nesterov", "maximize")),
        ("RMSprop", ("centered", "maximize")),
        ("Adagrad", ("eps", "initial_accumulator_value", "maximize")),
        ("Adam", ("amsgrad", "maximize", "decoupled_weight_decay")),
    ):
        net = built()
        optimizer = getattr(tr.optim, case)(net)
        trained(net, optimizer, 0, 2)
        state = optimizer.state_dict()
        for name in (*lacking, "l1", "param_names", "foreach", "differentiable", "capturable", "fused"):
            state["param_groups"][0].pop(name, None)
        getattr(tr.optim, case)(built()).load_state_dict(state)


def test_the_entries_of_schedules_in_a_group_are_numbers() -> None:
    optimizer = tr.optim.SGD(built())
    state = optimizer.state_dict()
    for value in ("x", None, True, float("nan"), [1]):
        state["param_groups"][0]["initial_lr"] = value
        with pytest.raises((TypeError, ValueError), match="SGD: state_dict: group 0: initial_lr is"):
            optimizer.load_state_dict(state)
    assert "initial_lr" not in optimizer.param_groups[0]


# ---- groups ---------------------------------------------------------------------------------------


def test_groups_by_layer_and_by_name() -> None:
    """Layers have rates of their own; PyTorch with the same groups agrees."""
    named, layered = built(), built()
    by_name = tr.optim.AdamW(
        [
            {"params": ["2", "1.bias"], "lr": 0.05},
            {"params": ["0."], "weight_decay": 0, "betas": (0.5, 0.9)},
            {"params": "1.weight"},
        ],
        lr=0.01,
        net=named,
    )
    assert [group["params"] for group in by_name.param_groups] == [
        ["1.bias", "2.weight", "2.bias"],
        ["0.weight_ih_l0", "0.weight_hh_l0", "0.bias_ih_l0", "0.bias_hh_l0"],
        ["1.weight"],
    ]
    assert [group["lr"] for group in by_name.param_groups] == [0.05, 0.01, 0.01]
    by_layer = tr.optim.AdamW(
        [{"params": [layered[0]], "weight_decay": 0, "lr": 0.2}, {"params": layered[2]}]
    )
    trained(layered, by_layer)
    np.testing.assert_array_equal(layered[1].weight, weights()["1.weight"])

    result = trained(named, by_name)
    torch = pytest.importorskip("torch")
    params = {name: torch.nn.Parameter(torch.from_numpy(w)) for name, w in weights().items()}
    groups = [
        {**group, "params": [params[name] for name in group["params"]]} for group in by_name.param_groups
    ]
    for group in groups:
        del group["l1"]
    theirs = torch.optim.AdamW(groups)
    for step in range(STEPS):
        for name, gradient in gradients(step).items():
            params[name].grad = torch.from_numpy(gradient)
        theirs.step()
    near(result, flat(param.detach().numpy() for param in params.values()))
    again = tr.optim.AdamW([{"params": group["params"]} for group in by_name.param_groups], net=built())
    again.load_state_dict(by_name.state_dict())
    np.testing.assert_equal(again.state_dict(), by_name.state_dict())


def test_lr() -> None:
    net = built()
    optimizer = tr.optim.SGD([{"params": net[0], "lr": 0.5}, {"params": net[2]}], lr=0.25)
    assert optimizer.lr == 0.5
    optimizer.lr = 0.125
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]
    with pytest.raises(ValueError, match="SGD: lr is -1"):
        optimizer.lr = -1
    optimizer.param_groups[1]["lr"] = -2
    put(net, gradients(0))
    with pytest.raises(ValueError, match="SGD: group 1: lr is -2"):
        optimizer.step()
    np.testing.assert_array_equal(flat(net.state_dict().values()), flat(weights().values()))
    optimizer.param_groups[1]["lr"] = 1
    optimizer.step()
    np.testing.assert_allclose(net[2].bias, weights()["2.bias"] - gradients(0)["2.bias"], rtol=1e-6)


def test_options_may_change_between_steps() -> None:
    """Momentum that comes later begins with that gradient, as in PyTorch."""
    net = built()
    optimizer = tr.optim.SGD(net, lr=0.1)
    trained(net, optimizer, 0, 3)
    optimizer.param_groups[0].update(momentum=0.9, dampening=0.5)
    trained(net, optimizer, 3, 4)
    for i, gradient in enumerate(gradients(3).values()):
        np.testing.assert_array_equal(optimizer.state_dict()["state"][i]["momentum_buffer"], gradient)


def test_frozen_tensors() -> None:
    """They do not move, do not count, and go on with the step at which they stopped."""
    net = built()
    optimizer = tr.optim.Adam(net, weight_decay=0.1)
    trained(net, optimizer, 0, 4)
    names = {"0.weight_hh_l0", "2.bias"}
    net.freeze(*names)
    before = net.state_dict()
    put(net, gradients(4))
    rest = [gradient for name, gradient in gradients(4).items() if name not in names]
    assert tr.optim.clip_grad_norm(net, 1e9) == pytest.approx(np.linalg.norm(flat(rest).astype(np.float64)))
    np.testing.assert_array_equal(got(net)["2.bias"], gradients(4)["2.bias"])
    optimizer.step()
    for name, array in net.state_dict().items():
        assert np.array_equal(array, before[name]) == (name in names), name
    state = optimizer.state_dict()["state"]
    assert [int(state[i]["step"]) for i in range(8)] == [5, 4, 5, 5, 5, 5, 5, 4]
    net.unfreeze()
    trained(net, optimizer, 5, 6)
    assert [int(state["step"]) for state in optimizer.state_dict()["state"].values()] == [
        6,
        5,
        6,
        6,
        6,
        6,
        6,
        5,
    ]


def test_tensors_frozen_from_the_start_take_no_memory() -> None:
    net = built()
    whole = tr.optim.Adagrad(net, initial_accumulator_value=0.5).state_bytes
    net.freeze("0")
    optimizer = tr.optim.Adagrad(net, initial_accumulator_value=0.5)
    assert 0 < optimizer.state_bytes < whole
    state = optimizer.state_dict()["state"]
    assert all((one["sum"] == 0.5).all() for one in state.values())


# ---- gradients ------------------------------------------------------------------------------------


def test_clipping() -> None:
    net = built()
    put(net, gradients(0))
    all_of_them = flat(gradients(0).values()).astype(np.float64)
    norm = np.sqrt((all_of_them**2).sum())
    assert tr.optim.clip_grad_norm(net, 2 * norm) == pytest.approx(norm, rel=1e-14)
    np.testing.assert_equal(got(net), gradients(0))
    tr.optim.clip_grad_norm([net], norm / 4)
    assert tr.optim.clip_grad_norm(tr.optim.SGD(net), 1e9) == pytest.approx(norm / 4, rel=1e-6)
    tr.optim.clip_grad_value(net, 0.125)
    assert max(np.abs(gradient).max() for gradient in got(net).values()) == 0.125
    with pytest.raises(TypeError, match="nets is NoneType, expected a net"):
        tr.optim.clip_grad_norm(None, 1.0)
    with pytest.raises(ValueError, match="clip_grad_norm: max_norm is -1"):
        tr.optim.clip_grad_norm(net, -1)
    with pytest.raises(ValueError, match="clip_grad_value: clip_value is nan"):
        tr.optim.clip_grad_value(net, float("nan"))


def test_the_norm_has_the_same_bits_everywhere() -> None:
    net = tr.GRU(9, 70)
    rng = np.random.RandomState(0)
    put(net, {name: rng.standard_normal(w.shape).astype(np.float32) for name, w in net.state_dict().items()})
    norms = set()
    for isa in tr.available_isas():
        tr.set_isa(isa)
        norms.add(tr.optim.clip_grad_norm(net, 1e9))
    assert len(norms) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite(value: float) -> None:
    net = built()
    optimizer = tr.optim.Adam(net)
    trained(net, optimizer, 0, 2)
    tr.optim.check_gradients(net)
    before, state = net.state_dict(), optimizer.state_dict()
    grads = gradients(2)
    grads["0.bias_ih_l0"][3] = np.nan
    grads["1.weight"][1:4] = value
    put(net, grads)
    kind = "NaN" if np.isnan(value) else "inf"
    message = f"the gradient of 1.weight (layer_norm) has 3 {kind} in 5 numbers; so have 1 tensors before it."
    with pytest.raises(tr.NonFiniteError) as error:
        optimizer.step()
    assert str(error.value) == f"Adam: {message} The weights are as before."
    assert isinstance(error.value, ArithmeticError)
    with pytest.warns(RuntimeWarning, match="This step is left out"):
        assert not optimizer.step(nonfinite="warn")
    assert optimizer.skipped == 1
    assert not optimizer.step(nonfinite="skip")
    assert optimizer.skipped == 2
    with pytest.raises(tr.NonFiniteError, match="check_gradients: the gradient of 1.weight"):
        tr.optim.check_gradients(optimizer)
    assert not np.isfinite(tr.optim.clip_grad_norm(net, 1))
    np.testing.assert_equal(got(net), grads)
    np.testing.assert_equal(net.state_dict(), before)
    np.testing.assert_equal(optimizer.state_dict(), state)
    with pytest.raises(ValueError, match="nonfinite is 'hope', expected one of stop, skip, warn"):
        optimizer.step(nonfinite="hope")


# ---- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("SGD", {"lr": -1}, "SGD: lr is -1"),
        ("SGD", {"lr": "fast"}, "SGD: lr is 'fast', expected a number"),
        ("SGD", {"lr": float("inf")}, "SGD: lr is inf"),
        ("SGD", {"momentum": -0.5}, "SGD: momentum is -0.5"),
        ("SGD", {"nesterov": True}, "SGD: nesterov is True, expected a momentum above 0 and dampening 0"),
        ("SGD", {"nesterov": 1}, "SGD: nesterov is 1, expected True or False"),
        ("SGD", {"l1": -1}, "SGD: l1 is -1"),
        ("RMSprop", {"alpha": 1.5}, "RMSprop: alpha is 1.5"),
        ("RMSprop", {"eps": -1e-8}, "RMSprop: eps is -1e-08"),
        ("Adagrad", {"lr_decay": -1}, "Adagrad: lr_decay is -1"),
        ("Adagrad", {"initial_accumulator_value": float("nan")}, "initial_accumulator_value is nan"),
        ("Adam", {"betas": (0.9, 1.0)}, "Adam: betas[1] is 1.0, expected 0 <= beta < 1"),
        ("Adam", {"betas": (-0.1, 0.9)}, "Adam: betas[0] is -0.1"),
        ("Adam", {"betas": 0.9}, "Adam: betas is 0.9, expected two numbers"),
        ("AdamW", {"weight_decay": -1}, "AdamW: weight_decay is -1"),
    ],
)
def test_bad_hyperparameters(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        getattr(tr.optim, name)(tr.Linear(2, 1), **arguments)
    assert message in str(error.value)


def test_bad_parameters() -> None:
    net = built()
    for params, named, message in (
        ([], None, "SGD: params is an empty list"),
        (3, None, "SGD: params is int, expected a net or a list"),
        ("0", net, "SGD: params is str, expected a net or a list"),
        (tr.ReLU(), None, "SGD: got no parameters, expected some to train"),
        ([net, 3], None, "SGD: params holds Sequential, int, expected nets or names"),
        ([net, {"params": net}], None, "SGD: params has groups and other items"),
        ([{"lr": 1}], None, "SGD: group 0: got no 'params', expected params, lr"),
        ([{"params": net, "learning_rate": 1}], None, 'SGD: group 0: got unknown "learning_rate"'),
        ([{"params": []}], None, "SGD: group 0: got no parameters, expected some to train"),
        ([{"params": ["0"]}], None, "SGD: group 0: params holds names, expected net= with them"),
        (
            [{"params": ["0", "3", "weight"]}],
            net,
            'group 0: got "3", "weight", expected parameters or layers of the net',
        ),
        ([{"params": net[0]}, {"params": net}], None, "group 1: 0.weight_ih_l0 is in group 0 already"),
        (
            [{"params": ["0"]}, {"params": ["0.bias_ih_l0"]}],
            net,
            "group 1: 0.bias_ih_l0 is in group 0 already",
        ),
        ([{"params": net, "lr": -1}], None, "SGD: group 0: lr is -1"),
    ):
        with pytest.raises((TypeError, ValueError)) as error:
            tr.optim.SGD(params, net=named)
        assert message in str(error.value)
    with pytest.raises(TypeError, match="expected float32 to train"):
        tr.optim.SGD(tr.quantize(net, "int8"))


def test_every_optimiser_of_the_core_is_there() -> None:
    kinds = {
        kind._kind for kind in vars(tr.optim).values() if isinstance(kind, type) and hasattr(kind, "_kind")
    }
    assert kinds == set(STATES)


def test_repr() -> None:
    assert repr(tr.optim.Adagrad(built())) == (
        "Adagrad(\n  (8 tensors) lr=0.01, lr_decay=0.0, eps=1e-10, weight_decay=0.0, "
        "initial_accumulator_value=0.0, maximize=False, l1=0.0\n)"
    )


def test_an_optimiser_is_not_copied() -> None:
    with pytest.raises(TypeError, match=r"SGD: cannot be copied or pickled.* state_dict\(\)"):
        copy.deepcopy(tr.optim.SGD(tr.Linear(1, 1), lr=0.1))
