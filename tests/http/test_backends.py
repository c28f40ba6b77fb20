"""Tests of which model answers to a name."""

from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.backends import Backends


def test_names_exact_first_then_the_last_part() -> None:
    first: Any = object()
    second: Any = object()
    backends = Backends({"org/Qwen3": first, "qwen3": second, "other/Llama": first})
    assert backends.find("org/Qwen3") is first and backends.find("qwen3") is second
    assert backends.find("LLAMA") is first and backends.find("x/llama") is first
    for unknown in ("QWEN3", "none", ""):
        with pytest.raises(Refusal) as caught:
            backends.find(unknown)
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")
