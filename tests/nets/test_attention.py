"""Attention: what it computes, its gradients, its bits, and decoders whose query feeds back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr

SOURCE, TARGET, BATCH = 11, 7, 3
LENGTHS = {"source": [11, 4, 1], "target": [3, 7, 6]}
Arrays = dict[str, Any]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- one layer -------------------------------------------------------------------------------------

LAYERS: dict[str, tuple[Callable[[], tr.Net], int, int]] = {  # and the sizes of keys and values
    "one head": (lambda: tr.DotProductAttention(5), 5, 3),
    "wide": (lambda: tr.DotProductAttention(37, scale=0.5), 37, 20),
    "heads": (lambda: tr.DotProductAttention(12, num_heads=3), 12, 6),
    "causal": (lambda: tr.DotProductAttention(8, num_heads=2, is_causal=True), 8, 4),
    "additive": (lambda: tr.AdditiveAttention(5), 5, 3),
    "additive, wide": (lambda: tr.AdditiveAttention(33), 33, 20),
}
ACROSS = [name for name in LAYERS if name != "causal"]


def net_of(name: str) -> tr.Net:
    """A layer that reads its query, keys and values out of one input, on one axis of time."""
    make, size, values = LAYERS[name]
    tr.manual_seed(2)
    x = tr.Input(2 * size + values)
    return tr.Net(x, make()(x[:size], x[size : 2 * size], x[2 * size :]).named("attention"))


def across(name: str) -> tr.Net:
    """A layer whose query is on another axis of time than its keys and values."""
    make, size, values = LAYERS[name]
    tr.manual_seed(2)
    q = tr.Input(size, time="target", name="q")
    k, v = tr.Input(size, time="source", name="k"), tr.Input(values, time="source", name="v")
    return tr.Net([q, k, v], make()(q, k, v).named("attention"))


def oracle(layer: tr.Net, q: Any, k: Any, v: Any, ends: Any, lengths: Any, weight: Any = None) -> Any:
    """The layer in float64, from its definition: one query, head and key at a time."""
    heads = layer.num_heads
    size, part = q.shape[-1] // heads, v.shape[-1] // heads
    out = np.zeros((*q.shape[:2], v.shape[-1]))
    for b in range(q.shape[1]):
        for t in range(ends[b]):
            count = min(lengths[b], t + 1) if getattr(layer, "is_causal", False) else lengths[b]
            for h in range(heads):
                mine, places = slice(h * size, (h + 1) * size), slice(h * part, (h + 1) * part)
                scores = np.array(
                    [
                        weight @ np.tanh(q[t, b] + k[s, b])
                        if weight is not None
                        else layer.scale * (q[t, b, mine] @ k[s, b, mine])
                        for s in range(count)
                    ]
                )
                p = np.exp(scores - scores.max())
                out[t, b, places] = (p / p.sum()) @ v[:count, b, places]
    return out


def in_torch(layer: tr.Net, q: Any, k: Any, v: Any, lengths: Any, weight: Any = None) -> Any:
    """The layer in PyTorch, (T, B, size) and (S, B, size); beyond the query's end it computes on."""
    import torch

    real = torch.arange(k.shape[0])[None] < torch.tensor(lengths)[:, None]  # (B, S)
    if weight is not None:
        scores = torch.tanh(q[:, None] + k[None]) @ weight  # (T, S, B)
        scores = scores.masked_fill(~real.T[None], -torch.inf)
        return torch.einsum("tsb,sbv->tbv", scores.softmax(1), v)
    mask = real[:, None, None]
    if layer.is_causal:
        mask = mask & torch.ones(q.shape[0], k.shape[0], dtype=torch.bool).tril()
    heads = layer.num_heads
    parts = [one.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for one in (q, k, v)]  # (B, heads, T, .)
    y = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask, scale=layer.scale)
    return y.permute(2, 0, 1, 3).flatten(2)


def weight_of(net: tr.Net) -> np.ndarray | None:
    return net.state_dict().get("attention.weight")


