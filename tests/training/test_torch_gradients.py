"""tinyrnn's gradients beside PyTorch's, on random nets.

PyTorch runs in float64, so that what is measured is our error and not its own. The oracle of
oracle_gradients.py is held to it as well, a thousand million times closer.
"""

import gradient_nets
import numpy as np
import oracle as oracle_forward
import oracle_gradients as oracle
import pytest
from elementwise_cases import ELEMENTWISE, POSITIVE, of_torch
from gradient_nets import CASES, backward, build, forward, leaves

import tinyrnn as tr
from tinyrnn.parameters import trainable

torch = pytest.importorskip("torch")
nn = torch.nn
rnn_utils = torch.nn.utils.rnn

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
]

TOLERANCE = 2e-5  # of a tensor's largest entry
SEEDS = [("alone", 110), ("chain", 80), ("frames", 60), ("pictures", 60)]


# ---- PyTorch's side -----------------------------------------------------------------------------


class Reference:
    """The same layers in PyTorch, in float64 and training mode, with the net's weights.

    Dropout is ours: what it multiplied by is given as ``masks``, since no two frameworks draw alike.
    """

    def __init__(self, net):
        self.leaves = leaves(net)
        state = {name: torch.from_numpy(array) for name, array in net.state_dict().items()}
        self.modules = []
        made = {}  # a layer that occurs twice is one module
        for (prefix, layer, arguments), (_, leaf) in zip(self.leaves, net._leaves(), strict=True):
            if id(leaf) not in made:
                given = {name: value for name, value in arguments.items() if name != "dropout"}
                module = getattr(nn, layer)(**given)
                own = {
                    key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
                }
                module.load_state_dict(own)
                made[id(leaf)] = module.double().train()
            self.modules.append(made[id(leaf)])

    def forward(self, x, state=None, lengths=None, masks=None):
        """The output; leaves x, the initial and the final states, by name, on self."""
        recurs = any(isinstance(module, nn.RNNBase) for module in self.modules)
        swapped = any(arguments.get("batch_first") for _, _, arguments in self.leaves)
        self.x = torch.from_numpy(np.asarray(x))
        if self.x.is_floating_point():
            self.x = self.x.double().requires_grad_()
        y = self.x.swapaxes(0, 1) if recurs and swapped else self.x
        steps = len(y)
        real = None
        if lengths is not None:
            real = (torch.arange(steps)[:, None] < torch.tensor(lengths)).reshape(-1)
        self.initial, self.final = {}, {}
        for (prefix, _, _), module in zip(self.leaves, self.modules, strict=True):
            if isinstance(module, nn.RNNBase):
                y = self._recurrent(prefix, module, y, state or {}, lengths)
            else:
                lead = y.shape[:2] if recurs else ()
                y = y.reshape(-1, *y.shape[2:]) if recurs else y
                if isinstance(module, nn.Dropout):
                    mask = (masks or {}).get(prefix)
                    y = (
                        y
                        if mask is None
                        else y * torch.from_numpy(np.asarray(mask)).double().reshape(y.shape)
                    )
                elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and real is not None:
                    y = torch.zeros_like(y).index_put((real,), module(y[real]))
                else:
                    y = module(y)
                y = y.reshape(*lead, *y.shape[1:]) if recurs else y
        self.y = y.swapaxes(0, 1) if recurs and swapped else y
        return self.y

    def _recurrent(self, prefix, module, y, state, lengths):
        module.batch_first = False  # the axes are swapped already
        levels = module.num_layers * (2 if module.bidirectional else 1)
        sizes = {"h": module.proj_size or module.hidden_size}
        if isinstance(module, nn.LSTM):
            sizes["c"] = module.hidden_size
        hx = []
        for name, size in sizes.items():
            given = state.get(prefix + name)
            shape = (levels, y.shape[1], size)
            part = torch.zeros(shape) if given is None else torch.from_numpy(np.array(given))
            self.initial[prefix + name] = part.double().requires_grad_()
            hx.append(self.initial[prefix + name])
        steps = len(y)
        if lengths is not None:
            y = rnn_utils.pack_padded_sequence(y, torch.tensor(lengths), enforce_sorted=False)
        y, final = module(y, tuple(hx) if len(hx) == 2 else hx[0])
        if lengths is not None:
            y, _ = rnn_utils.pad_packed_sequence(y, total_length=steps)
        final = final if isinstance(final, tuple) else (final,)
        self.final |= {prefix + name: part for name, part in zip(sizes, final, strict=True)}
        return y

    def backward(self, dy, dstate=None):
        """Adds to the gradients, as ours does."""
        ends = [self.y] + [self.final[name] for name in dstate or {}]
        ways = [dy, *(dstate or {}).values()]
        torch.autograd.backward(ends, [torch.from_numpy(np.array(way)).double() for way in ways])

    def gradients(self):
        return {
            prefix + name: np.zeros(tuple(tensor.shape)) if tensor.grad is None else tensor.grad.numpy()
            for (prefix, _, _), module in zip(self.leaves, self.modules, strict=True)
            for name, tensor in module.named_parameters()
        }

    def running(self):
        return {
            prefix + name: tensor.numpy()
            for (prefix, _, _), module in zip(self.leaves, self.modules, strict=True)
            for name, tensor in module.named_buffers()
        }

    def zero_grad(self):
        for module in self.modules:
            module.zero_grad()


