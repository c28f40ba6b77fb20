"""The control tokens of a model, and how text that spells one is kept text.

A guard is a character that no text has. It is put into each name of a control token that a client's
text spells, so that the name is not found as a token, and it is taken out where no token is looked
for any more. The markers that a template writes have none.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

import tokenizers
from msgspec import json
from tokenizers import normalizers, pre_tokenizers

from ..request import Refusal
from .control_names import ControlNames, without
from .tokenizer import Tokenizer

GUARDS = tuple(map(chr, range(0xFDD0, 0xFDD8)))  # noncharacters: Unicode keeps them out of text
PIPES = (("<|", "|>"), ("<\uff5c", "\uff5c>"))  # what only control tokens have around them


class ControlTokens:
    """A tokenizer's control tokens: special ones, and what marks the parts of a model's own turn.

    `tokens` are their names. Guards are put into `marks` as well, which mean something at the end
    of a prompt, but not into an assistant's: it is the model that wrote them. Without any names
    all text is left as it is.

    Most tokenizers find added tokens before they normalize. For these a second tokenizer, around
    the same vocabulary, takes the guards out as its first step of normalizing: text comes out as if
    no added token were there. Where normalizing may make a name of what is none, or the vocabulary
    has a name as a word, guards stay and split words.
    """

    def __init__(
        self,
        encoding: tokenizers.Tokenizer,
        tokens: Collection[str] = (),
        marks: Collection[str] = (),
        template: str = "",
    ) -> None:
        self._encoding = encoding
        self.tokens = frozenset(tokens)
        self._marks = frozenset(filter(None, marks)) - self.tokens
        self._guards = [guard for guard in GUARDS if guard not in template]
        self._encodings: dict[str, list[tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]]] = {}

    def needs_guard(self, text: str, own: bool = False, alone: bool = False) -> bool:
        """Return whether a text must be guarded; `own` text is an assistant's.

        One that may stand `alone` between halves of a marker must be if a name has it inside.
        """
        inside = alone and self._token_names.inside(text)
        return inside or self._names(own).touched(text) or self._forms(text)

    def free_guard(self, texts: Iterable[str]) -> str:
        """Return a guard that is in none of these texts, nor as JSON writes it."""
        every = "\0".join(texts)
        for guard in self._guards:
            if guard not in every and _escaped(guard) not in every:
                return guard
        message = f"The text has all of the noncharacters U+FDD0 to U+{ord(GUARDS[-1]):04X}."
        raise Refusal(400, "invalid_value", message)

    def guarded(self, text: str, guard: str, own: bool = False, alone: bool = False) -> str:
        """Return the text with guards, so that nothing in it is or becomes a control token."""
        if alone and self._token_names.inside(text):
            text = text.replace(text.strip(), f"{guard}{text.strip()}{guard}")
        text = self._names(own).guarded(text, guard)
        return guard.join(["", *text, ""]) if self._forms(text) else text

    def guard_all(self, texts: Sequence[str]) -> tuple[Sequence[str], str]:
        """Guard texts where one of them needs it; the guard is empty where none does."""
        if not any(map(self.needs_guard, texts)):
            return texts, ""
        guard = self.free_guard(texts)
        return [self.guarded(text, guard) for text in texts], guard

    def settled(self, text: str, guard: str) -> tuple[str, str]:
        """Return a finished prompt and its guard, both without it if it keeps no token apart."""
        if not guard:
            return text, ""
        *escaped, end = text.split(_escaped(guard))
        text = guard.join([*(before.rstrip("\\") for before in escaped), end])
        plain = without(text, guard)
        kept = self._count(text) != self._count(plain)
        # A tokenizer that treats the beginning of a text in its own way must see it.
        return (text.lstrip(guard), guard) if kept else (plain, "")

    def encoding(
        self, guard: str, base: tokenizers.Tokenizer | None = None
    ) -> tokenizers.Tokenizer:
        """Return a tokenizer of text with this guard, else as `base` or the model's own."""
        base = base or self._encoding
        if not guard:
            return base
        known = self._encodings.setdefault(guard, [])
        made = next((made for each, made in known if each is base), None)
        if made is None:
            made = _splitting(base, guard) if self._splits else _removing(base, guard)
            known.append((base, made))
        return made

    @cached_property
    def _token_names(self) -> ControlNames:
        return ControlNames(self.tokens)

    @cached_property
    def _others_names(self) -> ControlNames:
        return ControlNames(self.tokens, self._marks)

    def _names(self, own: bool) -> ControlNames:
        return self._token_names if own else self._others_names

    @cached_property
    def _leaked(self) -> frozenset[str]:
        """The names that the vocabulary has as words, which are found where no token is added."""
        guard, model = GUARDS[0], self._encoding.model
        known = {name: model.token_to_id(name) for name in self.tokens}
        removing = _removing(self._encoding, guard)

        def leaks(name: str) -> bool:
            spelled = self._token_names.guarded(name, guard)
            encoded = removing.encode(f"a{spelled} {spelled}", add_special_tokens=False)
            return known[name] in encoded.ids

        return frozenset(name for name, token in known.items() if token is not None and leaks(name))

    @cached_property
    def _late(self) -> frozenset[str]:
        """The names that are looked for in normalized text."""
        added = self._encoding.get_added_tokens_decoder().values()
        if is_plain(self._encoding):
            return frozenset()
        return frozenset(each.content for each in added if each.normalized) & self.tokens

    @property
    def _splits(self) -> bool:
        return bool(self._leaked or self._late)

    @cached_property
    def _normalized(self) -> ControlNames | None:
        """The names as normalizing may make them."""
        if is_plain(self._encoding) or not self._splits:
            return None
        names = {name: self._normalize(name).strip() for name in self._late}
        names |= {name: name for name in self._leaked}
        return ControlNames(names.values())

    def _normalize(self, text: str) -> str:
        normalizer = self._encoding.normalizer
        normal = text if normalizer is None else normalizer.normalize_str(text)
        return normal.replace("\u2581", " ")

    def _forms(self, text: str) -> bool:
        """Return whether normalizing would make a name, or half of one, of what is none."""
        if self._normalized is None or not text:
            return False
        return self._normalized.touched(self._normalize(text))

    def _count(self, text: str) -> int:
        late = 0
        if self._normalized is not None:
            late = self._normalized.count(self._normalize(text))
        return self._token_names.count(text) + late


