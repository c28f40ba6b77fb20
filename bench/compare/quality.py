"""The quality of an endpoint: structured output, reasoning apart from content, coherent text.

Any OpenAI-compatible URL is first; what it refuses is counted as refused, not as passed.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from bessemer.bench.compare.contest import CaseFailed, Metric

FILE = Path(__file__).with_name("quality.toml")
METRIC = Metric("passed", "", digits=0)
SECONDS = 300.0
TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
}
REPEATED = 0.5  # of all words: above this share of one run of three, a text turns in circles


@dataclass(frozen=True, slots=True)
class AnswerVerdict:
    """The verdict on one answer: passed, failed or refused, and why."""

    result: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class QualityScore:
    name: str
    verdicts: Sequence[AnswerVerdict]

    @property
    def passed(self) -> int:
        return sum(verdict.result == "passed" for verdict in self.verdicts)

    @property
    def shown(self) -> str:
        counts = Counter(verdict.result for verdict in self.verdicts)
        refused = f", {counts['refused']} refused" if counts["refused"] else ""
        return f"{self.passed}/{len(self.verdicts)}{refused}"

    @property
    def reasons(self) -> list[str]:
        """The reasons, each once, with its result."""
        counts = Counter(
            f"{verdict.result}: {verdict.reason}" for verdict in self.verdicts if verdict.reason
        )
        return [f"{text} ({count} times)" if count > 1 else text for text, count in counts.items()]


def scores(url: str, model: str = "") -> Iterator[QualityScore]:
    """Ask all questions. Raises CaseFailed if nobody answers there."""
    names = [model] if model else models(url)
    first = names[0]
    questions = tomllib.loads(FILE.read_text(encoding="utf-8"))
    yield QualityScore(
        "structured output", [structured(url, first, q) for q in questions["structured"]]
    )
    yield QualityScore(
        "reasoning", [reasoned(url, first, q["ask"]) for q in questions["reasoning"]]
    )
    yield QualityScore("coherence", [coherent(url, name, questions["coherence"]) for name in names])


def models(url: str) -> list[str]:
    try:
        with urlopen(f"{url.rstrip('/')}/v1/models", timeout=30) as response:
            names = [str(each["id"]) for each in json.load(response)["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaseFailed(f"it does not list its models: {error}") from None
    if not names:
        raise CaseFailed("it lists no model")
    return names


def structured(url: str, model: str, question: Mapping[str, Any]) -> AnswerVerdict:
    schema = json.loads(question["schema"])
    response_schema = {"name": question["name"], "strict": True, "schema": schema}
    answer = ask(
        url,
        model,
        question["ask"],
        response_format={"type": "json_schema", "json_schema": response_schema},
    )
    if isinstance(answer, AnswerVerdict):
        return answer
    try:
        value = json.loads(answer.get("content") or "")
    except ValueError:
        return AnswerVerdict("failed", "the answer is no JSON")
    fault = violation(value, schema)
    return AnswerVerdict("failed", fault) if fault else AnswerVerdict("passed")


def reasoned(url: str, model: str, text: str) -> AnswerVerdict:
    answer = ask(url, model, text)
    if isinstance(answer, AnswerVerdict):
        return answer
    content = answer.get("content") or ""
    reasoning = answer.get("reasoning_content") or answer.get("reasoning") or ""
    if content.lstrip().startswith("<think>") or "</think>" in content:
        return AnswerVerdict("failed", "the reasoning is left in the content")
    if not reasoning.strip():
        return AnswerVerdict("failed", "no reasoning_content")
    if not content.strip():
        return AnswerVerdict("failed", "no content beside the reasoning")
    return AnswerVerdict("passed")


def coherent(url: str, model: str, text: str) -> AnswerVerdict:
    answer = ask(url, model, text)
    if isinstance(answer, AnswerVerdict):
        return answer
    fault = incoherence(f"{answer.get('reasoning_content') or ''}{answer.get('content') or ''}")
    return AnswerVerdict("failed", f"{model}: {fault}") if fault else AnswerVerdict("passed")


def incoherence(text: str) -> str:
    """Say what is wrong with a text on sight; empty if nothing is."""
    words = text.split()
    if not words:
        return "an empty answer"
    if "\ufffd" in text or any(not (c.isprintable() or c in "\n\t\r") for c in text):
        return "characters that cannot be printed"
    threes = Counter(zip(words, words[1:], words[2:], strict=False))
    count = max(threes.values(), default=0)
    if count > 2 and 3 * count > REPEATED * len(words):
        return "the same words again and again"
    return ""


def ask(url: str, model: str, text: str, **fields: Any) -> "dict[str, Any] | AnswerVerdict":
    """Return the answer's message, or the verdict on not getting one."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 512,
        "temperature": 0,
        **fields,
    }
    request = Request(
        f"{url.rstrip('/')}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urlopen(request, timeout=SECONDS) as response:
            message = json.load(response)["choices"][0]["message"]
            return dict(message)
    except HTTPError as error:
        reason = _message(error.read())
        return AnswerVerdict("refused" if 400 <= error.code < 500 else "failed", reason)
    except (URLError, OSError) as error:
        return AnswerVerdict("failed", f"no answer: {error}")
    except (ValueError, KeyError, IndexError, TypeError):
        return AnswerVerdict("failed", "an answer that is no chat completion")


def _message(body: bytes) -> str:
    try:
        error = json.loads(body)["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        text = body.decode("utf-8", "replace")
    return " ".join(str(text).split())[:200]


def violation(value: Any, schema: Mapping[str, Any], at: str = "the answer") -> str:
    """Say where a value breaks its schema; it knows the keywords that quality.toml uses."""
    kind = schema.get("type")
    if kind and not _is(value, kind):
        return f"{at} is no {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{at} is none of the values allowed"
    checks: Mapping[type, Callable[[Any, Mapping[str, Any], str], Iterator[str]]] = {
        dict: _object,
        list: _array,
        str: _string,
    }
    if type(value) in checks:
        return next(checks[type(value)](value, schema, at), "")
    return next(_number(value, schema, at), "")


def _is(value: Any, kind: str) -> bool:
    if kind in ("number", "integer"):
        integral = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        fits = integral if kind == "integer" else isinstance(value, int | float)
        return fits and not isinstance(value, bool)
    return isinstance(value, TYPES[kind])


def _object(value: dict[str, Any], schema: Mapping[str, Any], at: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at} lacks {name}"
    for name, each in value.items():
        if name in known:
            if fault := violation(each, known[name], name):
                yield fault
        elif schema.get("additionalProperties") is False:
            yield f"{at} has {name}, which is not allowed"


def _array(value: list[Any], schema: Mapping[str, Any], at: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{at} has {len(value)} items"
    for each in value:
        if "items" in schema and (fault := violation(each, schema["items"], f"an item of {at}")):
            yield fault


def _string(value: str, schema: Mapping[str, Any], at: str) -> Iterator[str]:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{at} has {len(value)} characters"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at} does not match its pattern"


def _number(value: Any, schema: Mapping[str, Any], at: str) -> Iterator[str]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{at} is {value}, out of its range"