@pytest.mark.parametrize("name", LAYERS)
def test_values_are_the_definitions(name: str) -> None:
    net, size = net_of(name), LAYERS[name][1]
    x = numbers(TARGET, BATCH, 2 * size + LAYERS[name][2])
    parts = np.split(x.astype(float), [size, 2 * size], axis=-1)
    lengths = LENGTHS["target"]
    wanted = oracle(net["attention"], *parts, lengths, lengths, weight_of(net))
    assert np.abs(net(x, lengths=lengths) - wanted).max() < 2e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ACROSS)
def test_values_on_another_axis(name: str) -> None:
    net, (_, size, values) = across(name), LAYERS[name]
    q, k, v = (
        numbers(TARGET, BATCH, size),
        numbers(SOURCE, BATCH, size, seed=1),
        numbers(SOURCE, BATCH, values),
    )
    wanted = oracle(net["attention"], q, k, v, LENGTHS["target"], LENGTHS["source"], weight_of(net))
    found = net(q, k, v, lengths=LENGTHS)
    assert np.abs(found - wanted).max() < 2e-6 * np.abs(wanted).max()
    more = net(q, k, v)
    wanted = oracle(net["attention"], q, k, v, [TARGET] * 3, [SOURCE] * 3, weight_of(net))
    assert np.abs(more - wanted).max() < 2e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    net, (_, size, values) = net_of(name), LAYERS[name]
    x, dy = numbers(TARGET, BATCH, 2 * size + values), numbers(TARGET, BATCH, values, seed=1)
    lengths = LENGTHS["target"]
    for b, end in enumerate(lengths):
        dy[end:, b] = 0
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    weight = weight_of(net)
    if weight is not None:
        weight = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
    y = in_torch(net["attention"], *theirs.split([size, size, values], -1), lengths, weight)
    y.backward(torch.tensor(dy, dtype=torch.float64))
    net.train()
    net(x, lengths=lengths)
    pairs = [(net.backward(dy), theirs.grad)]
    pairs += [(gradient, weight.grad) for gradient in net.grad_dict().values()]
    assert len(pairs) == 1 + (weight is not None)
    for ours, right in pairs:
        assert np.abs(ours - right.numpy()).max() < 2e-5 * np.abs(right.numpy()).max()


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_differences(name: str) -> None:
    """The gradient along one direction against differences of the float64 oracle."""
    net, (_, size, values) = net_of(name), LAYERS[name]
    x, dy = numbers(TARGET, BATCH, 2 * size + values), numbers(TARGET, BATCH, values, seed=1)
    along = numbers(*x.shape, seed=2).astype(float)
    lengths = LENGTHS["target"]
    net.train()
    net(x, lengths=lengths)
    slope = float((net.backward(dy) * along).sum())

    def loss(way: float) -> float:
        parts = np.split(x + way * along, [size, 2 * size], axis=-1)
        y = oracle(net["attention"], *parts, lengths, lengths, weight_of(net))
        return float((y * dy).sum())

    difference = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert abs(slope - difference) < 1e-4 * max(1.0, abs(difference))


# ---- decoders --------------------------------------------------------------------------------------


def luong() -> tr.Net:
    """A GRU that reads what it found in the source one step before."""
    source, target = tr.Input(4, time="source", name="source"), tr.Input(3, time="target", name="target")
    memory = tr.GRU(4, 6, bidirectional=True)(source).named("encoder")
    keys = tr.Linear(12, 5, bias=False)(memory).named("keys")  # a bias would change no weight
    before = tr.Feedback(12, time="target")
    h = tr.GRU(15, 5)(tr.concat([target, before])).named("decoder")
    context = tr.DotProductAttention(5)(h, keys, memory).named("attention")
    before.connect(context)
    return tr.Net([source, target], tr.Linear(17, 2)(tr.concat([h, context])).named("head"))


