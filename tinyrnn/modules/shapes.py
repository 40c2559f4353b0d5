"""The shape of what an operation of ATen makes, by the shapes that it reads: files of TorchScript have none.

An operation that is not in `SHAPES` has the shape of its operands, broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinyrnn.importing import Unfit, Window
from tinyrnn.modules.functions import by_axis, named, several
from tinyrnn.modules.recorder import MOST_OPS
from tinyrnn.weights.spec import MAX_DIMS, Array

Dims = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Shape:
    """A tensor without numbers; a size is an int, or an expression in a program of torch.export."""

    shape: tuple[Any, ...]
    dtype: str


class Clash(Unfit):
    """Two sizes differ; or ``got`` is a tensor, and ``wanted`` its rank or its dtype."""

    def __init__(self, got: Any, wanted: Any) -> None:
        if isinstance(got, Shape):
            more = " axes" * isinstance(wanted, int)
            super().__init__(f"reads a tensor of shape {got.shape} and {got.dtype}, expected {wanted}{more}")
        else:
            super().__init__(f"reads the sizes {got} and {wanted}, expected equal ones")
        self.pair = self.got, self.wanted = got, wanted


def agree(got: Sequence[int], wanted: Sequence[int]) -> None:
    for one, other in zip(got, wanted, strict=True):
        if one != other:
            raise Clash(one, other)


def ranked(x: Shape, *ranks: int) -> Dims:
    if len(x.shape) not in ranks:
        raise Clash(x, ranks[0])
    return x.shape


def ghost(x: Shape) -> Array:
    """An array of a shape that takes no memory."""
    return np.broadcast_to(np.int8(0), x.shape)


def broadcast(*shapes: Dims) -> Dims:
    rank = max(map(len, shapes), default=0)
    found = [1] * rank
    for shape in shapes:
        for i, size in enumerate(shape, rank - len(shape)):
            if found[i] != 1 != size != found[i]:
                raise Clash(found[i], size)
            found[i] = size if found[i] == 1 else found[i]
    return tuple(found)


def viewed(x: Shape, *sizes: Any) -> Dims:
    """The sizes of a view; -1 is what is left."""
    wanted = several(sizes[0] if len(sizes) == 1 else sizes)
    count, known = math.prod(x.shape), math.prod(one for one in wanted if one != -1)
    found = tuple(count // max(known, 1) if one == -1 else one for one in wanted)
    if math.prod(found) == count:
        return found
    for size in x.shape[::-1]:  # the one that does not fit
        rest = count // size
        if -1 not in wanted and known % rest == 0:
            raise Clash(size, known // rest)
    if wanted[-1] != -1:
        raise Clash(x.shape[-1], wanted[-1])
    raise Unfit(f"makes {list(found)} of {list(x.shape)}")


def flattened(x: Shape, start: int = 0, end: int = -1) -> Dims:
    shape = x.shape or (1,)
    start, end = start % len(shape), end % len(shape)
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def replaced(x: Shape, dim: int, *sizes: int) -> Dims:
    """A shape with other axes in place of one."""
    dim %= len(x.shape)
    return (*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def unflattened(x: Shape, dim: int, sizes: Sequence[int]) -> Dims:
    return replaced(x, dim, *viewed(Shape((x.shape[dim],), ""), sizes))


def expanded(x: Shape, sizes: Sequence[int], implicit: bool = False) -> Dims:
    own = (1,) * (len(sizes) - len(x.shape)) + x.shape
    return broadcast(own, tuple(a if b == -1 else b for a, b in zip(own, sizes, strict=True)))


def repeated(x: Shape, times: Sequence[int]) -> Dims:
    own = (1,) * (len(times) - len(x.shape)) + x.shape
    return tuple(a * b for a, b in zip(own, times, strict=True))


def squeezed(x: Shape, dim: Any = None) -> Dims:
    dims = range(len(x.shape)) if dim is None else [one % len(x.shape) for one in several(dim)]
    return tuple(size for i, size in enumerate(x.shape) if i not in dims or size != 1)


def reduced(x: Shape, dim: Any = None, keep: Any = False, *_: Any, dtype: Any = None, **__: Any) -> Dims:
    """A reduction over axes, or all."""
    dims = range(len(x.shape)) if dim in (None, []) else [one % len(x.shape) for one in several(dim)]
    return tuple(1 if i in dims else n for i, n in enumerate(x.shape) if keep or i not in dims)


def extreme(x: Shape, dim: Any = None, keep: bool = False) -> Any:
    if dim is None:
        return ()
    return broadcast(x.shape, dim.shape) if isinstance(dim, Shape) else [reduced(x, dim, keep)] * 2


def spread(x: Shape, dim: Any = None, unbiased: Any = True, keep: bool = False, **more: Any) -> Dims:
    return reduced(x, None if isinstance(dim, bool) else dim, more.get("keepdim", keep))


def normed(x: Shape, order: Any = 2, dim: Any = None, keep: bool = False, **_: Any) -> Dims:
    return reduced(x, dim, keep)


def sliced(x: Shape, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Dims:
    return replaced(x, dim, len(range(x.shape[dim])[slice(start, end, step)]))


def joined(given: Sequence[Shape], dim: int = 0) -> Dims:
    given = [one for one in given if one.shape != (0,)] or given
    first = given[0].shape
    dim %= len(first)
    for one in given[1:]:
        agree((*ranked(one, len(first))[:dim], *one.shape[dim + 1 :]), (*first[:dim], *first[dim + 1 :]))
    return (*first[:dim], sum(one.shape[dim] for one in given), *first[dim + 1 :])


def stacked(given: Sequence[Shape], dim: int = 0) -> Dims:
    for one in given:
        agree(ranked(one, len(given[0].shape)), given[0].shape)
    found = list(given[0].shape)
    found.insert(dim % (len(found) + 1), len(given))
    return tuple(found)


def few(size: int) -> int:
    """The size of an axis that is taken apart."""
    if size > MOST_OPS:
        raise Unfit(f"takes an axis of {size} apart, expected at most {MOST_OPS}")
    return size


def chunks(x: Shape, size: Any, dim: int = 0, *, whole: bool = False) -> list[Dims]:
    """split, and ``whole``: chunk, whose size is a number of parts."""
    total = few(x.shape[dim])
    each = max(-(-total // size) if whole else size, 1) if isinstance(size, int) else 0
    sizes = size if not each else [min(each, total - at) for at in range(0, total, each)]
    return [replaced(x, dim, one) for one in sizes]


def padded(x: Shape, pads: Sequence[int], *_: Any) -> Dims:
    found = list(x.shape)
    for i, both in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        found[-1 - i] += sum(both)
    return tuple(found)


def product(a: Shape, b: Shape) -> Dims:
    one, other = a.shape, b.shape
    agree(one[-1:], other[-2:][:1])
    lead = broadcast(one[:-2], other[:-2])
    return (*lead, *one[-2:-1], *(other[-1:] if len(other) > 1 else ()))


def linear(x: Shape, weight: Shape, bias: Any = None) -> Dims:
    agree(x.shape[-1:], weight.shape[1:])
    return (*x.shape[:-1], *weight.shape[:1])


def einsum(equation: str, given: Sequence[Shape], **_: Any) -> Dims:
    sides, _arrow, out = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, one in zip(sides.split(","), given, strict=True):
        for letter, size in zip(letters, one.shape, strict=True):
            agree([size], [sizes.setdefault(letter, size)])
    return tuple(sizes[letter] for letter in out)


def looked_up(weight: Shape, x: Shape, *_: Any) -> Dims:
    if "int" not in x.dtype:
        raise Clash(x, "int64")
    return (*x.shape, *weight.shape[1:])


def convolved(
    x: Shape, w: Shape, b: Any = None, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: int = 1
) -> Dims:
    count = len(w.shape) - 2
    agree(ranked(x, count + 2)[1:2], [w.shape[1] * groups])
    if pad == "same":
        return (x.shape[0], w.shape[0], *x.shape[2:])
    return (
        x.shape[0],
        w.shape[0],
        *windows(x.shape[2:], w.shape[2:], stride, 0 if pad == "valid" else pad, dilation),
    )


def deconvolved(
    x: Shape,
    w: Shape,
    b: Any = None,
    stride: Any = 1,
    pad: Any = 0,
    more: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Dims:
    count = len(w.shape) - 2
    agree(ranked(x, count + 2)[1:2], w.shape[:1])
    each = zip(
        x.shape[2:], w.shape[2:], *(by_axis(one, count) for one in (stride, pad, more, dilation)), strict=True
    )
    return (
        x.shape[0],
        w.shape[1] * groups,
        *((n - 1) * s - 2 * p + d * (k - 1) + m + 1 for n, k, s, p, m, d in each),
    )


def windows(
    sizes: Dims, kernel: Any, stride: Any, pad: Any = 0, dilation: Any = 1, ceil: bool = False
) -> Dims:
    count = len(sizes)
    each = zip(
        sizes, *(by_axis(one, count) for one in (kernel, stride or kernel, pad, dilation)), strict=True
    )
    found = []
    for n, k, s, p, d in each:
        window = Window(k, s, d, (p, p))
        size = window.counted(n)
        # One more for numbers that are left, but for one that would begin in the padding behind.
        found.append(size + (ceil and (n + 2 * p - window.span) % s > 0 and size * s < n + p))
    return tuple(found)


def max_pooled(
    count: int, x: Shape, kernel: Any, stride: Any = None, pad: Any = 0, dilation: Any = 1, ceil: bool = False
) -> Dims:
    return (
        *x.shape[:-count],
        *windows(ranked(x, count + 2, count + 1)[-count:], kernel, stride, pad, dilation, ceil),
    )


def mean_pooled(
    count: int, x: Shape, kernel: Any, stride: Any = None, pad: Any = 0, ceil: bool = False, *_: Any
) -> Dims:
    return max_pooled(count, x, kernel, stride, pad, 1, ceil)


def adaptive(count: int, x: Shape, sizes: Any) -> Dims:
    own = ranked(x, count + 2, count + 1)[-count:]
    return (
        *x.shape[:-count],
        *(b if a is None else a for a, b in zip(by_axis(sizes, count), own, strict=True)),
    )


def recurrent(x: Shape, hx: Any, tensors: Sequence[Shape], _: Any, levels: int, *rest: Any) -> list[Dims]:
    """An LSTM, a GRU or an RNN."""
    if isinstance(hx, (list, tuple)) and hx and isinstance(tensors, Shape):
        raise Unfit("reads a packed sequence, expected one without lengths: use tinyrnn.from_torch")
    both, first = rest[-2:]
    states = several(hx)
    agree(ranked(x, 3)[2:], tensors[0].shape[1:])
    rows = x.shape[0 if first else 1]
    size = tensors[1].shape[1]
    for i, one in enumerate(states):
        agree(ranked(one, 3), (levels * (1 + both), rows, tensors[1].shape[0] // 4 if i else size))
    return [(*x.shape[:2], size * (1 + both)), *(one.shape for one in states)]


def cell(x: Shape, hx: Any, *tensors: Any) -> Any:
    agree(ranked(x, 2)[1:], tensors[0].shape[1:])
    for one in several(hx):
        agree(ranked(one, 2), (x.shape[0], tensors[1].shape[1]))
    shapes = [one.shape for one in several(hx)]
    return shapes if len(shapes) > 1 else shapes[0]


def attended(query: Shape, keys: Shape, values: Shape, *_: Any, **__: Any) -> Dims:
    agree(query.shape[-1:], keys.shape[-1:])
    return (*query.shape[:-1], *values.shape[-1:])


def counted(*given: Any, **_: Any) -> Dims:
    """``arange``: its end, or start, end and step."""
    start, end, step = (0, given[0], 1) if len(given) == 1 else (*given[:2], *(given[2:3] or (1,)))
    return (max(0, math.ceil((end - start) / step)),)


def indexed(x: Shape, index: Sequence[Any]) -> Dims:
    """Parts by arrays of numbers, along axes side by side."""
    places = [i for i, one in enumerate(index) if one is not None]
    first, end = places[0], places[-1] + 1
    if places != list(range(first, end)) or any(index[i].dtype == "bool" for i in places):
        raise Unfit("takes parts by a mask, or along axes that do not lie side by side")
    return (*x.shape[:first], *broadcast(*(index[i].shape for i in places)), *x.shape[end:])


def alike(x: Shape, *_: Any, **__: Any) -> Dims:
    return x.shape


# By the name of ATen, and in the order of its arguments: a shape, an array of it, or a list of them.
SHAPES: dict[str, Callable[..., Any]] = {
    **named("view reshape", viewed),
    **named("view_as reshape_as expand_as", lambda x, other: other.shape),
    "flatten": flattened,
    "unflatten": unflattened,
    **named("expand broadcast_to", expanded),
    "repeat": repeated,
    "squeeze": squeezed,
    "unsqueeze": lambda x, dim: np.expand_dims(ghost(x), dim),
    **named("transpose swapaxes", lambda x, a, b: np.swapaxes(ghost(x), a, b)),
    **named("t numpy_T", lambda x: ghost(x).T),
    "permute": lambda x, dims: np.transpose(ghost(x), dims),
    "select": lambda x, dim, index: np.moveaxis(ghost(x), dim, 0)[index],
    "slice": sliced,
    "narrow": lambda x, dim, start, size: sliced(x, dim, start, start + size),
    "eye": lambda rows, cols=None, **_: (rows, rows if cols is None else cols),
    "linspace": lambda start, end, count, **_: (count,),
    "index": indexed,
    "index_select": lambda x, dim, index: replaced(x, dim, *index.shape),
    "gather": lambda x, dim, index, *_, **__: index.shape,
    "diff": lambda x, n=1, dim=-1, *_: replaced(x, dim, x.shape[dim] - n),
    "unfold": lambda x, dim, *window: (*replaced(x, dim, *windows((x.shape[dim],), *window)), window[0]),
    "unbind": lambda x, dim=0: [replaced(x, dim)] * few(x.shape[dim]),
    **named("chunk unsafe_chunk", partial(chunks, whole=True)),
    **named("split unsafe_split split_with_sizes", chunks),
    **named("cat concat concatenate", joined),
    "stack": stacked,
    "pad": padded,
    **named("constant_pad_nd reflection_pad1d replication_pad1d", padded),
    **named("sum mean prod amax amin logsumexp all any", reduced),
    **named("max min", extreme),
    "sort": lambda x, *_, **__: [x.shape] * 2,
    **named("std var", spread),
    **named("norm linalg_vector_norm", normed),
    "cosine_similarity": lambda a, b, dim=1, eps=0: reduced(Shape(broadcast(a.shape, b.shape), ""), dim),
    **named("matmul bmm mm", product),
    **named("addmm baddbmm", lambda x, a, b, **_: broadcast(x.shape, product(a, b))),
    "linear": linear,
    "einsum": einsum,
    "embedding": looked_up,
    "one_hot": lambda x, count=-1: looked_up(Shape((count, count), ""), x),
    **named("conv1d conv2d", convolved),
    **named("conv_transpose1d conv_transpose2d", deconvolved),
    **{f"max_pool{n}d": partial(max_pooled, n) for n in (1, 2)},
    **{f"avg_pool{n}d": partial(mean_pooled, n) for n in (1, 2)},
    **{f"adaptive_avg_pool{n}d": partial(adaptive, n) for n in (1, 2)},
    **{f"adaptive_max_pool{n}d": lambda *args, n=n: [adaptive(n, *args)] * 2 for n in (1, 2)},
    **named("lstm gru rnn_tanh rnn_relu", recurrent),
    **named("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell", cell),
    "scaled_dot_product_attention": attended,
    "multi_head_attention_forward": lambda q, k, *_: [q.shape, (q.shape[1], q.shape[0], k.shape[0])],
    "glu": lambda x, dim=-1: chunks(x, 2, dim, whole=True)[0],
    **named("zeros ones empty full rand", lambda sizes, *_, **__: tuple(sizes)),
    **named("new_zeros new_ones new_empty new_full", lambda x, sizes, *_, **__: tuple(sizes)),
    "arange": counted,
    "scalar_tensor": lambda *_, **__: (),
    "masked_fill": lambda x, mask, *_: broadcast(x.shape, mask.shape),
    **named(
        "batch_norm instance_norm layer_norm group_norm rms_norm clamp_min clamp_max to type_as softmax "
        "log_softmax cumsum logcumsumexp flip tril triu zeros_like ones_like empty_like full_like dropout "
        "copy setitem gelu clone prelu detach contiguous weight_norm lift_fresh alias roll",
        alike,
    ),
}


def shapes_of(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Dims]:
    """The shapes of the results of an operation, whose tensors are `Shape`s."""
    rule = SHAPES.get(name)
    if rule is None:
        found: Any = broadcast(*(one.shape for one in (*args, *kwargs.values()) if isinstance(one, Shape)))
    else:
        try:
            found = rule(*args, **kwargs)
        except IndexError:
            raise Unfit(
                f"reads an axis or a part that a tensor of shape {args[0].shape} does not have"
            ) from None
    found = found if isinstance(found, list) else [found]
    shapes: list[Dims] = [one.shape if hasattr(one, "shape") else one for one in found]
    if any(len(shape) > MAX_DIMS or min(shape, default=0) < 0 for shape in shapes):
        raise Unfit(f"makes {shapes}, expected at most {MAX_DIMS} axes and no size below 0")
    return shapes
