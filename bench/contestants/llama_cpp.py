"""llama.cpp as a contestant, through its own llama-bench and llama-batched-bench."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.bench.compare.contest import About, Case, CaseFailed, Measure

PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """llama.cpp, whose every measurement is a process that warms up before it counts."""

    label: str
    bench: Path
    batched: Path
    model: Path
    threads: int
    remark: str = ""

    def start(self) -> About:
        return about(self.label, self._bench(Case("prefill", "", tokens=1)), self.remark)

    def measure(self, case: Case, seed: int) -> Measure:
        if case.benchmark == "batch":
            return batched_speed(self._run([str(self.batched), *self._batched_flags(case)]))
        return bench_speed(self._bench(case))

    def close(self) -> None:
        pass

    def _bench(self, case: Case) -> str:
        prompt, answer = (case.tokens, 0) if case.benchmark == "prefill" else (0, case.tokens)
        flags = f"-p {prompt} -n {answer} -d {case.context} -t {self.threads} -r 1 -o json"
        return self._run([str(self.bench), "-m", str(self.model), *flags.split()])

    def _batched_flags(self, case: Case) -> list[str]:
        size = case.streams * (case.context + case.tokens + 1)
        flags = (
            f"-c {size} -npp {case.context} -ntg {case.tokens} -npl {case.streams}"
            f" -t {self.threads} -tb {self.threads} --output-format jsonl"
        )
        return ["-m", str(self.model), *flags.split()]

    def _run(self, command: list[str]) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise CaseFailed(f"{self.label} gave no answer within {PATIENCE:.0f} s") from None
        except OSError as error:
            raise CaseFailed(f"{command[0]} cannot be started: {error.strerror}") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no word of why"]
            raise CaseFailed(f"it ended with {done.returncode}: {lines[-1].strip()}")
        return done.stdout


def about(label: str, output: str, remark: str = "") -> About:
    """Read from llama-bench's JSON its build and every setting that bears on speed."""
    row = _row(output)
    settings = {
        "backend": str(row["backends"]),
        "threads": str(row["n_threads"]),
        "weights": str(row["model_type"]),
        "KV": f"{row['type_k']}/{row['type_v']}",
        "flash attention": {-1: "auto", 0: "off", 1: "on"}.get(int(row["flash_attn"]), "?"),
        "repacked": "yes" if row.get("repack", True) else "no",
    }
    if remark:
        settings["remark"] = remark
    version = f"build {row['build_number']} ({row['build_commit']})"
    return About(label, version, settings, int(row["model_size"]))


def bench_speed(output: str) -> Measure:
    return Measure({"speed": float(_row(output)["avg_ts"])})


def batched_speed(output: str) -> Measure:
    """Read the speed of generation alone, over all streams. Raises CaseFailed."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise CaseFailed("llama-batched-bench printed no figures")
    row: Mapping[str, Any] = json.loads(lines[-1])
    return Measure({"speed": float(row["speed_tg"])})


def _row(output: str) -> Mapping[str, Any]:
    try:
        rows = json.loads(output)
    except ValueError:
        rows = []
    if not rows:
        raise CaseFailed("llama-bench printed no figures")
    row: Mapping[str, Any] = rows[-1]
    return row
