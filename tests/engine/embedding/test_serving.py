"""Embedding and reranking checkpoints made ready to serve, within the bytes they are given."""

import json
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from msgspec import structs

from bessemer.engine.embedding.sentence_transformers import DescriptionError, Purpose, describe
from bessemer.engine.embedding.serving import LoadedEmbeddingModel, load_embedding_model
from bessemer.engine.memory import DoesNotFit
from bessemer.engine.request import Embed, Embedded, Event, Rank, Ranked, Refusal, Refused
from bessemer.engine.settings import Settings
from tests.engine.loading import load_embedder
from tests.http.running import guide_copy

from ..tiny_embedders import EMBEDDERS, NORMALIZE, POOLING, QUERY, RERANKERS, modules

SETTINGS = Settings(max_batch=4, queue=4, chunk=64)
MEMORY = 10**9  # bytes


def serving(
    path: Path, kind: Purpose, settings: Settings = SETTINGS, memory: int = MEMORY
) -> LoadedEmbeddingModel:
    description = describe(path)
    assert kind != "generate" and description.purpose == kind
    return load_embedding_model(description, settings, memory, lambda: None)


def test_an_embedder_in_a_folder_of_its_own(tmp_path: Path) -> None:
    path = EMBEDDERS["three_modes_lower_case_own_folder"].write(tmp_path)
    loaded, woken = serving(path, "embed"), SimpleQueue[None]()
    loaded = load_embedding_model(describe(path), SETTINGS, MEMORY, lambda: woken.put(None))
    loaded.engine.submit(Embed(id=1, inputs=["the cat", "DOG"]))
    woken.get(timeout=20)
    (event,) = loaded.engine.step()
    assert isinstance(event, Embedded) and event.over
    out = np.frombuffer(event.vectors, "<f4").reshape(2, -1)
    assert np.abs(out - load_embedder(path).embed(["the cat", "DOG"])).max() < 1e-5
    assert (loaded.model_type, loaded.plan.context, loaded.plan.pool) == ("modernbert", 30, 0)
    assert loaded.plan.context == load_embedder(path).reader.longest
    assert loaded.plan.weights == load_embedder(path).weight_bytes
    assert "KV pool" not in str(loaded.plan) and "context 30 tokens" in str(loaded.plan)


def test_a_reranker(tmp_path: Path) -> None:
    woken = SimpleQueue[None]()
    path = RERANKERS["raw"].write(tmp_path)
    loaded = load_embedding_model(describe(path), SETTINGS, MEMORY, lambda: woken.put(None))
    loaded.engine.submit(Rank(id=1, query=QUERY, documents=["fish"]))
    woken.get(timeout=20)
    assert [type(event) for event in loaded.engine.step()] == [Ranked]


def test_a_step_takes_a_chunk_of_tokens(tmp_path: Path) -> None:
    path = EMBEDDERS["no_modules"].write(tmp_path)
    for chunk, steps in ((8, 4), (16, 2), (64, 1)):
        woken = SimpleQueue[None]()
        settings = structs.replace(SETTINGS, chunk=chunk)
        loaded = load_embedding_model(describe(path), settings, MEMORY, lambda: woken.put(None))  # noqa: B023
        loaded.engine.submit(Embed(id=1, inputs=[[5] * 8] * 4))
        woken.get(timeout=20)
        events = [loaded.engine.step() for _ in range(steps)]
        assert all(events) and not loaded.engine.busy


def test_so_many_requests_may_wait(tmp_path: Path) -> None:
    settings = structs.replace(SETTINGS, max_batch=2, queue=1)
    engine = serving(EMBEDDERS["no_modules"].write(tmp_path), "embed", settings).engine
    for number in range(3):
        engine.submit(Embed(id=number, inputs=["fish"]))
    with pytest.raises(Refusal, match="Too many"):
        engine.submit(Embed(id=3, inputs=["fish"]))


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = EMBEDDERS["no_modules"].write(tmp_path)
    needed = serving(path, "embed").plan
    assert 0 < needed.working < 10**7
    min_budget = needed.weights + needed.working
    with pytest.raises(DoesNotFit, match="to work in, but it was given"):
        serving(path, "embed", memory=min_budget - 1)
    assert serving(path, "embed", memory=min_budget).plan.budget == min_budget
    with pytest.raises(DoesNotFit, match="besides about 1 B for the program"):
        about = describe(path), SETTINGS, min_budget, lambda: None
        load_embedding_model(*about, program=lambda: 1)


