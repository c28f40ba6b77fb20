"""The built-in model in the real engine: the same bits, whatever was cached or interrupted."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from msgspec import structs
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from bessemer.engine.embedding.sentence_transformers import describe
from bessemer.engine.memory import DoesNotFit
from bessemer.engine.model import load as load_model
from bessemer.engine.request import (
    Event,
    GenerationDefaults,
    Request,
    Sampling,
    Started,
    Token,
)
from bessemer.engine.runner import Runner
from bessemer.engine.serving import LoadedModel, _format, _working, load, load_described
from bessemer.engine.settings import OneAnswer, Settings
from bessemer.kernels.attention.pages import Format
from bessemer.kernels.cpu.library import compiled
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from tests.architectures.parity import tiny
from tests.architectures.tiny import VOCABULARY
from tests.http.running import guide_copy

GUIDE = Path(__file__).parents[2] / "engine" / "guide"
FILE = "tokenizer.json"
GREEDY = Sampling(temperature=0)


def serving(pool: int = 0, chunk: int = 64, directory: Path = GUIDE) -> LoadedModel:
    settings = Settings(kv_cache=pool, max_batch=8, queue=64, chunk=chunk)
    return load(directory, settings, memory=10**10)


def random_tokens(model: LoadedModel, seed: int, count: int) -> list[int]:
    text = " ".join(f"{seed} models serve {n}" for n in range(count))
    return model.tokenizer.encode(text)[:count]


def scores(events: Iterable[Event]) -> dict[int, list[tuple[int, float]]]:
    """Each request's tokens with their exact log probabilities."""
    out: dict[int, list[tuple[int, float]]] = {}
    for event in events:
        if isinstance(event, Token):
            entries = [(entry.token, entry.logprob) for entry in event.logprobs]
            out.setdefault(event.request, []).extend(entries)
    return out


def request_for(number: int, tokens: list[int], count: int = 12) -> Request:
    return Request(
        id=number, tokens=tokens, max_tokens=count, sampling=GREEDY, logprobs=0, ignore_eos=True
    )


@pytest.fixture(scope="module")
def cold() -> list[tuple[int, float]]:
    model = serving(chunk=256)
    model.engine.submit(request_for(1, random_tokens(model, 1, 150)))
    return scores(model.engine.run())[1]


@pytest.mark.parametrize("chunk", [13, 32, 64])
def test_chunks_are_bit_identical(cold: list[tuple[int, float]], chunk: int) -> None:
    model = serving(chunk=chunk)
    model.engine.submit(request_for(1, random_tokens(model, 1, 150)))
    assert scores(model.engine.run())[1] == cold


def test_a_cached_prefix_is_bit_identical(cold: list[tuple[int, float]]) -> None:
    model = serving()
    model.engine.submit(request_for(1, random_tokens(model, 1, 110), 3))
    list(model.engine.run())
    model.engine.submit(request_for(2, random_tokens(model, 1, 150)))
    events = list(model.engine.run())
    assert [event.cached for event in events if isinstance(event, Started)] == [96]
    assert scores(events)[2] == cold


def test_a_busy_batch_is_bit_identical(cold: list[tuple[int, float]]) -> None:
    model = serving(chunk=48)
    for number in range(2, 9):
        model.engine.submit(request_for(number, random_tokens(model, number, 20 * number), 30))
        model.engine.step()
    model.engine.submit(request_for(1, random_tokens(model, 1, 150)))
    assert scores(model.engine.run())[1] == cold


def test_preemption_is_bit_identical(cold: list[tuple[int, float]]) -> None:
    model = serving()
    pages = serving(pool=16 * model.plan.page)
    events: list[Event] = []
    for number in range(2, 5):  # 21 pages where there are 16
        pages.engine.submit(request_for(number, random_tokens(model, number, 100), 100))
        events += pages.engine.step()
    pages.engine.submit(request_for(1, random_tokens(model, 1, 150)))
    events += pages.engine.run()
    assert scores(events)[1] == cold
    assert {number: len(out) for number, out in scores(events).items()} == {
        1: 12,
        **dict.fromkeys(range(2, 5), 100),
    }


def test_a_pool_decides_the_context() -> None:
    page = serving().plan.page
    plan = serving(pool=20 * page).plan
    assert (plan.pages, plan.context) == (20, 640)
    with pytest.raises(DoesNotFit):
        serving(pool=2 * page)


