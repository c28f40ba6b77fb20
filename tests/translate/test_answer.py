"""Tests from a request to an answer's events; the model follows a script: no loop, no socket."""

from collections.abc import Callable, Iterable
from dataclasses import replace
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
    Thought,
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
    Done,
    Finish,
    GenerateRequest,
    GenerationOptions,
    Message,
    Progress,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    Usage,
)
from bessemer.translate.chat import Event as Said
from bessemer.translate.output import Collector
from bessemer.translate.parsers.formats import choose
from bessemer.translate.parts import said
from bessemer.translate.renderer import Prompt, Renderer
from bessemer.translate.template import ChatTemplate
from bessemer.translate.template_source import pick
from tests.engine.text.tiny_tokenizers import make_tokenizer, sentencepiece
from tests.translate.prompting import Prompter

TOKENIZER: Tokenizer = load_tokenizer(BUILT_IN)
VOCABULARY = TOKENIZER.encoding.get_vocab_size()
SOURCE = pick(TOKENIZER.chat_template or "")
TEMPLATE = ChatTemplate(SOURCE, special_tokens=TOKENIZER.special_tokens)
RENDERER = Renderer(TOKENIZER, choose(SOURCE or "", ()), SOURCE or "")
HELLO = (Message("user", said("Hello")),)
Script = Callable[[list[Request]], Iterable[Event]]


def prompts_of(request: GenerateRequest, context: int = 200) -> list[Prompt]:
    return Prompter(RENDERER, TEMPLATE).prompts(request, context, VOCABULARY)


def stream(
    request: GenerateRequest,
    defaults: GenerationDefaults = GenerationDefaults(),  # noqa: B008
    seed: int = 0,
) -> AnswerStream:
    prompts, bounds = prompts_of(request), Bounds(200, 50, defaults, VOCABULARY)
    numbers = count(1)
    return AnswerStream(request, prompts, TOKENIZER, bounds, lambda: next(numbers), seed, float)


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
    usual = GenerationOptions(usual_max_tokens=16)
    assert lengths(usual, 9) == (0, 16)
    assert lengths(usual, 9, max_tokens=20) == (0, 20)
    assert lengths(usual, 9, max_length=12) == (0, 3)
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


def seeds(request: GenerateRequest, seed: int = 0) -> list[int]:
    return [each.sampling.seed for each in stream(request, seed=seed).requests]


def test_a_chosen_seed_belongs_to_the_prompt_wherever_it_stands() -> None:
    options = GenerationOptions(n=2, seed=7)
    assert seeds(Completion("m", ("a", "b", "a"), options), 7) == [7, 8] * 3
    assert seeds(Completion("m", ("b",), options), 7) == [7, 8]
    assert seeds(Chat("m", HELLO, GenerationOptions(n=3, seed=2**64 - 1)), 2**64 - 1) == [
        *(2**64 - 1, 0, 1)
    ]


def test_without_a_seed_no_two_answers_have_the_same() -> None:
    assert len(set(seeds(Completion("m", ("a", "a", "a"), GenerationOptions(n=2))))) == 6


def test_what_a_request_says_of_tokens_reaches_the_engine() -> None:
    options = GenerationOptions(
        allowed_token_ids=(5, 7), bad_words=("Hi",), stop_token_ids=(3, 10**6), cache_salt="s"
    )
    for generate in (Chat("m", HELLO, options), Completion("m", ("a",), options)):
        (request,) = stream(generate).requests
        assert (request.allowed_token_ids, request.salt) == ((5, 7), "s")
        assert request.bad_words[0] == TOKENIZER.encode("Hi", special=False)
        assert request.stop_token_ids == [3]  # what the model does not have never comes
    (request,) = stream(Chat("m", HELLO)).requests
    assert (request.allowed_token_ids, request.bad_words, request.salt) == (None, [], "")


def test_the_first_event_says_how_many_choices_there_are() -> None:
    request = Completion("m", ("a", "b"), GenerationOptions(n=3))
    assert events(says("Hi"), request)[0] == AnswerStarted(Usage(2, 0, 32), 6)


def scored(requests: list[Request]) -> Iterable[Event]:
    """Answer with the log probabilities that a request asks for, and nothing else."""
    for request in requests:
        yield Started(request.id, 0)
    for request in requests:
        top = request.prompt_logprobs
        entries = [
            TokenLogprobs(token, -1.0, [(300, -0.5), (token, -1.0), (301, -2.0)][:top], 2)
            for token in (request.tokens[1:] if top is not None else ())
        ]
        yield Token(request.id, [], prompt=entries[:1])
        yield Token(request.id, [], "length", prompt=entries[1:])


