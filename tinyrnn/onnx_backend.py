"""The interface that the onnx package has for backends: its models, and its own tests, run by tinyrnn.

A net has weights where a model may read any array, so it is built when the arrays are there. Inputs of floats
are its inputs; those that an operator wants as constants, or that no layer reads, are constants of the run.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from tinyrnn.errors import LoadError
from tinyrnn.graph import Graph as Net
from tinyrnn.onnx.cells import CELLS
from tinyrnn.onnx.folding import FOLDS
from tinyrnn.onnx.learned import LENGTHS, Learned
from tinyrnn.onnx.nodes import Unfinished
from tinyrnn.onnx.operators import DOMAINS
from tinyrnn.onnx.settling import settled
from tinyrnn.onnx.symbols import FRAME, TIME, Known, Places, Symbol, has, is_frame
from tinyrnn.onnx.walk import Builder
from tinyrnn.values import read_by
from tinyrnn.weights import WeightsFile, opened
from tinyrnn.weights.spec import Array, shown

try:
    import onnx
    from onnx.backend.base import Backend as _Backend, BackendRep, namedtupledict
except ImportError:
    raise ImportError("tinyrnn.onnx_backend implements an interface of onnx: pip install onnx") from None

Arrays = Mapping[str, Array]


class _Whole(Builder):
    """A walk that keeps what the outputs are, constants and axes included."""

    ends: dict[str, Any]

    def finished(self, results: dict[str, Any]) -> Any:
        self.ends, outputs = {}, {}
        for name, given in results.items():
            given = self.states.written(given) if isinstance(given, Places) else given
            if isinstance(given, Unfinished) or not isinstance(given, (Known, Symbol)):
                raise self.error(f"output {shown(name)} is no array")
            if isinstance(given, Symbol):
                outputs[name] = given.value
            self.ends[name] = given if name in outputs else given.array(f"output {shown(name)}")  # type: ignore[union-attr]
        used = read_by(outputs.values())
        return outputs and Net({k: one for k, one in self.ports.inputs.items() if id(one) in used}, outputs)


class _Run:
    """A net for arrays of some shapes, of which those that are no ``values`` are its constants.

    ``names``: sizes that the model calls by a name may be those of time and of the batch.
    """

    def __init__(
        self, file: WeightsFile, given: Arrays, values: set[str], names: bool, learned: Learned
    ) -> None:
        self.learned, self.ports = learned, {}
        self.constants = {name: array for name, array in given.items() if name not in values}
        self.shapes = {name: array.shape for name, array in given.items()}
        graph = file.net.graph
        for port in graph.inputs:
            sizes = zip_longest(port.shape or (), self.shapes.get(port.name, ()))
            shape = tuple(
                own if size is None or (names and isinstance(own, str)) else size for own, size in sizes
            )
            self.ports[port.name] = port._replace(shape=shape)
        model = file.net._replace(graph=graph._replace(inputs=tuple(self.ports.values())))
        self.net, walk = settled(file, learned, model, self.constants, False, kind=_Whole)
        assert isinstance(walk, _Whole)
        self.walk = walk

    def fits(self, given: Arrays) -> bool:
        """True if these arrays have its shapes and its constants."""
        return self.shapes == {name: array.shape for name, array in given.items()} and all(
            np.array_equal(given[name], array) for name, array in self.constants.items()
        )

    def __call__(self, given: Arrays) -> dict[str, Array]:
        """The outputs, as ONNX has them."""
        ends = dict(self.walk.ends)
        if self.net:
            known = self.net._ports_known()
            arrays = {name: self._taken(name, given[name]) for name in known}
            lead = [max(array.shape[i] for array in arrays.values()) for i in (0, 1)]
            for name, (frame, time) in known.items():
                array = arrays[name].reshape(*arrays[name].shape[:2], *frame)  # type: ignore[misc]
                array = np.broadcast_to(array, (*lead, *array.shape[2:]))
                arrays[name] = array if time else array[0]
            lengths = [given[name] for name, mode in self.learned.modes.items() if mode == LENGTHS]
            found = self.net.eval()(arrays, lengths=lengths[0] if lengths else None)
            for name in self.net._outputs:
                ends[name] = _arranged(ends[name], found[name] if isinstance(found, dict) else found)
        return ends

    def _taken(self, name: str, array: Array) -> Array:
        """The numbers of an input as (T, B, frame)."""
        axes = [self.walk.ports.axes.of(self.ports[name], i) for i in range(array.ndim)]
        places = [2 if is_frame(axis) else int(not has(axis, TIME)) for axis in axes]
        if max(places.count(0), places.count(1)) > 1:
            raise self.walk.error(f"input {shown(name)} has two axes of time or of the batch, expected one")
        sizes = [array.shape[places.index(i)] if i in places else 1 for i in (0, 1)]
        order = np.argsort(places, kind="stable")
        return np.asarray(array, np.float32).transpose(order).reshape(*sizes, -1)


def _arranged(given: Symbol, array: Array) -> Array:
    """An output of the net, (T, B, frame) or (B, frame), under ONNX's axes."""
    lead = array.shape[: array.ndim - len(given.value.frame)]
    atoms = [atom for axis in given.axes for atom in axis]
    inner = [atom.sizes[0] for atom in atoms if atom.kind == FRAME]
    array = array.reshape(*(1,) * (2 - len(lead)), *lead, *inner)[:: -1 if given.reversed else 1]
    behind = iter(range(2, array.ndim))
    order = [next(behind) if atom.kind == FRAME else int(atom.kind != TIME) for atom in atoms]
    left = [i for i in (0, 1) if i not in order]
    array = array.transpose(left + order)[(0,) * len(left)]
    sizes = iter(array.shape)
    return array.reshape([np.prod([next(sizes) for _ in axis], dtype=int) for axis in given.axes])