def test_pages_hold_16_bits_unless_all_is_exact() -> None:
    pages = []
    for changes in {}, {"cpu_precision": "exact"}, {"kv_bits": 16}, {"kv_bits": 8}:
        settings = Settings(kv_cache=10**8, **changes)  # type: ignore[arg-type]
        pages.append(load(GUIDE, settings, memory=10**10).plan.page)
    usual, exact, sixteen, eight = pages
    assert usual == sixteen and eight < usual
    assert exact == (2 * usual if compiled() else usual)  # only C reads binary16 on a CPU


@pytest.mark.skipif(not compiled(), reason="only C reads binary16 on a CPU")
@pytest.mark.parametrize(
    ("stored", "changes", "format"),
    [
        (mx.float32, {}, Format.FLOAT32),
        (mx.float32, {"kv_bits": 16}, Format.FLOAT16),
        (mx.float32, {"kv_bits": 16, "cpu_precision": "exact"}, Format.FLOAT32),
        (mx.bfloat16, {}, Format.FLOAT16),
        (mx.bfloat16, {"cpu_precision": "exact"}, Format.FLOAT32),
        (mx.bfloat16, {"kv_bits": 8}, Format.INT8),
        (mx.float32, {"kv_bits": 4}, Format.INT4),
    ],
)
def test_the_format_of_a_cache_on_a_cpu(
    stored: mx.Dtype, changes: dict[str, Any], format: Format
) -> None:
    assert _format(stored, Settings(**changes)) == format


def test_a_tokenizer_may_know_more_ids_than_the_model(tmp_path: Path) -> None:
    directory, plain = guide_copy(tmp_path / "more"), serving()
    settings = directory / "tokenizer_config.json"
    more = {"image_token": "<image>", "eos_token": "<beyond>"}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | more))
    (directory / "generation_config.json").write_text('{"eos_token_id": [1000000]}')
    model, tokens = serving(directory=directory), random_tokens(plain, 1, 40)
    assert plain.vocabulary == model.vocabulary == plain.tokenizer.encoding.get_vocab_size()
    assert model.tokenizer.encoding.get_vocab_size() == model.vocabulary + 2
    drawn = []
    for each in (plain, model):
        request = request_for(1, tokens)
        beyond = [model.vocabulary, 10**6]
        banned = structs.replace(request, ignore_eos=False, min_tokens=6, stop_token_ids=beyond)
        each.engine.submit(request)
        each.engine.submit(structs.replace(banned, id=2))
        drawn.append(scores(each.engine.run()))
    assert drawn[0][1] == drawn[1][1] == drawn[1][2]
    assert all(token < model.vocabulary for token, _ in drawn[1][2])


def test_generation_config_is_followed_and_what_is_not_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = serving()
    prompt = random_tokens(plain, 1, 40)
    plain.engine.submit(request_for(1, prompt))
    usual = [token for token, _ in scores(plain.engine.run())[1]]
    assert not capsys.readouterr().err
    directory = guide_copy(tmp_path / "model")
    settings = {"do_sample": False, "eos_token_id": 2, "suppress_tokens": [usual[3], 10**6]}
    settings |= {"begin_suppress_tokens": [usual[0]], "forced_eos_token_id": 7}
    settings |= {"stop_strings": "END", "max_new_tokens": 30, "typical_p": 0.9, "num_beams": 4}
    (directory / "generation_config.json").write_text(json.dumps(settings))
    model = serving(directory=directory)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith("typical_p, num_beams is not followed\n")
    greedy = Sampling(temperature=0)
    assert model.defaults == GenerationDefaults(sampling=greedy, stop=["END"], max_tokens=30)
    model.engine.submit(structs.replace(request_for(1, prompt), ignore_eos=False))
    model.engine.submit(request_for(2, prompt))
    first, second = ([t for t, _ in each] for each in scores(model.engine.run()).values())
    assert first[0] != usual[0] and usual[3] not in first + second
    assert first[:11] == second[:11] and (first[11:], len(second)) == ([7], 12)


def test_a_model_of_one_answer_has_a_tokenizer_from_elsewhere(tmp_path: Path) -> None:
    plain = serving()
    prompt = random_tokens(plain, 1, 40)
    plain.engine.submit(request_for(1, prompt))
    usual = [token for token, _ in scores(plain.engine.run())[1]]
    assert usual.index(usual[5]) == 5
    directory = guide_copy(tmp_path / "model")
    (directory / FILE).unlink()
    said: list[Any] = []

    def planned(*about: Any) -> Any:
        said.extend(about)
        return plain.tokenizer

    expected = OneAnswer(len(prompt) + 12, eos=usual[5])
    settings = Settings(max_batch=1, one_answer=expected)
    alone = load_described(describe(directory), settings, 10**10, planned=planned)
    assert said == [alone.plan, alone.model_type, alone.defaults, alone.vocabulary]
    assert alone.plan.context == len(prompt) + 12
    alone.engine.submit(structs.replace(request_for(1, prompt), ignore_eos=False))
    assert [token for token, _ in scores(alone.engine.run())[1]] == usual[:6]
    stop = plain.tokenizer.decode(usual[2:4])
    alone.engine.submit(structs.replace(request_for(2, prompt), stop=[stop]))
    *_, last = (event for event in alone.engine.run() if isinstance(event, Token))
    assert (last.finish, last.stop) == ("stop", stop)


