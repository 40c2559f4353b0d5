"""tinyrnn: a stream's `step` or `run` into an array that is there; a bidirectional net is called."""

from __future__ import annotations

import numpy as np
from work import Call, Work

NEEDS = ("tinyrnn",)


def fits(work: Work) -> bool:
    return True


def prepare(work: Work) -> Call:
    import tinyrnn as tr

    net = getattr(tr, work.kind).from_state_dict(work.weights)
    if work.dtype != "float32":
        net = tr.quantize(net, work.dtype)
    x = work.x
    if work.bidirectional:
        return lambda: net(x)[0]
    stream = net.stream(batch=work.batch)
    y = np.empty((work.steps, work.batch, work.hidden), np.float32)
    if work.steps > 1:
        return lambda: stream.run(x, y)
    frame, out = (x[0, 0], y[0, 0]) if work.batch == 1 else (x[0], y[0])
    return lambda: stream.step(frame, out)
