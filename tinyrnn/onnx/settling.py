"""A graph walked until its inputs are settled: once more for each thing that a walk tells of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from tinyrnn.errors import LoadError
from tinyrnn.graph import Graph as Net
from tinyrnn.importing import WRONG, Unfit
from tinyrnn.onnx.learned import Learned, origin_of
from tinyrnn.onnx.model import Model, Port
from tinyrnn.onnx.symbols import BATCH, OPEN, SHORT_TIME_SIZES, TIME, TIME_SIZES, Retry
from tinyrnn.onnx.walk import Builder
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.spec import Array

MOST_PASSES = 500
MOST_AXES = 8  # that are tried as time


def settled(
    file: WeightsFile,
    learned: Learned,
    model: Model,
    bound: Mapping[str, Array],
    *options: bool,
    kind: type[Builder] = Builder,
) -> tuple[Net, Builder]:
    """Build the net of a model, and return the walk that it is of.

    ``bound`` are inputs with known numbers, ``options`` those of a `Builder`, and ``kind`` is its class.
    """
    ports = [port for port in model.graph.inputs if port.name not in model.graph.tensors]

    def build(learned: Learned) -> tuple[Net, Builder]:
        try:
            return _settled(lambda: kind(model, file, learned, bound, *options), file, learned)
        except (Unfit, *WRONG) as error:
            raise error if isinstance(error, LoadError) else file.error(f"graph: {error}") from None
        except (RecursionError, MemoryError) as error:
            raise file.error(f"graph: got {type(error).__name__}, expected a smaller graph") from None

    try:
        first = build(learned)
        named = _named_steps(learned, ports)
        if named:
            again = learned.anew()
            again.kinds, again.sizes = dict.fromkeys(named, TIME), dict(learned.sizes)
            with suppress(LoadError):
                return build(again)
        return first
    except LoadError as error:
        if learned.lacks_room and learned.time_sizes is TIME_SIZES:
            learned.time_sizes = SHORT_TIME_SIZES
            with suppress(LoadError):
                return build(learned)
        found = _with_an_axis(build, learned, ports) if learned.lacks_time else None
        found = found or _with_a_size(build, learned, ports)
        if found is None:
            raise error
        return found


def _named_steps(learned: Learned, ports: Iterable[Port]) -> set[str]:
    """The axes that are time though no operator tells: one that is named so, or any beside that of rows."""
    named = [{size for size in port.shape or () if isinstance(size, str)} for port in ports]
    kinds = learned.kinds
    if TIME in kinds.values():
        rows = {name for name, kind in kinds.items() if kind == BATCH}
        named = [one for one in named if one & rows]
    else:
        named = [one & {"time"} for one in named]
    known = {name for name, kind in kinds.items() if kind != OPEN}
    return set().union(*named) - known - learned.sizes.keys() - learned.same.keys()


def _with_an_axis(
    build: Callable[[Learned], tuple[Net, Builder]], learned: Learned, ports: Iterable[Port]
) -> tuple[Net, Builder] | None:
    """The net of a graph that fixed all sizes, where an axis that windows go along turns out to be time.

    Of the axes of inputs with which the graph is a net it is the longest.
    """
    if TIME in learned.kinds.values():
        return None
    axes = {
        origin_of(port, i): size
        for port in ports
        for i, size in enumerate(port.shape or ())
        if isinstance(size, int) and size > 1 and origin_of(port, i) not in learned.kinds
    }
    for axis in sorted(axes, key=lambda one: -axes[one])[:MOST_AXES]:
        again = learned.anew()
        again.kinds, again.sizes = {axis: TIME}, dict(learned.sizes)
        try:
            return build(again)
        except LoadError:
            continue
    return None


# The sizes of frames that are tried first where a file does not tell them.
_GUESSES = (512, 256, 1024, 128, 2048, 64, 4096, 32, 16)


def _with_a_size(
    build: Callable[[Learned], tuple[Net, Builder]], learned: Learned, ports: Iterable[Port]
) -> tuple[Net, Builder] | None:
    """The net of a graph that fits frames of some sizes only, one axis of which the file leaves open.

    Of all sizes that it takes it gets the largest of which a convolution reads every number.
    """
    open_axes = {
        origin_of(port, i)
        for port in ports
        for i, size in enumerate(port.shape or ())
        if not isinstance(size, int) and learned.kinds.get(origin_of(port, i)) == TIME
    } - learned.sizes.keys()
    if len(open_axes) != 1:
        return None
    (axis,) = open_axes
    begun = learned.anew()
    begun.kinds = {key: kind for key, kind in learned.kinds.items() if kind != TIME}
    begun.modes, begun.sizes = dict(learned.modes), dict(learned.sizes)

    def of(size: int) -> tuple[Net, Builder] | None:
        nonlocal begun
        again = begun.copied()
        again.sizes[axis] = size
        try:
            found = build(again)
        except LoadError:
            return None
        begun = again  # the next size need not learn it all again
        return found

    least = next((size for size in _GUESSES if (found := of(size)) and found[1].slack), None)
    if least is None:
        return None  # or no convolution says how much it reads
    beyond = least * 2
    while of(beyond):
        least, beyond = beyond, beyond * 2
        if beyond > 1 << 16:
            return None
    while beyond - least > 1:
        middle = (least + beyond) // 2
        least, beyond = (middle, beyond) if of(middle) else (least, middle)
    found = of(least)
    if found is None:
        return None
    slack = next(iter(found[1].slack), 0)
    shorter = of(least - slack) if slack else found
    return shorter or found


def _settled(begun: Callable[[], Builder], file: WeightsFile, learned: Learned) -> tuple[Net, Builder]:
    """Build again and again until everything is known that the net needs."""
    for _ in range(MOST_PASSES):
        builder = begun()
        try:
            net = builder.net()
        except Retry as found:
            learned.learn(found)
            continue
        pairs = builder.levels.pairs()
        if pairs.keys() == learned.pairs.keys():
            return net, builder
        learned.pairs = pairs
    raise file.error(f"graph: its inputs are not settled after {MOST_PASSES} passes")