def bahdanau() -> tr.Net:
    """A GRU whose state of the step before is the query of this one."""
    source, target = tr.Input(4, time="source", name="source"), tr.Input(3, time="target", name="target")
    memory = tr.GRU(4, 6, bidirectional=True)(source).named("encoder")
    keys = tr.Linear(12, 7)(memory).named("keys")
    before = tr.Feedback(5, time="target")
    query = tr.Linear(5, 7, bias=False)(before).named("query")
    context = tr.AdditiveAttention(7)(query, keys, memory).named("attention")
    h = tr.GRU(15, 5)(tr.concat([target, context])).named("decoder")
    before.connect(h)
    return tr.Net([source, target], tr.Linear(5, 2)(h).named("head"))


def layer_in_torch(make: Any, weights: Arrays, name: str, *given: Any) -> Any:
    import torch

    own = {
        key.removeprefix(name + "."): value for key, value in weights.items() if key.startswith(name + ".")
    }
    return torch.func.functional_call(make.double(), own, given)


def encoder_in_torch(source: Any, lengths: Any, weights: Arrays) -> tuple[Any, Any]:
    import torch

    packed = torch.nn.utils.rnn.pack_padded_sequence(source, torch.tensor(lengths), enforce_sorted=False)
    memory, _ = layer_in_torch(torch.nn.GRU(4, 6, bidirectional=True), weights, "encoder", packed)
    memory, _ = torch.nn.utils.rnn.pad_packed_sequence(memory, total_length=source.shape[0])
    return memory, memory @ weights["keys.weight"].T + weights.get("keys.bias", 0)


def decoder_in_torch(net: tr.Net, additive: bool, source: Any, target: Any, weights: Arrays) -> Any:
    import torch

    lengths = LENGTHS["source"]
    memory, keys = encoder_in_torch(source, lengths, weights)
    gru = torch.nn.GRU(15, 5)
    h, context = torch.zeros(BATCH, 5).double(), torch.zeros(BATCH, 12).double()
    outputs = []
    for frame in target:
        if additive:
            query = h @ weights["query.weight"].T
            context = in_torch(
                net["attention"], query[None], keys, memory, lengths, weights["attention.weight"]
            )[0]
        state = layer_in_torch(gru, weights, "decoder", torch.cat([frame, context], -1)[None], h[None])[1]
        h = state[0]
        if not additive:
            context = in_torch(net["attention"], h[None], keys, memory, lengths)[0]
        found = h if additive else torch.cat([h, context], -1)
        outputs.append(found @ weights["head.weight"].T + weights["head.bias"])
    return torch.stack(outputs)


DECODERS: dict[str, Callable[[], tr.Net]] = {"luong": luong, "bahdanau": bahdanau}


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> tr.Net:
    tr.manual_seed(3)
    return DECODERS[request.param]()


def train(net: tr.Net) -> None:
    """Set training mode, if this version trains nets of several inputs."""
    net.train()
    try:
        net(*both_inputs())
    except ValueError as error:
        if "got training mode, but several inputs" in str(error):
            pytest.skip("nets of several inputs do not train yet")
        raise


def both_inputs() -> tuple[np.ndarray, np.ndarray]:
    return numbers(SOURCE, BATCH, 4), numbers(TARGET, BATCH, 3, seed=1)


def test_decoders_are_torchs(decoder: tr.Net) -> None:
    torch = pytest.importorskip("torch")
    arrays = both_inputs()
    weights = {name: torch.tensor(array, dtype=torch.float64) for name, array in decoder.state_dict().items()}
    given = [torch.tensor(array, dtype=torch.float64) for array in arrays]
    wanted = decoder_in_torch(decoder, "query.weight" in weights, *given, weights).numpy()
    found = decoder(*arrays, lengths=LENGTHS)
    for b, end in enumerate(LENGTHS["target"]):
        assert np.abs(found[:end, b] - wanted[:end, b]).max() < 3e-6


