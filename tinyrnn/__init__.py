"""tinyrnn: a minimal runtime for recurrent networks on embedded CPUs.

Layers have ``torch.nn``'s names, arguments and shapes; weights come from PyTorch's files without
PyTorch; ``net.stream()`` runs a net step by step. See README.md and docs/design.md.
"""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Any

try:
    import tinyrnn._core as _core  # noqa: F401 (there for users of tinyrnn._core)
except ModuleNotFoundError as error:
    if error.name != "tinyrnn._core":
        raise
    raise ModuleNotFoundError(
        f"tinyrnn: got no library in {__path__[0]}, expected _core{EXTENSION_SUFFIXES[0]}. Sources need "
        "`pip install`, run outside their folder; a library does not load from a zip; and one built for "
        "another Python or processor does not count",
        name=error.name,
    ) from None
from tinyrnn.attributes import absent_from
from tinyrnn.names import HOMES, MODULES, find

__version__ = "0.1.0"

__all__ = sorted([*HOMES, *MODULES])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        # `from tinyrnn import net` asks here before it imports the module: no search for what was meant.
        raise absent_from(__name__, name, () if find_spec(f"{__name__}.{name}") else __all__)
    globals()[name] = found = find(name)
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
