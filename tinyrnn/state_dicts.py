"""Weights by name: `Net.state_dict`, loading it, and a layer's sizes from it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn.attributes import brief
from tinyrnn.contract import Module
from tinyrnn.errors import WeightsError
from tinyrnn.formats import LEVELS, SCALE, Coded
from tinyrnn.tensors import COUNTER, Array

Layer = TypeVar("Layer", bound=Module)


class LoadResult(NamedTuple):
    """The names that `Net.load_state_dict` did not match, as in PyTorch."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def state_dict(net: Module) -> dict[str, NDArray[Any]]:
    """Do the work of `Net.state_dict`."""
    state: dict[str, NDArray[Any]] = {}
    for prefix, leaf in net._leaves():
        for tensor in leaf._tensors():
            state[prefix + tensor.name] = tensor.numbers()
        if leaf._counts_batches:
            state[prefix + COUNTER] = np.array(getattr(leaf, COUNTER), dtype=np.int64)
    return state


def stored(net: Module) -> dict[str, NDArray[Any]]:
    """The state_dict for files, copies and pickles: quantised tensors as codes and scales."""
    state: dict[str, NDArray[Any]] = {}
    for prefix, leaf in net._leaves():
        for tensor in leaf._tensors():
            state |= tensor._replace(name=prefix + tensor.name).stored()
        if leaf._counts_batches:
            state[prefix + COUNTER] = np.array(getattr(leaf, COUNTER), dtype=np.int64)
    return state


