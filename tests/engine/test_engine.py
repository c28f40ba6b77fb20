"""The engine end to end over a model without weights that notices every wrong page."""

import pytest

from bessemer.engine import engine as module
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.request import (
    Refusal,
    Refused,
    Sampling,
    Started,
    StepReport,
    Token,
)
from bessemer.engine.token_rules import GenerationRules
from bessemer.kernels.attention.pages import PAGE
from tests.engine.paper_model import (
    END,
    VOCABULARY,
    answers,
    engine,
    greedy,
    prompt,
    request_for,
)


@pytest.mark.parametrize("ahead", [False, True])
def test_one_request_gives_the_models_greedy_answer(ahead: bool) -> None:
    door, _ = engine(ahead=ahead)
    door.submit(request_for(1, prompt(1, 70), 40))
    assert answers(door.run()) == {1: greedy(prompt(1, 70), 40)}


@pytest.mark.parametrize("chunk", [1, 7, 32, 33, 256])
def test_chunks_do_not_change_the_answer(chunk: int) -> None:
    door, model = engine(chunk=chunk)
    door.submit(request_for(1, prompt(1, 100), 10))
    assert answers(door.run()) == {1: greedy(prompt(1, 100), 10)}
    assert max(model.steps) <= chunk


def test_requests_join_and_leave_a_running_batch() -> None:
    door, model = engine(chunk=16)
    oracle, events = {}, []
    for number in range(20):
        tokens, count = prompt(number, 5 + 7 * number % 90), 3 + number % 11
        oracle[number] = greedy(tokens, count)
        door.submit(request_for(number, tokens, count))
        events += door.step()
    events += list(door.run())
    assert answers(events) == oracle
    assert len(model.steps) < sum(len(answer) for answer in oracle.values())


def test_a_running_stream_waits_for_one_chunk_at_most() -> None:
    door, model = engine(chunk=32)
    door.submit(request_for(1, prompt(1, 4), 60))
    door.step()
    door.submit(request_for(2, prompt(2, 900), 2))
    while door.busy:
        before = len(model.steps)
        events = door.step()
        if any(isinstance(e, Token) and e.request == 2 and e.tokens for e in events):
            break
        assert [e for e in events if isinstance(e, Token) and e.request == 1], "the stream stalled"
        assert model.steps[before] <= 1 + 32


def test_when_pages_run_out_the_youngest_waits_and_nothing_is_lost() -> None:
    door, model = engine(pages=12)
    prompts = {n: (prompt(n, 60), 100) for n in range(4)}  # 5 pages each where 12 are
    for number, (tokens, count) in prompts.items():
        door.submit(request_for(number, tokens, count))
    out = answers(door.run())
    assert out == {n: greedy(tokens, count) for n, (tokens, count) in prompts.items()}
    assert model.computed > sum(len(tokens) + count for tokens, count in prompts.values())
    assert door.pager.pages_free == 12


def test_the_oldest_request_is_never_interrupted() -> None:
    door, _ = engine(pages=12)
    for number in range(4):
        door.submit(request_for(number, prompt(number, 60), 100))
    steps = []
    while door.busy:
        steps.append([e.request for e in door.step() if isinstance(e, Token) and e.tokens])
    first = [0 in requests for requests in steps]
    began = first.index(True)
    assert all(first[began : began + 100]) and not any(first[began + 100 :])
    assert any(requests.count(3) == 0 for requests in steps[began : began + 100])


def test_a_preempted_request_keeps_its_seeded_draws() -> None:
    def run(pages: int) -> dict[int, list[int]]:
        door, _ = engine(pages=pages)
        for n in range(4):
            sampling = Sampling(temperature=1.5, seed=n, top_p=0.9)
            door.submit(request_for(n, prompt(n, 60), 100, sampling=sampling))
        return answers(door.run())

    assert run(12) == run(64)


