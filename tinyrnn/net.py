"""`Net`: the public methods of layers and nets. The work is done in a module for each subject."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from numpy.typing import ArrayLike, NDArray

from tinyrnn import calls, starts, state_dicts
from tinyrnn.arguments import check_bool, explained
from tinyrnn.contract import Module, type_named
from tinyrnn.state_dicts import LoadResult
from tinyrnn.streams import State, Stream
from tinyrnn.tensors import Array, Frame
from tinyrnn.values import Value, applied

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinyrnn.history import History
    from tinyrnn.losses import Loss
    from tinyrnn.optim import Optimizer
    from tinyrnn.outlines import Summary
    from tinyrnn.trainer import Trainer


class Memory(NamedTuple):
    """Bytes that a net needs to run; see `Net.memory`."""

    weights: int
    state: int
    scratch: int


class Net(Module):
    """The base of layers and `Sequential`: calling, streaming, weights.

    A layer is a net of one, so all of this works on ``tr.LSTM(...)`` alone.

    A layer's ``p``, ``eps``, ``momentum``, ``negative_slope`` and ``dropout`` can be set, as in PyTorch:
    calls, open streams and trainers use them from their next step on. Its other arguments are fixed:
    ``lstm.hidden_size = 3`` is an error. Tensors can be set, each to an array of its shape:
    ``linear.weight = array``.
    """

    _last_state: State | None = None

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Make a layer; `Net` itself makes a graph."""
        return super().__new__(type_named("Graph") if cls is Net else cls)  # type: ignore[return-value]

    if TYPE_CHECKING:  # Net(x, y) makes a graph, so that it is not abstract

        def _lay(self, frame: Frame, lead: int, cores: list[Any]) -> Frame:
            raise NotImplementedError

    # ---- running -------------------------------------------------------------------------------

    @overload
    def __call__(self, x: Value, hx: None = None) -> Value: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        hx: None = None,
        *,
        lengths: ArrayLike | None = None,
        state: Mapping[str, ArrayLike] | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Any: ...
    def __call__(
        self,
        x: Any,
        hx: None = None,  # recurrent layers have their initial state here
        *,
        lengths: ArrayLike | None = None,
        state: Mapping[str, ArrayLike] | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Any:
        """Run the net over full sequences. In training mode the net keeps the tape for `backward`.

        In evaluation mode the net keeps the plans and the scratch memory of the eight most recent shapes of
        input, up to 256 kB each. Larger ones are made anew. Any number of threads may call one net at once.

        Parameters
        ----------
        x : array_like, float32
            ``(T, frame)``, or ``(T, B, frame)``, or ``(B, T, frame)`` with ``batch_first``. A net
            without recurrent layers takes any axes before the frame. Integers for an embedding.
        lengths : array_like of int, (B,), optional
            Steps of each row; recurrent layers write zeros beyond.
        state : mapping from name to array, optional
            The initial state of recurrent layers, by the names of `State`; the rest is `initial_state`.
            `last_state` has the final state.
        threads : int
            Threads that share the batch's rows; the bits do not depend on it.
        last : bool
            Return only the output at each row's own last step, ``lengths[row] - 1``, which `fit` and
            `evaluate` compare with one target a sequence. Layers after the last recurrent one run for that
            step alone; the bits are those of the full output. In a bidirectional layer this is the end of the
            forward direction, and the reverse direction after its first step only.

        Returns
        -------
        ndarray, float32
            The same axes before the last layer's frame; without the steps' axis for ``last``.

        Raises
        ------
        ShapeError, TypeError, IndexError, ValueError
            If the input does not fit.
        """
        if isinstance(x, Value):
            return applied(self, (x,) if hx is None else (x, hx))
        if hx is not None:
            raise calls.misplaced(self)
        if self._recurrent:
            return self._run(x, lengths, state, threads, last)[0]
        calls.check_stateless(self, lengths, state, last)
        if self.training:
            return self._run(x, None, state, threads)[0]
        return calls.run_frames(self, x, threads)

    def _run(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None,
        initial: Mapping[str, Any] | None,
        threads: int,
        last: bool = False,
    ) -> tuple[Array, State]:
        """Compute output and final state; ``initial`` has names, None means zeros."""
        if last is not False:
            last = check_bool(f"{type(self).__name__}: last", last)
        if self.training:
            if last:
                raise ValueError(
                    f"{type(self).__name__}: got last=True in training mode, expected evaluation mode: call "
                    "net.eval(), or give the loss the whole output, lengths and one target a row"
                )
            from tinyrnn import training

            y, state = training.forward(self, x, lengths, initial, threads)
        else:
            y, state = calls.infer(self, x, lengths, initial, threads, last)
        object.__setattr__(self, "_last_state", state)  # checks of attributes would cost a call its time
        return y, state

    def output_lengths(self, lengths: Any) -> Any:
        """The steps of each row of the output, for sequences of these lengths.

        As many as the input's, unless a layer changes the rate: `TimeUnfold`, a `TimeConv1d` with a stride.

        Parameters
        ----------
        lengths : array_like of int, (B,), or a mapping from the name of an axis of time to one

        Returns
        -------
        ndarray, int32, (B,); or of several outputs a tuple or dict, as the net's call returns them
            0 for a sequence that is too short for a frame; 1 for a value per sequence.
        """
        return self._given(calls.output_lengths(self, lengths))

    def _given(self, arrays: list[Any]) -> Any:
        """Arrays of the outputs in the form in which a call returns them."""
        return arrays[0]

    @explained
    def stream(
        self,
        batch: int = 1,
        *,
        frame: Frame | None = None,
        steps: int | None = None,
        threads: int = 1,
        nonfinite: str | None = None,
    ) -> Stream:
        """A stream: the net with a state of its own, every buffer allocated.

        Parameters
        ----------
        batch : int
            Independent rows that step together.
        frame : tuple of int, optional
            Shape of one step's input for one row, where the layers leave it open: (channels, length)
            for a net that begins with a convolution.
        steps : int, optional
            Steps that `Stream.run` computes at once; scratch memory grows with it. The bits do not
            depend on it.
        threads : int
            Threads that share the batch's rows, each with a scratch of its own; the bits do not depend on it.
            Giving a step to another thread costs tens of microseconds: use threads for chunks, and for steps
            that take longer.
        nonfinite : {None, "stop", "skip", "reset"}
            The treatment of a bad step of a row: one whose input or new state is NaN or infinite. None takes
            it as it is, and the state stays NaN for good. ``"stop"`` raises `NonFiniteError`, and the call
            changes nothing. ``"skip"`` leaves the row's state as before the step; ``"reset"`` sets it to
            that of a new stream. The row's output of that step is then NaN. Other rows and steps keep
            their bits. The check takes two more states of memory. Where the output has a rate of its own:
            None or ``"stop"``.

        Raises
        ------
        ValueError
            If a layer is bidirectional, the frame is left open, a size is out of range, or the recurrent
            layers disagree on batch_first in a batch of several rows.
        ShapeError
            If the layers do not fit the frame.
        """
        return calls.open_stream(self, batch, frame, steps, threads, nonfinite)

    def memory(self, batch: int = 1, steps: int | None = None, *, frame: Frame | None = None) -> Memory:
        """The memory of ``stream(batch, steps=steps)`` in bytes; allocates nothing.

        For a net that reads the future it is that of a call of so many steps.

        Parameters
        ----------
        batch, steps, frame
            As `stream` takes them.

        Returns
        -------
        Memory
            ``weights``, which all streams of the net share, and ``state`` and ``scratch``, which each has.
        """
        cores, plan, _, _ = calls.stream_plan(self, batch, frame, steps)
        distinct = {id(core): core.nbytes for core in cores}
        return Memory(sum(distinct.values()), plan.state_bytes, plan.scratch_bytes)

    @property
    def last_state(self) -> dict[str, Array]:
        """The final state of the last call, by name, for another call's ``state=``.

        These are copies, so the gradient ends there, as in truncated backpropagation through time.
        """
        kept = self._last_state
        return {} if kept is None else {name: kept.read(name) for name in kept}

    @property
    def initial_state(self) -> dict[str, Array] | None:
        """The state that calls, streams and training begin with, by the names of `State`; None for zeros.

        Each array is (num_layers * directions, size), the same for every row of a batch. Set it to a mapping,
        whose missing names are zeros, or to None. The net keeps the numbers as tensors, ``h0`` and ``c0`` of
        a layer, which `state_dict`, files and copies have, too.
        """
        return starts.initial_state(self)

    @initial_state.setter
    def initial_state(self, value: Mapping[str, ArrayLike] | None) -> None:
        starts.set_initial_state(self, value)

    def state_at_rest(
        self,
        x: ArrayLike | None = None,
        *,
        steps: int = 10_000,
        tol: float = 1e-6,
        frame: Frame | None = None,
    ) -> dict[str, Array]:
        """The state to which a constant input leads, from zeros: ``net.initial_state = net.state_at_rest()``.

        A stream that begins so has no transient of its own at first.

        Parameters
        ----------
        x : array_like, frame, optional
            One step's input; zeros, as for silence, by default. Of several inputs a tuple or mapping of them.
        steps : int
            The most steps to run.
        tol : float
            The state is at rest when no number changes by more than this, neither in one step nor since half
            the steps ago.
        frame : tuple of int, optional
            As `stream` takes it.

        Returns
        -------
        dict of str to ndarray, (num_layers * directions, size)
            As `initial_state` takes it: the states of recurrent layers and delays, no windows of steps.

        Raises
        ------
        ValueError
            If the state does not settle within ``steps``, no layer is recurrent, or a layer is bidirectional.
        ShapeError, TypeError, IndexError
            If ``x`` does not fit.
        """
        return calls.state_at_rest(self, x, steps, tol, frame)

    def learn_initial_state(self) -> Self:
        """Make the initial state of all recurrent layers parameters: tensors ``h0`` and ``c0`` that train.

        They begin with the numbers of `initial_state`. Make the optimiser afterwards, so that it has them.
        Their gradient is the sum over the rows of a batch; a call that is given a state adds none.
        ``freeze("lstm.h0")`` stops one; ``initial_state = None`` removes all.

        Raises
        ------
        ValueError
            If no layer is recurrent.
        """
        starts.learn_initial_state(self)
        return self

    # ---- training ------------------------------------------------------------------------------

    def backward(self, dy: ArrayLike, dstate: Mapping[str, ArrayLike] | None = None) -> Any:
        """Go back through the last call in training mode, and add to the gradients (`grad_dict`).

        Parameters
        ----------
        dy : array_like, float32, as the output
            The gradient of the output.
        dstate : mapping from name to array, optional
            The gradient of the final state, by the names of `State`; the rest is zero.

        Returns
        -------
        dx : ndarray, float32, as the input
            The gradient of the input; None where it is indices.
        dstate : dict from name to ndarray
            The gradient of the initial state; only if ``dstate`` was given, even if it is empty.

        Raises
        ------
        RuntimeError
            If there was no call in training mode, or `backward` has used it already.
        ShapeError, TypeError, KeyError
            If something does not fit. No gradient has changed, and `backward` can still use the call.
        """
        from tinyrnn import training

        (dx,), initial = training.backward(self, [dy], dstate)
        return dx if dstate is None else (dx, {name: initial.read(name) for name in initial})

    @explained
    def trainer(
        self,
        optimizer: Optimizer,
        loss: Loss | Mapping[str, Loss],
        batch: int = 32,
        steps: int | Mapping[str, int] = 64,
        *,
        threads: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: str = "stop",
        frame: Frame | None = None,
        target_steps: int = 0,
        loss_weights: Mapping[str, float] | None = None,
    ) -> Trainer:
        """Make a trainer, which trains the net batch by batch in memory that is laid out once.

        It trains in training mode, whatever the net's mode; layers in evaluation mode stay so if the net
        itself is in training mode.

        Parameters
        ----------
        optimizer : one of `tinyrnn.optim`
        loss : one of `tinyrnn.losses`, or a mapping from output to one
            Of a net with several outputs the losses by name. They are added up; an output without one is left
            out.
        batch, steps : int
            Rows, and the most steps of a sequence; fewer steps are fine. A net without recurrent layers takes
            ``(batch, frame)`` and has no steps. Of several axes of time ``steps`` is for each of them, or a
            mapping by their names.
        threads : int
            Threads that share the rows and the weights; the bits do not depend on it.
        clip_norm, clip_value : float, optional
            Clip gradients by the norm of all of them, and each of them.
        nonfinite : {"stop", "skip", "warn"}
            The treatment of a gradient that is NaN or infinite: raise `NonFiniteError`, or leave the step
            out, silently or with a warning. The weights are as before in each case.
        frame : tuple of int, optional
            As `stream` takes it.
        target_steps : int
            For `CTCLoss`: the most labels of a row.
        loss_weights : mapping from output to float, optional
            Factors of the losses in the sum; 1 without.

        Returns
        -------
        Trainer

        Raises
        ------
        TypeError, ValueError, ShapeError
            If something does not fit.
        """
        from tinyrnn.trainer import Trainer

        return Trainer(
            self,
            optimizer,
            loss,
            batch,
            steps,
            threads=threads,
            clip_norm=clip_norm,
            clip_value=clip_value,
            nonfinite=nonfinite,
            frame=frame,
            target_steps=target_steps,
            loss_weights=loss_weights,
        )

    def zero_grad(self) -> None:
        """Set all gradients to zero. An optimiser's step skips them until there is a `backward`."""
        from tinyrnn.parameters import zero_gradients

        zero_gradients(self)

    def grad_dict(self) -> dict[str, Array]:
        """The gradient of every parameter that is not frozen, by its name in `state_dict`, as copies.

        It is zeros if there was no `backward` yet.
        """
        from tinyrnn.parameters import gradients

        return gradients(self)

    def freeze(self, *names: str) -> Self:
        """Take tensors out of training: no gradient, no update. Batch statistics still move.

        Parameters
        ----------
        *names : str
            Names of tensors or layers, as in `state_dict`: ``"1"`` is all of that layer. No name means all.

        Raises
        ------
        KeyError
            If the net has no such tensor or layer; nothing has changed.
        """
        from tinyrnn.parameters import set_frozen

        set_frozen(self, names, True)
        return self

    def unfreeze(self, *names: str) -> Self:
        """Take tensors into training again; see `freeze`."""
        from tinyrnn.parameters import set_frozen

        set_frozen(self, names, False)
        return self

    def requires_grad(self, name: str) -> bool:
        """Tell whether a tensor is trained."""
        from tinyrnn.parameters import requires_grad

        return requires_grad(self, name)

    @explained
    def fit(
        self,
        x: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int = 32,
        *,
        loss: Any,
        loss_weights: Mapping[str, float] | None = None,
        optimizer: Any = "adam",
        validation_data: Any = None,
        metrics: Any = None,
        callbacks: Any = (),
        shuffle: bool = True,
        seed: int | None = None,
        lengths: ArrayLike | None = None,
        verbose: int = 1,
        threads: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: str = "stop",
        bptt: int | None = None,
        resume: str | os.PathLike[str] | None = None,
        mask: Any = None,
    ) -> History:
        """Train for some epochs, each sample once in each.

        In arrays the samples are the first axis, also without ``batch_first``. Samples of different lengths
        are batched with others of about their length and padded to the longest of the batch. Padding does not
        count.

        Ctrl-C ends training after the current step. The net keeps that step, and the history is returned,
        ``interrupted``. A second Ctrl-C raises at once.

        If a callback cannot write its file, for example on a full disk, a warning says so and training
        continues. Any other exception ends training. Its attribute ``history`` is that of the epochs so far,
        and the net keeps its last step.

        Memory beside weights and data is laid out before the first step, for a batch of the longest sequence
        (of ``bptt`` steps) and for the short batch that is left over; ``History.memory`` counts it.
        Validation needs the memory of the outputs of a batch; with metrics, of all outputs.

        Parameters
        ----------
        x : array_like
            ``(N, T, frame)``, or a list of N arrays ``(T_i, frame)``; ``(N, frame)`` for a net without
            recurrent layers. Integers, without a frame, for an embedding. Of a net of several inputs a
            mapping from input to such samples, ``(N, frame)`` for an input per sequence.
        y : array_like
            A target for each step, ``(N, T, ...)`` or a list of N arrays ``(T_i, ...)``; or for each
            sequence, ``(N, ...)``, compared with the output of its last step. ``...`` is the output's frame,
            without the classes' axis if targets are class indices. For `CTCLoss` a list of label sequences,
            or the pair (labels ``(N, S)``, how many ``(N,)``).
        epochs : int
        batch_size : int
            The last batch of an epoch may be shorter; it is trained, too.
        loss : str or loss
            ``"mse"``, ``"l1"``, ``"huber"``, ``"cross_entropy"``, ``"bce_with_logits"``, ``"ctc"``, or an
            object such as ``tr.HuberLoss(delta=0.5)``. Of a net of several outputs a mapping from output to
            loss, ``{"score": "mse"}``; an output without one does not train. Of several losses ``y`` is a
            mapping, too, and ``"loss"`` is their sum.
        loss_weights : mapping from output to float, optional
            Factors of the losses in the sum; 1 without.
        optimizer : str or optimiser
            ``"sgd"``, ``"rmsprop"``, ``"adagrad"``, ``"adam"``, ``"adamw"`` with PyTorch's defaults, or an
            object such as ``tr.optim.Adam(net, lr=0.01)``.
        validation_data : (x, y), (x, y, lengths) or (x, y, lengths, mask), optional
            Evaluated after each epoch: ``"val_loss"`` in the history.
        metrics : str, sequence or mapping, optional
            As `evaluate` takes them, measured on the validation data: ``"val_accuracy"``. Of several losses
            a mapping from output to its metrics: ``"val_score_accuracy"``.
        callbacks : sequence of callbacks or schedules
            See `tinyrnn.callbacks`.
        shuffle : bool
            Draw an order for each epoch from ``seed``. Otherwise samples keep their order, and different
            lengths are not sorted.
        seed : int, optional
            By default 0. With ``resume`` leave it out, or give that run's.
        lengths : array_like of int, (N,), optional
            Steps of each sample of an array. A mapping by axis of time where there are several.
        verbose : int
            0: silent. 1: a line an epoch, and a bar if stderr is a terminal. 2: lines only.
        threads : int
            Threads that share a batch; the bits do not depend on it.
        clip_norm, clip_value, nonfinite
            As `trainer` takes them.
        bptt : int, optional
            Truncated BPTT: one update for each chunk of so many steps of a batch's sequences. The state is
            carried from one chunk to the next, without its gradient, and is zero at the start of each batch.
            All samples must end in the same chunk.
        resume : str or os.PathLike, optional
            A file of `tinyrnn.callbacks.Checkpoint`: continue from it, to the same bits as without the pause.
            Data, net, loss, optimiser, schedules, callbacks and everything else that changes the bits must be
            those of that run, or it is an error; ``epochs`` may be more.
        mask : array_like of bool, optional
            The steps that count in the loss and in metrics, ``(N, T)`` or a list of N arrays ``(T_i,)``; of
            an output without steps the samples, ``(N,)``. A target for a sequence is compared with the output
            of the last step that counts. By output if several have a loss. What the layers leave out is told
            by a mask in the net, see `Masking`.

        Returns
        -------
        History

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError
            If data, net, loss and options do not fit, or data is not finite; the message names the sample.
            Nothing has changed then.
        LoadError, OSError
            If the checkpoint cannot be read. Nothing has changed then.
        """
        from tinyrnn.fitting import fit

        return fit(
            self,
            x,
            y,
            epochs,
            batch_size,
            loss=loss,
            loss_weights=loss_weights,
            optimizer=optimizer,
            validation_data=validation_data,
            metrics=metrics,
            callbacks=callbacks,
            shuffle=shuffle,
            seed=seed,
            lengths=lengths,
            verbose=verbose,
            threads=threads,
            clip_norm=clip_norm,
            clip_value=clip_value,
            nonfinite=nonfinite,
            bptt=bptt,
            resume=resume,
            mask=mask,
        )

    @explained
    def predict(
        self,
        x: Any,
        batch_size: int = 32,
        *,
        lengths: ArrayLike | None = None,
        threads: int = 1,
        last: bool = False,
    ) -> Any:
        """Compute the outputs of many samples, in evaluation mode.

        Parameters
        ----------
        x, lengths
            As `fit` takes them.
        batch_size : int
            Samples that run at once; the bits do not depend on it.
        threads : int
        last : bool
            Return only the output at each sample's own last step, which `fit` and `evaluate` compare with one
            target a sequence; see `Net.__call__`. After a sample's length there are zeros, so ``[:, -1]`` is
            right only if all lengths are equal.

        Returns
        -------
        ndarray, float32, (N, T, ...), or list of ndarray (T_i, ...) for a list
            Zeros after a sample's length. ``(N, ...)`` for ``(N, frame)``, and for ``last``. Of several
            outputs a tuple or dict, as a call returns them.

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError
            If the samples do not fit the net.
        """
        from tinyrnn.fitting import predict

        return predict(self, x, batch_size, lengths, threads, last)

    @explained
    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        *,
        loss: Any,
        loss_weights: Mapping[str, float] | None = None,
        metrics: Any = None,
        lengths: ArrayLike | None = None,
        threads: int = 1,
        mask: Any = None,
    ) -> dict[str, float]:
        """Measure the loss of many samples, and metrics, in evaluation mode.

        Parameters
        ----------
        x, y, lengths, loss, loss_weights, mask
            As `fit` takes them.
        batch_size : int
            Samples that run at once, rounded up to a multiple of 32; the bits do not depend on it.
        metrics : str, sequence or mapping, optional
            ``"accuracy"`` for classes, or ``{"name": function}``. A function gets all outputs and targets at
            once: of each step, ``(n, ...)`` without padding; of each sequence, its last output and its
            target, ``(N, ...)``; for `CTCLoss` two lists of N. Of several losses a mapping from output to
            such metrics.
        threads : int

        Returns
        -------
        dict of str to float
            ``"loss"``, the mean over everything that counts (or the sum, if the loss is one), and each
            metric. Of several losses ``"loss"`` is their sum; each is ``"<output>_loss"``, and a metric
            ``"<output>_<metric>"``.

        Raises
        ------
        ShapeError, TypeError, ValueError, IndexError
            If the samples do not fit the net or the loss.
        """
        from tinyrnn.fitting import evaluate

        return evaluate(self, x, y, batch_size, loss, loss_weights, metrics, lengths, threads, mask)

    # ---- weights -------------------------------------------------------------------------------

    @property
    def num_parameters(self) -> int:
        """The count of numbers that training changes: those of `state_dict` without running statistics."""
        return sum(math.prod(tensor.shape) for tensor in self._tensors() if tensor.is_parameter)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Every tensor by name, float32 copies with PyTorch's names, shapes and order.

        A quantised tensor is given as the numbers that its codes stand for.
        """
        return state_dicts.state_dict(self)

    def load_state_dict(
        self, state_dict: Mapping[str, ArrayLike], strict: bool = True, *, prefix: str = ""
    ) -> LoadResult:
        """Take the net's tensors from a mapping of names to arrays.

        A tensor that the net keeps in a smaller format is rounded to the nearest numbers of the format. If
        ``<name>_scale`` is there too, as `load_weights` reads it from a file of `save`, the tensor is taken
        as codes.

        Parameters
        ----------
        state_dict : mapping
            As `load_weights` or PyTorch's ``state_dict()`` give it.
        strict : bool
            Treat missing and unexpected names as errors.
        prefix : str
            Take only the names that begin so, as a submodule of a larger model: ``"decoder.rnn."``. What
            DataParallel, ``torch.compile`` and the like put into names (``module.``, ``_orig_mod.``) may be
            left out here, and is where the net has no such names.

        Returns
        -------
        LoadResult
            ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        WeightsError
            If names, shapes or codes do not fit, or a format cannot hold a number. The error lists all
            faults, and the net is as before.
        """
        return state_dicts.load_state_dict(self, state_dict, strict, prefix)

    # ---- looking at it -------------------------------------------------------------------------

    def summary(self, frame: Frame | None = None) -> Summary:
        """Make a table of the layers: what each reads and writes, its parameters and bytes.

        Parameters
        ----------
        frame : tuple of int, optional
            The shape of one step's input for one row, where the layers leave it open; otherwise such sizes
            are shown as ``?``.

        Returns
        -------
        Summary
            ``print(net.summary())`` shows it.
        """
        from tinyrnn.outlines import summary

        return summary(self, frame)

    def _repr_html_(self) -> str:
        """The summary, as a notebook shows it."""
        return self.summary()._repr_html_()

    def describe(self, frame: Frame | None = None) -> str:
        """Say in plain text what may stream, what needs the full sequence and why, and what is in a loop.

        Parameters
        ----------
        frame : tuple of int, optional
            As `summary` takes it.
        """
        from tinyrnn.outlines import described

        return described(self, frame)

    def plot(self, path: str | os.PathLike[str], frame: Frame | None = None) -> None:
        """Draw the net as an SVG picture: layers as boxes, and the values between them as lines.

        Values per sequence have another colour, and a line that goes back through a delay is dashed. Nothing
        else need be installed.

        Parameters
        ----------
        path : str or os.PathLike
            The file's name, which ends in ``.svg``. The file is complete or not there.
        frame : tuple of int, optional
            As `summary` takes it.

        Raises
        ------
        ValueError
            If the name has another suffix.
        OSError
            If the file cannot be written.
        """
        from tinyrnn.drawing import plot

        plot(self, path, frame)

    # ---- files ---------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, proof: Any = None) -> None:
        """Write weights and architecture to one safetensors file; `load` reads it back.

        The file is complete or not there: it gets its name when it is complete, and an older one stays until
        then.

        Parameters
        ----------
        path
        proof : True, array_like or a list of arrays, optional
            Keep inputs in the file, and the outputs that the net gives to them: `verify` and ``tinyrnn
            verify`` run them again on another machine. True: 64 random steps. An array, or a list of one
            for each input: these.

        Raises
        ------
        ValueError
            If the suffix belongs to another format, so that `load` would not read the file.
        OSError
            If it cannot be written. An existing file is then as before.
        """
        from tinyrnn.saving import save

        save(self, path, proof)

    def to_onnx(
        self, path: str | os.PathLike[str], *, states: bool = True, frame: Frame | None = None
    ) -> None:
        """Write the net as an ONNX file, of opset 17; the onnx package is not needed.

        Values per step have the axes (time, batch, frame), or (batch, time, frame) with ``batch_first``; a
        net without recurrent layers reads (batch, frame). The sizes of time and batch vary. Smaller formats
        are written as the float32 numbers that they stand for. docs/onnx.md lists the layers.

        Parameters
        ----------
        path
            The file, complete or not there.
        states : bool
            Make the states of recurrent layers inputs, by the names of `State`, and outputs, with an ``N``
            behind. All have the shape (num_layers * directions, batch, size). False: sequences begin with
            `initial_state`.
        frame : tuple of int, optional
            As `stream` takes it.

        Raises
        ------
        ValueError
            If a layer cannot be written; the error names it, and no file has changed.
        ShapeError
            If the frame is left open.
        OSError
            If the file cannot be written.
        """
        from tinyrnn.onnx.export import to_onnx

        to_onnx(self, path, check_bool(f"{type(self).__name__}: states", states), frame)

    def __reduce__(self) -> Any:
        from tinyrnn.saving import reduced

        return reduced(self)
