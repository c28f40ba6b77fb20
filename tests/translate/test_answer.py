"""Tests from a request to an answer's events; the model follows a script: no loop, no socket."""

from collections.abc import Callable, Iterable
from itertools import count

import pytest

from bessemer.engine.request import (
    Event,
    GenerationDefaults,
    Refusal,
    Refused,
    Request,
    Sampling,
    Started,
    Token,
    TokenLogprobs,
)
from bessemer.engine.text.loading import load_tokenizer
from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.http.hub import BUILT_IN
from bessemer.translate.answer import AnswerStream, Bounds
from bessemer.translate.chat import (
    AnswerStarted,
    Chat,
    Completion,
    Finish,
    GenerateRequest,
    GenerationOptions,
    Message,
    ReasoningDelta,
    TextDelta,
    Usage,
    said,
)
from bessemer.translate.chat import Event as Said
from bessemer.translate.parsers.formats import choose
from bessemer.translate.renderer import Renderer
from bessemer.translate.template import ChatTemplate, pick

TOKENIZER: Tokenizer = load_tokenizer(BUILT_IN)
SOURCE = pick(TOKENIZER.chat_template or "")
TEMPLATE = ChatTemplate(SOURCE, special_tokens=TOKENIZER.special_tokens)
RENDERER = Renderer(TOKENIZER, TEMPLATE, choose(SOURCE or "", ()))
HELLO = (Message("user", said("Hello")),)
Script = Callable[[list[Request]], Iterable[Event]]


def stream(
    request: GenerateRequest,
    defaults: GenerationDefaults = GenerationDefaults(),  # noqa: B008
    seed: int = 0,
) -> AnswerStream:
    prompts, bounds = RENDERER.prompts(request, 200), Bounds(200, 50, defaults)
    numbers = count(1)
    return AnswerStream(request, prompts, TOKENIZER, bounds, lambda: next(numbers), seed)


def says(text: str, finish: str = "stop") -> Script:
    """Answer every request with this text, a token a step."""

    def script(requests: list[Request]) -> Iterable[Event]:
        tokens = TOKENIZER.encode(text, special=False)
        for request in requests:
            yield Started(request.id, 32)
        for at, token in enumerate(tokens):
            for request in requests:
                yield Token(request.id, [token], finish if at == len(tokens) - 1 else None)

    return script


def events(script: Script, request: GenerateRequest) -> list[Said]:
    answer = stream(request)
    answered = [each for event in script(answer.requests) for each in answer.take(event)]
    assert answer.over
    return answered


def text(answered: list[Said], choice: int = 0) -> str:
    return "".join(e.text for e in answered if isinstance(e, TextDelta) and e.choice == choice)


def test_started_first_then_text_and_finish_and_usage() -> None:
    answer = stream(Chat("m", HELLO))
    answered = [
        each for event in says("Hello there")(answer.requests) for each in answer.take(event)
    ]
    prompt = len(answer.requests[0].tokens)
    assert answered[0] == AnswerStarted(Usage(prompt, 0, 32))
    assert text(answered) == "Hello there" and answered[-1] == Finish(0, "stop")
    completion = len(TOKENIZER.encode("Hello there", special=False))
    assert answer.usage == Usage(prompt, completion, 32)


def test_what_is_not_asked_for_comes_from_the_models_defaults() -> None:
    sampling = Sampling(temperature=0.6, top_k=20, repetition_penalty=1.1)
    defaults = GenerationDefaults(sampling=sampling)
    chat = Chat("m", HELLO, GenerationOptions(temperature=0.0, max_tokens=5))
    (request,) = stream(chat, defaults, seed=7).requests
    assert request.sampling == Sampling(temperature=0, top_k=20, repetition_penalty=1.1, seed=7)


def test_a_request_names_its_client_and_carries_what_ends_it() -> None:
    options = GenerationOptions(
        stop=("END",), stop_token_ids=(5,), min_tokens=2, ignore_eos=True, logprobs=3
    )
    for generate in (
        Chat("m", HELLO, options, client="c"),
        Completion("m", ("a",), options, client="c"),
    ):
        (request,) = stream(generate).requests
        assert (request.client, request.stop, request.stop_token_ids) == ("c", ["END"], [5])
        assert (request.min_tokens, request.ignore_eos, request.logprobs) == (2, True, 3)


def test_an_answer_is_cut_to_the_cap_and_to_the_context() -> None:
    for cap, oracle in ((None, 50), (10, 10), (10_000, 50)):
        (request,) = stream(Chat("m", HELLO, GenerationOptions(max_tokens=cap))).requests
        assert request.max_tokens == oracle
    ids = tuple([300] * 190)
    (request,) = stream(Completion("m", (ids,), GenerationOptions(max_tokens=40))).requests
    assert request.max_tokens == 10


def lengths(options: GenerationOptions, prompt: int, **settings: int) -> tuple[int, int]:
    """Return the least and the most tokens of an answer, of a context of 200 and a cap of 50."""
    completion = Completion("m", (tuple([300] * prompt),), options)
    (request,) = stream(completion, GenerationDefaults(**settings)).requests  # type: ignore[arg-type]
    return request.min_tokens, request.max_tokens