def grad_of(tensor):
    return np.zeros(tuple(tensor.shape)) if tensor.grad is None else tensor.grad.numpy()


def reference_of(case, net):
    """PyTorch's results of a case, and the dy that was drawn for it."""
    theirs = Reference(net)
    y = theirs.forward(case.x, case.state, case.lengths)
    dy = np.random.default_rng(case.seed).standard_normal(tuple(y.shape), dtype=np.float32)
    theirs.backward(dy, case.dstate)
    return theirs, dy


def assert_near(got, want, tolerance, what):
    """Every tensor of a mapping within ``tolerance`` of its largest entry; the worst of them."""
    assert list(got) == list(want), what
    distances = {name: oracle.distance(got[name], want[name]) for name in want}
    far = {name: distance for name, distance in distances.items() if not distance <= tolerance}
    assert not far, f"{what}: {far}"
    return max(distances.values(), default=0.0)


ALL = [(kind, seed) for kind, count in SEEDS for seed in range(count)]


@pytest.mark.parametrize("kind, seed", ALL, ids=[f"{kind}-{seed}" for kind, seed in ALL])
def test_oracle(kind, seed):
    case = CASES[kind](seed)
    net = build(case)
    theirs, dy = reference_of(case, net)
    ours = oracle.run(leaves(net), net.state_dict(), case.x, case.state, case.lengths)
    dx, dstate0, grads = ours.backward(dy, case.dstate)
    assert_near({"y": ours.y}, {"y": theirs.y.detach().numpy()}, 1e-11, "output")
    final = {name: tensor.detach().numpy() for name, tensor in theirs.final.items()}
    assert_near(ours.state, final, 1e-11, "final state")
    wanted = theirs.running()
    assert_near(ours.running, {name: wanted[name] for name in ours.running}, 1e-11, "running statistics")
    assert_near(grads, theirs.gradients(), 1e-9, "gradients")
    assert_near(
        dstate0, {name: grad_of(part) for name, part in theirs.initial.items()}, 1e-9, "initial state"
    )
    assert (dx is None) == (not theirs.x.is_floating_point())
    if dx is not None:
        assert_near({"dx": dx}, {"dx": theirs.x.grad.numpy()}, 1e-9, "input")


# ---- ours ---------------------------------------------------------------------------------------


def assert_same_gradients(net, theirs, y, final, dx, dstate0, tolerance=TOLERANCE):
    """Everything that one pass gives is PyTorch's; the worst distance."""
    worst = assert_near({"y": y}, {"y": theirs.y.detach().numpy()}, tolerance, "output")
    want = {name: tensor.detach().numpy() for name, tensor in theirs.final.items()}
    worst = max(worst, assert_near(final, want, tolerance, "final state"))
    worst = max(worst, assert_near(net.grad_dict(), theirs.gradients(), tolerance, "gradients"))
    want = {name: grad_of(part) for name, part in theirs.initial.items()}
    worst = max(worst, assert_near(dstate0, want, tolerance, "initial state"))
    assert (dx is None) == (not theirs.x.is_floating_point())
    if dx is not None:
        assert dx.dtype == np.float32
        worst = max(worst, assert_near({"dx": dx}, {"dx": theirs.x.grad.numpy()}, tolerance, "input"))
    return worst


