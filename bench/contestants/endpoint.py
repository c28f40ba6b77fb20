"""Any OpenAI-compatible URL as a contestant, measured by its streams."""

import json
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from bessemer.bench.compare.contest import About, Case, CaseFailed, Measure
from bessemer.bench.compare.report import LOCAL
from bessemer.bench.serving import lean
from bessemer.bench.serving.lean import Reply
from bessemer.bench.serving.serve import CHAT, body, first_model, load, prompt

TOKENS_PER_WORD = 2  # a prompt of so many words has at least so many tokens; usage says how many


@dataclass(slots=True)
class Endpoint:
    """A URL; its prompts are counted in tokens where the server says how many there were."""

    label: str
    url: str
    model: str = ""

    def start(self) -> About:
        try:
            self.model = self.model or first_model(self.url)
        except (OSError, HTTPException, ValueError, KeyError, IndexError) as error:
            raise CaseFailed(f"it does not list its models: {error}") from None
        return About(self.label, "not said", {"model": Path(self.model).name})

    def measure(self, case: Case, seed: int) -> Measure:
        if case.benchmark == "serve":
            return self._load(case, seed)
        if case.benchmark == "prefill":
            return self._prefill(case, seed)
        return self._generation(case, seed)

    def close(self) -> None:
        pass

    def _load(self, case: Case, seed: int) -> Measure:
        words, tokens = case.context, case.tokens
        row = load(self.url, self.model, case.streams, words, tokens, seed * 1000)
        if not row.tokens:
            raise CaseFailed(f"all of {row.errors} streams failed")
        values = {
            "speed": row.throughput,
            "ttft": row.ttft_p50,
            "ttft p95": row.ttft_p95,
            "gap": row.gap_p50,
            "gap p95": row.gap_p95,
        }
        if row.server_us is not None:
            values["cpu"] = row.server_us
        short = case.streams * tokens - row.tokens
        notes = [f"{row.errors} of {case.streams} failed"] if row.errors else []
        notes += [f"{short} tokens fewer than asked for"] if short > 0 else []
        return Measure(values, tuple(notes))

    def _prefill(self, case: Case, seed: int) -> Measure:
        reply = self.streams(max(case.tokens // TOKENS_PER_WORD, 1), 1, 1, seed)[0]
        count = reply.prompt_tokens or case.tokens
        note = f"a prompt of {count} tokens" if reply.prompt_tokens else "tokens estimated by words"
        return Measure({"speed": count / reply.ttft}, (note,))

    def _generation(self, case: Case, seed: int) -> Measure:
        """Measure from the moment at which every stream had begun to the first stream's end."""
        words = max(case.context // TOKENS_PER_WORD, 1)
        replies = self.streams(words, case.tokens + 1, case.streams, seed)
        began = max(reply.pieces[0] for reply in replies)
        ended = min(reply.pieces[-1] for reply in replies)
        events = sum(began < moment <= ended for reply in replies for moment in reply.pieces)
        if ended <= began or not events:
            raise CaseFailed("its streams do not overlap, so there is no speed of them together")
        pieces = sum(len(reply.pieces) for reply in replies)
        tokens = sum(reply.tokens or len(reply.pieces) for reply in replies)
        return Measure({"speed": events * (tokens / pieces) / (ended - began)})

    def streams(self, words: int, tokens: int, streams: int, seed: int) -> list[Reply]:
        texts = [prompt(seed * 1000 + number, words) for number in range(streams)]
        bodies = [body(self.model, text, tokens) for text in texts]
        try:
            replies = lean.streams(self.url, CHAT, bodies)
        except OSError as error:
            raise CaseFailed(str(error)) from None
        for reply in replies:
            if reply.error or not reply.pieces:
                raise CaseFailed(_said(reply))
        return replies


def _said(reply: Reply) -> str:
    """Return the server's own text, out of its JSON where it is in one."""
    try:
        error = json.loads(reply.error)["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        text = reply.error or "an answer without text"
    return f"status {reply.status}: {' '.join(text.split())[:200]}"


def label_of(url: str, number: int) -> str:
    """Return a label for a URL; it names no other machine, as reports are shown to others."""
    parts = urlsplit(url)
    return f"endpoint :{parts.port or 80}" if parts.hostname in LOCAL else f"endpoint {number}"
