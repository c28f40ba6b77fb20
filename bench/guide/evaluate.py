"""How often the built-in model answers exactly right, on wordings it was not trained on.

Run it as `python -m bessemer.bench.guide.evaluate` on the saved weights with PyTorch, or with
`--url http://127.0.0.1:8000` against a running Bessemer.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.request
from collections.abc import Callable

from bessemer.bench.guide.corpus import blind_questions, entries, free_questions, held_out
from bessemer.bench.guide.model import TorchGuide, require_torch

Answer = Callable[[str], str]
HELD_OUT_GOAL, FREE_GOAL = 0.90, 0.60


def http_answer(url: str, model: str) -> Answer:
    """Asks a server in the OpenAI dialect, greedily."""

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
    """The share of questions whose answer is reproduced exactly; prints the others if asked."""
    right = 0
    for question, name in questions:
        got = answer(question)
        right += got == answers[name]
        if show and got != answers[name]:
            print(f"  [{name}] {question}\n      {got}")
    return right / len(questions)


def evaluate(answer: Answer, show: bool = False) -> bool:
    """Print each figure; whether the goals are met: held-out wordings, free paraphrases."""
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


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a running server; without it PyTorch runs the saved weights")
    parser.add_argument("--model", default="bessemer-guide", help="the model's name on that server")
    parser.add_argument("--show", action="store_true", help="print every answer that is not exact")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads")
    options = parser.parse_args()
    if options.url:
        answer = http_answer(options.url, options.model)
    else:
        require_torch().set_num_threads(options.threads)
        answer = TorchGuide()
    return int(not evaluate(answer, options.show))


if __name__ == "__main__":
    raise SystemExit(main())
