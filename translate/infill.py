"""Filling in the text between a prefix and a suffix, by the marks that a tokenizer has for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PREFIX, SUFFIX = "prefix", "suffix"  # the texts themselves, in a row of the table


@dataclass(frozen=True, slots=True)
class InfillFormat:
    """The order of marks and texts in a prompt; an answer also ends at the tokens `ends`."""

    parts: tuple[str, ...]
    ends: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        return tuple(part for part in self.parts if part not in (PREFIX, SUFFIX))


def _prefix_first(prefix: str, suffix: str, middle: str, *ends: str) -> InfillFormat:
    return InfillFormat((prefix, PREFIX, suffix, SUFFIX, middle), ends)


# The first whose marks are all there counts; each names where a family's marks are written.
FORMATS = (
    # Qwen/Qwen2.5-Coder-7B, README.md; google/codegemma-2b, README.md, which ends at a separator.
    _prefix_first(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>"),
    ),
    # bigcode/starcoder2-3b, ibm-granite/granite-8b-code-base, stabilityai/stable-code-3b.
    _prefix_first("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>", "<file_sep>"),
    # bigcode/santacoder, README.md.
    _prefix_first("<fim-prefix>", "<fim-suffix>", "<fim-middle>", "<fim-pad>"),
    # deepseek-ai/deepseek-coder-6.7b-base, README.md: the hole is where the answer belongs.
    _prefix_first(
        "<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"
    ),
    # zai-org/codegeex4-all-9b, README.md: the suffix goes before the prefix.
    InfillFormat(("<|code_suffix|>", SUFFIX, "<|code_prefix|>", PREFIX, "<|code_middle|>")),
    # ByteDance-Seed/Seed-Coder-8B-Base, README.md.
    InfillFormat(("<[fim-suffix]>", SUFFIX, "<[fim-prefix]>", PREFIX, "<[fim-middle]>")),
    # meta-llama/CodeLlama-7b-hf, tokenizer_config.json.
    _prefix_first("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>", "\u2581<EOT>"),
    # mistralai/Codestral-22B-v0.1: mistral_common's encode_fim.
    InfillFormat(("[SUFFIX]", SUFFIX, "[PREFIX]", PREFIX)),
)


def infill_format(id_of: Callable[[str], int | None]) -> InfillFormat | None:
    """Return the format whose marks a tokenizer has; None where it has those of none."""
    return next(
        (each for each in FORMATS if None not in map(id_of, each.marks)),
        None,
    )


def joined(
    format: InfillFormat,
    id_of: Callable[[str], int | None],
    prefix: Sequence[int],
    suffix: Sequence[int],
) -> list[int]:
    """Return the tokens of a prompt, of those of its two texts."""
    texts = {PREFIX: prefix, SUFFIX: suffix}
    parts = (texts[part] if part in texts else (id_of(part),) for part in format.parts)
    return [token for part in parts for token in part if token is not None]
