"""Thoughts between an opening and a closing mark, at an answer's start or opened by its prompt."""

from collections.abc import Callable, Collection
from typing import Literal

from ...engine.request import Thought
from ..chat import Chat
from .parser import AnswerFormat, Closing

# Of Qwen, GLM, SmolLM, EXAONE, Hunyuan, Gemma and others; of DeepSeek, Granite and Kimi.
SWITCHES = ("enable_thinking", "thinking")
Suits = Callable[[str, Collection[str]], bool]
Place = Literal["start", "thought", "text"]


def think(
    name: str,
    suits: Suits,
    open: str,
    close: str,
    begin: str = "",
    end: str = "",
    openings: tuple[str, ...] = (),
    beside: tuple[str, str, str] = ("", "", ""),
    calls: str = "",
    switches: tuple[str, ...] = (),
) -> AnswerFormat:
    """Return the format of a family, by the marks of its thought and of the text after it.

    `openings` are what else a prompt may end with for the answer to begin inside a thought.
    `beside` are the newlines before and after the mark that closes one, and after that of the text;
    `calls` is the tool format whose calls do not stand in the text, `switches` are other names
    than the usual by which a template is told to think or not.
    """

    def marks(prompt: str, chat: Chat) -> Thought:
        return Thought(open, close, place(prompt, chat), begin, end)

    def place(prompt: str, chat: Chat) -> Place:
        """A mark elsewhere in the prompt is a matter of the conversation, but a final message that
        is continued (`chat` says so) is part of the answer."""
        final = chat.messages[-1].text if chat.continue_final else ""
        final = final.replace(chat.guard, "").lstrip()
        if final:
            return "thought" if final.startswith(open) and close not in final else "text"
        ending = prompt.rstrip()
        if ending.endswith((open, *openings)):
            return "thought"
        return "text" if begin and ending.endswith(begin) else "start"

    before, after, last = beside
    closing = Closing(close + after, before, begin + last, {calls: ""})
    return AnswerFormat(name, suits, marks, closing=closing, switches=(*SWITCHES, *switches))


def named(*marks: str) -> Suits:
    """Suit models whose template or special tokens have all of these."""

    def suits(template: str, special_tokens: Collection[str]) -> bool:
        return all(mark in template or mark in special_tokens for mark in marks)

    return suits


def kimi(template: str, special_tokens: Collection[str]) -> bool:
    """Suit Moonshot's models whose template and tokenizer do not know of other marks."""
    moonshot = named("<|im_middle|>")(template, special_tokens)
    other = named("<think>")(template, special_tokens)
    return named("◁think▷")(template, special_tokens) or (moonshot and not other)


# Any model may think so, whatever its template shows, and most that think do: Qwen 3, DeepSeek,
# GLM 4.5, MiniMax M2, SmolLM 3, LFM 2, Phi 4 reasoning, Magistral 2506, Nemotron, Kimi K2 ...
FORMAT = think(
    "think",
    lambda template, special_tokens: True,
    "<think>",
    "</think>",
    beside=("\n", "\n\n", ""),
)

# A family's marks stand in its own template or tokenizer, which the row names.
FAMILIES = (
    # ByteDance-Seed/Seed-OSS-36B-Instruct, chat_template.jinja: with a thinking budget of 0 the
    # prompt ends with both of the tokens.
    think(
        "seed",
        named("<seed:think>"),
        "<seed:think>",
        "</seed:think>",
        openings=("<seed:think><seed:cot_budget_reflect>",),
        beside=("\n", "", ""),
    ),
    # mistralai/Magistral-Small-2507 and Ministral-3: control tokens of tekken.json.
    think("mistral", named("[THINK]"), "[THINK]", "[/THINK]"),
    # CohereLabs/c4ai-command-r7b-12-2024 and command-a-reasoning-08-2025, tokenizer_config.json.
    think(
        "cohere",
        named("<|START_THINKING|>"),
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        "<|START_RESPONSE|>",
        "<|END_RESPONSE|>",
        calls="cohere",
        switches=("reasoning",),
    ),
    # google/gemma-4-31B-it, chat_template.jinja: a prompt without thinking ends with an empty one.
    think(
        "gemma4",
        named("<|channel>"),
        "<|channel>thought",
        "<channel|>",
        beside=("\n", "", ""),
    ),
    # LGAI-EXAONE/EXAONE-Deep-32B, tokenizer_config.json; EXAONE 4 has <think>.
    think(
        "exaone-deep",
        named("<thought>"),
        "<thought>",
        "</thought>",
        beside=("\n", "\n\n", ""),
    ),
    # moonshotai/Kimi-VL-A3B-Thinking, README.md; its marks are plain text.
    think("kimi-vl", kimi, "◁think▷", "◁/think▷"),
    # ServiceNow-AI/Apriel-1.5-15b-Thinker, chat_template.jinja; prompts of 1.6 end with the mark.
    think(
        "apriel",
        named("[BEGIN FINAL RESPONSE]"),
        "Here are my reasoning steps:",
        "[BEGIN FINAL RESPONSE]",
        end="[END FINAL RESPONSE]",
        beside=("\n", "\n", ""),
    ),
    # ibm-granite/granite-3.2-8b-instruct, tokenizer_config.json: what the system turn asks for.
    think(
        "granite-3.2",
        named("Here is my thought process:"),
        "Here is my thought process:",
        "Here is my response:",
        beside=("\n\n", "\n\n", ""),
    ),
    # ibm-granite/granite-3.3-8b-instruct, tokenizer_config.json; baidu/ERNIE-4.5-21B-A3B-Thinking.
    think(
        "think-response",
        named("<think>", "<response>"),
        "<think>",
        "</think>",
        "<response>",
        "</response>",
    ),
    # tencent/Hunyuan-A13B-Instruct, chat_template.jinja.
    think(
        "think-answer",
        named("<think>", "<answer>"),
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        beside=("\n", "\n", "\n"),
    ),
)
