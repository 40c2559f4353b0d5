"""The command line: `make_parser` lists the commands.

Every command is a module of its name, imported on demand; its `command` takes the parsed arguments. A failure
is an exception, and `main` alone turns exceptions into one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn, TextIO

import tinyrnn as tr
from tinyrnn._core import isa_problem
from tinyrnn.attributes import nearest
from tinyrnn.cli.console import STDOUT, UsageError, named, note, one_line
from tinyrnn.cli.options import RAW, RAW_OUTPUT, binding, positive
from tinyrnn.formats import SMALLER
from tinyrnn.weights.spec import explain_address

SHELLS = ("bash", "zsh", "fish")

# The exceptions of bad input; any other is a bug of ours and shows its traceback.
_FAILURES = (OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RecursionError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Ctrl-C, SIGTERM and SIGHUP end it in order: an output is complete, or removed.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default the process's.

    Returns
    -------
    int
        Exit status: 0, 1 if the command failed, 2 if the command line or the environment is wrong, 141 if
        the reader of stdout went away, 128 and the signal's number if a signal ended it: 130 after Ctrl-C,
        143 after SIGTERM, 129 after SIGHUP.
    """
    try:
        with _signals_raise():
            return _answer(argv)
    except KeyboardInterrupt as end:
        return 128 + (end.number if isinstance(end, _Ended) else signal.SIGINT)


def _answer(argv: Sequence[str] | None) -> int:
    """Run one command; a failure becomes one line and a status, a warning one line."""
    problem: Exception
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  None where the shell closed it
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        try:
            if isa_problem is not None:
                raise UsageError(isa_problem)
            args = make_parser().parse_args(sys.argv[1:] or ["--help"] if argv is None else argv)
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: note(f"tinyrnn: warning: {message}")
                import_module(f"{__name__}.{args.command}").command(args)
            return 0
        finally:
            with named(STDOUT):
                sys.stdout.flush()  # here, where a closed pipe can still be handled
    except BrokenPipeError:
        _discard(sys.stdout)  # nobody reads on
        return 141
    except UsageError as error:
        status, problem = 2, error
    except (*_FAILURES, ImportError) as error:
        if isinstance(error, ImportError) and error.name is not None:
            raise  # not of an optional package, for which there is a message of ours
        status, problem = 1, error
        if isinstance(error, OSError) and error.filename == STDOUT:
            _discard(sys.stdout)
    try:
        sys.stderr.write(f"tinyrnn: error: {one_line(_message(problem))}\n")
        sys.stderr.flush()
    except OSError:  # nobody reads stderr; the status remains
        _discard(sys.stderr)
    return status


def _discard(stream: TextIO) -> None:
    """Send the rest of a failed stream nowhere, or Python would complain of it at exit."""
    with suppress(OSError, ValueError):  # a caller's own object has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        explain_address(error)
        what = error.strerror or " ".join(map(str, error.args)) or type(error).__name__
        return f"{os.fsdecode(error.filename) or repr('')}: {what}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


