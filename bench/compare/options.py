"""The flags of `bessemer bench`, by command."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from bessemer.bench.command import NAMES, NUMBERS, flags_of
from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.compare.machine import cores
from bessemer.bench.models.synthetic import Dtype

ABOUT = {
    "decode": "Tokens a second of one stream, after prompts of given lengths.",
    "prefill": "Prompt tokens a second.",
    "batch": "Tokens a second over several streams, each with a prompt and cache of its own.",
    "serve": "The same through HTTP, with latencies; servers are started, URLs are asked.",
    "load": "Seconds until ready and until a first token, and the most memory held.",
    "memory": "Memory of a loaded model, with and without its KV pool.",
    "quality": "Structured output, reasoning apart from content, coherence; or a precision's cost.",
}
AMOUNTS = ("tokens", "context", "lengths", "streams", "chunk")
# The amounts that mean something to a command; it has the defaults of the others.
TAKEN = {
    "decode": ("tokens", "context", "chunk"),
    "prefill": ("lengths", "chunk"),
    "batch": ("tokens", "context", "streams", "chunk"),
    "serve": ("tokens", "context", "streams"),
    "load": (),
    "memory": ("tokens", "context"),
}
ROUNDS = {"load": 5, "memory": 3}
CONTEXTS = {"decode": (32,), "batch": (32,), "serve": (64,), "memory": (64,)}
CONTEXT_HELP = {
    "decode": "Tokens before, a list.",
    "batch": "Tokens of each prompt.",
    "serve": "Words of each prompt.",
    "memory": "Words of the prompt.",
}
STREAMS = {"batch": (1, 2, 4, 8), "serve": (1, 2, 4, 8, 16)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """The places that a report goes to."""

    json: Annotated[bool, Option("--json", help="Print JSON instead of a table.")] = False
    html: Annotated[str | None, Option(metavar="FILE", help="Write a page with plots.")] = None
    save: Annotated[bool, Option("--save", help="Keep the JSON among your results.")] = False
    save_to: Annotated[str | None, Option(metavar="DIR", help="Keep it there.")] = None
    log: Annotated[bool, Option("--log", help="Write an entry into bench/LOG.md.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions(Destinations):
    """A measurement: of which model, by whom, how often, and how much of it."""

    # fmt: off
    benchmark: str
    model: Annotated[str | None, Option(
        help="A directory or Hugging Face id.", show_default="the built-in model",
    )] = None
    shape: Annotated[str | None, Option(
        help="Random weights of this shape; see bessemer bench shapes.",
    )] = None
    layers: Annotated[int | None, Option(
        min=1, metavar="N", help="Of the shape; marked in all output.",
    )] = None
    bits: Annotated[int | None, Option(
        metavar="N", help="Of the shape's weights.", show_default="4",
    )] = None
    group: Annotated[int, Option(metavar="N", help="Weights that share a scale.")] = 64
    dtype: Annotated[Dtype | None, Option(
        help="Dense weights; with --bits, that of scales.",
    )] = None
    seed: Annotated[int, Option(metavar="N", help="Of random weights and prompts.")] = 1
    gguf: Annotated[str | None, Option(
        metavar="FILE", help="What llama.cpp runs, and without --model or --shape ours too.",
    )] = None
    head: Annotated[Literal["q6_k"] | None, Option(
        help="llama.cpp's head in 6 bits, as its quantizer makes it.",
    )] = None
    against: Annotated[tuple[str, ...], Option(
        **NAMES,
        help="mlx_lm, mlx_lm:dense, mlx_lm:stored (each with +openblas), llama.cpp, URLs.",
    )] = ()
    rounds: Annotated[int, Option(min=1, metavar="N", help="How often all is measured.")] = 10
    budget: Annotated[float, Option(
        metavar="SECONDS",
        help="For one measurement: fewer tokens for who is slower, said so; 0 is none.",
    )] = 60
    without_ours: Annotated[bool, Option(
        "--without-ours", help="Measure only the others.",
    )] = False
    tokens: Annotated[int, Option(min=1, metavar="N", help="To generate.")] = 64
    context: Annotated[tuple[int, ...], Option(**NUMBERS)] = (0,)
    lengths: Annotated[tuple[int, ...], Option(**NUMBERS, help="Of prompts.")] = (512,)
    streams: Annotated[tuple[int, ...], Option(**NUMBERS, help="At once.")] = (1,)
    chunk: Annotated[int, Option(
        min=1, metavar="N", help="Tokens of a prompt that we compute in one step.",
    )] = 256
    threads: Annotated[int, Option(
        min=1, metavar="N", help="Of each contestant.", show_default="the cores",
    )] = cores()
    precision: Annotated[Literal["auto", "fast", "exact"], Option(help="Of ours.")] = "auto"
    mlx_lm_python: Annotated[str, Option(metavar="PATH", help="That has mlx_lm.")] = ""
    llama_cpp: Annotated[str, Option(metavar="DIR", help="With llama-bench.")] = ""
    # fmt: on

    def __post_init__(self) -> None:
        if self.model is not None and self.shape is not None:
            raise Unavailable("argument --model: not allowed with argument --shape")


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityOptions(Destinations):
    """Whose answers are judged: any URLs, or without one, our own server's."""

    url: Annotated[list[str] | None, Option(metavar="URL", help="May be given again.")] = None
    model: Annotated[str, Option(help="Served by us if there is no --url.")] = ""
    ask_for: Annotated[str, Option(metavar="NAME", help="One of the URL's models.")] = ""
    tokens: Annotated[int, Option(
        min=0, metavar="N", help="KL divergence from exact arithmetic instead, over so many.",
    )] = 0  # fmt: skip
    llama_cpp: Annotated[str, Option(
        metavar="DIR", help="With llama-perplexity, which is judged beside it.",
    )] = ""  # fmt: skip


def flags(benchmark: str) -> Iterator[inspect.Parameter]:
    """Return the parameters that a benchmark shows to typer."""
    defaults = {
        "rounds": ROUNDS.get(benchmark, 10),
        "context": CONTEXTS.get(benchmark, (0,)),
        "streams": STREAMS.get(benchmark, (1,)),
    }
    helps = {"context": CONTEXT_HELP.get(benchmark, "")}
    without = set(AMOUNTS) - set(TAKEN[benchmark])
    return flags_of(BenchOptions, defaults, helps, without)
