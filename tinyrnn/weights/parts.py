"""The weights within a checkpoint of PyTorch: which of its parts they are, and their names.

A part has entries by name if it is a dict, an object of a subclass of dict, a list of such, or a module that
was saved whole. A module is an object with the attributes `_parameters`, `_buffers` and `_modules`; in
TorchScript, an object whose class lies in `__torch__`. Its entries are its tensors under dotted names, as in
`state_dict()`.
"""

from __future__ import annotations

from typing import Any

from tinyrnn.weights.packed import is_packed, spread
from tinyrnn.weights.pickles import MAX_KEY_BITS, Name, Object, View, kind_of
from tinyrnn.weights.spec import MAX_NAME, MAX_TENSORS, Reader, shown

MAX_LEVELS = 8  # of dicts around the weights
MAX_DEPTH = 100  # of modules within modules
MAX_NAMES = 4 << 20  # characters of all dotted names together, beyond the size of the file
LISTED = 1000  # parts that are named as left unread

STATE_DICT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
)
_NOT_WEIGHTS = ("optim", "sched", "scaler", "_extra_state")
_SCRIPTED = "__torch__."


class Parts:
    """The parts of one checkpoint.

    Attributes
    ----------
    unread : list of (str, str)
        The dotted name and the kind of each part that was left out, at most `LISTED` of them.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.unread: list[tuple[str, str]] = []
        self._more = 0  # parts left out beyond those
        self._names = 0  # tensors and modules that got a dotted name, ...
        self._characters = 0  # ... and the characters of those names
        self._entries: dict[int, tuple[object, dict[Any, Any] | None]] = {}  # by the identity of the part
        self._skipped: dict[int, frozenset[str]] = {}  # by the identity of the set

    def weights(self, value: object, key: str | None) -> list[tuple[str, View]]:
        """The names and tensors of the weights; `key` is that of `load_weights`."""
        path = key or ""
        if type(value) is Object and self._of(value) is None:  # as of fastai's Learner
            attributes = value.attributes()
            value = attributes if self._with_sets({0: attributes}) else value
        if key is not None:
            value = self._walk(value, key)
            if key == "":
                return self._named(value, "")
        for _ in range(MAX_LEVELS):
            where = f"{path}: " if key else ""
            parts = self._dict(value, where)
            if "param_groups" in parts and "state" in parts:
                raise self.reader.error(f"{where}got the state of an optimiser, expected weights")
            dicts = {
                name: entries
                for name, part in parts.items()
                if _may_be_weights(name) and (entries := self._of(part)) is not None
            }
            sets = _with_tensors(dicts)
            known = next((name for name in STATE_DICT_KEYS if name in sets), None)
            own = any(isinstance(part, View) or is_packed(part) for part in parts.values())
            if known is not None:
                chosen = known
            elif not sets and (own or not parts):
                return self._named(value, path)
            elif len(sets) == 1 and not own:
                (chosen,) = sets
            elif sets and not own and len(sets) == len(parts):
                return self._flattened(sets, path)
            elif sets:
                names = ", ".join(shown(str(name)) for name in list(sets)[:20])
                top = ', or key="" for the tensors beside them' if own and not key else ""
                raise self.reader.error(
                    f"{where}holds several sets of weights: choose one of them with key=: {names}{top}"
                )
            else:
                within = self._with_sets(dicts) or dicts
                deeper = next((name for name in STATE_DICT_KEYS if name in within), None)
                if deeper is None and len(within) == 1:
                    (deeper,) = within
                if deeper is None:
                    names = ", ".join(shown(str(name)) for name in list(parts)[:20])
                    raise self.reader.error(
                        f"{where}holds no tensors, expected weights; its keys are {names}"
                    )
                chosen = deeper
            self._leave(path, {name: part for name, part in parts.items() if name != chosen})
            path = _joined(path, chosen)
            value = dicts[chosen]
        raise self.reader.error(
            f"{where}the weights lie more than {MAX_LEVELS} dicts deep: name their dict with key="
        )

    def left(self) -> list[tuple[str, str]]:
        """The parts that were left out, with a last line for those that are not listed."""
        return self.unread + [("...", f"and {self._more} more")] * (self._more > 0)

    def _leave(self, path: str, parts: dict[Any, Any]) -> None:
        for name, part in parts.items():
            if len(self.unread) < LISTED:
                self.unread.append((_joined(path, name), described(part)))
            else:
                self._more += 1

    def _dict(self, value: object, where: str) -> dict[Any, Any]:
        entries = self._of(value)
        if entries is None:
            kind = kind_of(value)
            if isinstance(value, Object | Name):
                kind = f'the Python object "{kind}", which is never loaded'
            raise self.reader.error(
                f"{where}got {kind}, expected a dict of tensors, as of model.state_dict()"
            )
        return entries

    def _of(self, value: object) -> dict[Any, Any] | None:
        """The entries of a part, None if it has none."""
        if type(value) is dict:
            return value
        if type(value) not in (list, tuple, Object):
            return None
        if id(value) not in self._entries:
            self._entries[id(value)] = value, self._found(value)
        return self._entries[id(value)][1]

    def _found(self, value: Any) -> dict[Any, Any] | None:
        if type(value) is Object:
            one = _wrapped(value)
            return one.items if _attributes(one) is None else self._module(one)
        if any(type(item) is dict or type(item) is Object for item in value):
            return {str(number): item for number, item in enumerate(value)}
        return None

    def _named(self, value: object, path: str) -> list[tuple[str, View]]:
        """The tensors of one dict. Its other values are no weights."""
        where = f"{path}: " if path else ""
        parts = spread(self.reader, self._dict(value, where))
        views = [(name, part) for name, part in parts.items() if isinstance(part, View)]
        for name, _ in views:
            if not isinstance(name, str):
                raise self.reader.error(f"{where}a tensor is named {shown(str(name))}, expected a string")
        if len(views) < len(parts):
            self._leave(path, {name: part for name, part in parts.items() if not isinstance(part, View)})
        return views

    def _flattened(self, sets: dict[Any, Any], path: str) -> list[tuple[str, View]]:
        """The tensors of several dicts, under dotted names. One dict may occur often, so count first."""
        where = f"{path}: " if path else ""
        count = sum(map(len, sets.values()))
        if count > MAX_TENSORS:
            raise self.reader.error(
                f"{where}got sets of weights with {count} tensors in all, expected at most {MAX_TENSORS}"
            )
        own: dict[int, int] = {}  # characters of a dict's names, by its identity
        for part in sets.values():
            if id(part) not in own:
                own[id(part)] = sum(len(inner) for inner in part if isinstance(inner, str))
        total = sum(len(part) * (len(str(name)) + 1) + own[id(part)] for name, part in sets.items())
        limit = MAX_NAMES + self.reader.size
        if max(len(str(name)) for name in sets) > MAX_NAME or total > limit:
            raise self.reader.error(
                f"{where}the dotted names of all sets of weights have {total} characters, expected at most "
                f"{limit}, and at most {MAX_NAME} in a set's own name"
            )
        return [
            (f"{name}.{inner}", view)
            for name, part in sets.items()
            for inner, view in self._named(part, _joined(path, name))
        ]

    def _with_sets(self, dicts: dict[Any, Any]) -> dict[Any, Any]:
        """The dicts of which a part holds tensors itself. Each is searched once."""
        verdicts: dict[int, bool] = {}
        for part in dicts.values():
            if id(part) not in verdicts:
                inner = enumerate(map(self._of, part.values()))
                verdicts[id(part)] = bool(_with_tensors({i: one for i, one in inner if one is not None}))
        return {name: part for name, part in dicts.items() if verdicts[id(part)]}

    def _walk(self, value: object, key: str) -> object:
        """Follow a dotted key through the dicts. A name that itself has dots comes first."""
        rest = key
        while rest:
            parts = self._of(value) or {}
            names = {str(name): name for name in parts if type(name) in (str, int)}
            heads = [rest, *(rest[:i] for i in range(len(rest)) if rest[i] == ".")]
            head = next((head for head in heads if head in names), None)
            if head is None:
                listed = ", ".join(shown(name) for name in list(names)[:20]) or "nothing"
                raise self.reader.error(f"key: got {shown(rest)!r}, expected one of {listed}")
            value, rest = parts[names[head]], rest[len(head) + 1 :]
        return value

    # ---- modules that were saved whole

    def _module(self, root: Object) -> dict[str, Any]:
        """The tensors of a module and of those within it, in the order of `state_dict()`."""
        found: dict[str, Any] = {}
        waiting: list[tuple[str, Object, int]] = [("", root, 0)]
        while waiting:
            prefix, module, depth = waiting.pop()
            module = _wrapped(module)
            attributes = _attributes(module)
            if attributes is None:
                continue
            if depth > MAX_DEPTH:
                raise self.reader.error(
                    f"{shown(prefix)}: modules are nested more than {MAX_DEPTH} levels deep"
                )
            if module.name.startswith(_SCRIPTED):
                own = inner = attributes
            else:
                own = dict(_items(attributes, "_parameters"))
                left_out = self._members(attributes.get("_non_persistent_buffers_set"))
                buffers = _items(attributes, "_buffers").items()
                own |= {name: part for name, part in buffers if name not in left_out}
                inner = _items(attributes, "_modules")
            for name, part in own.items():
                if isinstance(part, View):
                    found[self._dotted(prefix, name)] = part
            for name, part in attributes.items():
                if is_packed(part):
                    found[self._dotted(prefix, name)] = part
            below = [(n, part) for n, part in inner.items() if type(part) is Object and not is_packed(part)]
            waiting += [(self._dotted(prefix, name) + ".", part, depth + 1) for name, part in reversed(below)]
        return found

    def _members(self, value: object) -> frozenset[str]:
        """The texts of a set, which many modules may share."""
        if type(value) is not Object:
            return frozenset()
        if id(value) not in self._skipped:
            self._skipped[id(value)] = frozenset(name for name in value.members if type(name) is str)
        return self._skipped[id(value)]

    def _dotted(self, prefix: str, name: object) -> str:
        """A name within a module. Modules may contain one another, so all names together are limited."""
        if type(name) is not str:
            raise self.reader.error(f"{shown(prefix) if prefix else 'a module'}: a name is no string")
        full = prefix + name
        self._names += 1
        self._characters += len(full)
        if self._names > 2 * MAX_TENSORS or self._characters > MAX_NAMES + self.reader.size:
            raise self.reader.error(
                f"the module has more than {2 * MAX_TENSORS} parts, or their names more than "
                f"{MAX_NAMES + self.reader.size} characters"
            )
        if len(full) > MAX_NAME:
            raise self.reader.error(
                f"{shown(full)}: got a name of {len(full)} characters, expected at most {MAX_NAME}"
            )
        return full


def _wrapped(value: Object) -> Object:
    """The module that `torch.compile` wrapped, which is the first argument of the wrapper's constructor."""
    first = value.arguments[0] if value.arguments else None
    return first if value.name.endswith(".OptimizedModule") and type(first) is Object else value


