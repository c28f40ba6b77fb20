"""Words that Metal keeps to itself: clang takes most of them for names, Apple's compiler none."""

import re

from .options import MetalCompileError

# Of functions and memory that no compute kernel has: wrong wherever they stand.
FOREIGN = (
    *("vertex", "fragment", "mesh", "object_data", "ray_data", "threadgroup_imageblock"),
    *("patch_control_point", "intersection_tag", "imageblock", "visible_function_table"),
)
SCALARS = ("bool", "char", "uchar", "short", "ushort", "int", "uint", "long", "ulong")
FLOATING = ("half", "float", "bfloat")
# Words that are right where no name is declared.
QUALIFIERS = ("kernel", "device", "constant", "thread", "threadgroup")
TYPES = (
    *SCALARS,
    *FLOATING,
    *(f"{each}{n}" for each in (*SCALARS, *FLOATING) for n in (2, 3, 4)),
    *(f"{each}{n}x{m}" for each in ("half", "float") for n in (2, 3, 4) for m in (2, 3, 4)),
    *("size_t", "ptrdiff_t", "sampler", "texture1d", "texture2d", "texture3d", "depth2d"),
)
# What may stand before a type or qualifier without declaring it as a name.
BEFORE = (
    *("const", "constexpr", "volatile", "static", "inline", "return", "typedef", "typename"),
    *("unsigned", "signed", "long", "case", "else", "new", "sizeof", "operator", "using"),
    *QUALIFIERS,
)
_FOREIGN = re.compile(rf"\b(?:{'|'.join(FOREIGN)})\b")
_DECLARED = re.compile(
    rf"\b(?!(?:{'|'.join(BEFORE)})\b)[A-Za-z_]\w*(?:\s*>)?(?:\s+|\s*[&*]\s*)"
    rf"(?P<name>{'|'.join((*QUALIFIERS, *TYPES))})\s*(?:=(?!=)|;|,|\)|\[(?!\[))"
)
_IN_BRACKETS = re.compile(r"\[\[.*?\]\]|\"(?:\\.|[^\"\\\n])*\"", re.S)  # attributes, strings
_IN_ANGLES = re.compile(r"<[^<>;(){}]*>")  # template arguments are types, one after another


def check_words(text: str, file: str) -> None:
    """Refuse names that Metal does not allow; the text has no comments.

    Raises MetalCompileError, with the line.
    """
    text = _IN_BRACKETS.sub(_blank, text)
    found = _FOREIGN.search(text)
    if found is None:
        plain = _IN_ANGLES.sub(_blank, _IN_ANGLES.sub(_blank, text))
        found = _DECLARED.search(plain)
    if found is not None:
        word = found.groupdict().get("name") or found[0]
        line = text.count("\n", 0, found.end()) + 1
        raise MetalCompileError(f"{file}:{line}: error: {word} is a word of Metal, not a name")


def _blank(match: "re.Match[str]") -> str:
    return re.sub(r"[^\n]", " ", match[0])