def test_gradients_of_decoders_are_torchs(decoder: tr.Net) -> None:
    torch = pytest.importorskip("torch")
    arrays, dy = both_inputs(), numbers(TARGET, BATCH, 2, seed=2)
    for b, end in enumerate(LENGTHS["target"]):
        dy[end:, b] = 0
    weights = {
        name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
        for name, array in decoder.state_dict().items()
    }
    given = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays]
    y = decoder_in_torch(decoder, "query.weight" in weights, *given, weights)
    y.backward(torch.tensor(dy, dtype=torch.float64))
    train(decoder)
    decoder(*arrays, lengths=LENGTHS)
    pairs = {
        str(i): (ours, one.grad)
        for i, (ours, one) in enumerate(zip(decoder.backward(dy), given, strict=True))
    }
    pairs |= {name: (gradient, weights[name].grad) for name, gradient in decoder.grad_dict().items()}
    assert len(pairs) == 2 + len(weights)
    for name, (ours, right) in pairs.items():
        assert np.abs(ours - right.numpy()).max() < 2e-5 * np.abs(right.numpy()).max(), name


# ---- bits ------------------------------------------------------------------------------------------


def test_rows_threads_and_lengths_keep_the_bits(decoder: tr.Net) -> None:
    source, target = both_inputs()
    whole = decoder(source, target, lengths=LENGTHS)
    for threads in (2, 3):
        assert np.array_equal(decoder(source, target, lengths=LENGTHS, threads=threads), whole)
    for b, (end, stop) in enumerate(zip(LENGTHS["source"], LENGTHS["target"], strict=True)):
        assert np.array_equal(decoder(source[:end, b], target[:stop, b]), whole[:stop, b])


def test_gradients_of_decoders_keep_the_bits(decoder: tr.Net) -> None:
    """With threads, and on every fused instruction set."""
    dy = numbers(TARGET, BATCH, 2, seed=2)
    train(decoder)
    found = []
    for isa, threads in [(isa, 1) for isa in FUSED] + [(tr.isa(), 2), (tr.isa(), 3)]:
        tr.set_isa(isa)
        decoder.zero_grad()
        y = decoder(*both_inputs(), lengths=LENGTHS, threads=threads)
        found.append([y, *decoder.backward(dy), *decoder.grad_dict().values()])
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


FUSED = [isa for isa in tr.available_isas() if isa not in ("scalar", "sse2")]


@pytest.mark.parametrize("name", LAYERS)
def test_instruction_sets_agree(name: str) -> None:
    net, (_, size, values) = net_of(name), LAYERS[name]
    x, dy = numbers(TARGET, BATCH, 2 * size + values), numbers(TARGET, BATCH, values, seed=1)
    net.train()
    found = {}
    for isa in tr.available_isas():
        tr.set_isa(isa)
        net.zero_grad()
        y = net(x, lengths=LENGTHS["target"])
        found[isa] = [y, net.backward(dy), *net.grad_dict().values()]
        net.eval()
        assert np.array_equal(net(x, lengths=LENGTHS["target"]), y)
        net.train()
    for isa, arrays in found.items():
        for one, other in zip(arrays, found[FUSED[0] if FUSED else isa], strict=True):
            if isa in FUSED:
                assert np.array_equal(one, other), isa
            assert np.abs(one - other).max() < 1e-5 * np.abs(other).max(), isa


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_do_not_depend_on_threads(name: str) -> None:
    net, (_, size, values) = net_of(name), LAYERS[name]
    x, dy = numbers(TARGET, BATCH, 2 * size + values), numbers(TARGET, BATCH, values, seed=1)
    net.train()
    found = []
    for threads in (1, 2, 3):
        net.zero_grad()
        net(x, threads=threads, lengths=LENGTHS["target"])
        found.append([net.backward(dy), *net.grad_dict().values()])
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_what_is_beyond_an_end_does_not_count() -> None:
    net, (_, size, values) = net_of("heads"), LAYERS["heads"]
    x, dy = numbers(TARGET, BATCH, 2 * size + values), numbers(TARGET, BATCH, values, seed=1)
    other = x.copy()
    for b, end in enumerate(LENGTHS["target"]):
        other[end:, b] = np.nan
    found = []
    for given in (x, other):
        y = net(given, lengths=LENGTHS["target"])
        net.train()
        net(given, lengths=LENGTHS["target"])
        found.append((y, net.backward(dy)))
        net.eval()
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    for b, end in enumerate(LENGTHS["target"]):
        assert not found[0][0][end:, b].any() and not found[0][1][end:, b].any()


