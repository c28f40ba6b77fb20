"""Texts, and pairs of them, as the tokens that an embedding or reranking model takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import tokenizers
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from ..request import Refusal
from ..sandbox import FAULTS
from ..text.control import ControlTokens, control_tokens
from ..text.loading import load_tokenizer
from .chat_template import Template, Turns, load_chat_template
from .sentence_transformers import (
    OPTIONS,
    Description,
    DescriptionError,
    ModelOptions,
    convert,
    read_transformer_file,
)

UNLIMITED = 1 << 30  # tokenizers that know no limit say more than that
FILLERS = ("0", "1 2 3 4")  # texts that have no last token in common


class InputError(ValueError):
    """An input cannot be embedded or ranked; the message says why."""


class TokenizerFile(msgspec.Struct, frozen=True):
    """The settings in tokenizer_config.json beside the names of tokens."""

    model_max_length: float | None = None
    truncation_side: Literal["left", "right"] = "right"
    model_input_names: list[str] | None = None

    @property
    def longest(self) -> int:
        return int(min(self.model_max_length or UNLIMITED, UNLIMITED))

    @property
    def typed(self) -> bool:
        """True if the model is told a second text from the first."""
        return self.model_input_names is None or "token_type_ids" in self.model_input_names


@dataclass(frozen=True, slots=True)
class Input:
    """A text or a pair in tokens, with special ones; the first `prompted` of them are a prompt's.

    `types`, one for each token, tell a second text from the first.
    """

    tokens: Sequence[int]
    types: Sequence[int]
    prompted: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class InputReader:
    """A model's tokenizer with its prompts: texts to put before others, by name.

    With a `template` texts are put into it, and prompts are said by its system. Prompts may spell
    control tokens, and texts may not.
    """

    tokenizer: tokenizers.Tokenizer
    truncating: tokenizers.Tokenizer  # the same one, which shortens to `longest`
    longest: int  # tokens
    vocabulary: int
    typed: bool
    special: frozenset[int]
    prompts: Mapping[str, str]
    default_prompt: str
    template: Template | None
    control: ControlTokens

    def text(self, text: str, prompt: str | None = None, truncate: bool = True) -> Input:
        """Read a text after the prompt of that name, or the model's default one; "" is none."""
        before = self._prompt(prompt)
        if self.template is not None:
            return self._templated(self.template, (("user", text),), before, truncate)
        (text,), guard = self._guarded((text,))
        encoded = self._encode(truncate, guard, before + text)
        return self._checked(encoded.ids, self._types(encoded), self._length(before))

    def pair(
        self, first: str, second: str, truncate: bool = True, prompt: str | None = None
    ) -> Input:
        """Read a query and a document; the longer one is cut first, or in a template the end."""
        before = self._prompt(prompt)
        if self.template is not None:
            turns = (("query", first), ("document", second))
            return self._templated(self.template, turns, before, truncate)
        (first, second), guard = self._guarded((first, second))
        encoded = self._encode(truncate, guard, before + first, second)
        return self._checked(encoded.ids, self._types(encoded))

    def tokens(self, tokens: Sequence[int], truncate: bool = True) -> Input:
        """Read tokens as they are, with nothing put around them."""
        tokens = tokens[: self.longest] if truncate else tokens
        return self._checked(tokens, [0] * len(tokens))

    def shortened(self, longest: int) -> "InputReader":
        """Return a reader of inputs of no more than `longest` tokens."""
        if longest >= self.longest:
            return self
        side = (self.truncating.truncation or {}).get("direction", "right")
        cut = truncating(self.tokenizer, longest, side)
        return replace(self, truncating=cut, longest=longest)

    def _guarded(self, texts: Sequence[str]) -> tuple[Sequence[str], str]:
        try:
            return self.control.guard_all(texts)
        except Refusal as refusal:
            raise InputError(refusal.message) from None

    def _encode(
        self, truncate: bool, guard: str, text: str, pair: str | None = None
    ) -> tokenizers.Encoding:
        text, kept = self.control.settled(text, guard)
        if pair is not None:
            pair, kept_too = self.control.settled(pair, guard)
            kept = kept or kept_too
        base = self.truncating if truncate else self.tokenizer
        # Batches of one: only these let other threads run meanwhile.
        encoding = self.control.encoding(kept, base)
        (encoded,) = encoding.encode_batch_fast([text if pair is None else (text, pair)])
        return encoded

    def _templated(self, template: Template, turns: Turns, prompt: str, truncate: bool) -> Input:
        """Read turns in the template; where it is cut, what follows the last text stays."""
        system = (("system", prompt),) if prompt else ()
        try:
            tokens = self._rendered(template, (*system, *turns))
            if truncate and len(tokens) > self.longest:
                ending = self._ending(template, system, turns)[-self.longest :]
                tokens = [*tokens[: self.longest - len(ending)], *ending]
        except FAULTS as error:
            raise InputError(f"the model's chat template refuses this: {error}") from None
        return self._checked(tokens, [0] * len(tokens))

    def _rendered(self, template: Template, turns: Turns) -> list[int]:
        said, guard = self._guarded([text for role, text in turns if role != "system"])
        rest = iter(said)
        guarded = [(role, text if role == "system" else next(rest)) for role, text in turns]
        text, kept = self.control.settled(template(guarded), guard)
        encoding = self.control.encoding(kept, self.tokenizer)
        (encoded,) = encoding.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoded.ids
        return ids

    def _ending(self, template: Template, system: Turns, turns: Turns) -> list[int]:
        """Return the last tokens, as far as they do not depend on the texts."""
        filled = (tuple((role, text) for role, _ in turns) for text in FILLERS)
        one, other = (self._rendered(template, (*system, *each)) for each in filled)
        shorter = min(len(one), len(other))
        differing = (i for i in range(shorter) if one[-1 - i] != other[-1 - i])
        count = next(differing, 0)  # 0: nothing of the texts is in there
        return one[len(one) - count :]

    def _types(self, encoded: tokenizers.Encoding) -> list[int]:
        return encoded.type_ids if self.typed else [0] * len(encoded.ids)

    def _prompt(self, name: str | None) -> str:
        if name is None:
            return self.default_prompt
        if name and name not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "none"
            raise InputError(f"the model has no prompt named {name!r}; its prompts: {known}")
        return self.prompts[name] if name else ""

    def _length(self, prompt: str) -> int:
        """Count a prompt's tokens, without the special one that would end it."""
        tokens = self.truncating.encode(prompt).ids if prompt else []
        return len(tokens) - (bool(tokens) and tokens[-1] in self.special)

    def _checked(self, tokens: Sequence[int], types: Sequence[int], prompted: int = 0) -> Input:
        if not tokens:
            raise InputError("an input is empty")
        unknown = next((token for token in tokens if not 0 <= token < self.vocabulary), None)
        if unknown is not None:
            name = self.tokenizer.id_to_token(unknown) if unknown >= 0 else None
            of = "" if name is None else f" ({name!r})"
            raise InputError(f"token {unknown}{of} is not one of the model's {self.vocabulary}")
        if len(tokens) > self.longest:
            raise InputError(
                f"an input has {len(tokens)} tokens, and the model takes {self.longest}"
            )
        return Input(tokens, types, prompted)


