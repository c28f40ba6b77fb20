"""Texts, and pairs of them, as the tokens that an embedding or reranking model takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
from tokenizers import Encoding as Encoded
from tokenizers import Tokenizer as Encoding
from tokenizers.normalizers import Lowercase, Normalizer
from tokenizers.normalizers import Sequence as Normalizers

from ..sandbox import FAULTS
from ..tokenizer import load as load_tokenizer
from .chat_template import Form, Turns, chat_form
from .sentence_transformers import ABOUT, About, Description, SentenceError, convert, read_settings

UNLIMITED = 1 << 30  # tokenizers that know no limit say more than that
FILLERS = ("0", "1 2 3 4")  # texts that have no last token in common


class PassageError(ValueError):
    """What was given cannot be embedded or ranked; the message says why."""


class TokenizerFile(msgspec.Struct, frozen=True):
    """What tokenizer_config.json says beside the names of tokens."""

    model_max_length: float | None = None
    model_input_names: list[str] | None = None

    @property
    def longest(self) -> int:
        return int(min(self.model_max_length or UNLIMITED, UNLIMITED))

    @property
    def typed(self) -> bool:
        """Whether the model is told a second text from the first."""
        return self.model_input_names is None or "token_type_ids" in self.model_input_names


@dataclass(frozen=True, slots=True)
class Passage:
    """Tokens with what belongs around them; the first `prompted` of them are a prompt's.

    `types`, one for each token, tell a second text from the first.
    """

    tokens: Sequence[int]
    types: Sequence[int]
    prompted: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PassageReader:
    """`longest` is in tokens; `prompts` are texts to put before others, by name.

    With a `form` texts are put into it, and prompts are what it has for a system's words.
    """

    whole: Encoding
    cut: Encoding  # the same, but it shortens to `longest`
    longest: int
    vocabulary: int
    typed: bool
    special: frozenset[int]
    prompts: Mapping[str, str]
    default_prompt: str
    form: Form | None = None

    def text(self, text: str, prompt: str | None = None, truncate: bool = True) -> Passage:
        """A text after the prompt of that name, or after the model's default one; "" is none."""
        before = self._prompt(prompt)
        if self.form is not None:
            return self._formed(self.form, (("user", text),), before, truncate)
        encoded = (self.cut if truncate else self.whole).encode(before + text)
        return self._checked(encoded.ids, self._types(encoded), self._length(before))

    def pair(
        self, first: str, second: str, truncate: bool = True, prompt: str | None = None
    ) -> Passage:
        """A query and a document in one; the longer one is cut first, or in a form the end."""
        before = self._prompt(prompt)
        if self.form is not None:
            turns = (("query", first), ("document", second))
            return self._formed(self.form, turns, before, truncate)
        encoded = (self.cut if truncate else self.whole).encode(before + first, second)
        return self._checked(encoded.ids, self._types(encoded))

    def tokens(self, tokens: Sequence[int], truncate: bool = True) -> Passage:
        """Tokens as they are, with nothing put around them."""
        unknown = next((token for token in tokens if not 0 <= token < self.vocabulary), None)
        if unknown is not None:
            raise PassageError(f"token {unknown} is not one of the model's {self.vocabulary}")
        given = tokens[: self.longest] if truncate else tokens
        return self._checked(given, [0] * len(given))

    def shortened(self, longest: int) -> "PassageReader":
        """For passages of no more than `longest` tokens."""
        if longest >= self.longest:
            return self
        return replace(self, cut=_cut(self.whole, longest), longest=longest)

    def _formed(self, form: Form, turns: Turns, prompt: str, truncate: bool) -> Passage:
        """What follows the last text in the form stays where this is cut."""
        system = (("system", prompt),) if prompt else ()
        try:
            tokens = self._rendered(form, (*system, *turns))
            if truncate and len(tokens) > self.longest:
                ending = self._ending(form, system, turns)[-self.longest :]
                tokens = [*tokens[: self.longest - len(ending)], *ending]
        except FAULTS as error:
            raise PassageError(f"the model's chat template refuses this: {error}") from None
        return self._checked(tokens, [0] * len(tokens))

    def _rendered(self, form: Form, turns: Turns) -> list[int]:
        return list(self.whole.encode(form(turns), add_special_tokens=False).ids)

    def _ending(self, form: Form, system: Turns, turns: Turns) -> list[int]:
        """The last tokens, as far as they do not depend on the texts."""
        filled = (tuple((role, text) for role, _ in turns) for text in FILLERS)
        one, other = (self._rendered(form, (*system, *each)) for each in filled)
        shorter = min(len(one), len(other))
        same = (i for i in range(shorter) if one[-1 - i] != other[-1 - i])
        count = next(same, 0)  # 0: nothing of the texts is in there
        return one[len(one) - count :]

    def _types(self, encoded: Encoded) -> list[int]:
        return encoded.type_ids if self.typed else [0] * len(encoded.ids)

    def _prompt(self, name: str | None) -> str:
        if name is None:
            return self.default_prompt
        if name and name not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "none"
            raise PassageError(f"the model has no prompt named {name!r}; its prompts: {known}")
        return self.prompts[name] if name else ""

    def _length(self, prompt: str) -> int:
        """In tokens, without the special one that would end it."""
        tokens = self.cut.encode(prompt).ids if prompt else []
        return len(tokens) - (bool(tokens) and tokens[-1] in self.special)

    def _checked(self, tokens: Sequence[int], types: Sequence[int], prompted: int = 0) -> Passage:
        if not tokens:
            raise PassageError("an input is empty")
        if len(tokens) > self.longest:
            raise PassageError(
                f"an input has {len(tokens)} tokens, and the model takes {self.longest}"
            )
        return Passage(tokens, types, prompted)


def load(description: Description, about: About, context: int, vocabulary: int) -> PassageReader:
    """No passage exceeds `context` tokens, nor what the model's files say."""
    backbone = description.modules.backbone
    settings = read_settings(backbone)
    tokenizer = load_tokenizer(backbone, partial(_prepare, lower=settings.do_lower_case))
    file = convert(backbone / "tokenizer_config.json", tokenizer.settings, TokenizerFile)
    whole, message = tokenizer.encoding, settings.message
    form = None if message is None else chat_form(backbone, tokenizer, message)
    longest = min(context, settings.max_seq_length or file.longest)
    added = whole.get_added_tokens_decoder().items()
    special = frozenset(token for token, each in added if each.special)
    cut, prompts = _cut(whole, longest), _prompts(description.directory, about)
    return PassageReader(whole, cut, longest, vocabulary, file.typed, special, *prompts, form)


def _prepare(encoding: Encoding, lower: bool) -> None:
    """Files hold what their last user had set: padding, and limits shorter than the model's."""
    encoding.no_padding()
    encoding.no_truncation()
    if lower:
        encoding.normalizer = _lowered(encoding.normalizer)


def _cut(whole: Encoding, longest: int) -> Encoding:
    cut = Encoding.from_str(whole.to_str())
    cut.enable_truncation(longest)
    return cut


def _prompts(directory: Path, about: About) -> tuple[dict[str, str], str]:
    """All by name, and the text of the default one."""
    texts = {name: text or "" for name, text in about.prompts.items()}
    if about.default_prompt_name is None:
        return texts, ""
    if about.default_prompt_name not in texts:
        found = f"no prompt is named {about.default_prompt_name!r}"
        raise SentenceError(f"{directory / ABOUT}: {found}")
    return texts, texts[about.default_prompt_name]


def _lowered(normalizer: Normalizer | None) -> Normalizer:
    return Normalizers([Lowercase()] if normalizer is None else [Lowercase(), normalizer])
