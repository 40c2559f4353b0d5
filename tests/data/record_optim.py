"""Record what PyTorch's optimisers and schedules compute, for test_optim.py and test_schedules.py.

    python tests/data/record_optim.py

writes optim.npz beside this file. Needs torch 2.13. ``"<case>"``: all parameters after 50 steps, one after
the other; ``"<case>/<state>"``: what the optimiser remembers, likewise; ``"rates/<case>"``: rates and momenta
of 200 epochs.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "helpers"))
import optim_cases as cases

HERE = Path(__file__).resolve().parent


def main() -> None:
    arrays: dict[str, np.ndarray] = {"torch": np.array(torch.__version__.split("+")[0])}
    for case, (kind, arguments) in cases.OPTIMISERS.items():
        params = {name: torch.nn.Parameter(torch.from_numpy(w)) for name, w in cases.weights().items()}
        optimizer = getattr(torch.optim, kind)(params.values(), **arguments)
        for step in range(cases.STEPS):
            for name, gradient in cases.gradients(step).items():
                params[name].grad = torch.from_numpy(gradient)
            optimizer.step()
        arrays[case] = cases.flat(param.detach().numpy() for param in params.values())
        states = optimizer.state_dict()["state"]
        for state in states.get(0, {}):
            arrays[f"{case}/{state}"] = cases.flat(states[i][state].numpy() for i in range(len(params)))
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    for case, (kind, arguments, *_) in cases.SCHEDULES.items():
        optimizer = getattr(torch.optim, kind)([torch.nn.Parameter(torch.zeros(1))], **arguments)
        made = cases.build_schedules(torch.optim.lr_scheduler, optimizer, case)
        arrays[f"rates/{case}"] = cases.run_schedules(made, optimizer)
    np.savez_compressed(HERE / "optim.npz", **arrays)


if __name__ == "__main__":
    main()
