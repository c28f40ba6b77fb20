"""The table that follows a sequence, against edits looked up in dicts for every token."""

import random
from array import array
from collections import Counter
from collections.abc import Sequence as Seq
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from msgspec import structs

from bessemer.engine import in_flight, sampler
from bessemer.engine.logit_edits import LogitEdits
from bessemer.engine.request import Refusal, Request, Sampling
from bessemer.engine.sequence import Sequence
from bessemer.engine.token_rules import BANNED, NO_RULES, GenerationRules
from bessemer.kernels.sampling.edit import Edits, EditTable, edit, edits_of
from tests.engine.paper_model import (
    END,
    VOCABULARY,
    answers,
    engine,
    logits_after,
    prompt,
    request_for,
)

Entry = tuple[float, float, float]


def oracle(request: Request, tokens: Seq[int], eos_ids: Seq[int]) -> dict[int, Entry]:
    """Return what happens to each token: an addend, then a divisor, then a subtrahend."""
    sampling, answer = request.sampling, tokens[len(request.tokens) :]
    bias = dict(sampling.logit_bias)
    if len(answer) < request.min_tokens:
        bias |= dict.fromkeys([*eos_ids, *request.stop_token_ids], -np.inf)
    divisor, less = dict[int, float](), dict[int, float]()
    if sampling.repetition_penalty != 1:
        divisor = dict.fromkeys(tokens, sampling.repetition_penalty)
    if sampling.presence_penalty or sampling.frequency_penalty:
        for token, count in Counter(answer).items():
            less[token] = sampling.presence_penalty + count * sampling.frequency_penalty
    entries = {
        token: (bias.get(token, 0.0), divisor.get(token, 1.0), less.get(token, 0.0))
        for token in bias | divisor | less
    }
    return {token: tuple(np.array(entry, np.float32).tolist()) for token, entry in entries.items()}


def entries(edits: LogitEdits | None) -> dict[int, Entry]:
    if edits is None:
        return {}
    out: dict[int, Entry] = {}
    for table in edits.tables():
        ids, changes = table.ids.tolist(), table.changes.tolist()
        assert ids == sorted({*ids}), "a token has two entries, or is out of order"
        out |= {token: tuple(change) for token, change in zip(ids, changes, strict=True)}
    return out


def random_settings(chance: random.Random) -> dict[str, Any]:
    """Some of what a request may say of single tokens, often overlapping."""
    any_id = [*range(VOCABULARY), VOCABULARY + 3, -1, 2**31 - 1]
    sampling = Sampling(
        temperature=chance.choice([0.0, 1.3]),
        seed=chance.getrandbits(64),
        logit_bias={
            chance.choice(any_id): chance.gauss(0, 4) for _ in range(chance.choice([0, 6]))
        },
        repetition_penalty=chance.choice([1.0, 1.0, 1.2, 0.7]),
        presence_penalty=chance.choice([0.0, 0.0, 0.6, -0.3]),
        frequency_penalty=chance.choice([0.0, 0.0, 0.1, 0.3]),
    )
    stops = chance.sample(range(VOCABULARY), chance.choice([0, 2]))
    limits = {"min_tokens": chance.choice([0, 0, 3, 40]), "stop_token_ids": stops}
    return {"sampling": sampling} | limits


def test_after_every_token_it_has_what_the_dicts_have() -> None:
    chance = random.Random(3)
    kinds = Counter[bool]()
    for number in range(300):
        request = request_for(
            number, prompt(number, chance.choice([1, 30])), 60, **random_settings(chance)
        )
        tokens = array("I", request.tokens)
        edits = LogitEdits.of(request, tokens, [END, 7])
        kinds[edits is None] += 1
        for step in range(chance.choice([5, 60])):
            if step == 0 or chance.random() < 0.8:  # now and then two tokens at once
                assert entries(edits) == oracle(request, tokens, [END, 7])
            tokens.append(chance.randrange(VOCABULARY))
    assert min(kinds.values()) > 3


def test_what_changes_nothing_has_no_table() -> None:
    for settings in ({}, {"stop_token_ids": [3]}, {"sampling": Sampling(temperature=2, top_k=3)}):
        request = request_for(1, [5, 6], 9, **settings)
        assert LogitEdits.of(request, array("I", request.tokens), [END]) is None


