"""The table of tool-call formats: a model has the first that suits its chat template and tokens."""

# ruff: noqa: RUF001 - marks hold such letters

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from ...engine.text.specials import Specials
from .calls import KeyedCall, NamedCall, ObjectCall, PythonCall, Syntax, TaggedCall
from .think import Suits, named
from .tool_shape import HERMES, Shape, listed
from .tool_shape import OBJECT as EACH
from .values import marked

AUTO = "auto"
SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """The way in which a family of models calls tools.

    `open`: what begins a section of calls, of which the marks in `kept` belong to the first call;
    `close`: what ends it; `each`: what may stand around a call. In a section may be a list. `bare`:
    an answer may begin with calls that nothing marks. `short_ids`: they have nine characters, and
    `own_ids`: those that the model gives are its clients'. `shape` is what calls are held to, and
    what is prompted where the template does not tell of tools; with `heads`, it has the heads of
    messages (engine/text/channels.py).
    """

    name: str
    suits: Suits
    syntaxes: tuple[Syntax, ...]
    open: tuple[str, ...] = ()
    close: tuple[str, ...] = ()
    each: tuple[str, str] = ("", "")
    kept: tuple[str, ...] = ()
    bare: bool = False
    short_ids: bool = False
    heads: bool = False
    shape: Shape = HERMES
    own_ids: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """All marks, so that special tokens among them are seen."""
        marks: list[str] = []
        _mapped((self.open, self.close, self.each, self.syntaxes), marks.append)
        return tuple(filter(None, marks))

    def encoded(self, specials: Specials) -> "ToolFormat":
        """Return the format as answers hold it, with codes for special tokens."""
        return _mapped(self, specials.encode) if specials.codes else self

    def call_id(self, given: str, name: str, index: int) -> str:
        """Return a call's id as the model gave it or would give it, or nothing."""
        if self.own_ids:
            return given or f"functions.{name}:{index}"
        return given if self.short_ids and SHORT_ID.fullmatch(given) else ""


