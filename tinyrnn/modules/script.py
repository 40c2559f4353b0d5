"""Nets of TorchScript's archives, traced or scripted: a walk through the text of their code makes a record.

Nothing runs. Sizes that the file does not tell are tried: where they clash with those of weights, the latter
hold.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tinyrnn.errors import LoadError
from tinyrnn.importing import WRONG, Unfit, warn
from tinyrnn.modules import program
from tinyrnn.modules.build import MOST_COMPARED, Port, Search
from tinyrnn.modules.code import functions_of
from tinyrnn.modules.functions import several
from tinyrnn.modules.program import MOST, PRIMES
from tinyrnn.modules.recorder import Record, flat
from tinyrnn.modules.shapes import Clash, Shape
from tinyrnn.modules.walk import FUEL, PACKS, Raised, Walk
from tinyrnn.net import Net
from tinyrnn.onnx.symbols import BATCH, BATCH_SIZES, FRAME, TIME, Axis, Sizes, has, sizes_of
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.pickles import Storage, View
from tinyrnn.weights.pytorch import Exported
from tinyrnn.weights.spec import MAX_DIMS, shown

MAX_TRIES = 30  # of sizes
OTHER_SIZES = {TIME: (1, 2, 31, 251, 1009), BATCH: (1, 2, 64)}  # that conditions are asked for, too
FUEL_OF_OTHERS = FUEL // 2
MOST_FITS = 8  # sizes that a picture may have behind strides
RANKS = (3, 2, 4, 1, 5)  # of an input, the likeliest first

TENSORS = r"Tensor|Optional\[Tensor\]|(Optional\[)?Tuple\[Tensor(, Tensor)*\]\]?"  # types of inputs
LARGE = PRIMES.index(521)  # of sizes for code that refuses short sequences


class Script(Walk):
    """A module of TorchScript: the sizes of its inputs, which are searched, and its records.

    Parameters
    ----------
    file : WeightsFile
    given : mapping
        Numbers of arguments of the forward, by name.
    told : mapping of str to sequence
        Sizes of inputs by name; one that is no int varies.
    """

    # A search for sizes: what a tried one is, and those of inputs.
    sized: dict[int, int]
    doubts: dict[int, list[int]]  # sizes that do as well, by the tried one
    hinted: dict[str, tuple[int, ...]]
    kinds_fixed: set[str]  # of axes that have the sizes of the trace
    last: tuple[tuple[tuple[int, ...], ...], list[list[Axis]]]  # shapes of a run, and axes of the inputs
    answered: dict[tuple[tuple[int, ...], ...], dict[Any, tuple[str, set[bool]]]]  # by shapes

    def __init__(
        self, file: WeightsFile, given: Mapping[str, Any], told: Mapping[str, Sequence[Any]]
    ) -> None:
        super().__init__(file, given)
        self.spare, self.stage = FUEL_OF_OTHERS, 0
        self.told = dict(told)
        self.examples = self.traced()
        self.signature = self.arguments()

    # ---- discovery -----------------------------------------------------------------------------------------

    def traced(self) -> list[Shape]:
        """The inputs that a module was traced with, if the file has them."""
        found = []
        for one in flat(self.scripted.example):
            if isinstance(one, View) and isinstance(one.storage, Storage):
                shape = several(one.shape)[: MAX_DIMS + 1]
                if not all(type(size) is int and 0 < size < MOST for size in shape):
                    return []
                found.append(Shape(tuple(shape), one.storage.dtype or "float32"))
        return found

    def arguments(self) -> list[tuple[str, str]]:
        """The names and types of the arguments of the forward that a call gives."""
        owner = self.scripted.module
        _, node = self.part(owner.name)
        forward = functions_of(node).get("forward")
        if forward is None:
            raise Unfit(f"{shown(owner.name)} has no forward")
        args = forward.args.args[1:]
        least = len(args) - len(forward.args.defaults)
        found = []
        for i, one in enumerate(args):
            kind = ast.unparse(one.annotation) if one.annotation else "Tensor"
            wanted = any(name == one.arg or name.startswith(f"{one.arg}_") for name in self.told)
            if one.arg in self.bound or (i >= least and not wanted):
                continue
            if kind in ("int", "float", "bool"):
                name = shown(one.arg)
                raise Unfit(f"the forward takes the number {name}: give it, load(path, {name}=...)")
            if not re.fullmatch(TENSORS, kind):
                raise Unfit(f"the forward takes {shown(one.arg)} of type {shown(kind)}, expected a tensor")
            found.append((one.arg, kind))
        unknown = set(self.bound) - {one.arg for one in args}
        if unknown:
            names = ", ".join(one.arg for one in args)
            raise TypeError(
                f"load: got {', '.join(sorted(unknown))}, expected arguments of the forward: {names}"
            )
        self.inputs = []
        for name, kind in found:
            count = kind.count("Tensor")
            self.inputs += [name] if "Tuple" not in kind else [f"{name}_{i}" for i in range(count)]
        if not self.inputs:
            raise Unfit("the forward takes no tensor")
        return found

    def tries(self, axes: Mapping[str, str]) -> Iterator[tuple[dict[str, int], set[str]]]:
        """Ranks of the inputs, the likeliest first; and the kinds of axes with the sizes of the trace."""
        told = {name: len(one) for name, one in (*axes.items(), *self.told.items())}
        if unknown := set(told) - set(self.inputs):
            raise TypeError(f"load: got axes or shapes of {sorted(unknown)}, expected some of {self.inputs}")
        if self.examples:
            yield from (({}, fixed) for fixed in (set(), {BATCH}, {TIME}, {BATCH, TIME}))
            return
        first, *others = self.inputs
        for rank in [told[first]] if first in told else RANKS:
            for other in dict.fromkeys((rank, 2, 3)) if set(others) - set(told) else (rank,):
                yield {**dict.fromkeys(others, other), first: rank, **told}, set()

    def discover(self, ranks: Mapping[str, int], fixed: set[str], begin: int = 0) -> None:
        """Find the sizes of the inputs, of these ranks as far as nothing tells others, and the ports."""
        self.looped, self.kinds_fixed = False, fixed
        self.records.clear()
        self.answered = {}
        self.sized, self.hinted, self.doubts = {}, {}, {}
        self.dtypes = dict.fromkeys(self.inputs, "float32")
        for name, one in zip(self.inputs, self.examples, strict=False):
            self.hinted[name], self.dtypes[name] = one.shape, one.dtype
        ranks, hints = dict(ranks), iter(PRIMES[begin:])
        for _ in range(MAX_TRIES):
            shapes = self.guessed(ranks, hints)
            try:
                first = self.interpreted(shapes)
                break
            except Clash as clash:
                if not self.taught(clash, ranks) and not self.searched(clash.pair):
                    raise
            except Raised as fault:
                if self.examples or not (self.learned(self.notes[::-1]) or self.searched(fault.pair)):
                    if begin or self.examples:
                        raise
                    return self.discover(ranks, fixed, LARGE)
        else:
            raise Unfit("has inputs whose sizes are not found: tell them, shapes={name: (None, None, 40)}")
        # Does a call read what the one before it kept?
        if self.kept and self.interpreted(shapes, 2) and self.stale:
            self.looped = True
            first = self.record_of(tuple((one[0], 3, *one[1:]) for one in shapes))
        self.found(first)

    def guessed(self, ranks: Mapping[str, int], hints: Iterator[int]) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs, as far as they are known by now."""
        self.notes = []
        for name in self.inputs:
            told = self.told.get(name) or [None] * ranks.get(name, RANKS[0])
            if len(self.hinted.get(name, ())) != len(told) and not self.examples:
                self.hinted[name] = tuple(one if type(one) is int else next(hints) for one in told)
        return self.known_shapes()

    def known_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(map(self.resolved, self.hinted[name])) for name in self.inputs)

    def hints(self) -> set[int]:
        """The sizes of inputs that are not known."""
        return {size for shape in self.known_shapes() for size in shape} & set(PRIMES)

    def taught(self, clash: Clash, ranks: dict[str, int]) -> bool:
        """Learn of a clash: the dtype or the rank of an input, or a size."""
        own = next((name for name in self.inputs if self.shapes[name] is clash.got), None)
        if own and isinstance(clash.wanted, str):
            self.dtypes[own] = clash.wanted
        elif own and own != self.inputs[0] and own not in self.told and ranks.get(own) != clash.wanted:
            ranks[own] = clash.wanted
        else:
            return not self.examples and self.learned([(clash.got, clash.wanted)])
        return True

    def resolved(self, size: int) -> int:
        while size in self.sized:
            size = self.sized[size]
        return size

    def learned(self, pairs: Sequence[tuple[Any, Any]]) -> bool:
        """Learn of a size that it must be another."""
        hints = self.hints()
        for pair in pairs:
            for got, wanted in (pair, pair[::-1]):
                if type(got) is not int or type(wanted) is not int or not 0 < wanted < MOST:
                    continue
                for one in sorted(hints, reverse=True):
                    # the size itself, times another, or with others beside it
                    times, more = max(got // one, 1), got - one
                    if any(times % other == 0 for other in hints):
                        continue  # a product of several that are not known
                    size = wanted // times if got == one * times and wanted % times == 0 else 0
                    size = wanted - more if not size and 0 < more < 60 and wanted not in hints else size
                    if 0 < size != one and (size not in hints or size < one):
                        self.sized[one] = size
                        return True
        return False

    def searched(self, pair: tuple[Any, Any]) -> bool:
        """Search a size from which one that the code compares follows, as a picture's behind convolutions."""
        nodes, nearby = self.nodes, range(-MOST_FITS, MOST_FITS + 1)
        if self.examples or not all(type(one) is int for one in pair):
            return False
        for hint in sorted(self.hints(), reverse=True):
            twice = self.tried(hint, 2 * hint, len(nodes)) or pair
            changed = [one != other for one, other in zip(pair, twice, strict=True)]
            if sum(changed) == 1:
                own = changed.index(True)
                slope = (twice[own] - pair[own]) / hint
                size = hint + round((pair[1 - own] - pair[own]) / slope)
                fits = [
                    size + n for n in nearby if size + n > 0 and not self.tried(hint, size + n, len(nodes))
                ]
                if 0 < len(fits) <= MOST_FITS:
                    self.sized[hint] = max(fits, key=lambda one: one & -one)  # a round number
                    self.doubts[hint] = fits
                    return True
        self.nodes = nodes
        return False

    def tried(self, hint: int, size: int, done: int) -> tuple[Any, Any] | None:
        """The pair that the code compares first if an input has another size; None if it goes on."""
        self.sized[hint], self.notes = size, []
        try:
            self.interpreted(self.known_shapes())
        except (*WRONG, RecursionError) as fault:
            if len(self.nodes) <= done:
                found = getattr(fault, "pair", ())
                return found if all(type(one) is int for one in found) and found else (0, 1)
        finally:
            del self.sized[hint]
        return None

    # ---- records -------------------------------------------------------------------------------------------

    def sizes(self, port: Port, place: int, wanted: Sizes) -> Sizes:
        if self.looped and place == 1:
            return wanted
        name = self.inputs[self.ports.index(port)]
        size = self.resolved(self.hinted[name][place - (self.looped and place > 0)])
        kind = BATCH if wanted == BATCH_SIZES else TIME
        if kind in self.kinds_fixed if self.examples else size not in PRIMES:
            return size, size
        # Close to each other, as tables of positions may be short, and with other remainders.
        return wanted if self.examples or kind == BATCH else (wanted[0], wanted[0] + 13)

    def run(self, axes: list[list[Axis]], times: Mapping[str, Sizes], world: int) -> tuple[Record, Any]:
        self.check_times(times)
        shapes = tuple(self.shape_with(name, own, world) for name, own in zip(self.inputs, axes, strict=True))
        if BATCH in self.kinds_fixed:
            more = (
                tuple(size + has(axis, BATCH) for size, axis in zip(*pair, strict=True))
                for pair in zip(shapes, axes, strict=True)
            )
            if self.takes(tuple(more)):
                raise self.error("does something else for other batches than the trace's")
        self.last = shapes, axes
        try:
            return self.record_of(shapes), None
        except (*WRONG, RecursionError) as error:
            advice = "; a trace may hold for its example's sizes alone: use torch.jit.script" * bool(
                self.examples
            )
            raise error if isinstance(error, LoadError) else self.error(f"{error}{advice}") from None

    def check_times(self, times: Mapping[str, Sizes]) -> None:
        """Refuse axes of time where there is one number of steps, and none where a trace has some."""
        if not self.examples:
            free = sum(size in PRIMES for size in self.known_shapes()[0])
            if times and free < 2 and not self.looped:
                raise self.error("has one number of steps, expected frames of so many rows")
        elif times and TIME in self.kinds_fixed:
            raise self.error("the trace holds for its example's number of steps alone: use torch.jit.script")
        elif not times and TIME not in self.kinds_fixed:
            raise self.error('no axis of the trace\'s inputs is time: tell it, axes="BTF"')

    def shape_with(self, name: str, axes: list[Axis], world: int) -> tuple[int, ...]:
        """The shape of an input with these axes in a world."""
        shape = tuple(sizes_of(axis)[world] for axis in axes)
        own = [axis for i, axis in enumerate(axes) if i != 1 or not self.looped]
        for i, (hint, axis) in enumerate(zip(self.hinted[name], own, strict=True)):
            free = self.resolved(hint) in PRIMES and not self.examples
            if free and any(atom.kind == FRAME for atom in axis):
                raise self.error(
                    f"input {shown(name)}: axis {i} may have any size, expected a known one: "
                    f'load(path, shapes={{"{shown(name)}": (None, None, 40)}})'
                )
        return shape

    def unsteady(self) -> str:
        """A condition of the code on the steps or the batch, whose answer is another at some; or nothing."""
        if self.looped:
            return ""
        shapes, axes = self.last
        usual = self.answers_of(shapes)
        near = {one + n for one in self.compared for n in (-1, 0, 1) if 0 < one + n <= MOST_COMPARED}
        advice = f": tell it, for a net of so many steps, shapes={{{self.inputs[0]!r}: (None, 50, 40)}}"
        kinds = {TIME: ("number of steps", advice), BATCH: ("batch", "")}
        for kind, (words, more) in kinds.items():
            if not any(has(axis, kind) for one in axes for axis in one):
                continue
            for count in sorted(near.union(OTHER_SIZES[kind])):
                other = (
                    tuple(count if has(axis, kind) else size for size, axis in zip(*pair, strict=True))
                    for pair in zip(shapes, axes, strict=True)
                )
                for key, (place, found) in self.answers_of(tuple(other)).items():
                    if not found <= usual.get(key, (place, found))[1]:
                        return (
                            f"{place}: a condition has another answer where the {words} is {count}, "
                            f"and a net does the same at all{more}"
                        )
        return ""

    def answers_of(self, shapes: tuple[tuple[int, ...], ...]) -> dict[Any, tuple[str, set[bool]]]:
        """The answers of conditions on inputs of these shapes; none where the code fails, as it may there."""
        if shapes not in self.answered:
            before, self.left = self.left, self.spare
            self.answered[shapes] = {}
            with suppress(*WRONG, RecursionError):
                self.interpreted(shapes)
                self.answered[shapes] = self.answers
            self.spare, self.left = max(self.left, 0), before
        return self.answered[shapes]

    def takes(self, shapes: tuple[tuple[int, ...], ...]) -> bool:
        """True if the code raises nothing on inputs of these shapes."""
        with suppress(*WRONG, RecursionError):
            return bool(self.record_of(shapes))
        return False

    def record_of(self, shapes: tuple[tuple[int, ...], ...]) -> Record:
        if shapes not in self.records:
            self.records[shapes] = self.interpreted(shapes)
        return self.records[shapes]

    def remark(self, bounded: bool = True) -> None:
        """Warn of sizes that may be others; and, if ``bounded``, of a batch that is the trace's."""
        if BATCH in self.kinds_fixed and bounded:
            warn(
                'load: the trace holds for its example\'s batch alone; the net takes others, too: axes="BTF" '
                "says so"
            )
        for name, shape in zip(self.inputs, self.known_shapes(), strict=True):
            for place, hint in enumerate(self.hinted[name]):
                if len(self.doubts.get(hint, ())) > 1:
                    told = tuple(None if size in PRIMES else size for size in shape)
                    warn(
                        f"load: axis {place} of {shown(name)} has the size {shape[place]}; the file allows "
                        f'{self.doubts[hint]}: tell another, shapes={{"{shown(name)}": {told}}}'
                    )


def _net(script: Script, told: Mapping[str, str]) -> Net:
    net = Search(script, {} if script.looped else told, math.inf).net()
    if odd := script.unsteady():
        script.stage = 2
        raise script.error(odd)
    script.remark(not told)
    return net


def build_net(
    file: WeightsFile,
    axes: str | Mapping[str, str] | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    **numbers: float,
) -> Net:
    """Build the net of a module of TorchScript, or of a program of `torch.export`.

    Parameters
    ----------
    file : WeightsFile
    axes : str or mapping, optional
        The axes of the first input, or of inputs by name, as in `tinyrnn.from_torch`.
    shapes : mapping, optional
        The shape of inputs of TorchScript by name, where the file does not tell it; None is any size.
    **numbers
        Of arguments of the forward.

    Raises
    ------
    LoadError
        If the file is damaged, or an operation is no layer of tinyrnn; with file and line of the model.
    """
    if isinstance(file.net, Exported):
        given: dict[str, Any] = {**({} if shapes is None else {"shapes": shapes}), **numbers}
        return program.build_net(file, axes, **given)
    faults: list[tuple[int, int, int, LoadError]] = []
    try:
        script = Script(file, numbers, dict(shapes or {}))
        told = {script.inputs[0]: axes} if isinstance(axes, str) else dict(axes or {})
        for ranks, fixed in script.tries(told):
            try:
                script.stage = 0
                script.discover(ranks, fixed)
                script.stage = 1
                return _net(script, told)
            except (*WRONG, RecursionError) as error:
                fault = error if isinstance(error, LoadError) else file.error(shown(str(error), 1000))
                faults.append((script.stage, len(script.nodes) * (not script.stage), -len(faults), fault))
    except (*WRONG, RecursionError) as error:
        if isinstance(error, (LoadError, TypeError)):
            raise
        raise file.error(f"the code: {shown(str(error), 1000)}") from None
    fault = max(faults)[-1]
    if any(re.search(r"(^|_)len(s|gths?)?(_|$)", name) for name in script.inputs[1:]) and PACKS not in str(
        fault
    ):
        fault = LoadError(f"{fault}; a file with lengths among its inputs: use tinyrnn.from_torch")
    raise fault.with_traceback(None) from None
