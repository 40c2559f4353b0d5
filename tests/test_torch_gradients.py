"""tinyrnn's gradients beside PyTorch's, on random nets.

PyTorch runs in float64, so that what is measured is our error and not its own. The oracle of
oracle_gradients.py is held to it as well, a thousand million times closer.
"""

import numpy as np
import oracle_gradients as oracle
import pytest
from gradient_nets import CASES, build, leaves

torch = pytest.importorskip("torch")
nn = torch.nn
rnn_utils = torch.nn.utils.rnn

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
]

TOLERANCE = 2e-5  # of a tensor's largest entry
SEEDS = [("alone", 110), ("chain", 80), ("frames", 60)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
        swapped = any(getattr(module, "batch_first", False) for module in self.modules)
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
                elif isinstance(module, nn.BatchNorm1d) and real is not None:
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