class _Ended(KeyboardInterrupt):
    """A signal asked for the end; code that cleans up after Ctrl-C does so after any signal."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn the signals that ask for an end into `_Ended`, and restore them afterwards.

    An ignored signal stays ignored, for `nohup` and a shell's background jobs; a signal that has a handler
    keeps it. Only the main thread may do this, and only the command line does.
    """
    before = {}
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) in (
                signal.SIG_DFL,
                signal.default_int_handler,
            ):
                with suppress(ValueError):  # another thread than the main one
                    before[number] = signal.signal(number, _end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    """Raise `_Ended`, unless one is on its way: a second signal must not interrupt the cleanup."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, _Ended):
            return
        error = error.__context__
    raise _Ended(number)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors go through `main`, and name the nearest command or choice."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            problem = f"got {value!r}, expected {', '.join(known)}{nearest(value, known)}"
            raise argparse.ArgumentError(action, problem)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; an argument too many is an error of its command, not of all commands."""
        found, left = self.parse_known_args(args, namespace)
        if left:
            commands: Any = next(action.choices for action in self._actions if action.dest == "command")
            own = commands[found.command]
            wanted = "an option of it" if left[0].startswith("-") else "no more arguments"
            hint = nearest(left[0], own._option_string_actions)
            own.error(f"{found.command}: got {left[0]}, expected {wanted}{hint}")
        return found

    def _print_message(self, message: str, file: Any = None) -> None:
        with named(STDOUT):  # argparse ignores a disk that is full
            sys.stdout.write(message)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _frame_of(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if len(sizes) > 2:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected FEATURES or CHANNELS,LENGTH")
    return tuple(positive(size) for size in sizes)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands, which `tinyrnn completion` reads, too."""
    parser = _Parser(
        "tinyrnn", description="Look at, run, shrink and time recurrent networks.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"tinyrnn {tr.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    bound = _Parser(add_help=False)
    bound.add_argument(
        "--bind",
        type=binding,
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a number for an input or a size, such as sr=16000, or axes=BTF of a PyTorch file; repeatable",
    )
    file = _Parser(add_help=False, parents=[bound])
    file.add_argument("--key", help="part of a PyTorch checkpoint that holds the weights, such as generator")
    file.add_argument(
        "--frame",
        type=_frame_of,
        help="the input of a step, if the layers leave it open: FEATURES or CHANNELS,LENGTH",
    )
    model = _Parser(add_help=False)
    model.add_argument("--prefix", help="the layer of a checkpoint to run, such as decoder.rnn")
    model.add_argument(
        "--kind", help="the kind of layer, if tensors cannot tell: linear, embedding, rnn_tanh, rnn_relu"
    )
    output = _Parser(add_help=False)
    output.add_argument(
        "--force",
        action="store_true",
        help="let an output replace one of the input files at the end; any other existing file is replaced "
        "without asking",
    )
    weights = (
        "a net (of net.save(), .onnx, .keras, .h5, .pt2, .json), or one layer of a .pt, .safetensors or .npz"
    )

    info = commands.add_parser("info", parents=[file], allow_abbrev=False, help="list the contents of a file")
    info.add_argument(
        "file",
        metavar="FILE",
        help="weights or a net: .safetensors, .pt, .pt2, .npz, .onnx, .keras, .h5, .json",
    )
    info.add_argument("--all", action="store_true", help="list everything, however long")

    run = commands.add_parser(
        "run",
        parents=[file, model, output],
        allow_abbrev=False,
        help="run a net over a file",
        description="Stream a file or a pipe through a net, in bounded memory. Bidirectional nets read it "
        "whole.",
    )
    run.add_argument("model", metavar="MODEL", help=weights)
    run.add_argument(
        "input",
        metavar="INPUT",
        help=".npy: (T, frame) or (T, B, frame); .csv: a frame in each line; .wav: PCM, as many channels "
        "as a frame has numbers, or mono that is cut into frames; - for standard input, as .csv",
    )
    run.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help=".npy or .csv, complete or not there; - for standard output, as .csv",
    )
    run.add_argument("--raw", choices=RAW, help="INPUT is samples without a header")
    run.add_argument("--raw-output", choices=RAW_OUTPUT, help="OUT is samples without a header")
    run.add_argument(
        "--follow", action="store_true", help="wait for more at the end of a .csv or --raw, until Ctrl-C"
    )
    run.add_argument("--batch-first", action="store_true", help="a batched .npy is (B, T, frame)")

    quantize = commands.add_parser(
        "quantize",
        parents=[file, model, output],
        allow_abbrev=False,
        help="write a net with smaller weights",
        description="Round a net's matrices to a smaller format; with --calibration, print the drift.",
    )
    quantize.add_argument("model", metavar="MODEL", help=weights)
    quantize.add_argument("output", metavar="OUT", help="a .safetensors, complete or not there")
    quantize.add_argument("--to", required=True, choices=SMALLER)
    quantize.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="NAME",
        help="layers that stay as they are, such as head, lstm or lstm.l0; a wrong name lists all names",
    )
    quantize.add_argument(
        "--calibration",
        metavar="INPUT",
        help="typical input, a file as for `tinyrnn run`: round for the least error of the products",
    )
    quantize.add_argument("--batch-first", action="store_true", help="a batched .npy is (B, T, frame)")

    convert = commands.add_parser(
        "convert",
        parents=[file, model, output],
        allow_abbrev=False,
        help="write a net in another format",
        description="Write a net as ONNX or safetensors; the suffix of OUT decides, or --to.",
    )
    convert.add_argument("model", metavar="MODEL", help=weights + "; or an .onnx")
    convert.add_argument("output", metavar="OUT", help="an .onnx or a .safetensors, complete or not there")
    convert.add_argument("--to", choices=("onnx", "safetensors"), help="the format, if not as OUT's suffix")
    convert.add_argument(
        "--no-states", action="store_true", help="ONNX for whole sequences: states are no inputs and outputs"
    )

    verify = commands.add_parser(
        "verify",
        parents=[bound],
        allow_abbrev=False,
        help="repeat the proof in a file, or compare it with another model",
        description="Exit status 0 if all outputs agree, 1 if not.",
    )
    verify.add_argument("file", metavar="FILE", help="a file of net.save(path, proof=True), or any net's")
    verify.add_argument(
        "--against", metavar="MODEL", help="an .onnx, .keras or .h5, for its own runtime, or a net's file"
    )
    verify.add_argument("--steps", type=positive, default=1000, help="of each sequence, with --against")

    bench = commands.add_parser(
        "bench",
        parents=[file, model, output],
        allow_abbrev=False,
        help="time the steps of a net, beside the limits of the machine",
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

    commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="check this installation and this machine",
        description="Exit status 1 if the numbers are wrong, or the processor is throttled.",
    )

    selftest = commands.add_parser(
        "selftest",
        allow_abbrev=False,
        help="prove this build on this machine, and write a report",
        description="Compute what is known of every layer, look for allocations, and time some nets: less "
        "than two minutes. Exit status as doctor's.",
    )
    selftest.add_argument("--quick", action="store_true", help="leave out the times")
    selftest.add_argument(
        "--json", metavar="FILE", help="the report; by default a new file in this folder, by date and machine"
    )
    selftest.add_argument("--force", action="store_true", help="replace FILE if it is there")

    completion = commands.add_parser(
        "completion",
        allow_abbrev=False,
        help="print a script for the Tab key of a shell",
        description='In ~/.bashrc: eval "$(tinyrnn completion bash)"',
    )
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(parser=parser)
    return parser