def test_what_is_banned_of_the_first_token_alone_is() -> None:
    suppressing = GenerationRules(begin_suppress_tokens=(3,))
    for rules, settings, banned in (suppressing, {}, 3), (NO_RULES, {"min_tokens": 1}, END):
        request = request_for(1, [5, 6], 9, **settings)
        edits = LogitEdits.of(request, array("I", request.tokens), [END], rules)
        assert edits is not None and entries(edits) == {banned: (BANNED, 1.0, 0.0)}


class Auditor:
    """Stands between sampler and kernel: the dicts must edit the step's logits to the same bits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.edited = 0
        self.sequences: Seq[Sequence] = ()
        self._sample, self._draw = sampler.sample, sampler.draw
        monkeypatch.setattr(in_flight, "sample", self.sample)
        monkeypatch.setattr(sampler, "draw", self.draw)

    def sample(self, logits: mx.array, sequences: Seq[Sequence]) -> Any:
        self.sequences = sequences
        return self._sample(logits, sequences)

    def draw(self, logits: mx.array, edits: Edits | None, *settings: Any) -> Any:
        table = [
            (row, token, *entry)
            for row, sequence in enumerate(self.sequences)
            for token, entry in oracle(sequence.request, sequence.tokens, [END]).items()
        ]
        assert (edits is None) == (not table)
        if edits is not None:
            reference, edited = edit(logits, edits_of(*np.array(table).T)), edit(logits, edits)
            assert np.array(reference).tobytes() == np.array(edited).tobytes()
            self.edited += 1
        return self._draw(logits, edits, *settings)


@pytest.mark.parametrize("seed", range(3))
def test_traffic_with_preemption_is_edited_as_by_the_dicts(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(pages: int, ahead: bool = False) -> dict[int, list[int]]:
        chance = random.Random(seed)
        door, _ = engine(pages=pages, batch=4, chunk=48, ahead=ahead)
        for number in range(12):
            door.submit(request_for(number, prompt(number, 60), 90, **random_settings(chance)))
        out = answers(door.run())
        assert bool(door.scheduler.preemptions) == (pages < 20)
        return out

    auditor = Auditor(monkeypatch)
    assert run(12) == run(64)
    assert auditor.edited > 100
    assert run(12) == run(12, ahead=True) == run(64, ahead=True)


def processed(
    request: Request,
    rules: GenerationRules,
    tokens: Seq[int],
    scores: np.ndarray,
    eos_ids: Seq[int],
    max_length: int,
) -> np.ndarray:
    """Process a row as transformers' generation/logits_process.py does, in its order, in NumPy.

    The processors are SequenceBias, RepetitionPenalty, NoRepeatNGram, NoBadWords, MinNewTokens,
    ForcedBOS, ForcedEOS, SuppressTokens and SuppressTokensAtBegin; a request's own settings join
    them, and its allowed ids come last.
    """
    raw = scores = scores.astype(np.float64)
    sampling, tokens = request.sampling, list(tokens)
    answer, inside = tokens[len(request.tokens) :], range(len(scores))
    biases = [(list(ids), bias) for ids, bias in rules.sequence_bias.items()]
    biases += [([token], bias) for token, bias in sampling.logit_bias.items()]
    bias = np.zeros_like(scores)
    for ids, value in biases:
        before = ids[:-1]
        if ids[-1] in inside and (not before or tokens[-len(before) :] == before):
            bias[ids[-1]] += value
    scores = scores + bias
    for token in {*tokens}:
        divisor = sampling.repetition_penalty
        scores[token] = scores[token] / divisor if scores[token] > 0 else scores[token] * divisor
    for token, count in Counter(answer).items():
        scores[token] -= sampling.presence_penalty + count * sampling.frequency_penalty
    if size := rules.no_repeat_ngram_size:
        before = tokens[len(tokens) + 1 - size :]
        for start in range(len(tokens) - size + 1):
            if tokens[start : start + size - 1] == before:
                scores[tokens[start + size - 1]] = -np.inf
    for word in request.bad_words:
        before = word[:-1]
        if word and word[-1] in inside and (not before or tokens[-len(before) :] == before):
            scores[word[-1]] = -np.inf
    if len(answer) < request.min_tokens:
        scores[[*eos_ids, *request.stop_token_ids]] = -np.inf
    if len(tokens) == 1 and rules.forced_bos_token_id:
        scores = forced(raw, rules.forced_bos_token_id)
    if len(tokens) == max_length - 1 and rules.forced_eos_token_id and not request.ignore_eos:
        scores = forced(raw, rules.forced_eos_token_id)
    scores[[*rules.suppress_tokens]] = -np.inf
    begin = int(len(request.tokens) == 1 and bool(rules.forced_bos_token_id))
    if len(answer) == begin:
        scores[[*rules.begin_suppress_tokens]] = -np.inf
    if request.allowed_token_ids is not None:
        banned = [token for token in inside if token not in request.allowed_token_ids]
        scores[banned] = -np.inf
    return scores


def forced(raw: np.ndarray, ids: Seq[int]) -> np.ndarray:
    """Return a row of which nothing else can be drawn; what is forced keeps its score here."""
    hidden = np.full_like(raw, -np.inf)
    hidden[[*ids]] = raw[[*ids]]
    return hidden


RAW = np.random.RandomState(5).normal(size=VOCABULARY) * 3


def edited(edits: LogitEdits | None) -> np.ndarray:
    """Return the scores that are drawn from, in float64."""
    scores = RAW.copy()
    if edits is None:
        return scores
    for token, (bias, penalty, less) in entries(edits).items():
        if 0 <= token < VOCABULARY:
            moved = scores[token] + bias
            scores[token] = (moved / penalty if moved > 0 else moved * penalty) - less
    mask = edits.mask(VOCABULARY)
    if mask is not None:
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[:VOCABULARY]
        scores[bits == 0] = -np.inf
    return scores


def random_words(chance: random.Random, count: int) -> list[list[int]]:
    """Return short words of few letters, so that one is often about to be completed."""
    sizes = chance.choices([1, 2, 2, 3, 4], k=count)
    words = [chance.choices([1, 2, 3, 4, VOCABULARY + 2], [6, 6, 6, 6, 1], k=n) for n in sizes]
    return [word for word in words if VOCABULARY + 2 not in word[:-1]]


def random_rules(chance: random.Random) -> GenerationRules:
    some = chance.sample(range(VOCABULARY), 6)
    words = {tuple(word): chance.choice([BANNED, 1.5, -2.0]) for word in random_words(chance, 6)}
    return GenerationRules(
        suppress_tokens=tuple(some[: chance.choice([0, 0, 2])]),
        begin_suppress_tokens=tuple(some[2 : chance.choice([2, 2, 4])]),
        sequence_bias=words if chance.random() < 0.7 else {},
        no_repeat_ngram_size=chance.choice([0, 0, 1, 2, 3]),
        forced_bos_token_id=tuple(some[: chance.choice([0, 0, 1])]),
        forced_eos_token_id=tuple(chance.choice([[], [], [END], [END, 7]])),
    )


def test_rules_and_requests_are_followed_as_by_transformers() -> None:
    chance = random.Random(8)
    for number in range(400):
        settings = random_settings(chance) | {
            "bad_words": random_words(chance, chance.choice([0, 5])),
            "ignore_eos": chance.random() < 0.2,
        }
        if chance.random() < 0.3:
            settings["allowed_token_ids"] = chance.sample(range(VOCABULARY + 9), 40)
        rules = random_rules(chance) if chance.random() < 0.8 else NO_RULES
        letters = chance.choices([1, 2, 3, 4], k=chance.choice([1, 1, 30]))
        count, room = chance.choice([3, 50]), len(letters) + chance.choice([5, 100])
        request = request_for(number, letters, count, **settings)
        tokens = array("I", request.tokens)
        edits = LogitEdits.of(request, tokens, [END, 7], rules, room)
        max_length = min(len(letters) + count, room)
        while len(tokens) < max_length:
            oracle = processed(request, rules, tokens, RAW, [END, 7], max_length)
            if np.isfinite(oracle).any():  # else it is defined by what happens, see the engine
                assert edited(edits) == pytest.approx(oracle, abs=2e-6, rel=1e-6)
            tokens.append(chance.choices([1, 2, 3, 4, 9, 10], [4, 4, 4, 4, 1, 1])[0])


def scores_after(tokens: list[int], generated: list[int] = (), **settings: Any) -> np.ndarray:  # type: ignore[assignment]
    rules, room = settings.pop("rules", NO_RULES), settings.pop("room", 1000)
    request = request_for(1, tokens, settings.pop("max_tokens", 9), **settings)
    edits = LogitEdits.of(request, (all_tokens := array("I", tokens)), [END], rules, room)
    all_tokens.extend(generated)
    return edited(edits)


def drawable(*settings: Any, **more: Any) -> list[int]:
    return np.flatnonzero(np.isfinite(scores_after(*settings, **more))).tolist()


def test_a_bad_word_may_begin_in_the_prompt_and_is_never_completed() -> None:
    for tokens, generated in (([9, 5, 6], []), ([9, 5], [6]), ([9], [5, 6])):
        assert 7 not in drawable(tokens, generated, bad_words=[[5, 6, 7], [8]])
    for tokens, generated in (([5, 6, 9], []), ([6], []), ([5], [6, 1]), ([7], [])):
        assert 7 in drawable(tokens, generated, bad_words=[[5, 6, 7], [8]])
        assert 8 not in drawable(tokens, generated, bad_words=[[5, 6, 7], [8]])


def test_many_sequences_may_be_completed_at_once() -> None:
    rules = GenerationRules(sequence_bias={(5, token): float(token) for token in range(40)})
    oracle = RAW + np.where(np.arange(VOCABULARY) < 40, np.arange(VOCABULARY), 0)
    assert scores_after([5], rules=rules) == pytest.approx(oracle)
    assert scores_after([5, 6], rules=rules) == pytest.approx(RAW)
    assert scores_after([5], [6, 5], rules=rules) == pytest.approx(oracle)


def test_no_bias_lifts_a_ban_and_no_penalty_breaks_it() -> None:
    for sampling in (
        Sampling(logit_bias={7: 100.0}, repetition_penalty=1e-300),
        Sampling(logit_bias={7: 100.0}, repetition_penalty=1e300),
        Sampling(logit_bias={7: 100.0}, presence_penalty=-2.0, frequency_penalty=-2.0),
    ):
        request = request_for(1, [5, 7], 9, sampling=sampling, bad_words=[[5, 7], [8]])
        tokens = array("I", [5, 7])
        edits = LogitEdits.of(request, tokens)
        assert edits is not None
        tokens.extend([7, 7, 5])
        lasting, latest = edits.tables()
        changes = Edits({0: lasting}, {0: latest})
        out = np.array(edit(mx.array(RAW[None].astype(np.float32)), changes))[0]
        assert out[7] == out[8] == -np.inf and not np.isnan(out).any()


def test_what_is_banned_at_first_may_come_later() -> None:
    rules = GenerationRules(begin_suppress_tokens=(3, END), suppress_tokens=(4,))
    assert {3, 4, END}.isdisjoint(drawable([1], rules=rules))
    assert {3, END} < {*drawable([1], [9], rules=rules)} and 4 not in drawable([1], rules=rules)
    out = drawable([1], [9], rules=rules, min_tokens=2)
    assert 3 in out and END not in out and 4 not in out
    assert {3, END} < {*drawable([1], [9, 9], rules=rules, min_tokens=2)}


def test_forced_ids_come_first_and_last() -> None:
    rules = GenerationRules(forced_bos_token_id=(8,), forced_eos_token_id=(END, 7))
    assert drawable([1], rules=rules) == [8]  # a prompt of one token, as transformers has it
    assert len(drawable([1, 2], rules=rules)) == VOCABULARY
    late = GenerationRules(forced_bos_token_id=(8,), begin_suppress_tokens=(8, 9))
    assert drawable([1], rules=late) == [8]  # then the second counts as the first
    assert 8 in drawable([1, 2], [3], rules=late) and 8 not in drawable([1, 2], rules=late)
    assert 8 not in drawable([1], [8], rules=late) and 8 in drawable([1], [8, 3], rules=late)
    assert drawable([1, 2], [3] * 8, rules=rules) == [END, 7]
    assert len(drawable([1, 2], [3] * 8, rules=rules, ignore_eos=True)) == VOCABULARY
    assert drawable([1, 2], [3], rules=rules, room=4) == [END, 7]
    assert drawable([1, 2], [3] * 8, rules=rules, min_tokens=9) == [END, 7]
    # What the client allows counts for more.
    assert drawable([1], rules=rules, allowed_token_ids=[5, 6]) == [5, 6]
    assert drawable([1, 2], [3] * 8, rules=rules, allowed_token_ids=[5, 7]) == [7]


def test_allowed_ids_are_a_mask_that_is_made_once() -> None:
    allowed = [3, 5, VOCABULARY, VOCABULARY + 70, 2**31 - 1, -1]
    request = request_for(1, [1], 9, allowed_token_ids=allowed)
    edits = LogitEdits.of(request, array("I", [1]))
    assert edits is not None and not entries(edits)
    assert edits.mask(VOCABULARY) is edits.mask(VOCABULARY)
    assert drawable([1], allowed_token_ids=allowed) == [3, 5]


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_token_ids": []},
        {"allowed_token_ids": [END], "min_tokens": 1},
        {"allowed_token_ids": [3], "stop_token_ids": [3], "min_tokens": 2},
        {"allowed_token_ids": [3, 4], "bad_words": [[3], [4]]},
        {"allowed_token_ids": [3, 5], "bad_words": [[3]]},
        {"allowed_token_ids": [5, 6]},
    ],
)
def test_a_request_that_could_draw_nothing_is_refused(settings: dict[str, Any]) -> None:
    rules = GenerationRules(suppress_tokens=(5,), begin_suppress_tokens=(6,))
    with pytest.raises(Refusal) as caught:
        LogitEdits.of(request_for(1, [1], 9, **settings), array("I", [1]), [END], rules)
    assert (caught.value.status, caught.value.field) == (400, "allowed_token_ids")


@pytest.mark.parametrize("seed", range(3))
def test_every_token_of_traffic_with_preemption_follows_the_rules(seed: int) -> None:
    """Each answer is what a greedy search over the processed logits finds, to its very end."""

    def run(pages: int) -> dict[int, list[int]]:
        chance = random.Random(seed)
        rules = GenerationRules((4,), (5, 6), {(7, 8): BANNED, (9,): 2.5}, 2, (), (END,))
        door, _ = engine(pages=pages, batch=4, chunk=48, rules=rules)
        requests = {}
        for number in range(12):
            settings = random_settings(chance)
            words = [[chance.randrange(VOCABULARY)], *random_words(chance, 40)]
            greedy = structs.replace(settings["sampling"], temperature=0.0)
            settings |= {"bad_words": words, "sampling": greedy}
            if number % 3 == 0:
                settings["allowed_token_ids"] = [END, *range(number % 2, VOCABULARY, 2)]
            requests[number] = request_for(number, prompt(number, 60), 90, **settings)
            door.submit(requests[number])
        out = answers(door.run())
        assert bool(door.scheduler.preemptions) == (pages < 20)
        for number, answer in out.items():
            tokens = [*requests[number].tokens]
            for token in answer:
                scores = processed(
                    requests[number], rules, tokens, logits_after(tokens), [END], len(tokens) + 90
                )
                if len(tokens) < 60 + 89:  # else the end is forced
                    assert np.isfinite(scores[token])
                    assert scores[token] == pytest.approx(scores.max(), abs=1e-5)
                tokens.append(token)
            assert answer[-1] == END or len(answer) < 90
        return out

    assert run(12) == run(64)


def test_choices_of_one_prompt_share_what_lasts_and_no_other_request_does() -> None:
    first = request_for(
        1, [5, 6, 7], 900, sampling=Sampling(logit_bias={3: 1.0}, repetition_penalty=1.5)
    )
    edits = LogitEdits.of(first, tokens := array("I", first.tokens), [END])
    assert edits is not None
    own = structs.replace(first.sampling, seed=9)
    second = structs.replace(first, id=2, sampling=own, prompt_logprobs=0)
    other = LogitEdits.of(second, array("I", [5, 6, 7]), [END], lasting=edits.lasting)
    assert other is not None and other.lasting is edits.lasting
    before = entries(other)
    tokens.append(9)
    assert 9 in entries(edits) and entries(other) == before
    for change in ({"tokens": [5, 6, 7]}, {"min_tokens": 3}, {"stop_token_ids": [4]}):
        assert not edits.lasting.serve(structs.replace(second, **change))
    for change in ({"logit_bias": {3: 1.0}}, {"repetition_penalty": 1.2}):
        sampling = structs.replace(own, **change)
        assert not edits.lasting.serve(structs.replace(second, sampling=sampling))


def test_a_step_looks_at_new_tokens_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a penalty costs a step does not grow with the prompt, nor with the answer."""
    sampling = Sampling(repetition_penalty=1.5, frequency_penalty=0.1, logit_bias={1: 2.0})
    request = request_for(1, [*range(2000)] * 10, 9000, sampling=sampling, min_tokens=3)
    edits = LogitEdits.of(request, tokens := array("I", request.tokens), [END])
    assert edits is not None
    puts: list[int] = []
    put = EditTable.put
    monkeypatch.setattr(EditTable, "put", lambda *a: (puts.append(a[1]), put(*a)))
    tables = set()
    for token in range(50, 100):
        tokens.append(token)
        tables.add(edits.tables()[0])
        assert puts == [token]
        puts.clear()
    assert len(tables) == 2  # with the ban of the end and without