def test_a_prompt_is_scored_once_for_all_its_choices() -> None:
    options = GenerationOptions(n=2, max_tokens=0, prompt_logprobs=2)
    request = Completion("m", ("naïve", "b"), options)
    answer = stream(request)
    assert [each.prompt_logprobs for each in answer.requests] == [2, None, 2, None]
    collector = Collector(4)
    for event in scored(answer.requests):
        for each in answer.take(event):
            collector.add(each)
    collector.add(Done(answer.usage))
    first, second, third, fourth = (choice.prompt for choice in collector.answer().choices)
    assert first == second and third == fourth == ((),)
    ids = TOKENIZER.encode("naïve")
    assert len(first) == len(ids) and first[0] == ()
    for at, token in enumerate(ids[1:], 1):
        assert [(t.token, t.logprob, t.rank) for t in first[at]] == [
            (token, -1.0, 2),
            (300, -0.5, 1),
        ]


@pytest.mark.parametrize(("logprobs", "tops"), [(None, None), (0, 0), (3, 3)])
def test_a_prompt_is_scored_and_echoed_each_as_asked(
    logprobs: int | None, tops: int | None
) -> None:
    options = GenerationOptions(max_tokens=0, logprobs=logprobs, prompt_logprobs=1)
    answered = events(scored, Completion("m", ("naïve",), options, echo=True))
    assert text(answered) == "naïve"
    shown = [t for e in answered if isinstance(e, TextDelta) for t in e.tokens]
    assert [len(t.top) for t in shown[1:]] == [tops] * (len(shown) - 1) if shown else tops is None
    ranked = [t for e in answered if isinstance(e, PromptLogprobs) for t in e.tokens]
    assert [len(tokens) for tokens in ranked] == [0] + [2] * (len(ranked) - 1)


def test_the_usage_so_far_comes_before_what_it_counts_where_asked_for() -> None:
    request = Chat("m", HELLO, GenerationOptions(continuous_usage=True))
    counts = [
        e.usage.completion for e in events(says("Hello there"), request) if type(e) is Progress
    ]
    assert counts == list(range(1, len(TOKENIZER.encode("Hello there", special=False)) + 1))
    assert not any(type(e) is Progress for e in events(says("Hello there"), Chat("m", HELLO)))


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


def test_a_stop_string_that_the_client_did_not_send_is_an_ordinary_end() -> None:
    def script(requests: list[Request]) -> Iterable[Event]:
        (request,) = requests
        yield Started(request.id, 0)
        yield Token(request.id, [300], "stop", "STOP")

    for options, stop in ((GenerationOptions(), None), (GenerationOptions(stop=("STOP",)), "STOP")):
        answered = events(script, Completion("m", ("a",), options))
        assert answered[-1] == Finish(0, "stop", stop)


def test_a_request_says_how_its_answer_is_read() -> None:
    options = GenerationOptions(stop_in_reasoning=True, skip_special_tokens=False)
    final = (*HELLO, Message("assistant", said("<think>Hm")))
    chats = [
        (Completion("m", ("a",), options), True, None),
        (Completion("m", ((300,),), options), True, None),
        (Chat("m", HELLO, options), False, Thought("<think>", "</think>")),
        (Chat("m", final, continue_final=True), True, Thought("<think>", "</think>", "thought")),
    ]
    for generate, goes_on, marks in chats:
        (request,) = stream(generate).requests
        assert (request.goes_on, request.thought) == (goes_on, marks)
        asked = request.stop_in_reasoning, not request.skip_special_tokens
        assert asked == (generate.options is options,) * 2


@pytest.mark.parametrize("tokenizer", [TOKENIZER, make_tokenizer(sentencepiece())])
@pytest.mark.parametrize("stop", [(), ("!",)])
def test_padded_ids_have_no_text_and_break_nothing(
    tokenizer: Tokenizer, stop: tuple[str, ...]
) -> None:
    """A model's vocabulary may be padded: such ids are drawn, echoed and among the likeliest."""
    padded = tokenizer.encoding.get_vocab_size() + 7
    hello = tokenizer.encode("Hello", special=False)
    ids, options = (padded, hello[0]), GenerationOptions(logprobs=2, stop=stop)
    renderer = Renderer(tokenizer, RENDERER.format)
    request = Completion("m", (ids,), options, echo=True)
    prompts = renderer.prompts(request, 200, padded + 1)
    bounds = Bounds(200, 50, GenerationDefaults(), padded + 1)
    answer = AnswerStream(request, prompts, tokenizer, bounds, count(1).__next__, 0, float)
    shown = [TokenLogprobs(token, -1.0, [(padded, -1.0), (token, -2.0)]) for token in hello]
    middle = TokenLogprobs(padded, -0.5, [(padded, -0.5), (hello[0], -1.0)])
    entry = TokenLogprobs(ids[1], -2.0, [(padded, -1.0)])
    tokens = [*hello, padded]
    sent = [
        Started(1, 0),
        Token(1, tokens, logprobs=[*shown, middle], prompt=[entry]),
        Token(1, [padded], "length", logprobs=[middle]),
    ]
    answered = [each for event in sent for each in answer.take(event)]
    assert answer.over and text(answered).endswith("Hello")
    entries = [entry for e in answered if isinstance(e, TextDelta) for entry in e.tokens]
    assert len(entries) == len(ids) + len(tokens) + 1
    assert [entry.text for entry in entries].count("") == 3
    assert all(entry.top[0].raw == b"" for entry in entries[1:])
    assert answer.usage.completion == len(tokens) + 1