def _mapped(value: Any, change: Callable[[str], Any]) -> Any:
    """Change all texts of a record, and of the records in it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(each, change) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _mapped(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **changed)
    return value


def choose_tools(template: str, special_tokens: Collection[str], name: str = AUTO) -> ToolFormat:
    """Return a model's format; where its template knows no tools, by what is in it alone.

    By a `name` other than AUTO it is that one, whatever the template.
    """
    if name != AUTO:
        return next(format for format in FORMATS if format.name == name)
    known = special_tokens if re.search(r"\btools\b", template) else ()
    return next(format for format in FORMATS if format.suits(template, known))


def written(*marks: str) -> Suits:
    """Suit models whose template, not their tokenizer alone, has all of these."""

    def suits(template: str, special_tokens: Collection[str]) -> bool:
        return all(mark in template for mark in marks)

    return suits


def _gemma(mark: str) -> NamedCall:
    return NamedCall(head=re.compile(r"call:\s*(?P<name>.+)"), style=marked(mark))


OBJECT = (ObjectCall(),)
FUNCTION_TAGS = TaggedCall(
    open="<function=",
    name_ends=(">",),
    key="<parameter=",
    key_ends=(">",),
    value_end="</parameter>",
    close="</function>",
    lines=True,
)

# Hermes's form, which any model can be asked for: NousResearch/Hermes-3-Llama-3.1-8B and
# Qwen/Qwen2.5-7B-Instruct, chat_template; also Granite 4, SmolLM 3, Qwen 3.
GENERIC = ToolFormat(
    name="hermes",
    suits=lambda template, special_tokens: True,
    syntaxes=OBJECT,
    open=("<tool_call>",),
    close=("</tool_call>",),
    shape=HERMES,
)

# mistralai: https://docs.mistral.ai and mistral-common's tokenizers: a list of objects up to
# v7, then a name before the arguments, with an id in between in Small 3.2.
MISTRAL = ToolFormat(
    name="mistral",
    suits=named("[TOOL_CALLS]"),
    syntaxes=(ObjectCall(), NamedCall(between=("[ARGS]",), id_mark="[CALL_ID]")),
    open=("[TOOL_CALLS]",),
    short_ids=True,
    shape=listed("[TOOL_CALLS]", ""),
)
# deepseek-ai/DeepSeek-V3.1, README.md.
DEEPSEEK = ToolFormat(
    name="deepseek",
    suits=named("<｜tool▁calls▁begin｜>"),
    syntaxes=(NamedCall(between=("<｜tool▁sep｜>",), fenced=True),),
    open=("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
    kept=("<｜tool▁call▁begin｜>",),
    each=("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    close=("<｜tool▁calls▁end｜>",),
    shape=Shape(
        "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>",
        "<｜tool▁calls▁begin｜>",
        after="<｜tool▁calls▁end｜>",
    ),
)

FORMATS: Sequence[ToolFormat] = (
    # openai/gpt-oss-20b: https://cookbook.openai.com/articles/openai-harmony. The head of a message
    # to a function is what engine/text/channels.py makes of it.
    ToolFormat(
        name="harmony",
        suits=named("<|channel|>", "<|message|>", "<|start|>"),
        syntaxes=(
            NamedCall(between=("<|message|>",), head=re.compile(r"functions\.(?P<name>.+)")),
        ),
        open=("<|channel|>functions.",),
        kept=("<|channel|>functions.",),
        each=("<|channel|>", ""),
        close=("<|call|>", "<|end|>", "<|return|>"),
        heads=True,
        shape=Shape(
            "<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>ARGUMENTS"
        ),
    ),
    # The same with a name before the arguments: mistral-common's tokenizers of v11 and later.
    replace(
        MISTRAL,
        name="mistral-args",
        suits=named("[TOOL_CALLS]", "[ARGS]"),
        shape=Shape("[TOOL_CALLS]NAME[ARGS]ARGUMENTS"),
    ),
    MISTRAL,
    # deepseek-ai/DeepSeek-V3.2, encoding/README.md; V4 says tool_calls.
    ToolFormat(
        name="deepseek-v3.2",
        suits=written("｜DSML｜"),
        syntaxes=(
            TaggedCall(
                open='<｜DSML｜invoke name="',
                name_ends=('">',),
                key='<｜DSML｜parameter name="',
                key_ends=('" string="true">', '" string="false">', '">'),
                value_end="</｜DSML｜parameter>",
                close="</｜DSML｜invoke>",
            ),
        ),
        open=("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"),
        close=("</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"),
        shape=Shape(
            '<｜DSML｜invoke name="NAME">\nTAGS</｜DSML｜invoke>\n',
            "<｜DSML｜function_calls>\n",
            after="</｜DSML｜function_calls>",
        ),
    ),
    # deepseek-ai/DeepSeek-V3-0324 and DeepSeek-R1-0528, chat_template: a word, a line, a fence.
    replace(
        DEEPSEEK,
        name="deepseek-v3",
        suits=written("<｜tool▁calls▁begin｜>", "```json"),
        shape=Shape(
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```"
            "<｜tool▁call▁end｜>",
            "<｜tool▁calls▁begin｜>",
            "\n",
            "<｜tool▁calls▁end｜>",
        ),
    ),
    DEEPSEEK,
    # moonshotai/Kimi-K2-Instruct, docs/tool_call_guidance.md; its ids go on through a conversation.
    ToolFormat(
        name="kimi",
        suits=named("<|tool_calls_section_begin|>"),
        syntaxes=(
            NamedCall(
                between=("<|tool_call_argument_begin|>",),
                head=re.compile(r"(?P<id>(?:functions\.)?(?P<name>.+?):\d+)"),
            ),
        ),
        open=("<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
        kept=("<|tool_call_begin|>",),
        each=("<|tool_call_begin|>", "<|tool_call_end|>"),
        close=("<|tool_calls_section_end|>",),
        own_ids=True,
        shape=Shape(
            "<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>ARGUMENTS"
            "<|tool_call_end|>",
            "<|tool_calls_section_begin|>",
            after="<|tool_calls_section_end|>",
        ),
    ),
    # MiniMaxAI/MiniMax-M2, docs/tool_calling_guide.md.
    ToolFormat(
        name="minimax",
        suits=written("<minimax:tool_call>"),
        syntaxes=(
            TaggedCall(
                open='<invoke name="',
                name_ends=('">',),
                key='<parameter name="',
                key_ends=('">',),
                value_end="</parameter>",
                close="</invoke>",
            ),
        ),
        open=("<minimax:tool_call>",),
        close=("</minimax:tool_call>",),
        shape=Shape(
            '<invoke name="NAME">\nTAGS</invoke>\n',
            "<minimax:tool_call>\n",
            after="</minimax:tool_call>",
        ),
    ),
    # ByteDance-Seed/Seed-OSS-36B-Instruct, chat_template.jinja.
    ToolFormat(
        name="seed",
        suits=written("<seed:tool_call>"),
        syntaxes=(replace(FUNCTION_TAGS, lines=False),),
        open=("<seed:tool_call>",),
        close=("</seed:tool_call>",),
        shape=Shape("<seed:tool_call>\n<function=NAME>\nTAGS</function>\n</seed:tool_call>"),
    ),
    # zai-org/GLM-4.5 and 4.6, chat_template.jinja; inclusionAI's Ling 3.
    ToolFormat(
        name="glm",
        suits=written("<arg_key>"),
        syntaxes=(
            TaggedCall(
                open="",
                name_ends=("\n", "<arg_key>", "</tool_call>"),
                key="<arg_key>",
                key_ends=("</arg_key>",),
                value="<arg_value>",
                value_end="</arg_value>",
                close="</tool_call>",
            ),
        ),
        open=("<tool_call>",),
        close=("</tool_call>",),
        shape=Shape("<tool_call>NAME\nTAGS</tool_call>", between="\n"),
    ),
    # Qwen/Qwen3-Coder-30B-A3B-Instruct, chat_template.jinja: also Qwen 3.5, Nemotron 3. The first
    # mark is often left out.
    ToolFormat(
        name="qwen3-coder",
        suits=written("<function=", "<parameter="),
        syntaxes=(FUNCTION_TAGS,),
        open=("<tool_call>", "<function="),
        kept=("<function=",),
        close=("</tool_call>",),
        shape=Shape("<tool_call>\n<function=NAME>\nTAGS</function>\n</tool_call>", between="\n"),
    ),
    # meetkai/functionary-medium-v3.1, chat_template; Llama 3.1's own calls of that form.
    ToolFormat(
        name="functionary",
        suits=written("<function="),
        syntaxes=(NamedCall(between=(">",)),),
        open=("<function=",),
        close=("</function>",),
        shape=Shape("<function=NAME>ARGUMENTS</function>"),
    ),
    # google/gemma-4-31B-it, chat_template.jinja.
    ToolFormat(
        name="gemma4",
        suits=named("<|tool_call>"),
        syntaxes=(_gemma('<|"|>'),),
        open=("<|tool_call>",),
        close=("<tool_call|>",),
        shape=Shape("<|tool_call>call:NAMEMARKED<tool_call|>", mark='<|"|>'),
    ),
    # google/functiongemma-270m-it: https://ai.google.dev/gemma/docs/functiongemma.
    ToolFormat(
        name="functiongemma",
        suits=named("<start_function_call>"),
        syntaxes=(_gemma("<escape>"),),
        open=("<start_function_call>",),
        close=("<end_function_call>",),
        shape=Shape("<start_function_call>call:NAMEMARKED<end_function_call>", mark="<escape>"),
    ),
    # google/gemma-3-27b-it as Google's guide prompts it: ai.google.dev/gemma/docs/capabilities.
    ToolFormat(
        name="tool-code",
        suits=written("tool_code"),
        syntaxes=(PythonCall(),),
        open=("```tool_code",),
        close=("```",),
        shape=Shape("NAME(PARAMETERS)", "```tool_code\n", "\n", "\n```"),
    ),
    # CohereLabs/c4ai-command-r7b-12-2024 and command-a, tokenizer_config.json.
    ToolFormat(
        name="cohere",
        suits=named("<|START_ACTION|>"),
        syntaxes=OBJECT,
        open=("<|START_ACTION|>",),
        close=("<|END_ACTION|>",),
        shape=listed(
            "<|START_ACTION|>",
            "<|END_ACTION|>",
            '{"tool_call_id": "INDEX", "tool_name": "NAME", "parameters": ARGUMENTS}',
        ),
    ),
    # CohereLabs/c4ai-command-r-plus, tokenizer_config.json: its template named tool_use.
    ToolFormat(
        name="command-r",
        suits=written("Action:", "```json"),
        syntaxes=OBJECT,
        open=("Action: ```json", "Action:```json"),
        close=("```",),
        shape=listed(
            "Action: ```json\n", "\n```", '{"tool_name": "NAME", "parameters": ARGUMENTS}'
        ),
    ),
    # nvidia/Nemotron-Nano-9B-v2, chat_template.
    ToolFormat(
        name="nemotron",
        suits=written("<TOOLCALL>"),
        syntaxes=OBJECT,
        open=("<TOOLCALL>",),
        close=("</TOOLCALL>",),
        shape=listed("<TOOLCALL>", "</TOOLCALL>"),
    ),
    # LiquidAI/LFM2-1.2B, README.md: Python, or JSON where the system turn asks for it.
    ToolFormat(
        name="lfm2",
        suits=named("<|tool_call_start|>"),
        syntaxes=(ObjectCall(), PythonCall()),
        open=("<|tool_call_start|>",),
        close=("<|tool_call_end|>",),
        shape=listed("<|tool_call_start|>", "<|tool_call_end|>", "NAME(PARAMETERS)"),
    ),
    # swiss-ai/Apertus-8B-Instruct-2509, chat_template.jinja.
    ToolFormat(
        name="apertus",
        suits=named("<|tools_prefix|>"),
        syntaxes=(KeyedCall(),),
        open=("<|tools_prefix|>",),
        close=("<|tools_suffix|>",),
        shape=listed("<|tools_prefix|>", "<|tools_suffix|>", '{"NAME": ARGUMENTS}'),
    ),
    # allenai/Olmo-3-7B-Instruct, chat_template.jinja.
    ToolFormat(
        name="olmo3",
        suits=written("<function_calls>"),
        syntaxes=(PythonCall(),),
        open=("<function_calls>",),
        close=("</function_calls>",),
        shape=Shape("NAME(PARAMETERS)", "<function_calls>\n", "\n", "\n</function_calls>"),
    ),
    # MiniMaxAI/MiniMax-M1-80k and ai21labs/Jamba-1.5, chat_template; Hunyuan-A13B.
    ToolFormat(
        name="tool-calls",
        suits=written("<tool_calls>"),
        syntaxes=OBJECT,
        open=("<tool_calls>",),
        close=("</tool_calls>",),
        shape=Shape(EACH, "<tool_calls>\n", "\n", "\n</tool_calls>"),
    ),
    # internlm/internlm2_5-7b-chat, agent/lagent.
    ToolFormat(
        name="internlm",
        suits=named("<|action_start|>", "<|plugin|>"),
        syntaxes=OBJECT,
        open=("<|action_start|><|plugin|>",),
        close=("<|action_end|>",),
        shape=Shape(
            '<|action_start|><|plugin|>{"name": "NAME", "parameters": ARGUMENTS}<|action_end|>'
        ),
    ),
    # microsoft/Phi-4-mini-instruct, README.md; fireworks-ai's firefunction writes the same word.
    ToolFormat(
        name="phi4",
        suits=lambda template, tokens: (
            "functools" in template or named("<|tool|>")(template, tokens)
        ),
        syntaxes=OBJECT,
        open=("functools", "<|tool_call|>"),
        close=("<|/tool_call|>",),
        shape=listed("functools", ""),
    ),
    # ibm-granite/granite-3.3-8b-instruct, chat_template: a list after a token.
    ToolFormat(
        name="granite",
        suits=written("<|tool_call|>"),
        syntaxes=OBJECT,
        open=("<|tool_call|>", "<tool_call>"),
        close=("</tool_call>",),
        shape=listed("<|tool_call|>", ""),
    ),
    replace(GENERIC, suits=written("<tool_call>")),
    # Salesforce/Llama-xLAM-2-8b-fc-r, chat_template: "in a single JSON array", and nothing around.
    ToolFormat(
        name="xlam",
        suits=written("single JSON array"),
        syntaxes=OBJECT,
        bare=True,
        shape=listed("", ""),
    ),
    # meta-llama/Llama-3.1-8B-Instruct (JSON), 3.2-1B (Python) and Llama-4-Scout (either):
    # https://www.llama.com/docs/model-cards-and-prompt-formats.
    ToolFormat(
        name="llama",
        suits=lambda template, tokens: any(
            named(mark)(template, tokens) for mark in ("<|python_tag|>", "<|python_start|>")
        ),
        syntaxes=(ObjectCall(), PythonCall()),
        open=("<|python_tag|>", "<|python_start|>"),
        close=("<|python_end|>",),
        bare=True,
        shape=Shape('{"name": "NAME", "parameters": ARGUMENTS}', between="; "),
    ),
    GENERIC,
)

# What a user may choose from: each by its name, or what suits the model.
NAMES = (AUTO, *sorted({format.name for format in FORMATS}))