def test_the_same_seed_gives_the_same_answer_whatever_else_runs() -> None:
    sampling = Sampling(temperature=2.0, seed=7, top_k=30)
    alone, _ = engine()
    alone.submit(request_for(1, prompt(5, 40), 30, sampling=sampling))
    (oracle,) = answers(alone.run()).values()
    busy, _ = engine(chunk=24)
    for n in range(2, 12):
        busy.submit(request_for(n, prompt(n, 9 * n), 25, sampling=Sampling(temperature=1, seed=n)))
        busy.step()
    busy.submit(request_for(1, prompt(5, 40), 30, sampling=sampling))
    assert answers(busy.run())[1] == oracle
    other, _ = engine()
    other.submit(
        request_for(1, prompt(5, 40), 30, sampling=Sampling(temperature=2.0, seed=8, top_k=30))
    )
    assert answers(other.run())[1] != oracle


def test_a_prompt_seen_before_is_found_generated_tokens_included() -> None:
    door, model = engine()
    tokens = prompt(1, 70)
    door.submit(request_for(1, tokens, 60))
    first = answers(door.run())[1]
    conversation = [*tokens, *first, *prompt(2, 20)]
    before = model.computed
    door.submit(request_for(2, conversation, 10))
    events = list(door.run())
    assert answers(events) == {2: greedy(conversation, 10)}
    cached = next(e.cached for e in events if isinstance(e, Started))
    # the last generated token was never computed, so it can fill no page
    assert cached == (len(tokens) + len(first) - 1) // PAGE * PAGE
    assert model.computed - before == len(conversation) - cached + 10 - 1


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    door, _ = engine()
    tokens = prompt(1, 2 * PAGE)
    for number in (1, 2):
        door.submit(request_for(number, tokens, 5))
        events = list(door.run())
        assert answers(events) == {number: greedy(tokens, 5)}
    assert next(e.cached for e in events if isinstance(e, Started)) == PAGE


def test_answers_to_one_prompt_share_its_prefill() -> None:
    door, model = engine(chunk=64)
    tokens = prompt(1, 200)
    for number in range(4):
        sampling = Sampling(temperature=1, seed=number)
        door.submit(request_for(number, tokens, 3, sampling=sampling))
    out = answers(door.run())
    assert len({tuple(answer) for answer in out.values()}) > 1
    assert model.computed <= 200 + 3 * (200 % PAGE) + 4 * 3


def test_salts_do_not_share() -> None:
    door, _ = engine()
    tokens = prompt(1, 100)
    cached = []
    for number, salt in enumerate(["a", "b", "a"]):
        door.submit(request_for(number, tokens, 2, salt=salt))
        cached += [e.cached for e in door.run() if isinstance(e, Started)]
    assert cached == [0, 0, 96]


def test_eviction_makes_room_and_answers_stay_right() -> None:
    door, _ = engine(pages=10)
    for number in range(12):
        tokens = prompt(number % 5, 80)
        door.submit(request_for(number, tokens, 30))
        assert answers(door.run()) == {number: greedy(tokens, 30)}


def test_cancel_takes_effect_before_the_next_step() -> None:
    door, model = engine(chunk=8)
    door.submit(request_for(1, prompt(1, 100), 50))
    door.submit(request_for(2, prompt(2, 10), 50))
    door.step()
    door.cancel(1)
    door.cancel(99)
    rows = len(model.steps)
    assert 1 not in answers(door.run())
    assert max(model.steps[rows:]) <= 9
    assert door.pager.pages_free == 64


def test_an_abandoned_prompt_s_full_pages_serve_the_next() -> None:
    door, model = engine(chunk=40)
    door.submit(request_for(1, prompt(1, 200), 5))
    door.step()
    door.step()
    door.cancel(1)
    door.submit(request_for(2, prompt(1, 200), 5))
    events = list(door.run())
    started = next(event for event in events if isinstance(event, Started))
    assert started.cached == 80 // PAGE * PAGE and sum(model.steps[2:]) == 200 - started.cached + 4
    assert answers(events) == {2: greedy(prompt(1, 200), 5)}


def test_a_request_that_can_never_fit_is_refused() -> None:
    door, _ = engine(pages=4)
    for request in (
        request_for(1, prompt(1, 128), 1),
        request_for(2, prompt(1, 100), 90, min_tokens=40),
    ):
        with pytest.raises(Refusal) as caught:
            door.submit(request)
        assert caught.value.code == "context_length_exceeded"
        assert "128 tokens" in caught.value.message
    door.submit(request_for(3, prompt(1, 127), 500))
    events = [e for e in door.run() if isinstance(e, Token)]
    assert (len(events[-1].tokens), events[-1].finish) == (1, "length")


