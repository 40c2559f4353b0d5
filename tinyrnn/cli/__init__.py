"""The command line: ``tinyrnn info``, ``tinyrnn run``, ``tinyrnn quantize``, ``tinyrnn bench``.

Every command is a module of its name, imported when it is asked for, whose `command` takes the parsed
arguments. What goes wrong is an exception, and `main` is the one door through which exceptions become one
line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import tinyrnn as tr
from tinyrnn.cli.console import UsageError, one_line
from tinyrnn.cli.options import positive
from tinyrnn.formats import SMALLER

# What bad input raises; anything else is a bug of ours and shows its traceback.
_FAILURES = (OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RecursionError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default the process's.

    Returns
    -------
    int
        Exit status: 0, 1 if the command failed, 2 if the command line is wrong, 130 if interrupted, 141
        if what reads stdout went away.
    """
    problem: Exception
    try:
        try:
            args = _parser().parse_args(argv)
            import_module(f"{__name__}.{args.command}").command(args)
            return 0
        finally:
            sys.stdout.flush()  # here, where a closed pipe can still be answered for
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads on. Python would complain when it flushes stdout at exit: let it flush elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UsageError as error:
        status, problem = 2, error
    except _FAILURES as error:
        status, problem = 1, error
    sys.stderr.write(f"tinyrnn: error: {one_line(_message(problem))}\n")
    return status


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors leave through `main`'s door."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _frame_of(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if len(sizes) > 2:
        raise argparse.ArgumentTypeError(f"{text!r}, expected FEATURES or CHANNELS,LENGTH")
    return tuple(positive(size) for size in sizes)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "tinyrnn", description="Look at, run, shrink and time recurrent networks.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"tinyrnn {tr.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    file = _Parser(add_help=False)
    file.add_argument("--key", help="part of a PyTorch checkpoint that holds the weights, such as generator")
    file.add_argument(
        "--frame",
        type=_frame_of,
        help="a step's input where the layers leave it open: FEATURES or CHANNELS,LENGTH",
    )
    model = _Parser(add_help=False)
    model.add_argument("--prefix", help="the layer of a checkpoint to run, such as decoder.rnn")
    model.add_argument(
        "--kind", help="which layer it is, where tensors cannot tell: linear, embedding, rnn_tanh, rnn_relu"
    )
    weights = "saved by net.save(), or a .pt, .pth, .safetensors or .npz of which one layer is run"

    info = commands.add_parser("info", parents=[file], allow_abbrev=False, help="what is in a file")
    info.add_argument("file", metavar="FILE", help=".pt, .pth, .safetensors or .npz")
    info.add_argument("--all", action="store_true", help="list everything, however long")

    run = commands.add_parser(
        "run",
        parents=[file, model],
        allow_abbrev=False,
        help="run a net over a file",
        description="Stream a file through a net, in bounded memory. Bidirectional nets take it as a whole.",
    )
    run.add_argument("model", metavar="MODEL", help=weights)
    run.add_argument(
        "input",
        metavar="INPUT",
        help=".npy: (T, frame) or (T, B, frame); .csv: a frame in each line; .wav: PCM, as many channels "
        "as a frame has numbers, or mono that is cut into frames",
    )
    run.add_argument("-o", "--output", metavar="OUT", required=True, help=".npy or .csv, replaced at the end")
    run.add_argument("--batch-first", action="store_true", help="a batched .npy is (B, T, frame)")

    quantize = commands.add_parser(
        "quantize",
        parents=[file, model],
        allow_abbrev=False,
        help="write a net with smaller weights",
        description="Round a net's matrices to a smaller format, and say how far its output strays.",
    )
    quantize.add_argument("model", metavar="MODEL", help=weights)
    quantize.add_argument("output", metavar="OUT", help="a .safetensors, replaced at the end")
    quantize.add_argument("--to", required=True, choices=SMALLER)
    quantize.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="NAME",
        help="layers that stay as they are, such as head, lstm or lstm.l0; a wrong name lists all",
    )
    quantize.add_argument(
        "--calibration",
        metavar="INPUT",
        help="typical input, a file as `tinyrnn run` takes it: rounds for the least error of the products",
    )
    quantize.add_argument("--batch-first", action="store_true", help="a batched .npy is (B, T, frame)")

    bench = commands.add_parser(
        "bench",
        parents=[file, model],
        allow_abbrev=False,
        help="time steps of a net, beside what the machine could do at best",
        description="Without MODEL: LSTM and GRU in five sizes, ten seconds in all on a fast machine.",
    )
    bench.add_argument(
        "model", metavar="MODEL", nargs="?", help=weights + "; or sizes: lstm:64x128, gru:40x64x2:int8"
    )
    bench.add_argument("--quick", action="store_true", help="a look, not a measurement: seconds in all")
    bench.add_argument(
        "--steps", type=positive, help="calls to time; by default a quarter of a second of them"
    )
    bench.add_argument(
        "--batch", type=positive, help="streams that step together; by default 1, then 8 and 32"
    )
    bench.add_argument("--isa", help=f"one of {' '.join(tr.available_isas())}; now {tr.isa()}")
    bench.add_argument("--json", metavar="FILE", help="write every number; - for stdout, instead of tables")
    bench.add_argument("--picture", metavar="FILE", help="draw a roofline: .png, .svg or .pdf")
    return parser
