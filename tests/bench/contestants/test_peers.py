"""Contestants: recorded words of llama.cpp's programs, processes that answer, err and die."""

import sys
from pathlib import Path

import pytest

from bessemer.bench.compare.contest import Case, CaseFailed, Unavailable
from bessemer.bench.compare.options import BenchOptions
from bessemer.bench.compare.participants import prepare
from bessemer.bench.contestants.child import Child
from bessemer.bench.contestants.llama_cpp import LlamaCpp, about, batched_speed, bench_speed
from bessemer.bench.contestants.peers import (
    PeerOptions,
    binary,
    contestants,
    mlx_lm,
    server_commands,
)
from bessemer.bench.models.forms import BenchModel, real, synthetic
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage
from bessemer.engine.gguf.container import read_gguf
from bessemer.http.hub import BUILT_IN

GGUF = Path(__file__).parents[2] / "engine" / "gguf" / "golden"
RECORDED = Path(__file__).with_name("recorded")
DECODE = (RECORDED / "llama_bench_decode.json").read_text()
PREFILL = (RECORDED / "llama_bench_prefill.json").read_text()
BATCHED = (RECORDED / "llama_batched_bench.jsonl").read_text()


def test_llama_bench_is_understood() -> None:
    assert bench_speed(DECODE).values["speed"] == pytest.approx(8 / 58456802e-9, rel=1e-5)
    assert bench_speed(PREFILL).values["speed"] == pytest.approx(64 / 347018e-9, rel=1e-5)
    llama = about("llama.cpp", DECODE, "the same weights")
    assert (llama.version, llama.bytes) == ("build 1 (0c1e570)", 216211584)
    assert llama.settings["threads"] == "2" and llama.settings["KV"] == "f16/f16"
    assert llama.settings["backend"] == "CPU" and llama.settings["flash attention"] == "auto"


def test_llama_batched_bench_is_understood() -> None:
    assert batched_speed(BATCHED).values["speed"] == pytest.approx(4 * 8 / 0.000775, rel=1e-3)


@pytest.mark.parametrize("output", ["", "[\n", "[]", "no json"])
def test_no_figures_are_a_failure(output: str) -> None:
    for parse in (bench_speed, batched_speed):
        with pytest.raises(CaseFailed, match="no figures"):
            parse(output)


def program(folder: Path, body: str, name: str = "llama-bench") -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    bench = program(tmp_path, "print('error: no model', file=sys.stderr); sys.exit(1)")
    llama = LlamaCpp("llama.cpp", bench, bench, tmp_path / "m.gguf", 2)
    with pytest.raises(CaseFailed, match="ended with 1: error: no model"):
        llama.start()
    gone = LlamaCpp("llama.cpp", tmp_path / "none", tmp_path / "none", tmp_path / "m.gguf", 2)
    with pytest.raises(CaseFailed, match="cannot be started"):
        gone.measure(Case("decode", "", 1), 0)


def test_what_llama_bench_is_asked(tmp_path: Path) -> None:
    body = (
        f"open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv[1:]))\nprint({DECODE!r})"
    )
    llama = LlamaCpp("l", program(tmp_path, body), tmp_path, tmp_path / "m.gguf", 3)
    llama.measure(Case("decode", "", 8, 32), 0)
    assert (tmp_path / "asked").read_text().endswith("-p 0 -n 8 -d 32 -t 3 -r 1 -o json")


def ours(path: Path = BUILT_IN) -> Child:
    load = {"path": str(path), "pool_tokens": 512, "streams": 2, "threads": 1, "chunk": 64}
    command = [sys.executable, "-P", "-m", "bessemer.bench.contestants.ours"]
    return Child("ours", command, {**load, "precision": "fast"}, settings={"more": "yes"})