def test_the_queue_is_bounded() -> None:
    door, _ = engine(batch=1, queue=2)
    for number in (1, 2, 3):
        door.submit(request_for(number, [5], 5))
    with pytest.raises(Refusal) as caught:
        door.submit(request_for(4, [5], 5))
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    door.submit(request_for(5, [5], 5, client="another"))
    assert set(answers(door.run())) == {1, 2, 3, 5}


def test_a_stop_string_ends_the_answer_at_its_last_token() -> None:
    tokens = prompt(3, 10)
    answer = greedy(tokens, 30)
    stop = "".join(chr(32 + token) for token in answer[4:7])
    door, _ = engine()
    door.submit(request_for(1, tokens, 30, stop=["~~~", stop]))
    events = [e for e in door.run() if isinstance(e, Token)]
    assert [t for e in events for t in e.tokens] == answer[:7]
    assert (events[-1].finish, events[-1].stop) == ("stop", stop)


def test_the_end_token_may_be_a_stop_string_and_is_no_text() -> None:
    door, _ = engine()
    likely = Sampling(temperature=0, logit_bias={END: 100.0})
    for number, stop in enumerate(("<end>", "end", "")):
        door.submit(request_for(number, [5], 9, sampling=likely, stop=[stop] if stop else []))
    ends = {e.request: (e.finish, e.stop, e.hidden) for e in door.run() if isinstance(e, Token)}
    assert ends == {0: ("stop", "<end>", 1), 1: ("stop", None, 1), 2: ("stop", None, 1)}


def test_stop_strings_do_not_count_before_min_tokens() -> None:
    prompt_tokens = prompt(3, 10)
    answer = greedy(prompt_tokens, 30)
    door, _ = engine()
    door.submit(request_for(1, prompt_tokens, 30, stop=[chr(32 + answer[2])], min_tokens=6))
    events = [e for e in door.run() if isinstance(e, Token)]
    tokens = [t for e in events for t in e.tokens]
    assert len(tokens) >= 6 and tokens == answer[: len(tokens)]


def test_the_end_token_ends_unless_ignored_and_is_no_text() -> None:
    likely = {END: 100.0}
    door, _ = engine()
    greedy_end = Sampling(temperature=0, logit_bias=likely)
    door.submit(request_for(1, [5], 9, sampling=greedy_end))
    door.submit(request_for(2, [5], 9, sampling=greedy_end, ignore_eos=True))
    door.submit(request_for(3, [5], 9, sampling=greedy_end, min_tokens=4))
    events = [e for e in door.run() if isinstance(e, Token)]
    last = {e.request: e for e in events}
    out = answers(events)
    assert (out[1], last[1].finish, last[1].hidden) == ([END], "stop", 1)
    assert (out[2], last[2].finish) == ([END] * 9, "length")
    assert END not in out[3][:4] and out[3][4:] == [END]


def test_stop_token_ids_end_the_answer() -> None:
    tokens = prompt(3, 10)
    answer = greedy(tokens, 30)
    door, _ = engine()
    door.submit(request_for(1, tokens, 30, stop_token_ids=[answer[3]]))
    events = [e for e in door.run() if isinstance(e, Token)]
    assert [t for e in events for t in e.tokens] == answer[: answer.index(answer[3]) + 1]
    assert events[-1].hidden == 1


def test_what_the_checkpoint_bans_is_not_drawn() -> None:
    tokens = prompt(3, 40)
    first, second, *_ = greedy(tokens, 2)
    rules = GenerationRules(suppress_tokens=(second,), begin_suppress_tokens=(first, 4000))
    door, _ = engine(rules=rules)
    door.submit(request_for(1, tokens, 60))
    out = answers(door.run())[1]
    assert len(out) == 60 and out[0] != first and second not in out


def test_an_answer_for_which_nothing_is_left_is_over() -> None:
    """Its only token may not come twice in a row: then none may, and it ends with what it has."""
    door, _ = engine()
    settings = {"allowed_token_ids": [7], "bad_words": [[7, 7]]}
    for number, temperature in ((1, 0.0), (2, 1.0)):
        sampling = Sampling(temperature=temperature, top_p=0.9)
        door.submit(request_for(number, [5, 6], 9, sampling=sampling, logprobs=2, **settings))
    door.submit(request_for(3, [5, 6], 9))
    events = list(door.run())
    for number in (1, 2):
        first, last = (e for e in events if isinstance(e, Token) and e.request == number)
        assert (first.tokens, first.finish) == ([7], None)
        assert (last.tokens, last.finish, last.logprobs) == ([], "stop", [])
    assert answers(events)[3] == greedy([5, 6], 9)