class Prepared(BackendRep):
    """A model that is ready to run; `Backend.prepare` makes it."""

    def __init__(self, model: Any) -> None:
        graph = model.graph
        tensors = {tensor.name for tensor in graph.initializer}
        self._inputs = [port.name for port in graph.input if port.name not in tensors]
        self._outputs = {port.name: port.type.tensor_type.elem_type for port in graph.output}
        # Inputs of whole numbers that need be no constants: the lengths of rows, and indices of a table.
        self._counts = {name for node in graph.node if node.op_type in CELLS for name in node.input[4:5]}
        self._counts |= {n.input[1] for n in graph.node if n.op_type == "Gather" and n.input[0] in tensors}
        self._data = model.SerializeToString()
        with opened(io.BytesIO(self._data)):
            pass
        self._run: _Run | None = None

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the model. Floats are computed as float32.

        Parameters
        ----------
        inputs : array_like, a sequence of them in the graph's order, or a mapping by name

        Returns
        -------
        tuple of ndarray
            In the graph's order, by name too.

        Raises
        ------
        LoadError
            If the model is no net of tinyrnn: the message names the node.
        TypeError
            If the inputs are not the model's.
        """
        if not isinstance(inputs, Mapping):
            inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            inputs = dict(zip_longest(self._inputs, inputs))
        if inputs.keys() != set(self._inputs) or any(
            one is None or isinstance(one, list) for one in inputs.values()
        ):
            raise TypeError(
                f"run: got {len(inputs)} inputs, or one that is no array, expected {self._inputs}"
            )
        given = {name: np.asarray(one) for name, one in inputs.items()}
        arrays = []
        for name, array in self._found(given).items():
            kind = self._outputs[name]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind) if kind else array.dtype
            rounds = dtype.kind in "iu" and array.dtype.kind == "f"
            arrays.append((np.rint(array) if rounds else array).astype(dtype))
        return namedtupledict("Outputs", list(self._outputs))(*arrays)

    def _found(self, given: Arrays) -> dict[str, Array]:
        """The outputs: of the net before if it fits, else of one whose constants are found by trying."""
        if self._run is not None and self._run.fits(given):
            return self._run(given)
        kinds = {name: one.dtype.name.rstrip("0123456789") for name, one in given.items() if one.size}
        floats = {name for name, kind in kinds.items() if kind in ("float", "bfloat") or name in self._counts}
        codes = {name for name in kinds if given[name].dtype.itemsize == 1}
        first = next((name for name in given if name in floats), "")
        left = [(floats, False), ({first}, False), (set(), False), (floats | codes, False)]
        values, names, reason = floats, True, None
        while True:
            learned = Learned()
            try:
                with opened(io.BytesIO(self._data)) as file:
                    run = _Run(file, given, values, names, learned)
                    found = run(given)
                self._run = run
                return found
            except LoadError as error:
                reason = reason or (None if values & learned.wanted else error)
                if values & learned.wanted:
                    values = values - learned.wanted
                elif left:
                    values, names = left.pop(0)
                else:
                    raise reason from None  # type: ignore[misc]


class Backend(_Backend):
    """tinyrnn behind the interface of `onnx.backend.base.Backend`."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Tell whether all operators of a model are known, those of its functions and branches included."""
        own = {(one.domain, one.name) for one in model.functions}
        nodes = [*model.graph.node, *(node for one in model.functions for node in one.node)]
        while nodes:
            node = nodes.pop()
            nodes += [one for given in node.attribute for one in given.g.node]
            known = DOMAINS.get(node.domain, {}).keys() | (FOLDS.keys() if not node.domain else set())
            if (node.domain, node.op_type) not in own and node.op_type not in known:
                return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        """Make a model ready; errors of its nodes come when it runs.

        Raises
        ------
        ValueError
            If the device is not the CPU.
        LoadError
            If the model is damaged, or has data in other files.
        """
        if not cls.supports_device(device):
            raise ValueError(f"prepare: got the device {device!r}, expected 'CPU'")
        return Prepared(model)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run one node on arrays, of the newest opset or of ``opset_version``; see `Prepared.run`.

        ``outputs_info`` has the dtype and shape of each output.
        """
        helper = onnx.helper
        make, kind = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
        arrays = [np.asarray(one) for one in (inputs if isinstance(inputs, (list, tuple)) else [inputs])]
        names = dict.fromkeys(filter(None, node.input))
        ports = [make(name, kind(one.dtype), one.shape) for name, one in zip(names, arrays, strict=True)]
        types: list[Any] = [kind(np.dtype(one)) for one, _ in outputs_info or ()] or [0] * len(node.output)
        outputs = [make(name, of, None) for name, of in zip(filter(None, node.output), types, strict=False)]
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        opsets = [helper.make_opsetid(one, 1 if one else version) for one in {"", node.domain}]
        graph = helper.make_graph([node], "node", ports, outputs)
        return cls.prepare(helper.make_model(graph, opset_imports=opsets), device).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True of the CPU."""
        return device.split(":")[0] == "CPU"


is_compatible, prepare = Backend.is_compatible, Backend.prepare
run_model, run_node, supports_device = Backend.run_model, Backend.run_node, Backend.supports_device
