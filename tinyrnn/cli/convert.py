"""``tinyrnn convert``: a net in another format."""

from __future__ import annotations

import os
from argparse import Namespace

from tinyrnn.cli.console import UsageError, say
from tinyrnn.cli.models import open_model
from tinyrnn.cli.names import distinct
from tinyrnn.weights.spec import shown

_SUFFIXES = {".onnx": "onnx", ".safetensors": "safetensors"}


def command(args: Namespace) -> None:
    """Write the net as ONNX or safetensors."""
    distinct(args, {"OUT": args.output}, {"MODEL": args.model})
    suffix = os.path.splitext(args.output)[1].lower()
    kind = args.to or _SUFFIXES.get(suffix)
    if kind is None:
        raise UsageError(
            f"{args.output}: the suffix is {suffix or 'missing'}, expected .onnx or .safetensors, or give "
            "--to"
        )
    if kind != "onnx" and args.no_states:
        raise UsageError(f"--no-states: got it for {kind}, expected it for onnx alone")
    net = open_model(args)
    if kind == "onnx":
        net.to_onnx(args.output, states=not args.no_states, frame=args.frame)
    else:
        net.save(args.output)
    say(f"{shown(args.output, 1000)}: {os.path.getsize(args.output):,} bytes")
