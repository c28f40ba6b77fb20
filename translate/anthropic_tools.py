"""Anthropic's tools: those that a request begins with, and those that its turns bring in later.

A deferred tool is for no prompt's beginning: its definition stands where a turn refers to it, so
that what is before it stays as it is, and may be cached.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from msgspec import json

from .anthropic_blocks import ChangedTool, InputBlock, InputMessage, InputTool, kept
from .chat import Tool, ToolChoice
from .decode import invalid, present, shown, unsupported
from .tool_fields import checked_tool
from .tool_turns import function

SEARCH = "tool_search_tool_"  # begins the types of the tools by which Anthropic's servers find some
Writers = Mapping[str, Callable[[InputBlock, str], str]]


class ToolBox:
    """The tools of a request, and which of them may be called once all of its turns are read.

    Where Anthropic's servers were to find deferred tools, there is nobody to: none is deferred.
    """

    def __init__(self, sent: Sequence[InputTool]) -> None:
        self._tools: list[Tool] = []
        self._by_name: dict[str, Tool] = {}
        searched = any((tool.type or "").startswith(SEARCH) for tool in sent)
        for at, tool in enumerate(sent):
            if tool.type in (None, "custom"):  # clients have these themselves
                self._add(tool, f"tools[{at}]", bool(tool.defer_loading) and not searched)
        # Those whose definitions the prompt has, and those of them that were taken away.
        self._told = {tool.name for tool in self._tools if not tool.deferred}
        self._gone: set[str] = set()

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools)

    def choice(self, asked: ToolChoice) -> ToolChoice:
        """Return what is asked, of the tools that may be called."""
        callable = self._told - self._gone
        names = tuple(tool.name for tool in self._tools if tool.name in callable)
        if asked.names or len(names) == len(self._tools):
            return asked
        return replace(asked, names=names) if names else replace(asked, mode="none")

    def read(self, messages: Sequence[InputMessage]) -> None:
        """Write out, as texts, what turns say of tools, in the order in which they say it."""
        for at, message in enumerate(messages):
            place = f"messages[{at}].content"
            if isinstance(message.content, str):
                continue
            if message.role == "system":
                message.content = [*_texts(message.content, place, self._changes)]
            for number, block in enumerate(message.content):
                if block.type == "tool_result" and isinstance(block.content, list):
                    where = f"{place}[{number}].content"
                    block.content = [*_texts(block.content, where, {"tool_reference": self._found})]

    @property
    def _changes(self) -> Writers:
        return {"tool_addition": self._added, "tool_removal": self._removed}

    def _found(self, block: InputBlock, place: str) -> str:
        field = f"{place}.tool_name"
        return self._definition(present(block.tool_name, field), field)

    def _added(self, block: InputBlock, place: str) -> str:
        tool, place = present(block.tool, f"{place}.tool"), f"{place}.tool"
        if tool.type == "tool_definition":
            where = f"{place}.definition"
            sent = present(tool.definition, where)
            self._add(sent, where, deferred=True)
            name = sent.name
        else:
            name = self._referred(tool, place)
        self._gone.discard(name)
        return f"From here on this can be called:\n{self._definition(name, f'{place}.name')}"

    def _removed(self, block: InputBlock, place: str) -> str:
        name = self._referred(present(block.tool, f"{place}.tool"), f"{place}.tool")
        self._gone.add(self._named(name, f"{place}.name").name)
        return f"From here on {name} cannot be called."

    def _referred(self, tool: ChangedTool, place: str) -> str:
        if tool.type != "tool_reference":
            raise unsupported(f"{place}.type", f"tools by {shown(tool.type)}")
        return present(tool.name, f"{place}.name")

    def _add(self, tool: InputTool, place: str, deferred: bool) -> None:
        about = tool.name, tool.description, tool.input_schema, tool.strict
        checked = checked_tool(*about, place, "input_schema")
        checked = replace(checked, deferred=deferred, kept=kept(tool))
        self._tools.append(checked)
        self._by_name[tool.name] = checked

    def _definition(self, name: str, place: str) -> str:
        """Return a tool as the prompt is to show it; one that it has is only named again."""
        tool = self._named(name, place)
        if name in self._told:
            return f"<function>{name}</function>"
        self._told.add(name)
        return f"<function>{json.encode(function(tool)).decode()}</function>"

    def _named(self, name: str, place: str) -> Tool:
        if name not in self._by_name:
            raise invalid(place, f"names {shown(name)}, which is none of the tools")
        return self._by_name[name]


def _texts(blocks: Sequence[InputBlock], place: str, writers: Writers) -> Iterator[InputBlock]:
    """Yield blocks; those that have a writer are texts, all in a row one."""
    placed = [(block, f"{place}[{at}]") for at, block in enumerate(blocks)]
    for written, group in groupby(placed, lambda each: each[0].type in writers):
        if written:
            lines = (writers[block.type](block, where) for block, where in group)
            yield InputBlock("text", text="\n".join(lines))
        else:
            yield from (block for block, _ in group)
