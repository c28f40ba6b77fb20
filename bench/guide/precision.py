"""The cost of activations in 8 bits for the built-in model: its answers, and its perplexity.

Greedy answers of `fast` and of `exact` are compared token by token over the questions the model was
made for and the held-out wordings; perplexity is that of the held-out questions' written answers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from bessemer.bench.command import command
from bessemer.bench.compare.machine import cpu_tier
from bessemer.bench.guide.corpus import entries, held_out
from bessemer.engine.request import Request, Sampling, Token
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import Settings

GUIDE = Path(__file__).parents[2] / "engine" / "guide"
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class Precision:
    """The number of `compared` greedy answers that are the same, and both perplexities."""

    same: int
    compared: int
    fast: float
    exact: float

    @property
    def change(self) -> float:
        return self.fast / self.exact - 1


def load_served(directory: Path, exact: bool) -> LoadedModel:
    settings = Settings(queue=4096, cpu_precision="exact" if exact else "fast")
    return load(directory, settings, memory=8 * 10**9)


def answers(model: LoadedModel, questions: Sequence[str]) -> list[list[int]]:
    """Return the greedy answer to each question, in tokens."""
    tokens: dict[int, list[int]] = {}
    for number, question in enumerate(questions):
        prompt = model.tokenizer.encode(CHAT.format(question), special=False)
        greedy = Sampling(temperature=0)
        model.engine.submit(Request(id=number, tokens=prompt, max_tokens=160, sampling=greedy))
        tokens[number] = []
    for event in model.engine.run():
        if isinstance(event, Token):
            tokens[event.request] += event.tokens
    return [tokens[number] for number in range(len(questions))]


def perplexity(model: LoadedModel, pairs: Sequence[tuple[str, str]]) -> float:
    """Return the perplexity of the answers' tokens after their questions."""
    lengths: dict[int, int] = {}
    for number, (question, answer) in enumerate(pairs):
        prompt = model.tokenizer.encode(CHAT.format(question), special=False)
        tokens = prompt + model.tokenizer.encode(answer + "<|im_end|>", special=False)
        lengths[number] = len(tokens) - len(prompt)
        model.engine.submit(Request(id=number, tokens=tokens, max_tokens=0, prompt_logprobs=0))
    scores: dict[int, list[float]] = {number: [] for number in lengths}
    for event in model.engine.run():
        if isinstance(event, Token):
            scores[event.request] += [entry.logprob for entry in event.prompt]
    answers = [score for number, each in scores.items() for score in each[-lengths[number] :]]
    return math.exp(-sum(answers) / len(answers))


def compare(directory: Path, limit: int) -> Precision:
    """Ask a model at most so many questions in either precision."""
    known = entries()
    written = {entry.name: entry.answer for entry in known}
    unseen = held_out(known)
    questions = [entry.questions[0] for entry in known] + [question for question, _ in unseen]
    pairs = [(question, written[name]) for question, name in unseen][:limit]
    fast, exact = (load_served(directory, exact) for exact in (False, True))
    by_precision = (answers(model, questions[:limit]) for model in (fast, exact))
    both = list(zip(*by_precision, strict=True))
    same = sum(one == other for one, other in both)
    return Precision(same, len(both), perplexity(fast, pairs), perplexity(exact, pairs))


@command(__doc__)
def main(
    model: Annotated[Path, Option(show_default="the built-in one", help="A directory.")] = GUIDE,
    questions: Annotated[int, Option(help="The most that are asked.")] = 10_000,
) -> int:
    print(f"CPU tier: {cpu_tier() or 'none'}")
    both = compare(model, questions)
    print(f"greedy answers the same: {both.same} of {both.compared}")
    print(
        f"perplexity of held-out answers: fast {both.fast:.5f}, exact {both.exact:.5f} "
        f"({both.change:+.3%})"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