def with_noise_beyond(case):
    """The input with NaN beyond each row's end, where it must not matter."""
    if case.lengths is None or case.x.dtype.kind != "f":
        return case.x
    x = case.x.copy()
    rows = x if batch_first(case) else x.swapaxes(0, 1)
    for row, length in zip(rows, case.lengths, strict=True):
        row[length:] = np.nan
    return x


def batch_first(case):
    return any(options.get("batch_first") for _, options in case.layers)


@pytest.mark.parametrize("kind, seed", ALL, ids=[f"{kind}-{seed}" for kind, seed in ALL])
def test_gradients(kind, seed, record_property):
    case = CASES[kind](seed)
    net = build(case)
    theirs, dy = reference_of(case, net)
    net.train()
    y, final = forward(net, with_noise_beyond(case), case.state, case.lengths, threads=1 + seed % 3)
    dx, dstate0 = backward(net, dy, case.dstate)
    worst = assert_same_gradients(net, theirs, y, final, dx, dstate0)
    record_property("worst", worst)
    for name, want in theirs.running().items():
        np.testing.assert_allclose(net.state_dict()[name], want, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("seed", range(9))
def test_two_passes_add_up(seed):
    """Gradients of two calls, and zero_grad between others."""
    case = CASES[("alone", "chain", "frames")[seed % 3]](seed)
    net = build(case).train()
    theirs = Reference(net)
    for scale in (1.0, -0.3):
        y, _ = forward(net, case.x, case.state, case.lengths)
        want = theirs.forward(case.x, case.state, case.lengths)
        dy = scale * np.random.default_rng(seed).standard_normal(y.shape, dtype=np.float32) ** 2
        backward(net, dy.astype(np.float32), case.dstate)
        theirs.backward(dy.astype(np.float32), case.dstate)
        assert want.shape == y.shape
    assert_near(net.grad_dict(), theirs.gradients(), TOLERANCE, "sum of two")
    net.zero_grad()
    assert all(not grad.any() for grad in net.grad_dict().values())
    theirs.zero_grad()
    y, final = forward(net, case.x, case.state, case.lengths)
    theirs.forward(case.x, case.state, case.lengths)
    theirs.backward(dy.astype(np.float32), case.dstate)
    dx, dstate0 = backward(net, dy.astype(np.float32), case.dstate)
    assert_same_gradients(net, theirs, y, final, dx, dstate0)


@pytest.mark.parametrize("seed", range(6))
def test_truncated_backpropagation(seed):
    """Three chunks of one sequence, the state carried over, no gradient across."""
    draw = gradient_nets.Draw(seed)
    kind = ("LSTM", "GRU", "RNN")[seed % 3]
    first, _ = gradient_nets.recurrent(draw, 5, False, kind)
    first[1]["bidirectional"] = False
    size = first[1].get("proj_size") or first[1]["hidden_size"]
    second = ("GRU", {"input_size": size, "hidden_size": 9, "num_layers": 1})
    layers = [first, second, ("Linear", {"in_features": 9, "out_features": 3})]
    net = build(gradient_nets.Case(layers, None, None, None, None, seed)).train()
    theirs = Reference(net)
    x, dy = draw.normal(24, 4, 5), draw.normal(24, 4, 3)
    state = None
    carried = None
    for part in (slice(0, 7), slice(7, 20), slice(20, 24)):
        y = net(x[part], state=state)
        want = theirs.forward(x[part], carried)
        assert oracle.distance(y, want.detach().numpy()) < TOLERANCE
        net.backward(dy[part])
        theirs.backward(dy[part])
        state = net.last_state
        carried = {name: tensor.detach().numpy() for name, tensor in theirs.final.items()}
    assert_near(net.grad_dict(), theirs.gradients(), TOLERANCE, "three chunks")
    assert_near({name: state[name] for name in state}, carried, TOLERANCE, "state")


@pytest.mark.parametrize("seed", range(18))
def test_cells(seed):
    draw = gradient_nets.Draw(seed)
    kind = ("RNNCell", "LSTMCell", "GRUCell")[seed % 3]
    options = {"nonlinearity": draw.of("tanh", "relu")} if kind == "RNNCell" else {}
    inputs, hidden, rows = draw.size(), draw.size(), draw.of((), (1,), (5,))
    tr.manual_seed(seed)
    ours = getattr(tr, kind)(inputs, hidden, bias=draw.flip(0.8), **options).train()
    theirs = Reference(ours).modules[0]
    count = 2 if kind == "LSTMCell" else 1
    x, given = draw.normal(*rows, inputs), [draw.normal(*rows, hidden) for _ in range(2 * count)]
    hx, dhx = (tuple(half) if count == 2 else half[0] for half in (given[:count], given[count:]))

    after = ours(x, hx)
    dx, dstate0 = ours.backward(dhx)
    tensors = [torch.from_numpy(array).double().requires_grad_() for array in (x, *given[:count])]
    want = theirs(tensors[0], tuple(tensors[1:]) if count == 2 else tensors[1])
    torch.autograd.backward(want, [torch.from_numpy(array).double() for array in given[count:]])

    def listed(arrays):
        return dict(enumerate(arrays if isinstance(arrays, tuple) else (arrays,)))

    assert_near(listed(after), {i: part.detach() for i, part in listed(want).items()}, TOLERANCE, "state")
    assert_near(listed(dstate0), dict(enumerate(map(grad_of, tensors[1:]))), TOLERANCE, "state before")
    assert_near({"dx": dx}, {"dx": grad_of(tensors[0])}, TOLERANCE, "input")
    want = {name: grad_of(parameter) for name, parameter in theirs.named_parameters()}
    assert_near(ours.grad_dict(), want, TOLERANCE, "gradients")


def test_nets_within_nets():
    tr.manual_seed(0)
    inner = tr.Sequential({"norm": tr.LayerNorm(6), "rnn": tr.GRU(6, 5, bidirectional=True)})
    net = tr.Sequential(
        {"in": tr.Linear(4, 6), "deep": tr.Sequential(inner, tr.Tanh()), "out": tr.LSTM(10, 3)}
    )
    net.train()
    theirs = Reference(net)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((7, 3, size), dtype=np.float32) for size in (4, 3))
    dstate = {"deep.0.rnn.h": rng.standard_normal((2, 3, 5), dtype=np.float32)}
    y, final = forward(net, x)
    theirs.forward(x)
    dx, dstate0 = backward(net, dy, dstate)
    theirs.backward(dy, dstate)
    assert_same_gradients(net, theirs, y, final, dx, dstate0)
    assert all(leaf.training for _, leaf in net._leaves())
    assert not any(leaf.training for _, leaf in net.eval()._leaves())