def worded(directory: Path, name: str, count: int = VOCABULARY) -> Path:
    """A tiny model, with a tokenizer of its vocabulary, or of its first ids."""
    words = {f"w{number}": number for number in range(count)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(tiny(name).write(directory) / FILE))
    return directory


def test_ids_without_a_token_are_drawn_banned_and_scored_like_others(tmp_path: Path) -> None:
    """A vocabulary is often padded: the model has ids that its tokenizer has no text for."""
    model = serving(directory=worded(tmp_path, "qwen3_layer_types_tied", VOCABULARY - 20))
    nameless = range(VOCABULARY - 20, VOCABULARY)
    first, second = nameless[3], nameless[-1]
    every = Request(id=1, tokens=[5, 6], max_tokens=6, logprobs=20, prompt_logprobs=20, stop=["w3"])
    biased = Sampling(temperature=0, logit_bias={first: 90.0, second: 80.0})
    allowed = [*nameless, 9]
    for request in (
        structs.replace(every, sampling=biased),
        structs.replace(every, id=2, sampling=biased, bad_words=[[first], [second, second]]),
        structs.replace(every, id=3, allowed_token_ids=allowed, tokens=[first, second]),
    ):
        model.engine.submit(request)
    events = list(model.engine.run())
    out = {number: [token for token, _ in each] for number, each in scores(events).items()}
    assert out[1] == [first] * 6
    assert out[2][::2] == [second] * 3 and {first, second}.isdisjoint(out[2][1::2])
    assert len(out[3]) == 6 and {*out[3]} <= {*allowed}
    entries = [e for event in events if isinstance(event, Token) for e in event.logprobs]
    assert all(len(entry.top) == 20 and entry.logprob < 0 for entry in entries)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qwen3_layer_types_tied", "for windows of 33 tokens)"),
        ("mistral_ministral_all_slide", "for windows of 15 tokens)"),
        ("deepseek_v2_lite_yarn", "32 pages of"),  # of 256 tokens, the context
        ("mamba2_groups", "states of"),
        ("nemotron_h_plain", "states of"),
    ],
)
def test_every_kind_of_cache_is_planned_and_served(name: str, said: str, tmp_path: Path) -> None:
    model = serving(directory=worded(tmp_path, name))
    assert said in str(model.plan)
    assert model.plan.sizes == model.engine.pager.sizes
    requests = [request_for(number, [5, 6, 7] * (10 + number)) for number in range(3)]
    for request in requests:
        model.engine.submit(request)
    assert {n: len(out) for n, out in scores(model.engine.run()).items()} == {
        0: 12,
        1: 12,
        2: 12,
    }
    with pytest.raises(DoesNotFit):
        serving(directory=tmp_path, pool=1000)


@pytest.mark.parametrize(
    ("name", "tailed"),
    [
        *(("qwen3_layer_types_tied", 2), ("qwen3_next_shared_keys", 1)),
        *(("deepseek_v2_even", 1), ("deepseek_v2_lite_yarn", 0)),  # the last of an odd width
    ],
)
def test_tails_are_for_what_metal_kernels_know(name: str, tailed: int, tmp_path: Path) -> None:
    with using(Simulator(SimulatorOptions(mode="fast"))):
        runner = serving(directory=worded(tmp_path, name)).engine.forward
    assert isinstance(runner, Runner) and len(runner._tails) == tailed


def test_a_step_has_room_for_its_activations_and_twice_where_two_are_under_way() -> None:
    config = load_model(GUIDE).decoder.config
    altup: Any = SimpleNamespace(streams=4)
    with using(Simulator(SimulatorOptions(mode="fast"))):
        one, two = (_working(config, Settings(async_scheduling=ahead)) for ahead in ("off", "on"))
        many = _working(replace(config, altup=altup), Settings(async_scheduling="off"))
    settings = Settings()
    assert two == 2 * one
    assert many - one >= 4 * 3 * config.hidden_size * (settings.chunk + settings.max_batch)