def control_tokens(
    tokenizer: Tokenizer, template: str, marks: Collection[str] = ()
) -> ControlTokens:
    """Return the control tokens of a tokenizer whose prompts this chat template writes.

    Besides special tokens these are the ones that look like markup and that the template writes.
    """
    added = tokenizer.encoding.get_added_tokens_decoder().values()
    named = {*tokenizer.special_tokens.values()}
    special = {each.content for each in added if each.special or each.content in named}
    markup = {each.content for each in added if _is_markup(each.content, template)}
    return ControlTokens(
        tokenizer.encoding, {*filter(str.strip, special | markup)}, marks, template
    )


def is_plain(encoding: tokenizers.Tokenizer) -> bool:
    """Return whether a tokenizer takes texts as they are, without normalizing."""
    normalizer = encoding.normalizer
    return normalizer is None or json.decode(normalizer.__getstate__()).get("normalizers") == []


def _is_markup(name: str, template: str) -> bool:
    if any(name.startswith(left) and name.endswith(right) for left, right in PIPES):
        return True
    bare = len(name) < 3 or name[0].isalnum() or name[-1].isalnum()
    if bare or not any(map(str.isalnum, name)):
        return False
    return name in template or _partner(name) in template


def _partner(name: str) -> str:
    """Return the closing tag of an opening one, or the other way round."""
    return f"{name[0]}{name[2:]}" if name[1] == "/" else f"{name[0]}/{name[1:]}"


def _escaped(guard: str) -> str:
    return f"\\u{ord(guard):04x}"


def _removing(base: tokenizers.Tokenizer, guard: str) -> tokenizers.Tokenizer:
    """Return a tokenizer that takes guards out after it has looked for added tokens."""
    made = _sharing(base, late=not is_plain(base))
    steps = [normalizers.Replace(guard, ""), *filter(None, [base.normalizer])]
    made.normalizer = normalizers.Sequence(steps)
    if base.pre_tokenizer is not None:
        made.pre_tokenizer = base.pre_tokenizer
    return made


def _splitting(base: tokenizers.Tokenizer, guard: str) -> tokenizers.Tokenizer:
    """Return a tokenizer that splits words at guards, also where they are spelled as bytes."""
    made = _sharing(base, late=True)
    if base.normalizer is not None:
        made.normalizer = base.normalizer
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = as_bytes.pre_tokenize_str(guard)[0][0]
    split = pre_tokenizers.Split(tokenizers.Regex(f"{guard}|{spelled}"), "removed")
    steps = [*filter(None, [base.pre_tokenizer]), split]
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return made


def _sharing(base: tokenizers.Tokenizer, late: bool) -> tokenizers.Tokenizer:
    """Return a tokenizer around the same vocabulary, with the same added tokens and limits.

    Unless `late`, all of these are looked for before normalizing.
    """
    made = tokenizers.Tokenizer(base.model)
    added = base.get_added_tokens_decoder()
    made.add_tokens([_early(added[token], late) for token in sorted(added)])
    made.encode_special_tokens = base.encode_special_tokens
    if base.post_processor is not None:
        made.post_processor = base.post_processor
    if base.truncation is not None:
        made.enable_truncation(**base.truncation)
    return made


def _early(token: tokenizers.AddedToken, late: bool) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized and late,
        special=token.special,
    )
