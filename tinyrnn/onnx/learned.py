"""The things learned of a graph's inputs: what their axes are, and what becomes of them."""

from __future__ import annotations

from tinyrnn.importing import Unfit
from tinyrnn.onnx.cells import Direction
from tinyrnn.onnx.model import Port
from tinyrnn.onnx.symbols import BATCH, ONE, OPEN, TIME, TIME_SIZES, Retry
from tinyrnn.weights.spec import shown

# An input of the graph becomes an input of the net, values that a state begins with, the state of a layer, a
# state of the net, the lengths of a call, or lengths that only some layers heed, by masks.
INPUT, START, STATE, FEEDBACK, LENGTHS, COUNTS = "input", "start", "state", "feedback", "lengths", "counts"


class Learned:
    """The things learned of a graph: kinds and sizes of axes, what inputs become, and pairs of nodes."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.traced: dict[str, int] = {}  # sizes of axes that vary, where the graph has a number all the same
        self.same: dict[str, str] = {}  # axes that are another one under a second name
        self.modes: dict[str, str] = {}
        self.rows: dict[str, int] = {}  # of the table that an input's numbers are indices of
        self.pairs: dict[str, tuple[str, Direction, Direction]] = {}
        self.wanted: set[str] = set()  # inputs that a node wants as constants
        self.calls = 0  # operations that became layers, in all passes
        self.visits = [0]  # to inputs and nodes, in all passes, those of attempts beside this one included
        self.time_sizes = TIME_SIZES
        self.lacks_room = False  # constants need more memory than the file may take
        self.lacks_time = False  # a recurrent node reads columns of a frame as time

    def anew(self) -> Learned:
        """Make one that knows nothing, for another attempt."""
        found = Learned()
        found.visits, found.time_sizes = self.visits, self.time_sizes
        return found

    def copied(self) -> Learned:
        """Make one that knows the same, for another attempt."""
        found = self.anew()
        for name in ("kinds", "sizes", "traced", "same", "modes", "rows", "pairs"):
            setattr(found, name, dict(getattr(self, name)))
        return found

    def learn(self, found: Retry) -> None:
        """Note one more thing.

        Raises
        ------
        Unfit
            If it contradicts what is known.
        """
        key, value = found.key, found.value
        if key.startswith("="):
            self.sizes[key[1:]] = value
            return
        if key.startswith("#"):
            self.rows[key[1:]] = value
            return
        if key.startswith("~"):
            self.traced[key[1:]] = value
            return
        if key.startswith("&"):
            self.same[key[1:]] = value
            return
        if value not in (TIME, BATCH, OPEN, ONE):
            if self.modes.get(key) == value:
                raise Unfit(f"input {shown(key)} cannot be {value}")
            self.modes[key] = value
            return
        known = self.kinds.get(key)
        if known in (TIME, BATCH, ONE) or known == value:
            raise Unfit(f"the axis {shown(key)} is used as {known} and as {value}, expected one of them")
        self.kinds[key] = value
        if value == TIME:  # the graph does not describe one step
            self.modes = {name: mode for name, mode in self.modes.items() if mode != FEEDBACK}


def origin_of(port: Port, axis: int) -> str:
    """The name of an input's axis."""
    assert port.shape is not None
    size = port.shape[axis]
    return size if isinstance(size, str) else f"{port.name}[{axis}]"
