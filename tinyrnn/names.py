"""The public names and their modules, which are imported when a name is first asked for.

A program on a small device imports the layers that it uses, and no others. `contract.build` asks here for the
layers that a file names, and `values.py` for those behind operators. `__init__.pyi` has the types.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The names of each module.
_NAMES = {
    "_core": "available_isas isa set_isa",
    "activations": (
        "Abs CELU Clip ELU Exp GELU Hardsigmoid Hardswish Hardtanh LeakyReLU Log LogSigmoid Mish Neg "
        "PReLU Power ReLU ReLU6 Reciprocal SELU Scale SiLU Sigmoid Sign Softplus Softsign Sqrt Tanh "
        "Tanhshrink"
    ),
    "attention": "AdditiveAttention DotProductAttention",
    "blocks": "AttentionPooling",
    "cells": (
        "FastGRNN FastGRNNCell IndRNN IndRNNCell Jordan JordanCell MinGRU MinGRUCell MinLSTM MinLSTMCell "
        "QRNN QRNNCell"
    ),
    "convolution": "Conv2d ConvTranspose1d",
    "divergence": "Drift drift",
    "errors": "LoadError NonFiniteError ShapeError WeightsError",
    "frames": (
        "Amax Amin Constant LogSumExp Mean Pad Permute Prod Reshape Std Sum Unflatten Var VectorNorm pad"
    ),
    "graph": "Graph",
    "history": "History",
    "initial": "manual_seed",
    "layers": (
        "BatchNorm1d BatchNorm2d Conv1d Dropout Embedding Flatten GroupNorm InstanceNorm1d InstanceNorm2d "
        "LayerNorm Linear LogSoftmax Softmax"
    ),
    "loading": "load",
    "modules.build": "from_torch",
    "losses": "BCEWithLogitsLoss CTCLoss CrossEntropyLoss HuberLoss L1Loss MSELoss",
    "net": "Memory Net",
    "ops": (
        "Add Concat Delay Divide Equal Feedback Greater GreaterEqual Less LessEqual Matmul Maximum "
        "Minimum Multiply NotEqual Pow Slice Subtract Where concat eq ge gt le lt matmul maximum minimum "
        "ne split stack where"
    ),
    "pooling": (
        "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d AvgPool1d AvgPool2d "
        "MaxPool1d MaxPool2d"
    ),
    "quantization": "quantize",
    "recurrent": "GRU GRUCell LSTM LSTMCell RNN RNNCell",
    "sequential": "Sequential",
    "streams": "State Stream",
    "temporal": (
        "Align FinalState LastStep Masking MaxOverTime MeanOverTime Repeat SumOverTime TimeAvgPool1d "
        "TimeConv1d TimeMaxPool1d TimeUnfold"
    ),
    "values": "Input Value",
    "verification": "Verification verify",
    "weights": "load_weights",
}

# Modules that are public themselves.
MODULES = ("callbacks", "inspect", "losses", "optim")

# The module of each public name.
HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def find(name: str) -> Any:
    """Import what a public name stands for.

    Raises
    ------
    KeyError
        If there is no such name.
    """
    if name in MODULES:
        return import_module(f"tinyrnn.{name}")
    return getattr(import_module(f"tinyrnn.{HOMES[name]}"), name)
