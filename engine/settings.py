"""The settings of a model's run: each is one field, and its flag has the field's name."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Struct

# How Metal kernels append to the KV cache: new tokens kept apart from immutable pools, written into
# pools through a pointer and ordered by tokens, or into what may be copies of the pools.
Pattern = Literal["tail", "in-place", "functional"]


@dataclass(frozen=True, slots=True)
class Flag:
    """A field's flag on a command line, beside the name, type and default of the field.

    The metavar names the unit, as in BYTES; `auto` is a word for 0. Field `kv_cache` is --kv-cache
    and BESSEMER_KV_CACHE, unless `name` is the flag's; `variable` is one more of the environment.
    """

    metavar: str
    help: str
    min: int = 0
    max: int = 2**31 - 1
    auto: bool = False
    name: str = ""
    variable: str = ""


class OneAnswer(Struct, frozen=True, tag="one_answer"):
    """The only answer that is wanted: its tokens and its prompt's, and the tokenizer's eos id."""

    tokens: int
    eos: int | None


class Settings(Struct, frozen=True, kw_only=True):
    """A user's choices for a model's run; 0 is auto where a flag takes that word.

    `one_answer` is no flag: with it, all that others would need is left out.
    """

    # fmt: off
    kv_cache: Annotated[int, Flag(
        "BYTES", "Memory for each model's KV cache; auto takes what fits.", auto=True,
    )] = 0
    max_batch: Annotated[int, Flag(
        "N", "Sequences that are generated together.", min=1, max=4096,
    )] = 64
    queue: Annotated[int, Flag(
        "N",
        "Sequences (prompts times n) of one client that may wait; of all clients, twice as many, "
        "of which each leaves room to others. 0: nothing waits.",
    )] = 256
    chunk: Annotated[int, Flag(
        "N",
        "Prompt tokens that are read in one step; on a GPU twice as many where no answer waits.",
        min=1, max=65536,
    )] = 256
    threads: Annotated[int, Flag(
        "N", "Threads of each model on a CPU; auto shares out the physical cores.",
        min=1, max=256, auto=True,
    )] = 0
    cpu_precision: Annotated[Literal["auto", "fast", "exact"], Flag(
        "KIND",
        "How a CPU multiplies quantized weights: fast rounds activations to 8 bits, auto all but "
        "outliers, which would make the others coarse, exact keeps float32.",
    )] = "auto"
    cpu_tier: Annotated[Literal["auto", "avx512", "avx2", "neon", "plain"], Flag(
        "KIND",
        "Instructions that a CPU's kernels are compiled for: avx512 (with VNNI), avx2, neon, "
        "or plain C; auto, the best that the machine has.",
    )] = "auto"
    kv_bits: Annotated[Literal[0, 4, 8, 16], Flag(
        "N",
        "Bits of a number in the KV cache: 4, 8 or 16; auto is 16, or 32 where weights are.",
        auto=True,
    )] = 0
    metal: Annotated[Literal["auto", "simulator", "checked", "apple-like", "off"], Flag(
        "KIND",
        "Where Metal kernels run: auto, on a Mac's GPU; simulator, on a CPU model of Metal; "
        "checked, the same with every access checked; apple-like, with results as inexact as "
        "Apple's documents allow; off, nowhere.",
    )] = "auto"
    metal_kv: Annotated[Pattern, Flag(
        "KIND",
        "How Metal kernels append to the KV cache: tail keeps new tokens apart, in-place writes "
        "through a pointer if the GPU passes a test of that, functional copies.",
    )] = "tail"
    async_scheduling: Annotated[Literal["auto", "on", "off"], Flag(
        "KIND",
        "Submit a step before the one before it is read, so that the device never waits for "
        "Python: auto, where it computes beside Python.",
    )] = "auto"
    check_weights: Annotated[bool, Flag(
        "", "Refuse a model whose weights hold NaN or infinity; takes a moment more to load.",
    )] = False
    parse_special: Annotated[bool, Flag(
        "", "Let names of control tokens in messages, documents and other texts be these tokens; "
        "a client may then forge turns.",
    )] = False
    # fmt: on
    one_answer: OneAnswer | None = None
