"""`Sequential`: a net that is a chain of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, overload

from numpy.typing import ArrayLike

from tinyrnn import _core, calls, contract
from tinyrnn.attributes import absent, nearest
from tinyrnn.contract import NESTING
from tinyrnn.errors import ShapeError
from tinyrnn.net import Net
from tinyrnn.tensors import Array, Frame, Tensor
from tinyrnn.values import Value, applied


class Nest(Net):
    """The base of nets that are made of layers with names."""

    _layers: Mapping[str, Net]
    _all_leaves: list[tuple[str, contract.Module]]
    _depth: int  # of nets within nets, its own included

    def _take(self, layers: Mapping[str, Net]) -> None:
        """Take over the layers, in their order."""
        kind = type(self).__name__
        self._layers = MappingProxyType(dict(layers))
        self._all_leaves = [
            (f"{name}.{prefix}", leaf) for name, layer in layers.items() for prefix, leaf in layer._leaves()
        ]
        inner = [layer._depth for layer in layers.values() if isinstance(layer, Nest)]
        self._depth = 1 + max(inner, default=0)
        if self._depth > NESTING:
            raise ValueError(f"{kind}: got nets nested {self._depth} deep, expected at most {NESTING}")

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Net]:
        return iter(self._layers.values())

    def __getitem__(self, which: int | str) -> Net:
        kind = type(self).__name__
        try:
            return self._layers[which] if isinstance(which, str) else list(self._layers.values())[which]
        except KeyError:
            names = ", ".join(map(repr, self._layers))
            raise KeyError(
                f"{kind}: got layer {which!r}, expected one of {names}{nearest(str(which), self._layers)}"
            ) from None
        except IndexError:
            least, most = -len(self._layers), len(self._layers) - 1
            raise IndexError(f"{kind}: got layer {which}, expected {least} .. {most}") from None
        except TypeError:
            raise TypeError(f"{kind}: got layer {which!r}, expected a name, an integer or a slice") from None

    def __getattr__(self, name: str) -> Any:
        layers = self.__dict__.get("_layers", {})
        if name in layers:
            return layers[name]
        raise absent(self, "layer", name)

    def _refusal(self, name: str, value: Any) -> AttributeError:
        if name in self._layers:
            kind = type(self).__name__
            return AttributeError(
                f"{kind}.{name}: layers are fixed when the net is made; build a new {kind} with the other "
                "layer in its place"
            )
        return super()._refusal(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *filter(str.isidentifier, self._layers)})

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._layers)

    def _leaves(self) -> list[tuple[str, contract.Module]]:
        return self._all_leaves

    def _tensors(self) -> list[Tensor]:
        return [
            tensor._replace(name=f"{name}.{tensor.name}")
            for name, layer in self._layers.items()
            for tensor in layer._tensors()
        ]


class Sequential(Nest):
    """A chain of layers: each reads the output of the one before it.

    A recurrent layer passes its output sequence on; its final state is not returned. As in PyTorch,
    layers are named ``"0"``, ``"1"``, … or by the mapping's keys, and may be nets themselves.

    Parameters
    ----------
    *layers : Net, or one mapping from name to Net
        At least one.
    """

    def __init__(self, *layers: Net | Mapping[str, Net]) -> None:
        named: dict[str, Net] = {}
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named.update(layers[0])
        else:
            named.update({str(i): layer for i, layer in enumerate(layers)})  # type: ignore[misc]
        if not named:
            raise ValueError("Sequential: got no layers, expected at least one")
        for name, layer in named.items():
            if not isinstance(layer, Net):
                hint = (
                    ": Sequential(*layers) takes those of a list" if isinstance(layer, (list, tuple)) else ""
                )
                if hasattr(layer, "state_dict"):
                    hint = ": tr.from_torch() makes a net of a PyTorch module"
                kind = type(layer).__name__
                if isinstance(layer, type):
                    kind, hint = f"the class {layer.__name__}", ": call it with its arguments"
                raise TypeError(f"Sequential: layer {name!r} is {kind}, expected a tinyrnn layer{hint}")
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(
                    f"Sequential: got layer name {name!r}, expected a non-empty string without dots"
                )
        self._take(named)
        self._recurrent = any(layer._recurrent for layer in named.values())
        self._has_frames = any(layer._has_frames for layer in named.values())
        self._is_wired = any(layer._is_wired for layer in named.values())

    @overload
    def __call__(self, x: Value, hx: None = None) -> Value: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        hx: None = None,
        *,
        lengths: ArrayLike | None = None,
        state: Mapping[str, ArrayLike] | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Array: ...
    def __call__(
        self,
        x: Any,
        hx: None = None,  # recurrent layers have their initial state here
        *,
        lengths: ArrayLike | None = None,
        state: Mapping[str, ArrayLike] | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Any:
        """Run the net; see `Net.__call__`.

        Without recurrent layers, and without those of frames.py, each layer sees the whole array in turn, and
        each keeps its own buffers.
        """
        if isinstance(x, Value):
            return applied(self, (x,) if hx is None else (x, hx))
        if hx is not None:
            raise calls.misplaced(self)
        if self._recurrent or self._has_frames or self.training:
            return super().__call__(x, lengths=lengths, state=state, threads=threads, last=last)
        calls.check_stateless(self, lengths, state, last)
        for name, layer in self._layers.items():
            try:
                x = layer(x, threads=threads)
            except ShapeError as error:
                raise ShapeError(f"{name}: {error}") from None
        return x

    def _nodes_known(self) -> tuple[Sequence[tuple[str, contract.Module, tuple[int, ...]]], dict[str, int]]:
        nodes = [(name, layer, (i,)) for i, (name, layer) in enumerate(self._layers.items())]
        return nodes, {"y": len(nodes)}

    def _children(self) -> Iterable[Net]:
        return self._layers.values()

    def __repr__(self) -> str:
        rows = [f"  ({name}): " + repr(layer).replace("\n", "\n  ") for name, layer in self._layers.items()]
        return "Sequential(\n" + "\n".join(rows) + "\n)"

    def _describe(self) -> dict[str, Any]:
        layers = {name: layer._describe() for name, layer in self._layers.items()}
        return {"type": "Sequential", "layers": layers}

    @classmethod
    def _described(cls, description: Mapping[str, Any]) -> contract.Module:
        layers = description["layers"].items()
        return Sequential({str(name): contract.build_part(name, layer) for name, layer in layers})  # type: ignore[misc]

    def _lay(self, frame: Frame, lead: int, cores: list[_core.Layer]) -> Frame:
        for name, layer in self._layers.items():
            try:
                frame = layer._lay(frame, lead, cores)
            except ShapeError as error:
                raise ShapeError(f"{name}: {error}") from None
        return frame

    def _rank(self, ndim: int) -> int | None:
        ranks = (layer._rank(ndim) for layer in self)
        return next((rank for rank in ranks if rank is not None), None)

    def _frame(self) -> tuple[int | None, ...] | None:
        frames = (layer._frame() for layer in self)
        return next((frame for frame in frames if frame is not None), None)