def load_state_dict(
    net: Module, state_dict: Mapping[str, ArrayLike], strict: bool = True, prefix: str = ""
) -> LoadResult:
    """Do the work of `Net.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"load_state_dict: got {brief(state_dict)}, expected a mapping from names to tensors, as "
            "tr.load_weights(path) reads it from a file"
        )
    tensors = net._tensors()
    given = submodule(state_dict, prefix, [tensor.name for tensor in tensors])
    counters = {f"{at}{COUNTER}": leaf for at, leaf in net._leaves() if leaf._counts_batches}
    scales = {
        tensor.name: tensor.name + SCALE
        for tensor in tensors
        if tensor.format in LEVELS or (tensor.param in tensor.core.matrices and tensor.name + SCALE in given)
    }
    wanted = {tensor.name for tensor in tensors} | counters.keys() | set(scales.values())
    missing = [tensor.name for tensor in tensors if tensor.name not in given]
    unexpected = [name for name in given if name not in wanted]

    problems = []
    if strict and missing:
        problems.append(f"Missing key(s) in state_dict: {quoted(missing)}.")
    if strict and unexpected:
        problems.append(f"Unexpected key(s) in state_dict: {quoted(unexpected)}.")
    arrays: dict[str, Array | Coded] = {}
    for tensor in tensors:
        if tensor.name in given:
            try:
                own = scales.get(tensor.name)
                arrays[tensor.name] = tensor.fitted(given[tensor.name], given.get(own) if own else None)
            except (TypeError, ValueError) as error:
                problems.append(f"{error}.")
    counts = {}
    for name in (name for name in counters if name in given):
        count = np.asarray(given[name])
        if count.size != 1 or count.dtype.kind not in "iu":
            problems.append(f"{name}: {count.dtype} of shape {count.shape}, expected one integer.")
        else:
            counts[name] = int(count.reshape(()))
    if problems:
        problems += _remarks(net, given, missing if strict else [], prefix)
        where = f" (prefix {prefix!r})" if prefix else ""
        what = f"Error(s) in loading state_dict for {type(net).__name__}{where}:"
        more = [f"and {len(problems) - 20} more."] if len(problems) > 20 else []
        raise WeightsError("\n\t".join([what, *problems[:20], *more]))

    for tensor in tensors:
        if tensor.name in arrays:
            if missing:
                tensor.core.prepare()
            tensor.write(arrays[tensor.name])
    for name, number in counts.items():
        counters[name]._set_batches_seen(number)
    return LoadResult(missing, unexpected)


def _remarks(net: Module, given: Mapping[str, Any], missing: list[str], prefix: str) -> list[str]:
    """Guess the fault of a state_dict that does not fit: a prefix, another kind of layer."""
    remarks = []
    found = [
        before for before in _prefixes(missing[:1], given) if all(before + name in given for name in missing)
    ]
    if found:
        start = prefix if not prefix or prefix.endswith(".") else prefix + "."
        passed = " or ".join(f"prefix={start + before!r}" for before in found[:4])
        remarks.append(f"The missing names are there with a prefix: pass {passed}.")
    for at, leaf in net._leaves():
        names = [tensor.name for tensor in leaf._tensors() if at + tensor.name in given]
        try:
            mistaken = leaf._mistaken({name: np.shape(given[at + name]) for name in names})
        except ValueError:  # a list that is no array, which is reported already
            continue
        if mistaken:
            remarks.append(f"{at}{mistaken}.")
    return remarks


def inferred(kind: type[Layer], given: Mapping[str, ArrayLike], *arguments: Any, **named: Any) -> Layer:
    """Make the layer whose arguments follow from these tensors, and load them."""
    try:
        layer = kind(*arguments, **named)
    except ValueError as error:
        raise WeightsError(f"the tensors do not make a {kind.__name__}: {error}") from None
    keep_codes(layer, [name.removesuffix(SCALE) for name in given if name.endswith(SCALE)])
    load_state_dict(layer, given)
    return layer


def keep_codes(layer: Module, coded: Collection[str]) -> None:
    """Make each part of a layer whose matrices are all among ``coded`` one of int8, without weights."""
    matrices = [tensor for tensor in layer._tensors() if tensor.param in tensor.core.matrices]
    floats = {id(tensor.core) for tensor in matrices if tensor.name not in coded}
    kept = [id(core) not in floats and bool(core.matrices) for core in layer._cores()] if coded else []
    if any(kept):
        layer._reformat(["int8" if one else "float32" for one in kept])


# ---- names -------------------------------------------------------------------------------------------


def submodule(state_dict: Mapping[str, Any], prefix: str, wanted: Collection[str] = ()) -> dict[str, Any]:
    """Return the entries below ``prefix``, without it. The prefix may lack its last dot.

    What PyTorch's wrappers put into the names is removed, unless as many of the ``wanted`` names have it.
    """
    for name in state_dict:
        if not isinstance(name, str):
            raise WeightsError(f"a tensor's name is {name!r}, expected a string")
    if prefix and not prefix.endswith("."):
        prefix += "."
    found = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    if prefix and not found:
        plain = unwrapped(state_dict)
        found = {name[len(prefix) :]: plain[name] for name in plain if name.startswith(prefix)}
    plain = unwrapped(found)
    if not wanted or sum(name in plain for name in wanted) > sum(name in found for name in wanted):
        found = plain
    if prefix and not found:
        raise WeightsError(
            f"prefix: got {prefix!r}, expected the start of a tensor's name; there are "
            f"{quoted(state_dict) or 'none'}"
        )
    return found


# What modules around a module put into its names: torch.compile, FullyShardedDataParallel, checkpointing.
# They may stand anywhere. DataParallel and AveragedModel (EMA) call theirs `module`, as others may, and put
# it before all names but that of a count.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_OUTERMOST, _COUNT = "module.", "n_averaged"


def unwrapped(names: Mapping[str, Any]) -> dict[str, Any]:
    """Remove what PyTorch's wrappers put into the names, unless two names would become one."""
    plain = {
        name: ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if any(wrapper in name for wrapper in _WRAPPERS)
        else name
        for name in names
        if name != _COUNT or not all(other == _COUNT or other.startswith(_OUTERMOST) for other in names)
    }
    outermost = re.compile(f"(?:{re.escape(_OUTERMOST)})*")
    common = min((outermost.match(name).end() for name in plain.values()), default=0)  # type: ignore[union-attr]
    plain = {name: part[common:] for name, part in plain.items()}
    found = {part: names[name] for name, part in plain.items()}
    return found if len(found) == len(plain) else dict(names)


def _prefixes(wanted: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the prefixes, with the dot, that some of ``names`` have before one of the expected names."""
    found = [full.removesuffix(name) for name in wanted for full in names if full.endswith(f".{name}")]
    return list(dict.fromkeys(found))


def lacking(kind: str, name: str, given: Iterable[str], spellings: tuple[str, ...] = ()) -> WeightsError:
    """The error for a state_dict without the tensor that has a layer's sizes."""
    names = list(given)
    found = _prefixes(spellings or (name,), names)
    hint = f"; {found[0]}{name} is: pass prefix={found[0]!r}" if found else ""
    return WeightsError(f"{kind}: {name} is missing{hint}: got {quoted(names) or 'no tensors'}")


def quoted(names: Any) -> str:
    from tinyrnn.weights.spec import shown  # here, so that who loads no file need not import it

    listed = list(names)
    first = ", ".join(f'"{shown(str(name))}"' for name in listed[:20])
    return first + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")
