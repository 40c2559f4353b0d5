"""PyTorch's .pt and .pth, as `torch.save` has written them since 1.6, and TorchScript's archives.

The file is a zip archive whose members are stored, not compressed, all in one folder: ``data.pkl``, a pickle
in which each tensor is a call to a rebuild function (storage, offset, size, stride, ...); ``data/<key>``, the
bytes of each storage; ``byteorder``, absent in older files; ``version`` and others that do not matter here.
Several tensors may share one storage.

TorchScript has the same beside ``code/``, text like Python's, of which `tinyrnn.modules.script` makes nets. A
second pickle, ``constants.pkl``, with its storages in ``constants/``, is a tuple of the tensors that the code
names ``CONSTANTS.c0`` and so on: those of a frozen module are there.

A program of `torch.export` (.pt2) has its parameters and buffers in ``data/weights/``, and JSON beside them,
``<model>_weights_config.json``, that says name, file, dtype, sizes and strides of each. Other tensors that it
reads are in ``data/constants/``, and its operations are JSON, ``models/<model>.json``. Before PyTorch 2.8
these were members without a folder, ``serialized_exported_program.json`` first, and the tensors' archives of
`torch.save`.

A file of `torch.package` has a pickle for each object, ``<package>/<resource>.pkl`` mostly, storages of all,
``.data/<key>.storage``, and source code, which is left unread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple

from tinyrnn.weights import legacy, safetensors
from tinyrnn.weights.archive import STORED, Member, first_member, member_fill, read_archive, unpacked
from tinyrnn.weights.legacy import Legacy
from tinyrnn.weights.packed import is_packed, tensors_of
from tinyrnn.weights.parts import Parts
from tinyrnn.weights.pickles import MAX_PICKLE, Name, Object, Pickle, Storage, View
from tinyrnn.weights.spec import MAX_NAME, MAX_TENSORS, Array, Contents, Reader, Source, Tensor, shown
from tinyrnn.weights.storages import Storages

# torch.export's numbers of dtypes.
SCALARS = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}

_JSON = "serialized_exported_program.json"

_CONSTANTS = "CONSTANTS."  # which a module's code calls its constants

MAX_PICKLES = 1000  # of a package
MAX_CODE = 1 << 20  # bytes of TorchScript


def matches(head: bytes) -> bool:
    name = first_member(head)
    return (
        legacy.matches(head)
        or _tar(head)
        or name == _JSON
        or (name is not None and "/" in name and not name.endswith(".npy"))
    )


def _tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def read(reader: Reader, key: str | None) -> Contents:
    head = reader.read(0, min(512, reader.size), "the head of the file")
    if _tar(head):
        raise reader.error(
            "PyTorch's tar format (before 0.1.10): load it in PyTorch and save it again with "
            "torch.save(model.state_dict(), path)"
        )
    parts = Parts(reader)
    if legacy.matches(head):
        file = Legacy(reader)
        tensors = _tensors(reader, file, parts.weights(file.thing, key))
        return Contents(tensors, {}, unread=parts.left())
    if head[:4] not in (b"PK\3\4", b"PK\5\6"):
        raise reader.error(
            f"the file begins with {head[:8].hex(' ')}, expected a zip archive, as torch.save writes it"
        )
    archive = _Archive(reader)
    if archive.program:
        if key is not None:
            raise reader.error(f"key: got {key!r}, expected none: a program has no parts to choose from")
        return archive.exported()
    if archive.packages:
        package = _Package(archive)
        tensors = _tensors(reader, package, parts.weights(package.things, key))
        return Contents(tensors, {}, unread=parts.left())
    folder = _Folder(archive, "data")
    views = parts.weights(folder.thing, key)
    tensors = _tensors(reader, folder, views)
    net = None
    if archive.scripted and not key:
        other = _Folder(archive, "constants")
        constants = other.thing if type(other.thing) is tuple else ()
        tensors += _tensors(reader, other, list(_named(constants)))
        if type(folder.thing) is Object:
            names = {id(view): name for name, view in views[::-1]}
            inputs = archive.pickle("traced_inputs.pkl") if archive.traced else None
            example = inputs.get("forward") if isinstance(inputs, dict) else None
            net = Scripted(
                *(folder.thing, constants, names),
                # Those of constants have no names in the module; they may lie in lists.
                lambda name, view: (
                    other if name.startswith(_CONSTANTS) and id(view) not in names else folder
                ).tensors(name, view),
                *(example, archive.code, archive.places),
            )
    return Contents(tensors, {}, net=net, unread=parts.left(), folds=True)


def _tensors(reader: Reader, storages: Storages, views: list[tuple[str, View]]) -> list[Tensor]:
    if len(views) > MAX_TENSORS:
        raise reader.error(f"got {len(views)} tensors, expected at most {MAX_TENSORS}")
    return [tensor for name, view in views for tensor in storages.tensors(name, view)]


def _named(constants: tuple[Any, ...]) -> Iterator[tuple[str, View]]:
    """The tensors of constants by the names that the code has; those of packed weights with numbers."""
    for i, one in enumerate(constants):
        if type(one) is View:
            yield f"{_CONSTANTS}c{i}", one
        elif is_packed(one):
            yield from ((f"{_CONSTANTS}c{i}.{j}", view) for j, view in enumerate(tensors_of(one) or ()))


class Exported(NamedTuple):
    """A program of `torch.export`.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Parameters, buffers and constants.
    text : callable
        Reads its JSON.
    parsed : callable
        Parses JSON within it.
    """

    tensors: dict[str, Tensor]
    text: Callable[[], dict[str, Any]]
    parsed: Callable[[bytes], dict[str, Any]]


class Scripted(NamedTuple):
    """A module of TorchScript.

    Attributes
    ----------
    module : Object
    constants : tuple
        Tensors and others that its code names.
    names : dict of int to str
        Of parameters and buffers, by the identity of their views.
    tensors : callable
        The tensor of a view; of a quantised layer's weight its codes, and a scale for each row.
    example : object
        The inputs of a module that was traced, views without numbers; None if it was not.
    code : callable
        The text of a file of its code, None if there is none.
    places : callable
        The lines of the model that such a text comes from, as PyTorch has them.
    """

    module: Object
    constants: tuple[Any, ...]
    names: dict[int, str]
    tensors: Callable[[str, View], list[Tensor]]
    example: Any
    code: Callable[[str], bytes | None]
    places: Callable[[str], Any]


class _Archive:
    """The zip archive of `torch.save`."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.members = read_archive(reader)
        roots = [name[:-8] for name in self.members if name.endswith("/data.pkl") and name.count("/") == 1]
        packages = [name for name in self.members if name.endswith("/.data/extern_modules")]
        self.packages = len(packages) == 1
        if self.packages:
            roots = [packages[0].removesuffix(".data/extern_modules")]
        self.scripted = any(name.endswith("/constants.pkl") for name in self.members)
        self.traced = any(name.endswith("/traced_inputs.pkl") for name in self.members)
        self.program = ""  # the member that lists the tensors of a program
        self.flat = _JSON in self.members
        if self.flat:
            self.root, self.order, self.program = "", "<", _JSON
            return
        if any(name.endswith("/archive_format") for name in self.members):
            programs = [name for name in self.members if name.endswith("_weights_config.json")]
            if len(programs) != 1:
                called = "a program of torch.export" if programs else "a package that PyTorch compiled"
                raise reader.error(
                    f"got {called} (.pt2) with {len(programs)} lists of weights, expected one: save "
                    "model.state_dict() with torch.save"
                )
            roots = [
                name.removesuffix("/archive_format")
                for name in self.members
                if name.endswith("/archive_format")
            ]
            self.program = programs[0].removeprefix(roots[0])
        elif len(roots) != 1 and not self.packages:
            raise reader.error(
                f"got a zip archive with {len(roots)} data.pkl, expected one, as torch.save writes it"
            )
        self.root = roots[0]
        if len(self.root) > MAX_NAME:
            raise reader.error(
                f"the folder's name has {len(self.root)} characters, expected at most {MAX_NAME}"
            )
        order = self._small("byteorder")
        if order not in (b"", b"little", b"big"):
            raise reader.error(f"byteorder is {order!a}, expected little or big")
        self.order = ">" if order == b"big" else "<"

    def exported(self) -> Contents:
        """The weights of a program, and the program itself."""
        reader, model = self.reader, self.program
        if self.flat:
            tensors, others = self._flat("state_dict"), self._flat("constants")
        else:
            tensors = _tensors(reader, program := _Program(self, model), program.views())
            model = model.replace("data/weights/", "models/").replace("_weights_config", "")
            listed = self.program.replace("weights", "constants")
            others = []
            if self.root + listed in self.members:
                others = _tensors(reader, program := _Program(self, listed), program.views(False))
        if self.root + model not in self.members:
            return Contents(tensors, {})
        text = partial(self.json, model, "the program")
        parse = partial(safetensors.parse, reader, what="the program", floats=True)
        net = Exported({one.name: one for one in (*others, *tensors)}, text, parse)
        return Contents(tensors, {}, net=net, folds=True)

    def _flat(self, name: str) -> list[Tensor]:
        """The tensors of an archive within the archive, as PyTorch wrote them before 2.8."""
        names = [f"serialized_{name}.{end}" for end in ("pt", "json")]
        own = next((one for one in names if one in self.members), names[0])
        inner = Reader(BytesIO(b"".join(unpacked(self.reader, self.member(own, own)))))
        inner.path = f"{self.reader.path}: {own}"
        folder = _Folder(_Archive(inner), "data")
        things = folder.thing if isinstance(folder.thing, dict) else {}
        views = [(key, one) for key, one in things.items() if type(key) is str and type(one) is View]
        return _tensors(inner, folder, views)

    def json(self, name: str, what: str) -> dict[str, Any]:
        """The object in a member of JSON."""
        member = self.member(name, what)
        if member.size > MAX_PICKLE:
            raise self.reader.error(f"{what} has {member.size} bytes, expected at most {MAX_PICKLE}")
        text = b"".join(unpacked(self.reader, member)).strip()
        return safetensors.parse(self.reader, text, what, floats=True)

    def member(self, name: str, label: str) -> Member:
        member = self.members.get(self.root + name)
        if member is None:
            raise self.reader.error(f"{label}: {shown(self.root + name)} is missing from the archive")
        if member.method != STORED:
            raise self.reader.error(
                f"{label}: {shown(member.name)} is compressed, expected it stored, as torch.save writes it"
            )
        return member

    def pickle(self, name: str) -> object:
        """The object in a pickle."""
        label = shown(name)
        member = self.member(name, label)
        if member.size > MAX_PICKLE:
            raise self.reader.error(f"{label} has {member.size} bytes, expected at most {MAX_PICKLE}")
        return Pickle(self.reader, label, b"".join(unpacked(self.reader, member))).run()

    def code(self, name: str) -> bytes | None:
        """A file of TorchScript's code."""
        member = self.members.get(f"{self.root}code/{name}")
        if member is not None and member.size > MAX_CODE:
            raise self.reader.error(f"{shown(name)} has {member.size} bytes, expected at most {MAX_CODE}")
        return None if member is None else b"".join(unpacked(self.reader, member))

    def places(self, name: str) -> Any:
        """The pickle beside a file of code, None if there is none."""
        data = self.code(f"{name}.debug_pkl")
        return data and Pickle(self.reader, shown(name), data).run()

    def _small(self, name: str) -> bytes:
        if self.root + name not in self.members:
            return b""
        member = self.member(name, name)
        if member.size > 100:
            raise self.reader.error(f"{name} has {member.size} bytes, expected at most 100")
        return b"".join(unpacked(self.reader, member))