def _attributes(value: Object) -> dict[Any, Any] | None:
    """The attributes of a module, None if the object is no module."""
    attributes = value.attributes()
    if value.name.startswith(_SCRIPTED):
        return attributes
    first = value.arguments[0] if value.arguments else None  # that of `reduce_graph_module`
    return next(
        (
            part
            for part in (attributes, first)
            if type(part) is dict and "_modules" in part and "_parameters" in part
        ),
        None,
    )


def _items(attributes: dict[Any, Any], name: str) -> dict[Any, Any]:
    part = attributes.get(name)
    part = part.items if type(part) is Object else part
    return part if type(part) is dict else {}


def described(value: object) -> str:
    """A short word for a part that is left unread: a plain value itself, else its kind and size."""
    match value:
        case None | bool() | float():
            return str(value)
        case int() if value.bit_length() <= MAX_KEY_BITS:
            return str(value)
        case str():
            return repr(shown(value, 60))
        case dict() | list() | tuple():
            return f"{type(value).__name__} of {len(value)}"
        case View():
            return "tensor"
    return kind_of(value).removeprefix("a ")


def _joined(path: str, name: object) -> str:
    """A name below a path, fit for a message."""
    last = str(name) if type(name) is int else name if type(name) is str else kind_of(name)
    return shown(f"{path}.{last}" if path else last)


def _may_be_weights(name: object) -> bool:
    return not (isinstance(name, str) and any(word in name for word in _NOT_WEIGHTS))


def _with_tensors(dicts: dict[Any, Any]) -> dict[Any, Any]:
    """The dicts that hold tensors themselves, packed ones too. Each is searched once, whatever its names."""
    verdicts: dict[int, bool] = {}
    for part in dicts.values():
        if id(part) not in verdicts:
            verdicts[id(part)] = any(isinstance(one, View) or is_packed(one) for one in part.values())
    return {name: part for name, part in dicts.items() if verdicts[id(part)]}
