"""Attributes of public objects: those that may be set, and substitutes for those of other frameworks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, ClassVar

# Attributes of PyTorch's modules and Keras' models that a net lacks, each with its substitute.
ADVICE: dict[str, str] = dict.fromkeys(
    ("parameters", "named_parameters", "weights", "get_weights", "variables"),
    "state_dict() has all tensors by name; an optimizer takes the net itself, tr.optim.Adam(net)",
)
ADVICE |= dict.fromkeys(
    ("buffers", "named_buffers", "get_parameter", "get_buffer"), "state_dict() has all tensors by name"
)
ADVICE |= dict.fromkeys(
    ("trainable_weights", "trainable_variables", "grad"), "grad_dict() has the gradients by name"
)
ADVICE |= dict.fromkeys(("set_weights", "assign"), "load_state_dict() takes tensors by name")
ADVICE |= dict.fromkeys(("forward", "call"), "call the net itself, net(x), or use net.stream()")
ADVICE |= dict.fromkeys(("predict_step", "train_step", "train_on_batch"), "use net.trainer(...).step(x, y)")
ADVICE |= dict.fromkeys(
    ("to", "cuda", "cpu", "device", "xpu", "mps", "ipu"),
    "leave it out: nets run on the CPU",
)
ADVICE |= dict.fromkeys(
    ("float", "double", "half", "bfloat16", "type", "dtype"),
    "leave it out: layers compute in float32; tr.quantize() makes a net with smaller weights",
)
ADVICE |= dict.fromkeys(
    ("compile", "loss", "optimizer"), "leave it out: fit() and trainer() take loss= and optimizer="
)
ADVICE |= dict.fromkeys(
    ("count_params", "extra_repr"),
    "net.summary() shows the layers and their sizes, net.num_parameters and net.memory() those of the net",
)
ADVICE |= dict.fromkeys(
    ("modules", "named_modules", "children", "named_children", "layers", "get_submodule", "get_layer"),
    'a Sequential is iterated over, for layer in net, and gives layers by name, net["0"]',
)
ADVICE |= dict.fromkeys(
    (
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_backward_hook",
        "register_module",
        "register_buffer",
        "register_parameter",
    ),
    "there are no hooks; tr.inspect looks at gates and gradients, tr.drift at each layer's outputs",
)
ADVICE |= dict.fromkeys(("plot_model", "draw", "to_dot"), "use plot('net.svg')")
ADVICE |= dict.fromkeys(("requires_grad_", "trainable"), "use freeze() and unfreeze()")
ADVICE |= dict.fromkeys(
    ("add_module", "add", "append", "extend", "insert", "pop"),
    "a net is made whole: build a new one, tr.Sequential(*layers)",
)
ADVICE |= dict.fromkeys(
    ("apply", "reset_parameters"),
    "new layers are initialised as PyTorch's are, by tr.manual_seed(); load_state_dict() sets other weights",
)
ADVICE |= dict.fromkeys(
    ("flatten_parameters", "share_memory"), "leave it out: a layer's weights lie together always"
)
ADVICE |= dict.fromkeys(("get_config", "to_json"), "config() has the arguments; save() keeps them too")
ADVICE |= {
    "save_weights": "use save()",
    "load_weights": "use load_state_dict(tr.load_weights(path))",
    "reset_states": "a stream has the state: stream.reset()",
    "reset_state": "a stream has the state: stream.reset()",
    "step": "a stream has steps: net.stream().step(x)",
}
ADVICE |= dict.fromkeys(
    ("lr", "learning_rate"), "an optimizer has the learning rate: optimizer=tr.optim.Adam(net, lr=...)"
)

ADVICE |= dict.fromkeys(
    ("return_sequences", "return_state"),
    "a layer gives all steps and its states; tr.LastStep() behind it takes the last step",
)
ADVICE["nn"] = "layers are in tinyrnn itself, tr.LSTM"

# Keras' names, each with ours, which no comparison of letters would find.
_SYNONYMS = {
    "Dense": "Linear",
    "mae": "l1",
    "mean_absolute_error": "l1",
    "mean_squared_error": "mse",
    "binary_crossentropy": "bce_with_logits",
    "categorical_crossentropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
    "learning_rate": "lr",
    "epsilon": "eps",
    "beta_1": "betas",
    "beta_2": "betas",
    "rho": "alpha",
    "decay": "weight_decay",
    "rate": "p",
    "units": "hidden_size",
    "input_dim": "input_size",
    "filters": "out_channels",
    "use_bias": "bias",
}


def nearest(name: str, names: Iterable[str]) -> str:
    """Text for the end of a message: the most similar of ``names``; empty if none is similar."""
    from difflib import get_close_matches

    public = [known for known in names if not known.startswith("_")]
    lower = {known.lower(): known for known in reversed(public)}
    found = [_SYNONYMS[name]] if _SYNONYMS.get(name) in public else []
    found = found or ([lower[name.lower()]] if name.lower() in lower else get_close_matches(name, public, 1))
    found = found or [lower[one] for one in get_close_matches(name.lower(), lower, 1)]
    return f"; did you mean {found[0]!r}?" if found else ""


def advice(name: str) -> str:
    """Text for the end of a message: the substitute for a name that PyTorch or Keras has, if there is one."""
    return f": {ADVICE[name]}" if name in ADVICE else ""


def absent_from(module: str, name: str, names: Collection[str]) -> AttributeError:
    """Return the error for a name that a module lacks.

    Without ``obj=``, so that the interpreter does not add a suggestion of its own.
    """
    meant = "" if name.startswith("_") or not names else advice(name) or nearest(name, names)
    return AttributeError(f"module {module!r} has no attribute {name!r}{meant}", name=name)


def absent(owner: Any, what: str, name: str) -> AttributeError:
    """Return the error for a missing attribute. It is cheap to make, since hasattr() needs it often."""
    return AttributeError(
        f"{type(owner).__name__} has no {what} {name!r}{advice(name)}", name=name, obj=owner
    )


def is_own(owner: Any) -> bool:
    """Tell whether an object's class belongs to the package, so that all its attributes are known."""
    return type(owner).__module__.partition(".")[0] == "tinyrnn"


