"""Tests of `bessemer serve` with its Metal path in the simulator: a real server, real requests."""

from typing import Any

from tests.http.running import Server, serving


def ask(server: Server, question: str) -> Any:
    body = {
        "model": "bessemer-guide",
        "temperature": 0,
        "max_tokens": 10,
        "logprobs": True,
        "messages": [{"role": "user", "content": question}],
    }
    status, answer, _ = server.ask("POST", "/v1/chat/completions", body)
    assert status == 200, answer
    return answer["choices"][0]


def test_a_served_answer_is_the_same_in_the_simulator() -> None:
    question = "How do I serve a model?"
    with serving("--cpu-precision", "exact") as server:
        first = ask(server, question)
    with serving(BESSEMER_METAL="simulator") as server:
        again = ask(server, question)
    assert again["message"]["content"] == first["message"]["content"] != ""
    scores = [
        [token["logprob"] for token in each["logprobs"]["content"]] for each in (first, again)
    ]
    assert max(abs(a - b) for a, b in zip(*scores, strict=True)) < 0.05
    assert scores[0] != scores[1]  # or it was not another path at all
