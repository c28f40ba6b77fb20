"""What a server's dialect cannot say of a request: refused by its field, unless it may be lost."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ...engine.request import Refusal
from ..chat import Chat


@dataclass(frozen=True, slots=True)
class Losses:
    """Whether what a dialect cannot say may be left out; `dialect` is whose it is, for people."""

    dialect: str
    lossy: bool

    def note(self, field: str, what: str) -> None:
        """Raise a Refusal for a field that asks for `what`, unless that may be left out."""
        if not self.lossy:
            message = f"{self.dialect} cannot be asked for {what}; leave out {field}."
            raise Refusal(400, "unsupported", message, field)


@dataclass(frozen=True, slots=True)
class Option:
    """What a setting of an answer asks for, and the values that ask for nothing."""

    what: str
    neutral: tuple[Any, ...] = (None,)
    field: str = ""  # where its name is not that of the setting


# The settings that not every dialect has.
OPTIONS: Mapping[str, Option] = {
    "min_tokens": Option("a least number of tokens", (0,)),
    "ignore_eos": Option("text after its end", (False,)),
    "top_k": Option("sampling by rank", (None, 0)),
    "min_p": Option("sampling by a share of the likeliest", (None, 0)),
    "seed": Option("the same answer again"),
    "repetition_penalty": Option("penalties of repetitions", (None, 1)),
    "presence_penalty": Option("penalties of presence", (None, 0)),
    "frequency_penalty": Option("penalties of frequency", (None, 0)),
    "logit_bias": Option("biases of tokens", ({},)),
    "stop": Option("stop strings", ((),)),
    "stop_token_ids": Option("stop tokens", ((),)),
    "stop_in_reasoning": Option("stop strings in thoughts", (False,)),
    "include_stop": Option("stop strings in the text", (False,), "include_stop_str_in_output"),
    "skip_special_tokens": Option("names of special tokens", (True,)),
    "allowed_token_ids": Option("some tokens alone"),
    "bad_words": Option("words that it does not say", ((),)),
    "n": Option("several answers", (1,)),
    "best": Option("the best of several answers", field="best_of"),
    "logprobs": Option("log probabilities"),
    "prompt_logprobs": Option("log probabilities of the prompt"),
}
# Those that each has.
USUAL = frozenset({"max_tokens", "temperature", "top_p", "stream"})
# Those that say how an answer is told, what this server's own caches do, and what becomes of a
# prompt that is too long, of which another server says that it is.
OWN = frozenset(
    {
        *("usual_max_tokens", "stream_format", "stream_chunk", "include_usage", "continuous_usage"),
        *("return_context", "timings", "progress", "cache_salt", "cache_marked", "overflow"),
        "shortened",
    }
)


def check(chat: Chat, said: Collection[str], losses: Losses) -> None:
    """Note what a conversation asks for beside the settings that are `said`. Raises Refusal."""
    for name, option in OPTIONS.items():
        if name not in said and getattr(chat.options, name) not in option.neutral:
            losses.note(option.field or name, option.what)
    if chat.template and "template" not in said:
        losses.note("chat_template_kwargs", "arguments of chat templates")
    if chat.before:
        losses.note("context", "a conversation by its tokens")