def test_an_answer_that_cannot_begin_is_refused() -> None:
    door, _ = engine()
    with pytest.raises(Refusal) as caught:
        door.submit(request_for(1, [5], 9, allowed_token_ids=[7], bad_words=[[7]]))
    assert (caught.value.status, caught.value.field) == (400, "allowed_token_ids")
    assert not door.busy
    # What only the prompt's end bans, or only the vocabulary's, is seen at the first token.
    door.submit(request_for(2, [5], 9, allowed_token_ids=[7], bad_words=[[5, 7]]))
    door.submit(request_for(3, [5], 9, allowed_token_ids=[VOCABULARY, 2**31 - 1]))
    door.submit(request_for(4, [5, 6], 9, allowed_token_ids=[7], bad_words=[[5, 7]]))
    events = list(door.run())
    refused = [(e.request, e.status, e.field) for e in events if isinstance(e, Refused)]
    assert refused == [(2, 400, "allowed_token_ids"), (3, 400, "allowed_token_ids")]
    assert answers(e for e in events if e.request == 4) == {4: [7] * 9}
    door.submit(request_for(5, [5], 0, allowed_token_ids=[]))  # nothing is drawn
    assert answers(door.run()) == {5: []}


def test_logits_of_unused_vocabulary_cannot_be_biased_out_of_range() -> None:
    door, _ = engine()
    bias = {VOCABULARY + 5: 100.0, 7: 100.0}
    door.submit(request_for(1, [5], 2, sampling=Sampling(temperature=0, logit_bias=bias)))
    assert answers(door.run()) == {1: [7, 7]}


def test_a_report_counts_rows_sequences_and_pages() -> None:
    door, _ = engine(batch=2, chunk=50)
    assert door.report() == StepReport(pages=64)
    for number in range(5):
        door.submit(request_for(number, prompt(number, 40), 4))
    assert (door.report().running, door.report().waiting) == (0, 5)
    door.step()
    first = door.report()
    assert (first.rows, first.running, first.waiting, first.pages_in_use) == (50, 2, 3, 3)
    door.step()
    assert door.report().rows == 31  # one prompt's token of the answer, the other's other 30
    door.cancel(3)
    assert (door.report().running, door.report().waiting) == (2, 2)
    list(door.run())
    last = door.report()
    assert (last.rows, last.running, last.waiting, last.pages_in_use) == (1, 0, 0, 0)
    door.step()
    assert door.report() == StepReport(pages=64)


def test_a_report_has_the_pages_of_all_groups_and_the_states() -> None:
    door, _ = engine(sizes=CacheSizes((None, 40), (18, 9), 6), context=200)
    door.submit(request_for(1, prompt(1, 100), 30))
    door.step()  # 96 tokens, and then the others
    door.step()
    report = door.report()
    assert (report.pages_in_use, report.pages) == (4 + 3, 27)  # the window is past page 0
    assert (report.states_in_use, report.states) == (1, 6)
    list(door.run())
    assert (door.report().pages_in_use, door.report().states_in_use) == (0, 0)


def test_a_report_counts_preemptions() -> None:
    def run(pages: int) -> list[int]:
        door, _ = engine(pages=pages)
        for number in range(4):
            door.submit(request_for(number, prompt(number, 60), 100))
        counts = []
        while door.busy:
            door.step()
            counts.append(door.report().preemptions)
        assert door.report().pages_in_use == 0
        return counts

    small = run(12)  # pages for two of the four
    assert small[0] == 0 and small[-1] >= 2 and small == sorted(small)
    assert set(run(64)) == {0}


def test_a_report_has_the_seconds_of_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.25, 3.25, 3.25, 6.25])
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    door, _ = engine()
    door.submit(request_for(1, prompt(1, 40), 4))
    door.step()
    report = door.report()
    assert (report.prepare, report.forward, report.accept) == (0.25, 2.0, 3.0)
