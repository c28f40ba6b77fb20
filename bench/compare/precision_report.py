"""`bessemer bench quality --tokens N`: what each precision costs a model, beside llama.cpp."""

import os
from collections.abc import Sequence

from bessemer.bench.compare.contest import About, Metric, Unavailable
from bessemer.bench.compare.divergence import (
    COUNTED,
    WINDOW,
    Divergence,
    LlamaCppDivergence,
    Peer,
    compare,
)
from bessemer.bench.compare.machine import cores, cpu_tier, describe, installed
from bessemer.bench.compare.options import QualityOptions
from bessemer.bench.compare.participants import OURS
from bessemer.bench.compare.quality_report import report_of
from bessemer.bench.compare.real_text import sources, windows
from bessemer.bench.compare.report import BenchReport, ResultRow
from bessemer.bench.compare.rounds import Tell
from bessemer.bench.contestants.peers import PeerOptions, binary
from bessemer.engine.checkpoint.json_files import is_gguf
from bessemer.engine.text.loading import load_tokenizer
from bessemer.http import hub
from bessemer.http.config import hub_cache

METRIC = Metric("divergence", "", digits=5)
LLAMA_CPP = "llama.cpp"
SUFFERS = 0.05  # KL divergence above which a model is said to suffer


def precision_report(line: Sequence[str], options: QualityOptions, tell: Tell) -> BenchReport:
    """Compare precisions, and llama.cpp on the same file, with exact arithmetic on real text."""
    source = options.model or hub.defaults()[0]
    path = hub.resolve(source, False, hub_cache(os.environ))
    texts = windows(load_tokenizer(path), -(-options.tokens // COUNTED), WINDOW)
    peers: dict[str, Peer] = {}
    if options.llama_cpp:
        if not is_gguf(path):
            raise Unavailable("--llama-cpp needs a model in a GGUF file, for both read the same")
        tool = binary("llama-perplexity", PeerOptions(llama_cpp=options.llama_cpp))
        peers[LLAMA_CPP] = LlamaCppDivergence(tool, path, cores())
    machine, total = describe(), len(texts)
    found = compare(path, texts, peers, tell=lambda done: tell("windows", done, total))
    name = hub.name_of(source, path)
    about = {"model": name, "text": ", ".join(sources()), "CPU tier": cpu_tier() or "none"}
    contestants = [About(OURS, installed("bessemer"), about, 0)]
    contestants += [About(LLAMA_CPP, "not said", {}, 0)] if peers else []
    rows = [_row(case, each) for case, each in found.items()]
    return report_of(line, machine, contestants, METRIC, rows)


def _row(case: str, found: Divergence) -> ResultRow:
    shown = (
        f"KL {found.mean:.5f} \u00b1 {found.error:.5f}, the same first token for "
        f"{found.agreement:.2%} of {found.count}"
    )
    notes = ["it suffers"] if found.mean > SUFFERS else []
    mean = found.mean
    numbers = ([mean], mean, mean, mean, mean, mean)
    label = LLAMA_CPP if case == LLAMA_CPP else OURS
    return ResultRow(case, METRIC.name, label, *numbers, notes=notes, shown=shown)