def test_a_layer_that_occurs_twice():
    tr.manual_seed(0)
    rnn, linear = tr.GRU(6, 6), tr.Linear(6, 6)
    net = tr.Sequential(rnn, linear, rnn, tr.Tanh(), linear).train()
    theirs = Reference(net)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 9, 3, 6), dtype=np.float32)
    dstate = {"0.h": rng.standard_normal((1, 3, 6), dtype=np.float32)}
    y, final = forward(net, x)
    theirs.forward(x)
    dx, dstate0 = backward(net, dy, dstate)
    theirs.backward(dy, dstate)
    assert_same_gradients(net, theirs, y, final, dx, dstate0)


def test_a_layer_of_two_nets():
    """Gradients belong to the layer: both nets have the sum of both."""
    tr.manual_seed(0)
    body = tr.LSTM(5, 8)
    one, other = tr.Sequential(body, tr.Linear(8, 2)).train(), tr.Sequential(body, tr.Linear(8, 3)).train()
    references = [Reference(one), Reference(other)]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 2, 5), dtype=np.float32)
    for net, theirs in zip((one, other), references, strict=True):
        dy = rng.standard_normal(net(x).shape, dtype=np.float32)
        net.backward(dy)
        theirs.forward(x)
        theirs.backward(dy)
    both = [theirs.gradients() for theirs in references]
    for name, got in one.grad_dict().items():
        want = both[0][name] + (both[1][name] if name.startswith("0.") else 0)
        assert oracle.distance(got, want) < TOLERANCE, name
        if name.startswith("0."):
            np.testing.assert_array_equal(other.grad_dict()[name], got)