def test_our_engine_in_a_process_of_its_own() -> None:
    child = ours()
    try:
        facts = child.start()
        assert facts.version == "0.1.0" and facts.settings["more"] == "yes"
        for case in (
            Case("decode", "", 4, 20),
            Case("prefill", "", 30),
            Case("batch", "", 4, 8, 2),
        ):
            assert child.measure(case, 1).values["speed"] > 0
        with pytest.raises(CaseFailed, match=r"context|tokens"):
            child.measure(Case("prefill", "", 100_000), 1)
    finally:
        child.close()
    with pytest.raises(CaseFailed, match="has ended"):
        child.measure(Case("decode", "", 1), 1)


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    child = ours(tmp_path)
    with pytest.raises(CaseFailed, match=r"config\.json"):
        child.start()
    child.close()


def test_a_process_that_dies_leaves_its_last_words() -> None:
    script = "import sys; sys.stdin.readline(); print('out of luck', file=sys.stderr); sys.exit(3)"
    child = Child("them", [sys.executable, "-c", script], {})
    with pytest.raises(CaseFailed, match="ended with 3: out of luck"):
        child.start()
    child.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BenchModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return synthetic(shape("tiny"), Storage(), 1, "")


@pytest.mark.parametrize(
    ("name", "excerpt"),
    [
        ("exllama", "is no peer; there are mlx_lm"),
        ("mlx_lm:int8", "is no peer"),
        ("mlx_lm+mkl", "is no peer"),
    ],
)
def test_unknown_peers(name: str, excerpt: str) -> None:
    with pytest.raises(Unavailable, match=excerpt):
        mlx_lm(name, PeerOptions())


def test_peers_that_are_not_there(model: BenchModel, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="has no mlx_lm"):
        empty = program(tmp_path, "sys.exit(1)", "python")
        mlx_lm("mlx_lm", PeerOptions(mlx_lm_python=str(empty)))
    with pytest.raises(Unavailable, match=r"llama-bench is not in .*--llama-cpp .*peers\.md"):
        contestants(["llama.cpp"], model, PeerOptions(llama_cpp=str(tmp_path / "none")))
    with pytest.raises(Unavailable, match="runs already"):
        server_commands(["http://127.0.0.1:1"], model, PeerOptions(), 1)


def test_programs_are_found_in_a_build_folder(tmp_path: Path) -> None:
    folder = tmp_path / "build" / "bin"
    folder.mkdir(parents=True)
    path = program(folder, "pass")
    assert binary("llama-bench", PeerOptions(llama_cpp=str(tmp_path))) == path
    assert binary("llama-bench", PeerOptions(llama_cpp=str(folder))) == path


def test_mlx_lm_is_described_by_its_own_interpreter(model: BenchModel, tmp_path: Path) -> None:
    said = '{"mlx_lm": "9.9", "mlx": "8.8", "blas": ""}'
    python = program(tmp_path, f"print({said!r})", "python")
    peers = PeerOptions(mlx_lm_python=str(python))
    peer = mlx_lm("mlx_lm:dense", peers)
    assert (peer.label, peer.version, peer.settings["mlx"]) == ("mlx_lm dense", "9.9", "8.8")
    (child,) = contestants(["mlx_lm:dense"], model, peers)
    assert isinstance(child, Child) and child.size == 4 * shape("tiny").parameters
    (server,) = server_commands(["mlx_lm:float32"], model, peers, 2)
    assert "4bit-g64-float32" in " ".join(server.argv) and "PORT" in server.argv


def test_a_checkpoint_without_a_gguf_file() -> None:
    with pytest.raises(Unavailable, match="needs guide as a GGUF file"):
        real("guide", BUILT_IN, None).gguf()


def test_a_gguf_file_is_what_both_run() -> None:
    path = GGUF / "llama.gguf"
    model = real("llama", path, None)
    assert (model.path, model.gguf(), model.gguf_remark) == (path, path, "the same file")
    tensors = read_gguf(path).tensors
    size = sum(each.bytes for name, each in tensors.items() if name != "rope_freqs.weight")
    assert model.stored == "GGUF: F16, F32" and model.cost.bytes == size
    other = real("guide", BUILT_IN, path)
    assert (other.path, other.gguf_remark) == (BUILT_IN, "another file, named with --gguf")
    both = prepare(BenchOptions(benchmark="decode", gguf=str(path)))
    assert (both.path, both.gguf()) == (path, path)
