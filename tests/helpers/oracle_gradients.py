"""Every layer forwards and backwards in float64 NumPy, in training mode: slow, plain, no code of tinyrnn's.

Each function returns what the layer computes and a function that goes back: given the gradient of a loss with
respect to the output, it returns that with respect to the input, and adds those of the tensors to ``grads``.
The derivatives are the textbook's, by hand; finite differences and PyTorch's autograd check them.

`run` takes a whole net as a list of layers; a layer alone is a list of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import oracle_cells
import oracle_frames
from dice import Dice
from numpy.typing import NDArray
from oracle import (
    BEND,
    FORMULA,
    RECURRENT,
    SELU_ALPHA,
    SELU_SCALE,
    STATES,
    elementwise,
    gate,
    log_softmax,
    normal_share,
    of_direction,
    prelu,
    sigmoid,
    softmax,
    softplus,
    standard,
    state_sizes,
)

Array = NDArray[np.float64]
Tensors = Mapping[str, Array]  # only those of the layer at hand, under their bare names
Grads = dict[str, Array]
Back = Callable[[Array], Array]
Leaf = tuple[str, str, Mapping[str, Any]]  # prefix of its tensors' names, name of the layer, its arguments


def give(grads: Grads, name: str, value: Array) -> None:
    """Add to the gradient of a tensor, in place."""
    grads[name] += value


# ---- one step of one row ------------------------------------------------------------------------
#
# A step returns the state after it, and a function from the gradients of that state to those of the input
# and of the state before.


def normed(w: Tensors, grads: Grads, which: str, x: Array) -> tuple[Array, Back]:
    """Layer normalisation with the gain ``weight_ln_<which>`` and, if there is one, the bias; or nothing."""
    gain, bias = f"weight_ln_{which}", f"bias_ln_{which}"
    if gain not in w:
        return x, lambda d: d
    normal, deviation = standard(x), np.sqrt(x.var() + 1e-5)

    def back(d: Array) -> Array:
        give(grads, gain, d * normal)
        if bias in w:
            give(grads, bias, d)
        inner = d * w[gain]
        return (inner - inner.mean() - normal * (inner * normal).mean()) / deviation

    return normal * w[gain] + w.get(bias, 0), back


def products(
    w: Tensors, grads: Grads, x: Array, h: Array, drop: Any = 1
) -> tuple[Array, Array, Callable[..., Any]]:
    """The shares of the input and of the hidden state, times ``drop``, in the gates."""
    h = h * drop
    from_x, x_back = normed(w, grads, "ih", w["weight_ih"] @ x)
    from_h, h_back = normed(w, grads, "hh", w["weight_hh"] @ h)

    def back(d_from_x: Array, d_from_h: Array) -> tuple[Array, Array]:
        if "bias_ih" in w:
            give(grads, "bias_ih", d_from_x)
            give(grads, "bias_hh", d_from_h)
        d_from_x, d_from_h = x_back(d_from_x), h_back(d_from_h)
        give(grads, "weight_ih", np.outer(d_from_x, x))
        give(grads, "weight_hh", np.outer(d_from_h, h))
        return w["weight_ih"].T @ d_from_x, w["weight_hh"].T @ d_from_h * drop

    return from_x + w.get("bias_ih", 0), from_h + w.get("bias_hh", 0), back


def rnn_step(
    w: Tensors,
    grads: Grads,
    x: Array,
    h: Array,
    nonlinearity: Any = "tanh",
    clip: float | None = None,
    drop: Any = 1,
) -> Any:
    from_x, from_h, products_back = products(w, grads, x, h, drop)
    after, slope = gate(nonlinearity, from_x + from_h, clip)

    def back(dh: Array) -> tuple[Array, Array]:
        da = dh * slope
        return products_back(da, da)

    return (after,), back


def gru_before_step(
    w: Tensors, grads: Grads, x: Array, h: Array, f: Any, g: Any, clip: float | None, drop: Any
) -> Any:
    """The reset gate before the product: one product with h for r and z, one with r h for n."""
    size = len(h)

    def part(names: Mapping[str, Any], rows: slice) -> dict[str, Any]:
        return {name: array[rows] for name, array in names.items()}  # views

    first, last = slice(0, 2 * size), slice(2 * size, None)
    from_x, from_h, first_back = products(part(w, first), part(grads, first), x, h, drop)
    (r, z), (r_slope, z_slope) = (np.split(part, 2) for part in gate(f, from_x + from_h, clip))
    from_x, from_reset, last_back = products(part(w, last), part(grads, last), x, r * h, drop)
    n, n_slope = gate(g, from_x + from_reset, clip)
    after = (1 - z) * n + z * h

    def back(dh: Array) -> tuple[Array, Array]:
        dn = dh * (1 - z) * n_slope
        dx_last, dm = last_back(dn, dn)
        da = np.concatenate([dm * h * r_slope, dh * (h - n) * z_slope])
        dx_first, dh_before = first_back(da, da)
        return dx_first + dx_last, dh_before + dm * r + dh * z

    return (after,), back


def gru_step(
    w: Tensors,
    grads: Grads,
    x: Array,
    h: Array,
    reset_after: bool = True,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    clip: float | None = None,
    drop: Any = 1,
) -> Any:
    if not reset_after:
        return gru_before_step(w, grads, x, h, recurrent_activation, activation, clip, drop)
    from_x, from_h, products_back = products(w, grads, x, h, drop)
    (xr, xz, xn), (hr, hz, hn) = np.split(from_x, 3), np.split(from_h, 3)
    r, r_slope = gate(recurrent_activation, xr + hr, clip)
    z, z_slope = gate(recurrent_activation, xz + hz, clip)
    n, n_slope = gate(activation, xn + r * hn, clip)
    after = (1 - z) * n + z * h

    def back(dh: Array) -> tuple[Array, Array]:
        dn = dh * (1 - z) * n_slope
        dz = dh * (h - n) * z_slope
        dr = dn * hn * r_slope
        dx, dh_before = products_back(np.concatenate([dr, dz, dn]), np.concatenate([dr, dz, dn * r]))
        return dx, dh_before + dh * z

    return (after,), back


def lstm_step(
    w: Tensors,
    grads: Grads,
    x: Array,
    h: Array,
    c: Array,
    coupled: bool = False,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    output_activation: Any = None,
    clip: float | None = None,
    cell_clip: float | None = None,
    drop: Any = 1,
) -> Any:
    from_x, from_h, products_back = products(w, grads, x, h, drop)
    sums = np.split(from_x + from_h, 3 if coupled else 4)
    of_c = w.get("weight_peephole", np.zeros(len(sums) - 1))
    peephole, matrix = "weight_peephole" in w and of_c.ndim == 1, of_c.ndim == 2
    seen = np.split(of_c, len(sums) - 1) if peephole else [np.zeros(1)] * 3
    if matrix:
        places = [0, -1] if coupled else [0, 1, -1]
        for place, part in zip(places, np.split(of_c @ c, len(places)), strict=True):
            sums[place] = sums[place] + part
    i, i_slope = gate(recurrent_activation, sums[0] + seen[0] * c, clip)
    f, f_slope = (1 - i, 0) if coupled else gate(recurrent_activation, sums[1] + seen[1] * c, clip)
    g, g_slope = gate(activation, sums[-2], clip)
    c_sum = f * c + i * g
    most = np.inf if cell_clip is None else cell_clip
    c_after = np.clip(c_sum, -most, most)
    o, o_slope = gate(recurrent_activation, sums[-1] + seen[-1] * c_after, clip)
    read, read_back = normed(w, grads, "c", c_after)
    t, t_slope = gate(activation if output_activation is None else output_activation, read)
    m = o * t
    h_after = w["weight_hr"] @ m if "weight_hr" in w else m

    def back(dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        dm = dh
        if "weight_hr" in w:
            give(grads, "weight_hr", np.outer(dh, m))
            dm = w["weight_hr"].T @ dh
        da_o = dm * t * o_slope
        dc = dc + read_back(dm * o * t_slope) + da_o * seen[-1]
        dc = np.where(np.abs(c_sum) <= most, dc, 0)
        da_i = dc * (g - c if coupled else g) * i_slope
        da_f = [] if coupled else [dc * c * f_slope]
        da = np.concatenate([da_i, *da_f, dc * i * g_slope, da_o])
        if peephole:
            give(grads, "weight_peephole", np.concatenate([da_i * c, *(d * c for d in da_f), da_o * c_after]))
        dx, dh_before = products_back(da, da)
        dc_before = dc * f + da_i * seen[0] + sum(d * seen[1] for d in da_f)
        if matrix:
            da_seen = np.concatenate([da_i, *da_f, da_o])
            give(grads, "weight_peephole", np.outer(da_seen, c))
            dc_before = dc_before + of_c.T @ da_seen
        return dx, dh_before, dc_before

    return (h_after, c_after), back


def step(
    kind: str, w: Tensors, grads: Grads, x: Array, state: tuple[Array, ...], formula: Mapping[str, Any]
) -> Any:
    steps: dict[str, Callable[..., Any]] = {"LSTM": lstm_step, "GRU": gru_step, "RNN": rnn_step}
    return (steps | oracle_cells.STEPS)[kind](w, grads, x, *state, **formula)


# ---- sequences ----------------------------------------------------------------------------------


def zoned(shares: Sequence[Array], before: Sequence[Array], after: Sequence[Array]) -> tuple[Array, ...]:
    """Zoneout (Krueger et al., 2017, equations 5 and 6): a share of each state stays as it was."""
    pairs = zip(shares, before, after, strict=True)
    return tuple(share * old + (1 - share) * new for share, old, new in pairs)


def zoned_back(shares: Sequence[Array], back: Callable[..., Any]) -> Callable[..., Any]:
    """The way back through a step whose states are `zoned`."""

    def through(*dstate: Array) -> tuple[Array, ...]:
        dx, *before = back(*((1 - share) * d for share, d in zip(shares, dstate, strict=True)))
        parts = zip(before, shares, dstate, strict=True)
        return dx, *(part + share * d for part, share, d in parts)

    return through


def recurrent(
    kind: str,
    w: Tensors,
    grads: Grads,
    x: Array,
    initial: Sequence[Array | None],
    lengths: Sequence[int],
    masks: Mapping[str, Array],
    dice: Dice | None = None,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    **formula: Any,
) -> tuple[Array, list[Array], Callable[[Array, Sequence[Array | None]], tuple[Array, list[Array]]]]:
    """A layer of ``kind`` over ``(T, B, I)``: its output, its final state, and the way back.

    ``initial`` is h, and for an LSTM c, ``(levels * directions, B, size)``, None for zeros.
    ``masks[f"l{k}"]`` is what dropout multiplies the output of level k by. The way back takes the
    gradients of the output and of the final state, and gives those of the input and of the initial state.
    """
    steps, batch, _ = x.shape
    sizes = state_sizes(kind, w, "_l0", formula.get("coupled", False))
    directions = ["", "_reverse"] if bidirectional else [""]
    shapes = [(num_layers * len(directions), batch, size) for size in sizes]
    before = [np.zeros(shape) if part is None else part for shape, part in zip(shapes, initial, strict=True)]
    final = [np.empty(shape) for shape in shapes]
    tape: list[tuple[int, int, int, list[tuple[int, Any]]]] = []  # (level, direction, row, steps taken)

    for level in range(num_layers):
        y = np.zeros((steps, batch, len(directions) * sizes[0]))  # and zeros it stays beyond a row's end
        for d, reverse in enumerate(directions):
            suffix = f"_l{level}{reverse}"
            own = {name.removesuffix(suffix): w[name] for name in w if name.endswith(suffix)}
            own_grads = {name: grads[name + suffix] for name in own}
            k = level * len(directions) + d
            for b in range(batch):
                state = tuple(part[k, b] for part in before)
                order = range(lengths[b])
                taken = []
                for t in reversed(order) if reverse else order:
                    seen = of_direction(formula, d) | ({} if dice is None else {"drop": dice.drop[k][b]})
                    state_before = state
                    state, back = step(kind, own, own_grads, x[t, b], state, seen)
                    if dice is not None:
                        shares = [part[k][t, b] for part in (dice.h, dice.c)][: len(state)]
                        state = zoned(shares, state_before, state)
                        back = zoned_back(shares, back)
                    y[t, b, d * sizes[0] : (d + 1) * sizes[0]] = state[0]
                    taken.append((t, back))
                for part, value in zip(final, state, strict=True):
                    part[k, b] = value
                tape.append((level, d, b, taken))
        x = y * masks.get(f"l{level}", 1)

    def back(dy: Array, d_final: Sequence[Array | None]) -> tuple[Array, list[Array]]:
        dstate = [
            np.zeros(shape) if part is None else part for shape, part in zip(shapes, d_final, strict=True)
        ]
        d_initial = [np.empty(shape) for shape in shapes]
        for level in reversed(range(num_layers)):
            dy = dy * masks.get(f"l{level}", 1)
            reads = w.get(f"weight_ir_l{level}", w[f"weight_ih_l{level}"]).shape[1]
            dx = np.zeros((steps, batch, reads))
            for at, d, b, taken in tape:
                if at != level:
                    continue
                k = level * len(directions) + d
                state = tuple(part[k, b] for part in dstate)
                for t, step_back in reversed(taken):
                    dh = state[0] + dy[t, b, d * sizes[0] : (d + 1) * sizes[0]]
                    d_input, *state = step_back(dh, *state[1:])
                    dx[t, b] += d_input
                for part, value in zip(d_initial, state, strict=True):
                    part[k, b] = value
            dy = dx
        return dy, d_initial

    return x, final, back


# ---- layers that look at one frame at a time ----------------------------------------------------


def linear(w: Tensors, grads: Grads, x: Array) -> tuple[Array, Back]:
    def back(dy: Array) -> Array:
        rows = dy.reshape(-1, dy.shape[-1])
        give(grads, "weight", rows.T @ x.reshape(len(rows), -1))
        if "bias" in w:
            give(grads, "bias", rows.sum(axis=0))
        return dy @ w["weight"]

    return x @ w["weight"].T + w.get("bias", 0), back


def embedding(
    w: Tensors, grads: Grads, indices: NDArray[np.integer[Any]], padding_idx: int | None = None
) -> tuple[Array, Back]:
    """The row of ``padding_idx`` is read as any other, and gets no gradient."""

    def back(dy: Array) -> Any:
        grad = np.zeros_like(w["weight"])
        for index, row in zip(indices.ravel(), dy.reshape(-1, dy.shape[-1]), strict=True):
            if padding_idx is None or index != padding_idx % len(grad):
                grad[index] += row
        give(grads, "weight", grad)
        return None

    return w["weight"][indices], back


def conv1d(
    w: Tensors,
    grads: Grads,
    x: Array,
    *,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Array, Back]:
    """Over ``(..., channels, length)``."""
    weight, lead, in_length = w["weight"], x.shape[:-2], x.shape[-1]
    out_channels, group_in, kernel = weight.shape
    span = dilation * (kernel - 1) + 1
    sides = {"valid": (0, 0), "same": ((span - 1) // 2, span - 1 - (span - 1) // 2)}
    left, right = sides[padding] if isinstance(padding, str) else (padding, padding)
    # where each place of the padded input comes from; -1 for a zero
    source = np.arange(-left, in_length + right)
    if padding_mode == "reflect":
        source = np.abs(source)
        source = np.where(source >= in_length, 2 * (in_length - 1) - source, source)
    else:
        source = np.where((source < 0) | (source >= in_length), -1, source)
    frames = x.reshape(-1, *x.shape[-2:])
    padded = np.where(source >= 0, frames[..., source], 0)
    length = (padded.shape[-1] - span) // stride + 1
    y = np.zeros((len(frames), out_channels, length))

    def place(o: int, t: int) -> tuple[slice, slice, slice]:
        """The taps that output channel o reads at t."""
        first = o // (out_channels // groups) * group_in
        return np.s_[:, first : first + group_in, t * stride : t * stride + span : dilation]

    for o in range(out_channels):
        for t in range(length):
            y[:, o, t] = (weight[o] * padded[place(o, t)]).sum(axis=(-2, -1))
    if "bias" in w:
        y += w["bias"][:, np.newaxis]

    def back(dy: Array) -> Array:
        dy = dy.reshape(y.shape)
        dweight, dpadded = np.zeros_like(weight), np.zeros_like(padded)
        for o in range(out_channels):
            for t in range(length):
                d = dy[:, o, t][:, np.newaxis, np.newaxis]
                dweight[o] += (d * padded[place(o, t)]).sum(axis=0)
                dpadded[place(o, t)] += d * weight[o]
        give(grads, "weight", dweight)
        if "bias" in w:
            give(grads, "bias", dy.sum(axis=(0, 2)))
        dx = np.zeros_like(frames)
        for at, origin in enumerate(source):
            if origin >= 0:
                dx[..., origin] += dpadded[..., at]
        return dx.reshape(x.shape)

    return y.reshape(*lead, out_channels, length), back


def normalised(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array, Array, Back]:
    """``x`` with mean 0 and variance 1 over some axes; mean, biased variance, and the way back."""
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    scale = 1 / np.sqrt(variance + eps)
    y = (x - mean) * scale

    def back(dy: Array) -> Array:
        along = (dy * y).mean(axis=axes, keepdims=True)
        return scale * (dy - dy.mean(axis=axes, keepdims=True) - y * along)

    return y, mean, variance, back


def layer_norm(
    w: Tensors, grads: Grads, x: Array, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Array, Back]:
    axes = tuple(range(-len(normalized_shape), 0))
    others = tuple(range(x.ndim - len(normalized_shape)))
    n, _, _, norm_back = normalised(x, axes, eps)

    def back(dy: Array) -> Array:
        if "weight" in w:
            give(grads, "weight", (dy * n).sum(axis=others))
        if "bias" in w:
            give(grads, "bias", dy.sum(axis=others))
        return norm_back(dy * w.get("weight", 1))

    return n * w.get("weight", 1) + w.get("bias", 0), back


def batch_norm(
    w: Tensors, grads: Grads, x: Array, real: NDArray[np.bool_], eps: float, momentum: float | None, seen: int
) -> tuple[Array, dict[str, Array], Back]:
    """Over ``(N, C, ...)``, by the statistics of those of the N that are ``real``.

    The others give zeros: no layer behind it looks at them. ``seen`` is how many batches were before this
    one. Also the running statistics after it, whose variance is the unbiased one.
    """
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)

    def channels(array: Array) -> Array:
        return array.reshape(-1, *[1] * (x.ndim - 2))

    n, mean, variance, norm_back = normalised(x[real], axes, eps)
    count = n.size // x.shape[1]
    rate = 1 / (seen + 1) if momentum is None else momentum
    running = {
        "running_mean": (1 - rate) * w["running_mean"] + rate * mean.reshape(-1),
        "running_var": (1 - rate) * w["running_var"] + rate * variance.reshape(-1) * count / (count - 1),
    }
    y = np.zeros_like(x)
    y[real] = n * channels(w.get("weight", np.ones(x.shape[1])))
    if "bias" in w:
        y[real] += channels(w["bias"])

    def back(dy: Array) -> Array:
        dx = np.zeros_like(x)
        if "weight" in w:
            give(grads, "weight", (dy[real] * n).sum(axis=axes))
        if "bias" in w:
            give(grads, "bias", dy[real].sum(axis=axes))
        dx[real] = norm_back(dy[real] * channels(w.get("weight", np.ones(x.shape[1]))))
        return dx

    return y, running, back


def slope(layer: str, given: Mapping[str, Any], x: Array, y: Array) -> Array:
    """The derivative of a function of each number; at a bend PyTorch's choice."""
    alpha = given.get("alpha", 1.0)
    below = np.minimum(x, 0)  # so that an exp of what is not chosen does not overflow
    if layer == "GELU" and given.get("approximate") == "tanh":
        s = sigmoid(BEND * (x + 0.044715 * x**3))
        return s + x * s * (1 - s) * BEND * (1 + 3 * 0.044715 * x**2)
    if layer == "Softplus":
        beta, threshold = given.get("beta", 1.0), given.get("threshold", 20.0)
        return np.where(beta * x > threshold, 1.0, sigmoid(beta * x))
    if layer == "Clip":
        low, high = given.get("min"), given.get("max")
        return (x >= (-np.inf if low is None else low)) & (x <= (np.inf if high is None else high))
    slopes: dict[str, Callable[[], Any]] = {
        "ReLU": lambda: x > 0,
        "LeakyReLU": lambda: np.where(x > 0, 1, given.get("negative_slope", 0.01)),
        "Sigmoid": lambda: y * (1 - y),
        "Tanh": lambda: 1 - y**2,
        "ELU": lambda: np.where(x > 0, 1, alpha * np.exp(below)),
        "SELU": lambda: np.where(x > 0, SELU_SCALE, SELU_ALPHA * np.exp(below)),
        "CELU": lambda: np.where(x > 0, 1, np.exp(below / alpha)),
        "GELU": lambda: normal_share(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
        "SiLU": lambda: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
        "Mish": lambda: np.tanh(softplus(x)) + x * (1 - np.tanh(softplus(x)) ** 2) * sigmoid(x),
        "LogSigmoid": lambda: sigmoid(-x),
        "Softsign": lambda: 1 / (1 + np.abs(x)) ** 2,
        "Tanhshrink": lambda: np.tanh(x) ** 2,
        "Hardsigmoid": lambda: ((x > -3) & (x < 3)) / 6,
        "Hardswish": lambda: np.where(x <= -3, 0, np.where(x < 3, x / 3 + 0.5, 1)),
        "Hardtanh": lambda: (x > given.get("min_val", -1.0)) & (x < given.get("max_val", 1.0)),
        "ReLU6": lambda: (x > 0) & (x < 6),
        "Exp": lambda: y,
        "Log": lambda: 1 / x,
        "Sqrt": lambda: 0.5 / y,
        "Abs": lambda: np.sign(x),
        "Sign": lambda: np.zeros_like(x),
        "Neg": lambda: np.full_like(x, -1),
        "Reciprocal": lambda: -(y**2),
        "Power": lambda: given["exponent"] * x ** (given["exponent"] - 1),
        "Scale": lambda: np.full_like(x, given.get("scale", 1.0)),
    }
    return slopes[layer]()


def activation(
    layer: str, arguments: Mapping[str, Any], w: Tensors, grads: Grads, x: Array
) -> tuple[Array, Back]:
    mapped = elementwise(layer, arguments, x)
    if mapped is not None:
        return mapped, lambda dy: dy * slope(layer, arguments, x, mapped)
    if layer == "PReLU":
        weight, others = w["weight"], tuple(axis for axis in range(x.ndim) if axis != 1 or x.ndim < 2)
        shared = len(weight) == 1
        wide = weight if shared else weight.reshape(-1, *[1] * (x.ndim - 2))

        def back(dy: Array) -> Array:
            share = np.where(x > 0, 0, x * dy)
            give(grads, "weight", share.sum().reshape(1) if shared else share.sum(axis=others))
            return dy * np.where(x > 0, 1, wide)

        return prelu(w, x), back
    dim = arguments["dim"]
    if layer == "Softmax":
        y = softmax(x, dim)
        return y, lambda dy: y * (dy - (dy * y).sum(axis=dim, keepdims=True))
    assert layer == "LogSoftmax"
    y = log_softmax(x, dim)
    return y, lambda dy: dy - np.exp(y) * dy.sum(axis=dim, keepdims=True)


# ---- nets ---------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """A net run forwards.

    ``state`` holds the final state of every recurrent layer, ``"1.h"`` and ``"1.c"``, ``running`` the running
    statistics after the call. ``backward(dy, dstate)`` returns the gradients of the input, of the initial
    state and of the tensors, the last two by name; what ``dstate`` leaves out is zero.
    """

    y: Array
    state: dict[str, Array]
    running: dict[str, Array]
    backward: Callable[..., tuple[Any, dict[str, Array], dict[str, Array]]]


def frame_layer(
    layer: str,
    arguments: Mapping[str, Any],
    w: Tensors,
    grads: Grads,
    x: Any,
    real: Any,
    mask: Array | None,
    seen: int,
) -> tuple[Array, dict[str, Array], Back]:
    """One layer that is not recurrent; ``real`` says which of the first axis are no padding."""
    running: dict[str, Array] = {}
    if layer == "Embedding":
        y, back = embedding(w, grads, np.asarray(x), arguments.get("padding_idx"))
    elif layer == "Linear":
        y, back = linear(w, grads, x)
    elif layer == "Conv1d":
        options = ("stride", "padding", "dilation", "groups", "padding_mode")
        y, back = conv1d(w, grads, x, **{key: arguments[key] for key in options if key in arguments})
    elif layer == "LayerNorm":
        shape = arguments["normalized_shape"]
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        y, back = layer_norm(w, grads, x, shape, arguments.get("eps", 1e-5))
    elif layer in ("BatchNorm1d", "BatchNorm2d"):
        y, running, back = batch_norm(
            w, grads, x, real, arguments.get("eps", 1e-5), arguments.get("momentum", 0.1), seen
        )
    elif layer == "Dropout":
        factor = float(arguments.get("p", 0.5) < 1) if mask is None else mask
        y, back = x * factor, lambda dy: dy * factor
    elif layer == "Flatten":
        first, last = arguments.get("start_dim", 1) % x.ndim, arguments.get("end_dim", -1) % x.ndim
        y, back = x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :]), lambda dy: dy.reshape(x.shape)
    elif (found := oracle_frames.run(layer, arguments, w, grads, x)) is not None:
        y, back = found
    else:
        y, back = activation(layer, arguments, w, grads, x)
    return y, running, back


def framewise(
    lead: tuple[int, ...],
    layer: str,
    arguments: Mapping[str, Any],
    w: Tensors,
    grads: Grads,
    x: Any,
    real: Any,
    mask: Array | None,
    seen: int,
) -> tuple[Array, dict[str, Array], Callable[..., tuple[Any, dict[str, Array]]]]:
    """`frame_layer` with the axes ``lead``, (T, B) or none, seen by it as one."""

    def merged(array: Any) -> Any:
        return array.reshape(-1, *array.shape[2:]) if lead else array

    def parted(array: Any) -> Any:
        return array.reshape(*lead, *array.shape[1:]) if lead and array is not None else array

    mask = None if mask is None else merged(mask)
    y, running, go = frame_layer(layer, arguments, w, grads, merged(x), real, mask, seen)
    return parted(y), running, lambda dy, dstate: (parted(go(merged(dy))), {})


def recurrent_layer(
    prefix: str,
    layer: str,
    arguments: Mapping[str, Any],
    w: Tensors,
    grads: Grads,
    x: Array,
    ends: Sequence[int],
    state: Mapping[str, Any],
    masks: Mapping[str, Any],
) -> tuple[Array, dict[str, Array], Callable[..., tuple[Array, dict[str, Array]]]]:
    """`recurrent` with states by name."""
    names = [f"{prefix}{name}" for name in STATES[layer]]

    def wide(given: Mapping[str, Any]) -> list[Array | None]:
        return [np.asarray(given[name], np.float64) if name in given else None for name in names]

    between = {key.removeprefix(prefix): mask for key, mask in masks.items() if key.startswith(f"{prefix}l")}
    options = ("num_layers", "bidirectional", *FORMULA)
    given = {key: arguments[key] for key in options if key in arguments}
    dice = masks.get(f"{prefix}dice")
    y, final, go = recurrent(layer, w, grads, x, wide(state), ends, between, dice, **given)

    def back(dy: Array, dstate: Mapping[str, Any]) -> tuple[Array, dict[str, Array]]:
        dx, d_initial = go(dy, wide(dstate))
        return dx, dict(zip(names, d_initial, strict=True))

    return y, dict(zip(names, final, strict=True)), back


def run(
    leaves: Sequence[Leaf],
    tensors: Mapping[str, Any],
    x: Any,
    state: Mapping[str, Any] | None = None,
    lengths: Any = None,
    masks: Mapping[str, Any] | None = None,
) -> Pass:
    """Compute PyTorch's output and gradients for ``x`` and these layers in a row, in training mode.

    Parameters
    ----------
    leaves : sequence of (prefix, layer, arguments)
        In order. A recurrent layer hands its output on.
    tensors : mapping
        By full name, prefix first; running statistics and their counter too.
    x : array_like
        As the net takes it; a net with a recurrent layer takes batches only: (T, B, frame), or (B, T, frame)
        if one has ``batch_first``.
    state : mapping, optional
        Initial states by name, ``"1.h"``, ``"1.c"``; zeros where there is none.
    lengths : sequence of int, optional
        Steps of each row. Frames beyond are zeros to every layer, and count in no statistics.
    masks : mapping, optional
        ``masks["1.dice"]`` is the `Dice` of a recurrent layer. The others are what dropout multiplies by:
        ``masks["3."]`` of a Dropout layer with that prefix, (T, B, frame) in a net with a recurrent layer;
        ``masks["1.l0"]``, (T, B, features), behind level 0 of the recurrent layer with prefix ``"1."``.
        Without one a layer passes everything on, or with p = 1 nothing.
    """
    masks = {} if masks is None else masks
    x = np.asarray(x) if leaves[0][1] == "Embedding" else np.asarray(x, np.float64)
    recurs = any(layer in RECURRENT for _, layer, _ in leaves)
    swapped = any(arguments.get("batch_first") for _, _, arguments in leaves)
    real = np.ones(x.shape[:1], bool)  # of the frames, as layers that are not recurrent see them
    if recurs:
        x = x.swapaxes(0, 1) if swapped else x
        steps, batch = x.shape[:2]
        ends = [steps] * batch if lengths is None else [int(length) for length in lengths]
        inside = np.arange(steps)[:, np.newaxis] < ends
        x = np.where(inside.reshape(steps, batch, *[1] * (x.ndim - 2)), x, 0)  # NaN may stand beyond the end
        real = inside.reshape(-1)

    final: dict[str, Array] = {}
    running: dict[str, Array] = {}
    all_grads: Grads = {}
    backs: list[Callable[[Any, Mapping[str, Any]], tuple[Any, dict[str, Array]]]] = []
    for prefix, layer, arguments in leaves:
        w = {
            name.removeprefix(prefix): np.asarray(tensor, np.float64)
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        seen = int(w.pop("num_batches_tracked", 0))
        grads = {name: np.zeros_like(w[name]) for name in w if not name.startswith("running_")}
        all_grads |= {prefix + name: grad for name, grad in grads.items()}
        if layer in RECURRENT:
            x, after, back = recurrent_layer(prefix, layer, arguments, w, grads, x, ends, state or {}, masks)
            final |= after
        else:
            lead = x.shape[:2] if recurs else ()
            mask = None if prefix not in masks else np.asarray(masks[prefix], np.float64)
            x, own_running, back = framewise(lead, layer, arguments, w, grads, x, real, mask, seen)
            running |= {prefix + name: value for name, value in own_running.items()}
        backs.append(back)

    def backward(dy: Any, dstate: Mapping[str, Any] | None = None) -> Any:
        d = np.asarray(dy, np.float64)
        d = d.swapaxes(0, 1) if recurs and swapped else d
        d_initial: dict[str, Array] = {}
        for grad in all_grads.values():
            grad[...] = 0
        for back in reversed(backs):
            d, more = back(d, dstate or {})
            d_initial |= more
        if d is not None and recurs and swapped:
            d = d.swapaxes(0, 1)
        grads = {name: grad.copy() for name, grad in all_grads.items()}
        return d, {name: d_initial[name] for name in final}, grads

    return Pass(x.swapaxes(0, 1) if recurs and swapped else x, final, running, backward)


def distance(got: Any, want: Any) -> float:
    """The largest difference, as a part of the largest entry of ``want``, or of 1e-3 if that is more."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    if want.size == 0:
        return 0.0
    difference = np.abs(got - want).max()
    return float(difference / max(np.abs(want).max(), 1e-3))