class _Folder(Storages):
    """A pickle of an archive, ``<name>.pkl``, and its storages, ``<name>/<key>``.

    Attributes
    ----------
    thing : object
        The object in the pickle.
    """

    def __init__(self, archive: _Archive, name: str) -> None:
        super().__init__(archive.reader, archive.order)
        self._archive = archive
        self._name = name
        self.thing = archive.pickle(f"{name}.pkl")

    def size(self, key: str, label: str) -> int:
        return self._archive.member(f"{self._name}/{key}", label).size

    def fill(self, key: str, array: Array, label: str) -> None:
        member_fill(self.reader, self._archive.member(f"{self._name}/{key}", label), 0, array)


class _Package(Storages):
    """The pickles of a package, and the storages that they share.

    Attributes
    ----------
    things : dict of str to object
        The object in each, by dotted name.
    """

    def __init__(self, archive: _Archive) -> None:
        super().__init__(archive.reader, archive.order)
        self._archive = archive
        own = (name.removeprefix(archive.root) for name in archive.members if name.startswith(archive.root))
        names = [name for name in own if not name.startswith(".data/") and self._is_pickle(name)]
        total = sum(archive.members[archive.root + name].size for name in names)
        if len(names) > MAX_PICKLES or total > MAX_PICKLE:
            raise self.reader.error(
                f"got a package of {len(names)} pickles of {total} bytes, expected at most {MAX_PICKLES} of "
                f"{MAX_PICKLE}"
            )
        if not names:
            raise self.reader.error("got a package without pickles, expected weights")
        self.things = {name.removesuffix(".pkl").replace("/", "."): archive.pickle(name) for name in names}

    def _is_pickle(self, name: str) -> bool:
        """The authors choose the names; one without an ending may be a text, too."""
        if "." in name:
            return name.endswith(".pkl")
        member = self._archive.members[self._archive.root + name]
        return "/" in name and next(unpacked(self.reader, member), b"")[:1] == b"\x80"

    def size(self, key: str, label: str) -> int:
        return self._archive.member(f".data/{key}.storage", label).size

    def fill(self, key: str, array: Array, label: str) -> None:
        member_fill(self.reader, self._archive.member(f".data/{key}.storage", label), 0, array)