# ---- the rest --------------------------------------------------------------------------------------


def test_the_weights_are_those_of_one_hot_values() -> None:
    q, k = numbers(TARGET, BATCH, 6), numbers(SOURCE, BATCH, 6, seed=1)
    a, b = tr.Input(6, time="target"), tr.Input(6, time="source")
    step = tr.Input(SOURCE, time="source")
    net = tr.Net([a, b, step], tr.DotProductAttention(6)(a, b, step))
    one_hot = np.repeat(np.eye(SOURCE, dtype=np.float32)[:, None], BATCH, axis=1)
    found = net(q, k, one_hot, lengths={"source": LENGTHS["source"]})
    assert np.abs(found.sum(-1) - 1).max() < 1e-6
    for row, end in enumerate(LENGTHS["source"]):
        scores = np.exp((q[:, row].astype(float) @ k[:end, row].T) / np.sqrt(6))
        assert np.abs(found[:, row, :end] - scores / scores.sum(-1, keepdims=True)).max() < 1e-6
        assert not found[:, row, end:].any()


def test_a_query_per_sequence_pools() -> None:
    x, q = tr.Input(4), tr.Input(4, time=None, name="q")
    net = tr.Net([x, q], tr.DotProductAttention(4)(q, x, x).named("attention"))
    a, b = numbers(STEPS := 200, BATCH, 4), numbers(BATCH, 4, seed=1)  # more steps than one block
    wanted = oracle(net["attention"], b[None], a, a, [1] * BATCH, [STEPS, 9, 1])[0]
    assert np.abs(net(a, b, lengths=[STEPS, 9, 1]) - wanted).max() < 1e-6


def test_a_trainer_trains() -> None:
    net = net_of("additive")
    trainer = net.trainer(tr.optim.Adam(net, lr=0.05), tr.MSELoss(), batch=BATCH, steps=TARGET)
    x = numbers(TARGET, BATCH, 13)
    y = numbers(TARGET, BATCH, 3, seed=1)
    losses = [trainer.step(x, y) for _ in range(40)]
    assert losses[-1] < losses[0]


def test_files(tmp_path: Path) -> None:
    for name in LAYERS:
        net = net_of(name)
        x = numbers(TARGET, BATCH, 2 * LAYERS[name][1] + LAYERS[name][2])
        net.save(tmp_path / "net.safetensors")
        other = tr.load(tmp_path / "net.safetensors")
        assert repr(other) == repr(net)
        assert np.array_equal(other(x), net(x))


def test_the_scale_is_live() -> None:
    net = net_of("one head")
    x = numbers(TARGET, BATCH, 13)
    before = net(x)
    net["attention"].scale = 0.0
    means = np.repeat(x[..., 10:].astype(float).mean(0)[None], TARGET, axis=0)
    assert np.abs(net(x) - means).max() < 1e-6 < np.abs(before - means).max()


def test_what_cannot_be() -> None:
    source, target = tr.Input(4, time="source"), tr.Input(4, time="target")
    with pytest.raises(ValueError, match="embed_dim is 5, expected a multiple of num_heads, 2"):
        tr.DotProductAttention(5, 2)
    with pytest.raises(TypeError, match="got 2 values, expected 3 values: the query, the keys"):
        tr.DotProductAttention(4)(source, source)
    with pytest.raises(tr.ShapeError, match=r"got frames of shape \(4,\), expected \(5,\) = \(embed_dim,\)"):
        tr.AdditiveAttention(5)(source, target, target)
    with pytest.raises(tr.ShapeError, match=r"got frames of shape \(3,\), expected one axis, a multiple of"):
        tr.DotProductAttention(4, 2)(source, target, tr.Input(3, time="target"))
    with pytest.raises(ValueError, match="axis of time: got .*, expected keys, values and mask on"):
        tr.DotProductAttention(4)(source, target, source)
    with pytest.raises(ValueError, match="not on its axis of time"):
        tr.DotProductAttention(4, is_causal=True)(source, target, target)
    with pytest.raises(ValueError, match="scale"):
        tr.DotProductAttention(4, scale=float("nan"))
    before = tr.Feedback(4, time="source")
    h = tr.DotProductAttention(4)(before, source, source)
    before.connect(h)
    with pytest.raises(ValueError, match="cannot run within a loop"):
        tr.Net(source, h)
    with pytest.raises(ValueError, match="full sequence"):
        net_of("one head").stream()


