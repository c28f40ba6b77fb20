"""Tests of what every dialect of the server keeps to, whole and streamed."""

import json

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.endpoints import DIALECTS
from bessemer.translate.chat import Event, Failure, GenerationOptions, Identity
from bessemer.translate.dialect import COMMENT, Dialect, ServerEvent
from bessemer.translate.output import Collector
from tests.http import toy

WHO = Identity("x-1", 1_700_000_000, "tiny")
every_dialect = pytest.mark.parametrize(
    "dialect", [*DIALECTS.values(), toy.DIALECT], ids=lambda dialect: dialect.prefix
)


def sent(dialect: Dialect, *events: Event) -> list[ServerEvent]:
    stream = dialect.stream(WHO, GenerationOptions())
    return [each for event in events for each in stream.encode(event)]


@every_dialect
def test_a_stream_says_what_the_whole_answer_says(dialect: Dialect) -> None:
    collector = Collector(1)
    for event in toy.TEXT:
        collector.add(event)
    answer = json.loads(dialect.encode_response(collector.answer(), WHO))
    streamed = sent(dialect, *toy.TEXT)
    assert not any(b"\n" in each.data for each in streamed)
    text = b"".join(each.data for each in streamed if not each.mark)
    assert b"Hello " in text and b"there" in text and "Hello there" in json.dumps(answer)
    assert "tiny" in json.dumps(answer) and b"tiny" in text


@every_dialect
def test_only_the_last_event_may_be_a_mark(dialect: Dialect) -> None:
    assert not any(each.mark for each in sent(dialect, *toy.TEXT)[:-1])


@every_dialect
def test_no_event_that_says_something_is_a_comment(dialect: Dialect) -> None:
    assert not any(each.comment for each in sent(dialect, *toy.TEXT))
    assert COMMENT.comment and not COMMENT.data


@every_dialect
def test_a_failure_is_the_error_of_the_dialect(dialect: Dialect) -> None:
    refusal = Refusal(503, "overloaded", "Later.")
    (event,) = sent(dialect, toy.TEXT[0], Failure(refusal))[-1:]
    assert event.data == dialect.encode_error(refusal, None)


def test_prefixes_tell_dialects_apart() -> None:
    assert len({dialect.prefix for dialect in DIALECTS.values()}) == len(DIALECTS)
    assert [path for path, dialect in DIALECTS.items() if dialect.count] == ["/v1/messages"]