def check_private(owner: Any, name: str) -> None:
    """Raise an error for private names whose assignment would change the kind of ``owner``."""
    if name in ("__class__", "__dict__"):
        raise AttributeError(f"{type(owner).__name__}.{name} cannot be set")


def unsettable(owner: Any, name: str) -> AttributeError:
    """Return the error for setting an attribute that is no argument and that no code reads."""
    kind = type(owner).__name__
    known = getattr(type(owner), name, None)
    if callable(known):
        return AttributeError(f"{kind}.{name} is a method: call it, it cannot be set")
    if known is not None:
        return AttributeError(f"{kind}.{name} is read-only")
    meant = advice(name) or nearest(name, dir(owner))
    return AttributeError(f"{kind} has no attribute {name!r} that could be set{meant}")


def brief(value: Any) -> str:
    """Format a value for a message: the value if it is short, else its type."""
    return (
        repr(value)
        if value is None or isinstance(value, (bool, int, float, str, tuple))
        else type(value).__name__
    )


class Live:
    """An argument of a constructor that may be set later, with the same check, and takes effect at once.

    Parameters
    ----------
    check : callable
        Takes a name and a value, returns the value to keep, or raises an error that begins with the name.
    """

    def __init__(self, check: Callable[[str, Any], Any]) -> None:
        self._check = check
        self._name = ""

    def __set_name__(self, kind: type, name: str) -> None:
        self._name = name

    def __get__(self, owner: Any, kind: type) -> Any:
        if owner is None:
            return self
        try:
            return owner.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, owner: Any, value: Any) -> None:
        kept = self._check(f"{type(owner).__name__}: {self._name}", value)
        owner._heed(self._name, kept)
        owner.__dict__[self._name] = kept


class Guarded:
    """A base of classes whose objects refuse attributes that have no effect.

    Those are unknown names, and arguments that were read once, when the object was made. A later value would
    be shown and saved but not used, or would not fit the object's memory.

    A user's subclass may have more attributes. Names that begin with an underscore are free.
    """

    _made_by: ClassVar[str] = "_made"  # an attribute that exists once the constructor has ended
    _settable: ClassVar[tuple[str, ...]] = ()
    _kept: ClassVar[tuple[str, ...]] = ()  # fixed attributes that are no arguments

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            check_private(self, name)
        elif self._made_by in self.__dict__ and not self._may_set(name):
            raise self._refusal(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if not name.startswith("_") and (is_own(self) or name in self._fixed()):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")
        super().__delattr__(name)

    def _fixed(self) -> set[str]:
        """The names that the package's classes declare, without those of a user's subclass."""
        fixed: set[str] = set()
        for base in type(self).__mro__:
            if base.__module__.partition(".")[0] != "tinyrnn":
                continue
            fixed.update(base.__dict__.get("_kept", ()))
            init = base.__dict__.get("__init__")
            code = getattr(getattr(init, "__wrapped__", init), "__code__", None)
            if code is not None:
                count = code.co_argcount + code.co_kwonlyargcount
                fixed.update(name.lstrip("_") for name in code.co_varnames[1:count])
        return fixed - {*self._settable}

    def _may_set(self, name: str) -> bool:
        known = getattr(type(self), name, None)
        if isinstance(known, property):
            return known.fset is not None
        return name in self._settable or (not is_own(self) and name not in self._fixed())

    def _refusal(self, name: str, value: Any) -> AttributeError:
        kind = type(self).__name__
        if name in self.__dict__ or name in self._fixed():
            return AttributeError(
                f"{kind}.{name}: got {brief(value)}, but it is fixed when the {kind} is made; "
                f"{self._instead(name, value)}"
            )
        return unsettable(self, name)

    def _instead(self, name: str, value: Any) -> str:
        """Advice for a message about setting a fixed attribute."""
        return f"build a new {type(self).__name__}"
