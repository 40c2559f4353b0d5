"""The net that a command line names, and the input of its first layer."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Collection, Iterable
from typing import Any

import tinyrnn as tr
from tinyrnn.cli.console import UsageError
from tinyrnn.cli.recognition import Module, Shape, kind, modules
from tinyrnn.contract import index_count
from tinyrnn.loading import net_in
from tinyrnn.outlines import Line, outline
from tinyrnn.weights import WeightsFile, opened
from tinyrnn.weights.spec import shown


def open_model(args: Namespace) -> tr.Net:
    """The net that a file describes, or one layer of a checkpoint."""
    with opened(args.model, args.key) as file:
        if file.net is not None and args.prefix is None:
            return net_in(file, **bindings(args))
        if args.bind:
            raise UsageError(f"{args.model}: got --bind for weights alone, expected an ONNX file")
        return _layer(args, file)


def bindings(args: Namespace) -> dict[str, Any]:
    """The numbers and axes of ``--bind``, by name."""
    found = dict(args.bind)
    if len(found) < len(args.bind):
        raise UsageError("--bind: got a name twice, expected each once")
    return found


def _layer(args: Namespace, file: WeightsFile) -> tr.Net:
    """The layer of a checkpoint that the command line names."""
    module = _pick(modules({tensor.name: tensor.shape for tensor in file.info.tensors}), args)
    fits = {kind(net): net for net in module.fits}
    if args.kind is None and len(fits) > 1:
        kinds = " or ".join(fits)
        raise UsageError(
            f"{args.model}: {shown(module.prefix)} fits {module.describe()}: give --kind {kinds}"
        )
    net = fits.get(args.kind or next(iter(fits)))
    if net is None:
        raise UsageError(
            f"{args.model}: --kind: got {args.kind}, but {shown(module.prefix)} is {module.describe()}"
        )
    weights = file.weights()
    net.load_state_dict({last: weights[name] for last, name in module.names.items()})
    return net


def _pick(found: list[Module], args: Namespace) -> Module:
    """The layer at ``--prefix``, or the only one below it, or the only one there is."""
    prefix = (args.prefix or "").removesuffix(".")
    below = [m for m in found if m.fits and f"{m.prefix}.".startswith(f"{prefix}." if prefix else "")]
    exact = [m for m in below if args.prefix is not None and m.prefix == prefix]
    picked = exact or below
    where = f"{args.model}: " + (f"{shown(prefix)}: " if prefix else "")
    if not picked:
        raise ValueError(f"{where}no layer is recognised; `tinyrnn info` lists the tensors")
    if len(picked) > 1:
        names = ", ".join(shown(m.prefix) for m in picked[:20]) + (", ..." if len(picked) > 20 else "")
        raise ValueError(
            f"{where}got {len(picked)} layers, expected one: choose it with --prefix: {names}; to run them "
            "together, build the net in Python and net.save() it"
        )
    if not picked[0].runs:
        raise ValueError(f"{where}cannot run {picked[0].describe()}: build the net in Python instead")
    return picked[0]


def reads_indices(net: tr.Net) -> bool:
    """Tell whether the net reads integers that name rows of a table."""
    return index_count(net) > 0


def needs_all(net: tr.Net) -> bool:
    """Tell whether a layer needs the full sequence, so that the net cannot stream."""
    if not net._is_wired:
        return any(getattr(leaf, "bidirectional", False) for _, leaf in net._leaves())
    return any(line.needs for line in outline(net).lines)


def output_of(net: tr.Net, frame: Shape) -> Line:
    """The line of the output; its rate is None if each step of the input gives a frame."""
    found = outline(net, frame)
    return found.lines[next(iter(found.outputs.values()))]


def check_simple(name: str, net: tr.Net, counted: Collection[str] = ()) -> None:
    """Raise an error if the net has not one input, beside those ``counted``, and one output for each step."""
    if not net._is_wired:
        return
    found = outline(net)
    ports = [line for line in found.inputs if line.name not in counted]
    ports += [found.lines[number] for number in found.outputs.values()]
    if len(ports) == 2 and all(line.time is not None for line in ports):
        return
    described = ", ".join(shown(line.name) + " once for a sequence" * (line.time is None) for line in ports)
    raise ValueError(
        f"{name}: got a net of {len(found.inputs)} inputs and {len(found.outputs)} outputs ({described}), "
        "expected one input and one output for each step: run it in Python, tinyrnn.load(path)(*inputs)"
    )


def closed_frame(net: tr.Net, frame: Shape | None) -> Shape:
    """``--frame``, or the frame that the layers tell if they tell all of it."""
    known = frame or net._frame()
    if known is None or None in known:
        sizes = sizes_of(known or [None])
        raise UsageError(f"the layers leave the frame ({sizes}) open: give it, such as --frame 1,512")
    return tuple(size for size in known if size is not None)


def sizes_of(axes: Iterable[object]) -> str:
    """Axes in words; an open one is a question mark."""
    return ", ".join("?" if size is None else str(size) for size in axes)