@pytest.mark.parametrize("frozen", [("0",), ("1.weight_hh_l0", "2"), ("1",), ("0", "1", "2")], ids=str)
def test_freeze(frozen):
    """A frozen layer has no gradient; the layers before it and behind it have PyTorch's."""
    tr.manual_seed(0)
    net = tr.Sequential(tr.Linear(5, 7), tr.LSTM(7, 9), tr.LayerNorm(9), tr.Linear(9, 2)).train()
    net.freeze(*frozen)
    theirs = Reference(net)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((8, 3, size), dtype=np.float32) for size in (5, 2))
    y, _ = forward(net, x)
    theirs.forward(x)
    dx, _ = backward(net, dy)
    theirs.backward(dy)
    assert oracle.distance(y, theirs.y.detach().numpy()) < TOLERANCE
    want = {
        name: grad
        for name, grad in theirs.gradients().items()
        if not any(name == which or name.startswith(f"{which}.") for which in frozen)
    }
    got = net.grad_dict()
    assert_near({name: got[name] for name in want}, want, TOLERANCE, "not frozen")
    for name in theirs.gradients():
        assert net.requires_grad(name) == (name in want)
        assert name in want or name not in got or not got[name].any()
    assert oracle.distance(dx, theirs.x.grad.numpy()) < TOLERANCE
    assert [name for name, _ in trainable(net)] == list(want)
    net.unfreeze()
    for name, grad in net.grad_dict().items():  # nothing was added meanwhile
        assert name in want or not grad.any()
    net.zero_grad()
    forward(net, x)
    backward(net, dy)
    assert_near(net.grad_dict(), theirs.gradients(), TOLERANCE, "thawed")


def test_evaluation_in_between():
    tr.manual_seed(0)
    net = tr.Sequential(
        tr.Linear(5, 7, bias=False), tr.BatchNorm1d(7), tr.Tanh(), tr.Dropout(0.0), tr.Linear(7, 2)
    ).train()
    theirs = Reference(net)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x, dy = (rng.standard_normal((8, size), dtype=np.float32) for size in (5, 2))
        y, _ = forward(net, x)
        theirs.forward(x)
        backward(net, dy)
        theirs.backward(dy)
        before = net.grad_dict()
        net.eval()
        assert not net.training
        for module in theirs.modules:
            module.eval()
        y = net(x)
        with torch.no_grad():
            want = theirs.forward(x)
        assert oracle.distance(y, want.numpy()) < TOLERANCE
        for name, grad in net.grad_dict().items():
            np.testing.assert_array_equal(grad, before[name])
        net.train()
        for module in theirs.modules:
            module.train()
    assert_near(net.grad_dict(), theirs.gradients(), TOLERANCE, "three turns")
    assert net.state_dict()["1.num_batches_tracked"] == 3


# ---- dropout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_dropout(p):
    """PyTorch gets our mask, which is read off a tensor of ones."""
    tr.manual_seed(0)
    drop = tr.Dropout(p).train()
    x = np.ones((200, 50), np.float32)
    mask = drop(x)
    np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - p)], rtol=1e-6)
    assert abs((mask == 0).mean() - p) < 5 * np.sqrt(p * (1 - p) / mask.size)
    dy = np.random.default_rng(0).standard_normal(x.shape, dtype=np.float32)
    np.testing.assert_allclose(drop.backward(dy), dy * mask, rtol=1e-6)
    assert not np.array_equal(drop(x), mask)  # another one each time
    np.testing.assert_array_equal(drop.eval()(x), x)