def test_cached_tokens_count_once_for_a_prompt_however_many_choices_it_has() -> None:
    for n, prompts in ((1, 1), (5, 1), (3, 2)):
        request = Completion("m", ("Once",) * prompts, GenerationOptions(n=n, max_tokens=3))
        answer = stream(request)
        for event in says(" Hello")(answer.requests):
            list(answer.take(event))
        assert answer.over and answer.usage.cached == 32 * prompts


def test_choices_share_what_they_have_in_common() -> None:
    options = GenerationOptions(
        n=4, stop=("x",), logit_bias={3: 1.0}, allowed_token_ids=(5, 6), bad_words=("y",)
    )
    answer = stream(Completion("m", ("Once", "Twice"), options))
    for at, request in enumerate(answer.requests):
        first = answer.requests[at - at % 4]
        for name in ("tokens", "stop", "allowed_token_ids", "bad_words", "stop_token_ids"):
            assert getattr(request, name) is getattr(first, name), name
        assert request.sampling.logit_bias is answer.requests[0].sampling.logit_bias
        assert TOKENIZER.specials(request) is TOKENIZER.specials(first)


def test_every_choice_of_an_echoed_prompt_is_scored() -> None:
    options = GenerationOptions(n=3, logprobs=2, prompt_logprobs=5)
    asked = stream(Completion("m", ("Once upon",), options, echo=True)).requests
    assert [request.prompt_logprobs for request in asked] == [5, 2, 2]
    asked = stream(Completion("m", ("Once upon",), options)).requests
    assert [request.prompt_logprobs for request in asked] == [5, None, None]


def test_prompts_are_refused_before_anything_is_made_of_them() -> None:
    """Those that are too long for the model, and scores of more tokens than an answer may hold."""
    long = Completion("m", ("a", (5,) * 200), GenerationOptions(n=64))
    with pytest.raises(Refusal) as caught:
        stream(long)
    assert caught.value.code == "context_length_exceeded" and "200 tokens" in caught.value.message
    stream(Completion("m", ((5,) * 200,), GenerationOptions(max_tokens=0)))
    with pytest.raises(Refusal):
        stream(Completion("m", ((5,) * 190,), GenerationOptions(min_tokens=11, max_tokens=20)))
    most = ((5,) * 128,) * 128  # with 64 choices each: 2**20 tokens
    for options, echo in (
        (GenerationOptions(prompt_logprobs=1, n=64), False),
        (GenerationOptions(prompt_logprobs=0, logprobs=0, n=64), True),
        (GenerationOptions(logprobs=20, n=4), True),
    ):
        with pytest.raises(Refusal) as caught:
            stream(Completion("m", most, options, echo=echo))
        assert (caught.value.status, caught.value.code) == (400, "invalid_value")
        scored = "logprobs" if options.prompt_logprobs is None else "prompt_logprobs"
        assert caught.value.field == scored
    stream(Completion("m", most[:8], GenerationOptions(prompt_logprobs=15, n=64)))
    stream(Completion("m", most[:2], GenerationOptions(logprobs=20, n=64)))


@pytest.mark.parametrize(("n", "top", "limit"), [(128, 20, 30), (91, 63, 180), (64, 255, 20_000)])
def test_an_answers_log_probabilities_are_bounded_where_it_is_one_piece(
    n: int, top: int, limit: int
) -> None:
    """No more tokens are counted than the server lets an answer have, which are 50."""
    options = GenerationOptions(n=n, logprobs=top, max_tokens=limit)
    prompts = ((5,),) * (2**20 // (n * (1 + top) * min(limit, 50)) + 1)
    with pytest.raises(Refusal) as caught:
        stream(Completion("m", prompts, options))
    assert (caught.value.status, caught.value.field) == (400, "logprobs")
    assert "at most 1048576 can be had where stream is false" in caught.value.message
    stream(Completion("m", prompts[1:], options))
    for free in (replace(options, stream=True), replace(options, max_tokens=None)):
        stream(Completion("m", prompts, free))