class _Program(Storages):
    """The tensors of a program: each has a file of bytes, which several may share."""

    def __init__(self, archive: _Archive, listed: str) -> None:
        super().__init__(archive.reader, archive.order)
        self._archive = archive
        self._folder = listed.rpartition("/")[0]
        entries = archive.json(listed, "the list of weights").get("config")
        if not isinstance(entries, dict):
            raise self.reader.error("the list of weights: expected an object config")
        self._entries = entries

    def views(self, whole: bool = True) -> list[tuple[str, View]]:
        """The names and tensors, in the list's order; else of those that are tensors."""
        return [
            (name, self._view(shown(name), entry))
            for name, entry in self._entries.items()
            if whole or (isinstance(entry, dict) and entry.get("tensor_meta"))
        ]

    def _view(self, label: str, entry: Any) -> View:
        match entry:
            case {
                "path_name": str(key),
                "use_pickle": False,
                "tensor_meta": {
                    "dtype": int(code),
                    "sizes": list(sizes),
                    "strides": list(strides),
                    "storage_offset": {"as_int": offset},
                    "layout": 7,
                },
            } if code in SCALARS and len(key) <= MAX_NAME:
                held = self.size(key, label)
                shape, steps = (
                    tuple(size.get("as_int") if isinstance(size, dict) else None for size in part)
                    for part in (sizes, strides)
                )
                return View(
                    Storage("", key, held, 0, held), offset, shape, steps, Name(f"torch.{SCALARS[code]}")
                )
        raise self.reader.error(f"{label}: expected a dense tensor of bytes, as torch.export.save writes it")

    def size(self, key: str, label: str) -> int:
        return self._member(key, label).size

    def fill(self, key: str, array: Array, label: str) -> None:
        member_fill(self.reader, self._member(key, label), 0, array)

    def _member(self, key: str, label: str) -> Member:
        return self._archive.member(f"{self._folder}/{key}", label)


SOURCE = Source("PyTorch", (".pt", ".pth", ".pt2"), matches, read, nets="tinyrnn.modules.script")
