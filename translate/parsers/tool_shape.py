"""The shape of calls as a model is to write them: to be prompted, written again, or held to."""

from dataclasses import dataclass

from ..chat import ToolCall
from .values import spelled

NAME, INDEX = "NAME", "INDEX"
ARGUMENTS = "ARGUMENTS"  # an object
PARAMETERS = "PARAMETERS"  # Python's, by name
TAGS = "TAGS"  # a pair of key and value each
MARKED = "MARKED"  # an object as Gemma writes it


@dataclass(frozen=True, slots=True)
class Shape:
    """Calls between two texts, each with its name and arguments, and a text between two calls.

    Texts in Gemma's arguments are between two of a `mark`.
    """

    each: str
    before: str = ""
    between: str = ""
    after: str = ""
    mark: str = ""

    def call(self, call: ToolCall) -> str:
        """Return one call of this shape; one with tags is as in Hermes: templates write those."""
        if TAGS in self.each:
            return HERMES.call(call)
        each = self.each.replace(INDEX, "0").replace(NAME, call.name)
        if PARAMETERS in each:
            given = ", ".join(f"{key}={value!r}" for key, value in call.values.items())
            each = each.replace(PARAMETERS, given)
        each = each.replace(MARKED, spelled(call.values, self.mark))
        return f"{self.before}{each.replace(ARGUMENTS, call.arguments)}{self.after}"


HERMES = Shape('<tool_call>\n{"name": "NAME", "arguments": ARGUMENTS}\n</tool_call>', between="\n")
OBJECT = '{"name": "NAME", "arguments": ARGUMENTS}'


def listed(before: str, after: str, each: str = OBJECT) -> Shape:
    """Return the shape of a list between two marks."""
    return Shape(each, f"{before}[", ", ", f"]{after}")