@pytest.mark.parametrize("lengths", [None, [9, 4, 7, 1]], ids=str)
def test_dropout_in_a_net(lengths):
    """The mask is dy -> dx of the layers behind it undone: read off the net's own backward pass."""
    tr.manual_seed(0)
    net = tr.Sequential(tr.Dropout(0.4), tr.LSTM(6, 8), tr.LayerNorm(8), tr.Linear(8, 3)).train()
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((9, 4, size), dtype=np.float32) for size in (6, 3))
    y, final = forward(net, x, lengths=lengths)
    dx, dstate0 = backward(net, dy)
    mask = np.where(dx != 0, np.float32(1 / 0.6), 0)  # where a 0 by chance would fail below
    theirs = Reference(net)
    theirs.forward(x, None, lengths, {"0.": mask})
    theirs.backward(dy)
    assert_same_gradients(net, theirs, y, final, dx, dstate0)


@pytest.mark.parametrize("p", [0.3, 0.8])
def test_dropout_between_levels(p):
    """Two levels that pass positive numbers on unchanged show the mask between them."""
    size = 16
    net = tr.RNN(size, size, 2, nonlinearity="relu", bias=False, dropout=p).train()
    eye, none = np.eye(size, dtype=np.float32), np.zeros((size, size), np.float32)
    net.load_state_dict(
        {f"weight_{which}_l{k}": eye if which == "ih" else none for k in (0, 1) for which in ("ih", "hh")}
    )
    x = np.ones((40, 9, size), np.float32)
    mask, _ = net(x)
    np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - p)], rtol=1e-6)
    assert abs((mask == 0).mean() - p) < 5 * np.sqrt(p * (1 - p) / mask.size)
    dy = np.random.default_rng(0).standard_normal(x.shape, dtype=np.float32)
    np.testing.assert_allclose(net.backward(dy), dy * mask, rtol=1e-6)
    assert not np.array_equal(net(x)[0], mask)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_dropout_of_none_and_of_all(kind):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((7, 3, size), dtype=np.float32) for size in (5, 8))
    for p in (0.0, 1.0):
        net = getattr(tr, kind)(5, 8, 2, dropout=p).train()
        theirs = getattr(nn, kind)(5, 8, 2, dropout=p).double().train()
        theirs.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
        y, _ = net(x)
        net.backward(dy)
        want, _ = theirs(torch.from_numpy(x).double())
        want.backward(torch.from_numpy(dy).double())
        assert oracle.distance(y, want.detach().numpy()) < TOLERANCE
        for name, parameter in theirs.named_parameters():
            assert oracle.distance(net.grad_dict()[name], grad_of(parameter)) < TOLERANCE, (p, name)


# ---- functions of each number -------------------------------------------------------------------


@pytest.mark.parametrize("layer, arguments", ELEMENTWISE, ids=str)
def test_the_slope_of_a_function(layer, arguments):
    """On random numbers and at the bends, against PyTorch's float64."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(0, 3, (2, 4, 100)).astype(np.float32)
    x = 0.3 + np.abs(x) / 3 if layer in POSITIVE else x
    if layer not in POSITIVE:
        x[0, :9] = [0, -3, 3, -1, 1, -0.5, 2, 6, 1.5]
    theirs = torch.from_numpy(x).double().requires_grad_()
    of_torch(layer, arguments, theirs).backward(torch.from_numpy(dy).double())
    net = getattr(tr, layer)(**arguments).train()
    net(x)
    want = theirs.grad.numpy()
    np.testing.assert_allclose(net.backward(dy), want, rtol=2e-5, atol=2e-6 * abs(want).max())


@pytest.mark.parametrize("layer, arguments", ELEMENTWISE, ids=str)
@pytest.mark.parametrize("size", [1e4, 1e20, 3e38])
def test_the_slope_far_out(layer, arguments, size):
    """Large numbers have no NaN for a slope. PyTorch's of GELU by tanh does, from 10^19 on."""
    x = np.array([size] if layer in POSITIVE else [-size, size], np.float32)
    net = getattr(tr, layer)(**arguments).train()
    net(x)
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = oracle_slope(layer, arguments, x.astype(np.float64))
        want = slopes.astype(np.float32)
    np.testing.assert_allclose(net.backward(np.ones_like(x)), want, rtol=1e-5, atol=1e-7)


