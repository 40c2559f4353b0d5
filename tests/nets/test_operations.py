"""Operations within frames and of several values. Witnesses: an oracle, differences, and PyTorch."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import operation_cases as cases
import oracle_operations as oracle
import pytest
from folders import DATA
from operation_cases import BATCH, CASES, RECORDED, STEPS, Case, aligned, drawn, gradient

import tinyrnn as tr

EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
TOLERANCE = 2e-6  # of an array's largest number


@pytest.fixture(scope="module")
def goldens() -> dict[str, list[Any]]:
    """The recorded y and gradients of each case, by its name."""
    with np.load(DATA / "operations.npz") as file:
        index, numbers = json.loads(str(file["index"])), file["numbers"]
    assert index["torch"].startswith("2.13.")
    found, at = {}, 0
    for case in index["cases"]:
        arrays = []
        for shape in case["shapes"]:
            count = int(np.prod(shape))
            arrays.append(numbers[at : at + count].reshape(shape))
            at += count
        found[case["name"]] = arrays
    assert at == len(numbers) and list(found) == [case.name for case in CASES]
    return found


def net_of(case: Case, still: tuple[bool, ...] = ()) -> tr.Net:
    inputs = [
        tr.Input(*frame, time=None if i < len(still) and still[i] else "time")
        for i, frame in enumerate(case.frames)
    ]
    return tr.Net(inputs, getattr(tr, case.layer)(**case.arguments)(*inputs))


def ran(net: tr.Net, x: list[Any], dy: Any, **options: Any) -> list[Any]:
    """y and the gradients of all inputs."""
    net.train()
    y = net(*x, **options)
    dx = net.backward(dy)
    return [y, *(dx if isinstance(dx, tuple) else (dx,))]


def near(found: list[Any], wanted: list[Any], tolerance: float = TOLERANCE) -> None:
    for ours, right in zip(found, wanted, strict=True):
        right = np.asarray(right)
        assert ours.shape == right.shape
        assert np.abs(ours - right).max() <= tolerance * max(np.abs(right).max(), 1e-3)


def test_every_operation_has_a_case() -> None:
    elsewhere = {"Add", "Subtract", "Multiply", "Divide", "Minimum", "Maximum", "Concat", "Slice", "Delay"}
    made = {
        name for name, kind in tr.Net.types.items() if kind.__module__ in ("tinyrnn.frames", "tinyrnn.ops")
    }
    assert {case.layer for case in CASES} == {name for name in made if hasattr(tr, name)} - elsewhere


@EVERY
def test_oracle_agrees_with_goldens(case: Case, goldens: dict[str, list[Any]]) -> None:
    x = drawn(case)
    y, back = oracle.run(case.layer, case.arguments, case.frames, aligned(case, x))
    gradients = [d.reshape(one.shape) for d, one in zip(back(gradient(case, y.shape)), x, strict=True)]
    near([one[RECORDED] for one in (y, *gradients)], goldens[case.name], 1e-6)


@EVERY
def test_oracle_agrees_with_differences(case: Case) -> None:
    if case.numbers in ("halves", "zeros"):
        pytest.skip("numbers at a bend")
    x = [np.asarray(one, np.float64) for one in drawn(case)]
    dy = gradient(case, oracle.run(case.layer, case.arguments, case.frames, aligned(case, x))[0].shape)
    rng = np.random.default_rng(0)
    _, back = oracle.run(case.layer, case.arguments, case.frames, aligned(case, x))
    for i, d in enumerate(back(dy)):
        way = rng.standard_normal(x[i].shape)
        sums = []
        for side in (1e-6, -1e-6):
            moved = [one + side * way if place == i else one for place, one in enumerate(x)]
            y = oracle.run(case.layer, case.arguments, case.frames, aligned(case, moved))[0]
            sums.append((y * dy).sum())
        slope = (d.reshape(way.shape) * way).sum()
        assert abs((sums[0] - sums[1]) / 2e-6 - slope) <= 1e-6 * (1 + np.abs(d).sum())


@pytest.mark.parametrize("isa", tr.available_isas())
@EVERY
def test_golden(case: Case, isa: str, goldens: dict[str, list[Any]]) -> None:
    tr.set_isa(isa)
    wanted = goldens[case.name]
    dy = gradient(case, (STEPS, BATCH, *wanted[0].shape[1:]))
    near([one[RECORDED] for one in ran(net_of(case), drawn(case), dy)], wanted)


@EVERY
def test_as_the_oracle_with_values_per_sequence(case: Case) -> None:
    """All values but one are of sequences; and in turn that one alone is."""
    count = len(case.frames)
    for still in {(False,) * i + (True,) + (False,) * (count - i - 1) for i in range(count)} | {
        (True,) * i + (False,) + (True,) * (count - i - 1) for i in range(count)
    }:
        x = drawn(case, still)
        y, back = oracle.run(case.layer, case.arguments, case.frames, aligned(case, x))
        dy = gradient(case, y.shape)
        gradients = [d.reshape(one.shape) for d, one in zip(back(dy), x, strict=True)]
        near(ran(net_of(case, still), x, dy), [y, *gradients])


@EVERY
def test_as_torch(case: Case) -> None:
    torch = pytest.importorskip("torch")
    for round_ in range(3):
        rng = np.random.default_rng(round_)
        x = [one + rng.integers(0, 2, one.shape) for one in drawn(case)]
        theirs = [torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in x]
        wanted = cases.of_torch(case, aligned(case, theirs)).double()
        dy = rng.standard_normal(wanted.shape).astype(np.float32)
        if wanted.requires_grad:
            wanted.backward(torch.from_numpy(dy).double())
        gradients = [np.zeros(one.shape) if one.grad is None else one.grad.numpy() for one in theirs]
        near(
            ran(net_of(case), [one.astype(np.float32) for one in x], dy),
            [wanted.detach().numpy(), *gradients],
        )


SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 33, 65)


def random_case(seed: int) -> Case:
    """A layer with arguments and frames that fit, of sizes around those in which the core works."""
    rng = np.random.default_rng(seed)

    def size() -> int:
        return int(rng.choice(SIZES))

    kind = ("reduction", "matmul", "two", "pad", "permute")[seed % 5]
    frame = tuple(size() for _ in range(int(rng.integers(1, 4))))
    if kind == "reduction":
        dims = [dim for dim in range(-len(frame), 0) if rng.random() < 0.6] or [-1]
        given: dict[str, Any] = {"dim": tuple(dims), "keepdim": bool(rng.random() < 0.5)}
        layer = str(rng.choice([one for one in cases.REDUCTIONS if one != "Prod"]))
        enough = np.prod([frame[dim] for dim in dims]) > 1
        return Case(layer if enough else "Sum", given, (frame,))
    if kind == "matmul":
        rows, depth, cols, planes = size(), size(), size(), int(rng.integers(2, 4))
        lead = [((), ()), ((planes,), (planes,)), ((1,), (planes,)), ((planes,), ()), ((), (planes,))]
        one, other = lead[int(rng.integers(5))]
        return Case("Matmul", {}, ((*one, rows, depth), (*other, depth, cols)))
    if kind == "two":
        other = tuple(size if rng.random() < 0.6 else 1 for size in frame)[int(rng.integers(len(frame))) :]
        frames = (frame, other) if rng.random() < 0.5 else (other, frame)
        if rng.random() < 0.5:
            return Case("Pow", {}, frames, "positive")
        return Case("Where", {}, (*frames, frame), "halves")
    if kind == "pad":
        mode = str(rng.choice(["constant", "reflect", "replicate", "circular"]))
        most = [min(one - 1, 4) for one in frame] if mode in ("reflect", "circular") else [4] * len(frame)
        pad = [int(rng.integers(0, one + 1)) for one in reversed(most) for _ in range(2)]
        return Case("Pad", {"pad": tuple(pad), "mode": mode}, (frame,))
    frame = (*frame, size(), size())[:3]
    return Case("Permute", {"dims": tuple(int(dim) for dim in rng.permutation([-3, -2, -1]))}, (frame,))


@pytest.mark.parametrize("seed", range(60))
def test_random_frames_are_torchs(seed: int) -> None:
    torch = pytest.importorskip("torch")
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    still = tuple(bool(rng.random() < 0.3) for _ in case.frames)
    still = (False, *still[1:])
    x = drawn(case, still)
    theirs = [torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in x]
    wanted = cases.of_torch(case, aligned(case, theirs))
    dy = gradient(case, tuple(wanted.shape))
    wanted.backward(torch.from_numpy(dy).double())
    gradients = [np.zeros(one.shape) if one.grad is None else one.grad.numpy() for one in theirs]
    near(ran(net_of(case, still), x, dy), [wanted.detach().numpy(), *gradients], 1e-5)


@EVERY
def test_bits_do_not_depend_on_the_way(case: Case) -> None:
    """Whole, step by step, in chunks, each row alone, with threads, in training: the same bits."""
    x = drawn(case)
    fused = None
    for isa in tr.available_isas():
        tr.set_isa(isa)
        net = net_of(case)
        whole = net(*x)
        stream = net.stream(batch=BATCH)
        steps = [stream.step(*(one[t] for one in x)).copy() for t in range(STEPS)]
        assert np.array_equal(np.stack(steps), whole)
        stream.reset()
        chunks = [stream.run(*(one[t : t + 2] for one in x)).copy() for t in range(0, STEPS, 2)]
        assert np.array_equal(np.concatenate(chunks), whole)
        for row in range(BATCH):
            assert np.array_equal(net(*(one[:, row] for one in x)), whole[:, row])
        found = ran(net, x, gradient(case, whole.shape))
        assert np.array_equal(found[0], whole)
        for threads in (2, 3):
            again = ran(net, x, gradient(case, whole.shape), threads=threads)
            assert all(np.array_equal(a, b) for a, b in zip(again, found, strict=True))
        if isa not in ("scalar", "sse2", "neon_v7"):
            fused = fused or found
            assert all(np.array_equal(a, b) for a, b in zip(found, fused, strict=True)), isa


@EVERY
def test_lengths(case: Case) -> None:
    """A row's numbers and gradients within its length are those of the row alone."""
    x, lengths = drawn(case), [STEPS, 2, 1]
    net = net_of(case)
    dy = gradient(case, net(*x).shape)
    for row, end in enumerate(lengths):
        dy[end:, row] = 0
    found = ran(net, x, dy, lengths=lengths)
    for row, end in enumerate(lengths):
        alone = ran(net, [one[:end, row] for one in x], dy[:end, row])
        assert all(np.array_equal(a[:end, row], b) for a, b in zip(found, alone, strict=True))