def test_lengths_that_a_request_leaves_open_are_the_models() -> None:
    open, said = GenerationOptions(), GenerationOptions(min_tokens=2, max_tokens=30)
    assert lengths(open, 9, max_tokens=7, min_tokens=3) == (3, 7)
    assert lengths(said, 9, max_tokens=7, min_tokens=3) == (2, 30)  # a default, no cap
    assert lengths(open, 9, max_tokens=70) == (0, 50)
    assert lengths(open, 9, max_length=19, min_length=12) == (3, 10)
    assert lengths(open, 9, max_length=19, max_tokens=20, min_length=12, min_tokens=1) == (1, 20)
    assert lengths(open, 12, max_length=12, min_length=12) == (0, 50)  # nothing is left to say
    # The model's wish for a long answer is no cause to refuse a short one.
    assert lengths(GenerationOptions(max_tokens=4), 9, min_tokens=6) == (4, 4)
    assert lengths(open, 195, min_tokens=40) == (5, 5)


def test_an_answer_ends_at_the_models_own_stop_strings_as_at_its_end() -> None:
    """The matchers of server and worker look for the same strings; a client's is told to it."""
    defaults = GenerationDefaults(stop=["there", "END"])
    for own, oracle in (((), None), (("there",), "there"), (("xx", "END"), None)):
        chat = Chat("m", HELLO, GenerationOptions(stop=own))
        answer = stream(chat, defaults)
        (request,) = answer.requests
        assert request.stop == list(dict.fromkeys([*own, "there", "END"]))
        tokens = TOKENIZER.encode("Hello there, you", special=False)
        answered = []
        text_of = TOKENIZER.answer_text(request)
        for token in tokens:
            text_of.add(token)
            stop, finish = text_of.stop, "stop" if text_of.stop else None
            answered += answer.take(Token(request.id, [token], finish, stop))
            if finish:
                break
        assert answer.over and text(answered) == "Hello "
        assert answered[-1] == Finish(0, "stop", oracle)


def test_stop_strings_count_after_the_models_own_fewest_tokens() -> None:
    defaults = GenerationDefaults(stop=["l"], min_tokens=40)
    answer = stream(Chat("m", HELLO), defaults)
    answered = [each for e in says("Hello there")(answer.requests) for each in answer.take(e)]
    assert answer.requests[0].min_tokens == 40 and text(answered) == "Hello there"


def test_choices_have_seeds_of_their_own() -> None:
    request = Completion("m", ("a", "b"), GenerationOptions(n=2))
    answer = stream(request, seed=2**64 - 1)
    assert [r.sampling.seed for r in answer.requests] == [2**64 - 1, 0, 1, 2]
    answered = events(says("Hi"), request)
    assert [text(answered, choice) for choice in range(4)] == ["Hi"] * 4
    assert answer.usage.prompt == sum(len(TOKENIZER.encode(p)) for p in "ab")


def test_a_refusal_is_raised_before_the_first_event_and_after() -> None:
    for before in ([], [Started(1, 0), Token(1, [300])]):
        answer = stream(Chat("m", HELLO))
        for event in before:
            list(answer.take(event))
        with pytest.raises(Refusal) as caught:
            list(answer.take(Refused(1, 503, "worker_died", "gone")))
        assert (caught.value.status, caught.value.code) == (503, "worker_died")


def test_hidden_tokens_and_what_stop_strings_cut_are_not_shown() -> None:
    def script(requests: list[Request]) -> Iterable[Event]:
        (request,) = requests
        yield Started(request.id, 0)
        for token in TOKENIZER.encode("one two STOP", special=False):
            yield Token(request.id, [token])
        yield Token(request.id, [300], "stop", None, hidden=1)

    request = Completion("m", ("a",), GenerationOptions(stop=(" two",)))
    assert text(events(script, request)) == "one"
    assert text(events(script, Completion("m", ("a",)))) == "one two STOP"


def test_a_thought_is_reasoning_in_a_chat_and_text_in_a_completion() -> None:
    script = says("<think>Hm.</think>Hi")
    answered = events(script, Chat("m", HELLO))
    assert "".join(e.text for e in answered if isinstance(e, ReasoningDelta)) == "Hm."
    assert text(answered) == "Hi"
    assert text(events(script, Completion("m", ("a",)))) == "<think>Hm.</think>Hi"


def test_echo_with_logprobs_shows_every_prompt_token_once() -> None:
    def script(requests: list[Request]) -> Iterable[Event]:
        (request,) = requests
        yield Started(request.id, 0)
        entries = [TokenLogprobs(token, -1.0) for token in request.tokens[1:]]
        yield Token(request.id, [], prompt=entries[:2])
        yield Token(
            request.id, [301], "length", logprobs=[TokenLogprobs(301, -2.0)], prompt=entries[2:]
        )

    prompt = "naïve 東京 café"
    answered = events(script, Completion("m", (prompt,), GenerationOptions(logprobs=0), echo=True))
    tokens = [t for e in answered if isinstance(e, TextDelta) for t in e.tokens]
    assert text(answered) == prompt + TOKENIZER.decode([301])
    count_ = len(TOKENIZER.encode(prompt))
    assert [t.logprob for t in tokens] == [None] + [-1.0] * (count_ - 1) + [-2]
    assert b"".join(t.raw for t in tokens[:-1]).decode() == prompt