def test_a_learned_query_pools_a_sequence() -> None:
    """One mean for a sequence: values and gradients are PyTorch's, and rows end at their lengths."""
    tr.manual_seed(0)
    x = tr.Input(5)
    h = tr.Linear(5, 8)(x).named("linear")
    one = 0 * tr.LastStep()(h[:1]) + 1
    query = tr.Linear(1, 6, bias=False)(one).named("query")
    keys = tr.Linear(8, 6, bias=False)(h).named("keys")
    net = tr.Net(x, tr.DotProductAttention(6, num_heads=2)(query, keys, h))

    def model(torch: Any, x: Any, weights: Arrays, mask: Any) -> Any:
        read = x @ weights["linear.weight"].T + weights["linear.bias"]
        heads = [read @ weights["keys.weight"].T, read, weights["query.weight"].T.expand(1, 4, 6)]
        k, v, q = (part.unflatten(-1, (2, -1)).permute(1, 2, 0, 3) for part in heads)  # (B, heads, T, size)
        mask = mask[:, None, None]
        found = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return found[:, :, 0].flatten(1)

    pools_as(model, net)


def test_attention_pooling_is_yangs() -> None:
    tr.manual_seed(4)
    net = tr.Sequential(tr.Linear(5, 8), tr.AttentionPooling(8, 6))

    def model(torch: Any, x: Any, weights: Arrays, mask: Any) -> Any:
        h = x @ weights["0.weight"].T + weights["0.bias"]
        keys = (h @ weights["1.key.weight"].T + weights["1.key.bias"]).tanh()
        scores = (keys @ weights["1.attention.weight"]).masked_fill(~mask.T, -torch.inf)
        return (scores.softmax(0)[..., None] * h).sum(0)

    pools_as(model, net)
    assert np.array_equal(
        tr.Sequential(net[0], tr.AttentionPooling(8, 6))(np.ones((1, 1, 5))), net[0](np.ones((1, 1, 5)))[0]
    )
    with pytest.raises(tr.ShapeError, match=r"frames of shape \(7,\), expected \(8,\)"):
        tr.AttentionPooling(8, 6)(np.zeros((3, 2, 7), np.float32))
    with pytest.raises(ValueError, match="AttentionPooling: embed_dim is 0"):
        tr.AttentionPooling(8, 0)
    with pytest.raises(ValueError, match="needs the full sequence"):
        net.stream()


def pools_as(model: Callable[..., Any], net: tr.Net) -> None:
    """A net that pools (7, 4, 5) to (4, 8) computes what PyTorch does, and learns and quantises."""
    torch = pytest.importorskip("torch")
    lengths = [7, 1, 3, 5]
    generator = np.random.default_rng(0)
    a, dy = (generator.standard_normal(shape).astype(np.float32) for shape in ((7, 4, 5), (4, 8)))
    net.train()
    found = net(a, lengths=lengths)
    weights = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in net.state_dict().items()
    }
    given = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    wanted = model(torch, given, weights, torch.arange(7) < torch.tensor(lengths)[:, None])
    np.testing.assert_allclose(found, wanted.detach(), rtol=0, atol=1e-6)
    (wanted * torch.tensor(dy)).sum().backward()
    dx = net.backward(dy)
    np.testing.assert_allclose(dx, given.grad, rtol=0, atol=1e-6)
    for name, gradient in net.grad_dict().items():
        np.testing.assert_allclose(gradient, weights[name].grad, rtol=0, atol=2e-6, err_msg=name)
    net.eval()
    for row, end in enumerate(lengths):
        assert np.array_equal(net(a[:end, row]), found[row])
    small = tr.quantize(net, "int8", a)
    assert 0 < np.abs(small(a) - net(a)).max() < 0.05