@EVERY
def test_files_copies_and_pictures(case: Case, tmp_path: Path) -> None:
    net, x = net_of(case), drawn(case)
    net.save(tmp_path / "net.safetensors")
    for other in (tr.load(tmp_path / "net.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert repr(other) == repr(net)
        assert np.array_equal(other(*x), net(*x))
    assert case.layer in str(net.describe()) + str(net.summary())
    net.plot(tmp_path / "net.svg")
    assert case.layer in (tmp_path / "net.svg").read_text()


# ---- values and numbers -----------------------------------------------------------------------------------


def test_methods_and_functions() -> None:
    torch = pytest.importorskip("torch")
    x, v = tr.Input(2, 3, 4), tr.Input(4)
    a, b = drawn(Case("Where", {}, ((2, 3, 4), (4,))))
    s, t = torch.from_numpy(a), torch.from_numpy(b)
    pairs = [
        (x.reshape(6, -1), s.reshape(STEPS, BATCH, 6, 4)),
        (x.flatten(), s.flatten(2)),
        (x.sum(-1), s.sum(-1)),
        (v.unsqueeze(-1), t.unsqueeze(-1)),
        (v.unsqueeze(-2).squeeze(-2), t),
        (v.squeeze(-1), t),
        (x.permute(-1, -3, -2), s.permute(0, 1, 4, 2, 3)),
        (x.permute((-1, -2)), s.transpose(-1, -2)),
        (x.transpose(-1, -3), s.transpose(-1, -3)),
        (x.mean((-1, -2), keepdim=True), s.mean((-1, -2), keepdim=True)),
        (x.amax(-2), s.amax(-2)),
        (x.amin(), s.amin((-1, -2, -3))),
        (v.prod(), t.prod(-1)),
        (v.norm(-1), t.norm(dim=-1)),
        (v.logsumexp(-1), t.logsumexp(-1)),
        (v.var(-1), t.var(-1)),
        (v.std(-1, 0), t.std(-1, correction=0)),
        (x @ x.transpose(-1, -2), s @ s.transpose(-1, -2)),
        (tr.matmul(x, v), (s @ t[:, :, None, :, None]).squeeze(-1)),
        (tr.matmul(v, x.transpose(-1, -2)), (t[:, :, None, None] @ s.transpose(-1, -2)).squeeze(-2)),
        (tr.matmul(v, v), (t * t).sum(-1)),
        (abs(v) ** v, t.abs() ** t),
        (2**v, 2**t),
        (v**2, t**2),
        (v < 0, t < 0),
        (v >= 0, t >= 0),
        (v > x, t[:, :, None, None] > s),
        (v >= 0.5, t >= 0.5),
        (tr.eq(v, v), t == t),
        (tr.ne(v, 1), t != 1),
        (tr.lt(1, v), t > 1),
        (tr.le(1, v), t >= 1),
        (tr.gt(1, v), t < 1),
        (tr.ge(1, v), t <= 1),
        (tr.where(v > 0, v, -2.5), torch.where(t > 0, t, -2.5)),
        (tr.where(v > 0, 1, 0), (t > 0).float()),
        (tr.pad(x, (1, 2), "constant", 0.5), torch.nn.functional.pad(s, (1, 2), "constant", 0.5)),
        (tr.stack([v, 2 * v], -2), torch.stack([t, 2 * t], -2)),
        (tr.stack([v, 2 * v]), torch.stack([t, 2 * t], -1)),
        *zip(tr.split(x, 2, -2), torch.split(s, 2, -2), strict=True),
        *zip(tr.split(x, [1, 3]), torch.split(s, [1, 3], -1), strict=True),
    ]
    for i, (value, wanted) in enumerate(pairs):
        both = tr.Net([x, v], [value, x.sum() + v.sum()])  # so that both are used
        found = both(a, b)[0]
        assert found.shape == tuple(wanted.shape), i
        np.testing.assert_allclose(found, wanted.float().numpy(), rtol=2e-5, atol=1e-5, err_msg=str(i))


def test_values_keep_their_identity() -> None:
    x, y = tr.Input(4), tr.Input(4)
    assert x == x and x != y
    assert {x: 1, y: 2}[y] == 2
    assert [y, x].index(x) == 1
    with pytest.raises(TypeError, match="neither true nor false before the net runs: use tr.where"):
        assert 0 < x < 1


EDGES = np.array(
    [-np.inf, -3.0, -2.5, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 1e9, 3e38, np.inf, np.nan], np.float32
)


def grid() -> tuple[Any, Any]:
    a, b = np.meshgrid(EDGES, EDGES)
    return a.reshape(-1, 1, 1), b.reshape(-1, 1, 1)


@pytest.mark.parametrize("layer", ["Pow", *cases.COMPARISONS])
def test_edges_are_torchs(layer: str) -> None:
    torch = pytest.importorskip("torch")
    case = Case(layer, {}, ((1,), (1,)))
    a, b = grid()
    wanted = (
        cases.of_torch(case, [torch.from_numpy(a).double(), torch.from_numpy(b).double()]).float().numpy()
    )
    np.testing.assert_array_equal(net_of(case)(a, b), wanted)


def test_gradients_of_a_power_at_the_edges_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    a, b = (
        array.reshape(-1, 1, 1)
        for array in np.meshgrid(np.float32([-2, -1, 0, 1, 3]), np.float32([-2, 0, 1, 2, 3]))
    )
    s, t = (torch.from_numpy(array.copy()).double().requires_grad_() for array in (a, b))
    torch.pow(s, t).sum().backward()
    _, da, db = ran(net_of(Case("Pow", {}, ((1,), (1,)))), [a, b], np.ones_like(a))
    np.testing.assert_allclose(da, s.grad.float().numpy(), rtol=1e-6)
    np.testing.assert_allclose(db, t.grad.float().numpy(), rtol=1e-6)


@pytest.mark.parametrize("layer", cases.REDUCTIONS)
def test_edges_of_reductions_are_torchs(layer: str) -> None:
    torch = pytest.importorskip("torch")
    case = Case(layer, {"dim": -1}, ((3,),))
    rows = np.stack(np.meshgrid(*[EDGES] * 3), -1).reshape(-1, 1, 3)
    wanted = cases.of_torch(case, [torch.from_numpy(rows).double()]).float().numpy()
    found = net_of(case)(rows)
    large = np.abs(rows).max(-1) >= 1e9  # whose squares are beyond a float
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_allclose(found[~large], wanted[~large], rtol=1e-6)
    if layer in ("Amax", "Amin", "LogSumExp"):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_gradients_at_zero() -> None:
    x = np.zeros((1, 1, 4), np.float32)
    for layer in ("VectorNorm", "Std"):
        _, dx = ran(net_of(Case(layer, {}, ((4,),))), [x], np.ones((1, 1), np.float32))
        assert not dx.any()


def test_equal_largest_numbers_share_the_gradient() -> None:
    x = np.float32([[[2, 1, 2, 2, 0]]])
    _, dx = ran(net_of(Case("Amax", {}, ((5,),))), [x], np.full((1, 1), 3, np.float32))
    assert dx.tolist() == [[[1, 0, 1, 1, 0]]]


def test_an_infinite_gradient_stays_where_it_belongs() -> None:
    a, b, c = (np.float32([[[n]]]) for n in (1, 2, 3))
    case = Case("Where", {}, ((1,),) * 3)
    _, *found = ran(net_of(case), [a, b, c], np.full((1, 1, 1), np.inf, np.float32))
    assert [d.item() for d in found] == [0, np.inf, 0]
    _, *found = ran(net_of(Case("Less", {}, ((1,),) * 2)), [a, b], np.full((1, 1, 1), np.inf, np.float32))
    assert [d.item() for d in found] == [0, 0]


def attention_by_hand() -> tuple[tr.Net, Any]:
    """A softmax of the products of two maps of a frame's rows, as a feedback loop's layers."""
    x, before = tr.Input(12), tr.Feedback(12)
    rows = (tr.Linear(12, 12)(x) + before).reshape(3, 4)
    weights = tr.Softmax(-1)((rows @ rows.transpose(-1, -2)) / 2)
    y = tr.where(rows > 0, weights @ rows, 0.1).flatten()
    before.connect(0.5 * y)
    return tr.Net(x, y), None


def test_within_a_loop() -> None:
    torch = pytest.importorskip("torch")
    tr.manual_seed(1)
    net, _ = attention_by_hand()
    x = np.random.default_rng(3).standard_normal((6, 2, 12)).astype(np.float32)
    weight, bias = (
        torch.from_numpy(array).double() for array in (net["linear"].weight.copy(), net["linear"].bias.copy())
    )
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    past, outputs = torch.zeros(2, 12).double(), []
    for frame in theirs:
        rows = (frame @ weight.T + bias + past).reshape(2, 3, 4)
        y = torch.where(rows > 0, torch.softmax(rows @ rows.mT / 2, -1) @ rows, 0.1).reshape(2, 12)
        outputs.append(y)
        past = 0.5 * y
    wanted = torch.stack(outputs)
    dy = np.random.default_rng(4).standard_normal(wanted.shape).astype(np.float32)
    wanted.backward(torch.from_numpy(dy).double())
    found = ran(net, [x], dy)
    near(found, [wanted.detach().numpy(), theirs.grad.numpy()], 1e-5)
    stream = net.eval().stream(batch=2)
    assert np.array_equal(np.stack([stream.step(frame).copy() for frame in x]), net(x))


def test_a_trainer_trains_and_a_quantised_net_is_near() -> None:
    tr.manual_seed(2)
    x = tr.Input(6)
    h = tr.Linear(6, 12)(x).reshape(3, 4)
    y = tr.Linear(4, 2)((h @ h.transpose(-1, -2) @ h).amax(-2) + h.mean(-2))
    net = tr.Net(x, y)
    a = np.random.default_rng(5).standard_normal((5, 3, 6)).astype(np.float32)
    trainer = net.trainer(tr.optim.Adam(net, lr=0.01), tr.MSELoss(), batch=3, steps=5)
    losses = [trainer.step(a, np.ones((5, 3, 2), np.float32)) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    small = tr.quantize(net.eval(), "int8")
    assert 0 < np.abs(small(a) - net(a)).max() < 0.05 * np.abs(net(a)).max()


def test_drift_follows_frames_through_a_chain() -> None:
    tr.manual_seed(2)
    table = tr.Embedding(7, 12)
    chain = tr.Sequential(
        table, tr.Linear(12, 12), tr.Reshape((3, 4)), tr.Permute(), tr.Sum(-1), tr.Linear(4, 2)
    )
    small = tr.quantize(chain, "int8")
    x = np.arange(7)
    found = tr.drift(chain, small, x)
    assert 0 < np.abs(small(x) - chain(x)).max() < 0.05
    assert list(found.parts) == [*"012345", "output"]


def test_layers_take_arrays() -> None:
    x = np.random.default_rng(0).standard_normal((7, 2, 3, 4)).astype(np.float32)
    assert np.array_equal(tr.Permute((-1, -3, -2))(x), x.transpose(0, 3, 1, 2))
    assert np.array_equal(tr.Amax(-2)(x), x.max(-2))
    assert np.array_equal(tr.Reshape((2, -1))(x), x.reshape(7, 2, 3, 2, 2))
    assert np.array_equal(tr.Unflatten(-2, (3, 1))(x), x.reshape(7, 2, 3, 1, 4))
    assert np.array_equal(tr.Unflatten(1, (2, 2))(x[:, 0, 0]), x[:, 0, 0].reshape(7, 2, 2))
    assert np.array_equal(tr.Pad(1, "circular")(x), np.pad(x, [(0, 0)] * 3 + [(1, 1)], mode="wrap"))
    chain = tr.Sequential(tr.Unflatten(-1, (2, 2)), tr.Reshape(-1), tr.Pad(1), tr.Sum(), tr.Reshape(1))
    for mode in (chain.eval(), chain.train()):
        np.testing.assert_allclose(mode(x[0, 0]), x[0, 0].sum(-1, keepdims=True), rtol=1e-5)
    chain = tr.Sequential(tr.Unflatten(1, (2, 2)), tr.Conv1d(2, 3, 1), tr.Flatten(), tr.Linear(6, 1))
    assert chain(x[:, 0, 0]).shape == (7, 1)


# ---- what cannot be ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, v: x @ x, r"Matmul: got frames of shapes \(2, 3, 4\) and \(2, 3, 4\), expected \(R, K\)"),
        (lambda x, v: x @ np.ones((4, 2)), "Matmul: got .* beside a value"),
        (lambda x, v: np.ones((4, 2)) @ x, "Matmul: got .* beside a value"),
        (
            lambda x, v: x.reshape(5, -1),
            r"Reshape: got frames of shape \(2, 3, 4\), expected as many numbers",
        ),
        (lambda x, v: x.reshape(-1, -1), "Reshape: shape is .* one may be -1"),
        (lambda x, v: x.reshape(1, 2, 3, 4), "Reshape: shape is .* at most 3 sizes"),
        (lambda x, v: x.unsqueeze(-1), "Reshape: shape is .* at most 3 sizes"),
        (lambda x, v: v.sum(-2), "Sum: dim is -2, expected -1 .. -1 in frames of 1 axes"),
        (lambda x, v: v.sum(0), "Sum: dim is 0, expected -3 .. -1"),
        (lambda x, v: x.mean((-1, -1)), "Mean: dim is .* expected each axis once"),
        (lambda x, v: v.permute(-1, -2), r"Permute: got frames of shape \(4,\), expected at least 2 axes"),
        (lambda x, v: x.permute(0, 1, 2), "Permute: dims is .* expected -1, -2, -3"),
        (lambda x, v: v.transpose(0, 1), "transpose: dim is 0, expected -1 .. -1"),
        (
            lambda x, v: tr.pad(v, (4, 0), "reflect"),
            r"Pad: got frames of shape \(4,\), expected more numbers",
        ),
        (
            lambda x, v: tr.pad(v, (0, 5), "circular"),
            r"Pad: got frames of shape \(4,\), expected more numbers",
        ),
        (lambda x, v: tr.pad(v, (-3, -1)), r"Pad: got frames of shape \(4,\), expected more numbers"),
        (lambda x, v: tr.pad(v, (-1, 0), "replicate"), "Pad: pad is -1, expected 0 .."),
        (lambda x, v: tr.pad(v, (1, 0, 1)), "Pad: pad is .* expected 2, 4 or 6 numbers"),
        (lambda x, v: tr.pad(v, (1, 0, 1, 0)), r"Pad: got frames of shape \(4,\), expected at least 2 axes"),
        (lambda x, v: tr.pad(v, 1, "mirror"), "Pad: mode is 'mirror', expected one of"),
        (lambda x, v: tr.split(v, [1, 2]), r"split: got sizes \[1, 2\] for frames of shape \(4,\)"),
        (lambda x, v: tr.split(v, 2, -2), "split: dim is -2, expected -1 .. -1"),
        (lambda x, v: tr.where(1, 2, 3), "Where: got 1, 2, 3, expected at least one value"),
        (
            lambda x, v: tr.where(v, x, tr.Input(3)),
            r"Where: got frames of shapes \(4,\), \(2, 3, 4\) and \(3,\)",
        ),
        (lambda x, v: tr.eq(v, "a"), "Equal: got 'a' beside a value"),
        (lambda x, v: v < "a", "Less: got 'a' beside a value"),
        (lambda x, v: tr.Where()(v, v), "Where: got 2 values, expected 3 values"),
        (lambda x, v: tr.Unflatten(0, (2, 2))(v), "Unflatten: dim 0 of 2 axes is time or batch"),
        (lambda x, v: tr.Unflatten(-1, (3, -1))(v), r"Unflatten: got frames of shape \(4,\), expected"),
        (lambda x, v: tr.Var(-1, -1), "Var: correction is -1, expected 0"),
    ],
)
def test_what_cannot_be(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make(tr.Input(2, 3, 4), tr.Input(4))
