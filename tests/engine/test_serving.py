"""The built-in model in the real engine: the same bits, whatever was cached or interrupted."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec import structs
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from bessemer.engine.memory import DoesNotFit
from bessemer.engine.request import Event, Request, Sampling, Started, Token
from bessemer.engine.runner import Runner
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import Settings
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


def test_a_tokenizer_may_know_more_ids_than_the_model(tmp_path: Path) -> None:
    directory, plain = guide_copy(tmp_path / "more"), serving()
    settings = directory / "tokenizer_config.json"
    more = {"image_token": "<image>", "eos_token": "<beyond>"}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | more))
    (directory / "generation_config.json").write_text('{"eos_token_id": [1000000]}')
    model, tokens = serving(directory=directory), random_tokens(plain, 1, 40)
    assert plain.vocabulary == model.vocabulary == plain.tokenizer.size
    assert model.tokenizer.size == model.vocabulary + 2
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


def worded(directory: Path, name: str) -> Path:
    """A tiny model, with a tokenizer of its vocabulary."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(tiny(name).write(directory) / FILE))
    return directory


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
    [("qwen3_layer_types_tied", 2), ("qwen3_next_shared_keys", 1), ("deepseek_v2_lite_yarn", 0)],
)
def test_tails_are_for_what_metal_kernels_know(name: str, tailed: int, tmp_path: Path) -> None:
    with using(Simulator(SimulatorOptions(mode="fast"))):
        runner = serving(directory=worded(tmp_path, name)).engine._forward
    assert isinstance(runner, Runner) and len(runner._tails) == tailed