def load_reader(
    description: Description,
    options: ModelOptions,
    context: int,
    vocabulary: int,
    parse_special: bool = False,
) -> InputReader:
    """Load a reader whose inputs exceed neither `context` tokens nor what the model's files say.

    With `parse_special` names of control tokens in texts are these tokens.
    """
    backbone = description.modules.backbone
    transformer = read_transformer_file(backbone)
    prepare = _lowercase if transformer.do_lower_case else None
    tokenizer = load_tokenizer(backbone, prepare, description.config)
    file = convert(backbone / "tokenizer_config.json", tokenizer.settings, TokenizerFile)
    message, plain = transformer.message, tokenizer.encoding
    template = None if message is None else load_chat_template(backbone, tokenizer, message)
    longest = min(context, transformer.max_seq_length or file.longest)
    cut = truncating(plain, longest, file.truncation_side)
    special = frozenset(tokenizer.special_names)
    prompts = _prompts(description.directory, options)
    control = ControlTokens(plain)
    if not parse_special:
        control = control_tokens(tokenizer, str(tokenizer.chat_template or ""))
    limits = longest, vocabulary
    return InputReader(plain, cut, *limits, file.typed, special, *prompts, template, control)


def _lowercase(encoding: tokenizers.Tokenizer) -> None:
    steps = [] if encoding.normalizer is None else [encoding.normalizer]
    encoding.normalizer = Normalizers([Lowercase(), *steps])


def truncating(
    tokenizer: tokenizers.Tokenizer, longest: int, side: str = "right"
) -> tokenizers.Tokenizer:
    """Return a copy that shortens to `longest` tokens, special ones among them, at a side."""
    copy = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = tokenizer.encode_special_tokens
    copy.enable_truncation(longest, direction=side)
    return copy


def _prompts(directory: Path, options: ModelOptions) -> tuple[dict[str, str], str]:
    """Return the prompts by name, and the text of the default one."""
    texts = {name: text or "" for name, text in options.prompts.items()}
    if options.default_prompt_name is None:
        return texts, ""
    if options.default_prompt_name not in texts:
        flaw = f"no prompt is named {options.default_prompt_name!r}"
        raise DescriptionError(f"{directory / OPTIONS}: {flaw}")
    return texts, texts[options.default_prompt_name]