def test_more_tokens_at_a_time_need_more_memory(tmp_path: Path) -> None:
    path = EMBEDDERS["no_modules"].write(tmp_path)
    small, large = (
        serving(path, "embed", structs.replace(SETTINGS, chunk=chunk)).plan.working
        for chunk in (64, 640)
    )
    assert 2 * small < large < 10 * small


def test_memory_for_shorter_inputs_alone(tmp_path: Path) -> None:
    path = replace(EMBEDDERS["no_modules"], limit=160).write(tmp_path)
    full = serving(path, "embed").plan
    assert full.context == 160
    woken = SimpleQueue[None]()
    less = full.weights + full.working * 15 // 16
    loaded = load_embedding_model(describe(path), SETTINGS, less, lambda: woken.put(None))
    assert 128 <= loaded.plan.context < 160
    assert loaded.plan.weights + loaded.plan.working <= less
    events: list[Event] = []
    for number, truncate in enumerate((True, False)):
        loaded.engine.submit(Embed(id=number, inputs=["the " * 300], truncate=truncate))
        woken.get(timeout=20)
        events += loaded.engine.step()
    cut, refused = events
    assert isinstance(cut, Embedded) and cut.tokens == loaded.plan.context
    assert isinstance(refused, Refused) and f"takes {loaded.plan.context}" in refused.message
    with pytest.raises(DoesNotFit):
        serving(path, "embed", memory=full.weights + full.working // 2)


def test_a_decoder_that_embeds(tmp_path: Path) -> None:
    path = guide_copy(tmp_path / "decoder")
    following = (("1_Pooling", POOLING), ("2_Normalize", NORMALIZE))
    (path / "modules.json").write_text(json.dumps(modules(*following)))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    woken = SimpleQueue[None]()
    loaded = load_embedding_model(describe(path), SETTINGS, MEMORY, lambda: woken.put(None))
    loaded.engine.submit(Embed(id=1, inputs=["the cat", "serve a model"]))
    woken.get(timeout=20)
    (event,) = loaded.engine.step()
    assert isinstance(event, Embedded)
    out = np.frombuffer(event.vectors, "<f4").reshape(2, -1)
    oracle = load_embedder(path).embed(["the cat", "serve a model"])
    assert np.abs(out - oracle).max() < 1e-5
    assert (loaded.model_type, loaded.plan.context) == ("llama", 2048)
    with pytest.raises(DoesNotFit):
        load_embedding_model(describe(path), SETTINGS, loaded.plan.weights + 10**6, lambda: None)


def test_threads_are_used_where_a_number_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    monkeypatch.setattr("bessemer.engine.embedding.serving.use_threads", used.append)
    path = EMBEDDERS["no_modules"].write(tmp_path)
    for threads in (0, 3):
        serving(path, "embed", structs.replace(SETTINGS, threads=threads))
    assert used == [3]


def test_numbers_that_take_more_bits_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = EMBEDDERS["no_modules"].write(tmp_path)
    for said in (None, "its numbers take more bits"):
        monkeypatch.setattr("bessemer.engine.embedding.serving.widening", lambda _, it=said: it)
        serving(path, "embed")
        assert capsys.readouterr().err == (f"{said}\n" if said else "")


def test_files_that_make_no_sense_are_named(tmp_path: Path) -> None:
    path = EMBEDDERS["mean_normalized_cut"].write(tmp_path)
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "median"}')
    with pytest.raises(DescriptionError, match="1_Pooling"):
        serving(path, "embed")
