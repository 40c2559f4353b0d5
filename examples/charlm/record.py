"""Record what PyTorch computes from charlm.pt in golden.json: what tinyrnn has to reproduce.

    python record.py

Symbols stream through the model one at a time, with carried state that is zero before the first one.
golden.json holds

    torch           the version that computed all this
    continuations   prompt; text, what follows it greedily; smallest_margin, the least lead in logits that a
                    chosen symbol had over the runner-up
    passage         text, the first of the validation text; log_probability, the sum in nats over its symbols
                    after the first, each given all before it
    logits          prompt, the first one; values, the first eight logits after its last symbol
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from train import HERE, CharLM, State, encode, read_text, split

PROMPTS = ["A generator ", "Return ", "An exception is ", "The with statement ", "   def "]
LEAST_MARGIN = 1e-3  # runtimes differ from PyTorch by about 1e-5


def load(path: Path) -> tuple[CharLM, str]:
    """The model in evaluation mode, and its vocabulary."""
    checkpoint = torch.load(path, weights_only=True)
    model = CharLM(len(checkpoint["vocabulary"]))
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval(), checkpoint["vocabulary"]


def feed(model: CharLM, symbols: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
    """Stream symbols (N,) one at a time -> the logits after each, (N, V), and the state after the last."""
    logits = []
    for symbol in symbols:
        step, state = model(symbol.view(1, 1), state)
        logits.append(step[0, 0])
    return torch.stack(logits), state


def continue_greedily(model: CharLM, vocabulary: str, prompt: str, count: int) -> tuple[str, float]:
    """The `count` symbols that follow the prompt, and the smallest lead one of them had."""
    logits, state = feed(model, encode(prompt))
    text, margin = "", float("inf")
    for _ in range(count):
        best, second = logits[-1].topk(2).values.tolist()
        margin = min(margin, best - second)
        symbol = logits[-1].argmax()
        text += vocabulary[symbol]
        logits, state = feed(model, symbol.view(1), state)
    return text, margin


def log_probability(model: CharLM, passage: str) -> float:
    """Sum of log-probabilities in nats of all symbols but the first, each given those before it."""
    symbols = encode(passage)
    logits, _ = feed(model, symbols[:-1])
    return logits.double().log_softmax(1).gather(1, symbols[1:, None]).sum().item()


def parse_arguments() -> argparse.Namespace:
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Record PyTorch's answers.", formatter_class=defaults)
    add = parser.add_argument
    add("--model", type=Path, metavar="FILE", default=HERE / "charlm.pt", help="what train.py wrote")
    add("--out", type=Path, metavar="FILE", default=HERE / "golden.json", help="what is recorded")
    add("--characters", type=int, default=500, help="length of a continuation")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    model, vocabulary = load(arguments.model)

    continuations = []
    for prompt in PROMPTS:
        text, margin = continue_greedily(model, vocabulary, prompt, arguments.characters)
        print(f"--- margin {margin:.5f}\n{prompt}|{text}\n")
        if margin < LEAST_MARGIN:
            raise SystemExit(
                f"{prompt!r}: got margin {margin:.1e}, expected {LEAST_MARGIN}: choose another prompt"
            )
        continuations.append({"prompt": prompt, "text": text, "smallest_margin": margin})

    _, validation = split(encode(read_text(None)))
    passage = "".join(vocabulary[symbol] for symbol in validation[:300])
    first, _ = feed(model, encode(PROMPTS[0]))
    golden = {
        "torch": torch.__version__,
        "continuations": continuations,
        "passage": {"text": passage, "log_probability": log_probability(model, passage)},
        "logits": {"prompt": PROMPTS[0], "values": first[-1, :8].tolist()},
    }
    arguments.out.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