def oracle_slope(layer, arguments, x):
    if layer == "GELU" and arguments:
        return np.where(x > 0, 1.0, 0.0)  # overflows in the oracle, too
    y = oracle_forward.elementwise(layer, arguments, x)
    return np.asarray(oracle.slope(layer, arguments, x, y), np.float64)


@pytest.mark.parametrize(
    "shape, count", [((6, 5), 5), ((6, 5), 1), ((3, 5, 7), 5), ((3, 5, 7), 1), ((4,), 1)]
)
def test_the_weights_of_prelu(shape, count):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, *shape)).astype(np.float32)
    weight = rng.standard_normal(count).astype(np.float32)
    net, theirs = tr.PReLU(count).train(), nn.PReLU(count).double()
    net.load_state_dict({"weight": weight})
    theirs.load_state_dict({"weight": torch.from_numpy(weight)})
    given = torch.from_numpy(x).double().requires_grad_()
    want = theirs(given)
    want.backward(torch.from_numpy(dy).double())
    np.testing.assert_allclose(net(x), want.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(net.backward(dy), given.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(net.grad_dict()["weight"], theirs.weight.grad.numpy(), rtol=1e-5)
    for threads in (1, 2, 3):
        net.zero_grad()
        net(x, threads=threads)
        net.backward(dy)
        np.testing.assert_allclose(net.grad_dict()["weight"], theirs.weight.grad.numpy(), rtol=1e-5)


# ---- numbers that are not finite ----------------------------------------------------------------


@pytest.mark.parametrize("dy", [np.inf, -np.inf, np.nan, 1.0], ids=str)
@pytest.mark.parametrize(
    "layer, arguments", [("ReLU", ()), ("LeakyReLU", (0.1,)), ("LeakyReLU", (0.0,)), ("Tanh", ())], ids=str
)
def test_an_infinite_gradient_of_an_activation(layer, arguments, dy):
    """ReLU's flat part gives 0 for any dy; and dy passes where x is NaN."""
    x = np.array([-np.inf, -2, -0.0, 0, 3, np.inf, np.nan], np.float32)
    theirs = torch.from_numpy(x.copy()).requires_grad_()
    getattr(nn, layer)(*arguments)(theirs).backward(torch.full_like(theirs, dy))
    net = getattr(tr, layer)(*arguments).train()
    net(x)
    np.testing.assert_allclose(net.backward(np.full_like(x, dy)), theirs.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("dy", [np.inf, np.nan, 1.0], ids=str)
@pytest.mark.parametrize("x", [(-1.0, 2.0), (-1.0, np.nan)], ids=str)
def test_an_infinite_gradient_of_a_rectified_cell(x, dy):
    """The first unit is shut, the second open; or both are NaN."""
    net, theirs = tr.RNN(2, 2, nonlinearity="relu", bias=False).train(), nn.RNN(2, 2, 1, "relu", bias=False)
    weights = {"weight_ih_l0": np.eye(2, dtype=np.float32), "weight_hh_l0": np.zeros((2, 2), np.float32)}
    net.load_state_dict(weights)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    given = np.array([x], np.float32)
    want = torch.from_numpy(given.copy()).requires_grad_()
    for unit in (0, 1):
        gradient = np.zeros((1, 2), np.float32)
        gradient[0, unit] = dy
        net.zero_grad()
        net(given)
        net.backward(gradient)
        theirs.zero_grad()
        theirs(want)[0].backward(torch.from_numpy(gradient))
        got = net.grad_dict()["weight_ih_l0"][unit]
        np.testing.assert_array_equal(got, theirs.weight_ih_l0.grad.numpy()[unit])
        assert unit or np.isnan(x[1]) or not got.any()


@pytest.mark.parametrize("dy", [np.inf, np.nan], ids=str)
def test_dropped_numbers_and_padding_have_no_gradient(dy):
    """Chosen, not multiplied by zero: PyTorch's dropout multiplies, and has NaN."""
    tr.manual_seed(0)
    drop = tr.Dropout(0.5).train()
    kept = drop(np.ones(64, np.float32)) > 0
    dx = drop.backward(np.full(64, dy, np.float32))
    assert kept.any() and not kept.all()
    assert not dx[~kept].any() and not np.isfinite(dx[kept]).any()
    table = tr.Embedding(4, 3, padding_idx=1).train()
    assert [row.any() for row in table.state_dict()["weight"]] == [True, False, True, True]  # as PyTorch's
    table(np.array([0, 1, 1]))
    table.backward(np.array([[1.0] * 3, [dy] * 3, [dy] * 3], np.float32))
    assert table.grad_dict()["weight"].tolist() == [[1.0] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3]
    rnn = tr.RNN(2, 3).train()
    rnn(np.ones((4, 2, 2), np.float32), lengths=[4, 2])
    gradient = np.ones((4, 2, 3), np.float32)
    gradient[2:, 1] = dy
    dx = rnn.backward(gradient)
    assert np.isfinite(dx).all() and all(np.isfinite(array).all() for array in rnn.grad_dict().values())


# ---- training -----------------------------------------------------------------------------------


def amplifier(samples, rng):
    """A guitar and what a made-up amplifier makes of it, both (samples,): filter, tanh, filter.

    Plucked strings that decay, over noise; the tone stage is a one-pole low-pass, the cabinet another, and
    the bias of the valve makes it asymmetric.
    """
    t = np.arange(samples)
    x = 0.01 * rng.standard_normal(samples)
    for start in range(0, samples, 700):
        pitch = 2 * np.pi * rng.uniform(80, 700) / 44100
        age = np.maximum(t - start, 0)
        pluck = sum(np.sin(k * pitch * age) / k for k in (1, 2, 3, 5))
        x += (t >= start) * 0.4 * rng.uniform(0.3, 1) * np.exp(-age / 900) * pluck

    def low_pass(signal, rate):
        out, level = np.empty_like(signal), 0.0
        for i, value in enumerate(signal):
            level += rate * (value - level)
            out[i] = level
        return out

    driven = np.tanh(6 * low_pass(x, 0.5) + 0.3) - np.tanh(0.3)
    return x.astype(np.float32), low_pass(driven, 0.3).astype(np.float32)


def test_guitar_amplifier():
    """LSTM(1, 32) and Linear(32, 1) learn an amplifier as PyTorch does: same start, same batches.

    Truncated backpropagation with the state carried over, the error-to-signal ratio as loss, Adam: the kind
    of net and training of Wright et al., "Real-Time Guitar Amplifier Emulation with Deep Learning" (2020).
    """
    rows, steps, turns, rate = 8, 128, 30, 5e-3
    x, target = amplifier(rows * steps * 6, np.random.default_rng(0))
    x, target = (part.reshape(rows, -1, 1).swapaxes(0, 1) for part in (x, target))
    tr.manual_seed(0)
    net = tr.Sequential(tr.LSTM(1, 32), tr.Linear(32, 1)).train()
    theirs = nn.ModuleDict({"0": nn.LSTM(1, 32), "1": nn.Linear(32, 1)})
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    ours_step = tr.optim.Adam(net, lr=rate)
    theirs_step = torch.optim.Adam(theirs.parameters(), lr=rate)

    losses = []
    for turn in range(turns):
        chunk = turn % 6
        if chunk == 0:
            state, hx = None, None  # a new pass over the recording
        part = slice(chunk * steps, (chunk + 1) * steps)
        wanted = target[part]
        energy = float((wanted.astype(np.float64) ** 2).sum()) + 1e-5

        y = net(x[part], state=state)
        difference = y - wanted
        ours_step.zero_grad()
        net.backward(np.float32(2 / energy) * difference)
        ours_step.step()
        state = net.last_state

        y, hx = theirs["0"](torch.from_numpy(x[part].copy()), hx)
        loss = ((theirs["1"](y) - torch.from_numpy(wanted.copy())) ** 2).sum() / energy
        theirs_step.zero_grad()
        loss.backward()
        theirs_step.step()
        hx = tuple(part.detach() for part in hx)
        losses.append((float((difference.astype(np.float64) ** 2).sum() / energy), loss.item()))

    losses = np.array(losses)
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-3)
    assert losses[-6:].mean() < 0.5 * losses[:6].mean()  # it learns
