"""What rounding activations to 8 bits costs the built-in model: its answers, and its perplexity.

    python -m bessemer.bench.guide.precision [--model DIR] [--questions 341]

Greedy answers of `fast` and of `exact` are compared token by token over the questions the model was
made for and the held-out wordings; perplexity is that of the held-out questions' written answers.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bessemer.bench.compare.machine import cpu_tier
from bessemer.bench.guide.corpus import entries, held_out
from bessemer.engine.request import Request, Sampling, Token
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import Settings

GUIDE = Path(__file__).parents[2] / "engine" / "guide"
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class Precision:
    """Of `compared` greedy answers so many are the same; the rest says how far text moved."""

    same: int
    compared: int
    fast: float
    exact: float

    @property
    def change(self) -> float:
        return self.fast / self.exact - 1


def served(directory: Path, exact: bool) -> LoadedModel:
    settings = Settings(queue=4096, cpu_precision="exact" if exact else "fast")
    return load(directory, settings, memory=8 * 10**9)


def answers(model: LoadedModel, questions: Sequence[str]) -> list[list[int]]:
    """The greedy answer of each, in tokens."""
    found: dict[int, list[int]] = {}
    for number, question in enumerate(questions):
        prompt = model.tokenizer.encode(CHAT.format(question), special=False)
        greedy = Sampling(temperature=0)
        model.engine.submit(Request(id=number, tokens=prompt, max_tokens=160, sampling=greedy))
        found[number] = []
    for event in model.engine.run():
        if isinstance(event, Token):
            found[event.request] += event.tokens
    return [found[number] for number in range(len(questions))]


def perplexity(model: LoadedModel, pairs: Sequence[tuple[str, str]]) -> float:
    """Of the answers' tokens, each given its question."""
    asked: dict[int, int] = {}
    for number, (question, answer) in enumerate(pairs):
        prompt = model.tokenizer.encode(CHAT.format(question), special=False)
        tokens = prompt + model.tokenizer.encode(answer + "<|im_end|>", special=False)
        asked[number] = len(tokens) - len(prompt)
        model.engine.submit(Request(id=number, tokens=tokens, max_tokens=0, prompt_logprobs=0))
    scores: dict[int, list[float]] = {number: [] for number in asked}
    for event in model.engine.run():
        if isinstance(event, Token):
            scores[event.request] += [entry.logprob for entry in event.prompt]
    kept = [score for number, each in scores.items() for score in each[-asked[number] :]]
    return math.exp(-sum(kept) / len(kept))


def compare(directory: Path, most: int) -> Precision:
    known = entries()
    written = {entry.name: entry.answer for entry in known}
    unseen = held_out(known)
    questions = [entry.asked[0] for entry in known] + [question for question, _ in unseen]
    pairs = [(question, written[name]) for question, name in unseen][:most]
    fast, exact = (served(directory, exact) for exact in (False, True))
    both = list(zip(answers(fast, questions[:most]), answers(exact, questions[:most]), strict=True))
    same = sum(one == other for one, other in both)
    return Precision(same, len(both), perplexity(fast, pairs), perplexity(exact, pairs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=GUIDE)
    parser.add_argument("--questions", type=int, default=10_000, help="the most that are asked")
    options = parser.parse_args()
    print(f"CPU tier: {cpu_tier() or 'none'}")
    found = compare(options.model, options.questions)
    print(f"greedy answers the same: {found.same} of {found.compared}")
    print(
        f"perplexity of held-out answers: fast {found.fast:.5f}, exact {found.exact:.5f} "
        f"({found.change:+.3%})"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
