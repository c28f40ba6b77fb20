"""The share of exactly right answers of the built-in model, on wordings it was not trained on.

Without --url the saved weights are run with PyTorch.
"""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Annotated

from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.guide.corpus import blind_questions, entries, free_questions, held_out
from bessemer.bench.guide.model import TorchGuide, require_torch

Answer = Callable[[str], str]
HELD_OUT_GOAL, FREE_GOAL = 0.90, 0.60


def http_answer(url: str, model: str) -> Answer:
    """Return how a server answers in the OpenAI dialect, greedily."""

    def answer(question: str) -> str:
        message = {"role": "user", "content": question}
        body = {"model": model, "messages": [message], "temperature": 0, "max_tokens": 160}
        request = urllib.request.Request(
            url.rstrip("/") + "/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer none"},
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            return str(json.load(response)["choices"][0]["message"]["content"])

    return answer


def share_right(
    answer: Answer, questions: list[tuple[str, str]], answers: dict[str, str], show: bool
) -> float:
    """Return the share of questions answered exactly as written; `show` prints the others."""
    right = 0
    for question, name in questions:
        text = answer(question)
        right += text == answers[name]
        if show and text != answers[name]:
            print(f"  [{name}] {question}\n      {text}")
    return right / len(questions)


def evaluate(answer: Answer, show: bool = False) -> bool:
    """Print each figure; return whether held-out wordings and free paraphrases meet their goals."""
    known = entries()
    answers = {entry.name: entry.answer for entry in known}
    met = True
    for title, questions, goal in (
        ("held-out wordings", held_out(known), HELD_OUT_GOAL),
        ("free paraphrases", free_questions(), FREE_GOAL),
        ("blind questions", blind_questions(known), 0.0),
    ):
        began = time.monotonic()
        figure = share_right(answer, questions, answers, show)
        took = time.monotonic() - began
        verdict = f"goal {goal:.0%}, {'met' if figure >= goal else 'MISSED'}" if goal else "no goal"
        text = f"{title}: {figure:.1%} of {len(questions)} exact ({verdict}; {took:.0f} s)"
        print(text, flush=True)
        met = met and figure >= goal
    return met


@command(__doc__)
def main(
    url: Annotated[str, Option(help="A running server.")] = "",
    model: Annotated[str, Option(help="The model's name on that server.")] = "bessemer-guide",
    show: Annotated[bool, Option("--show", help="Print every answer that is not exact.")] = False,
    threads: Annotated[int, Option(help="PyTorch threads.")] = 1,
) -> int:
    if url:
        answer = http_answer(url, model)
    else:
        require_torch().set_num_threads(threads)
        answer = TorchGuide()
    return 0 if evaluate(answer, show) else FAILED


if __name__ == "__main__":
    raise SystemExit(main())
