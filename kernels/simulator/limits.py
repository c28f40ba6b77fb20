"""What C++ has and a version of Metal has not (its specification's section 1.5.4).

Metal is C++14 up to 3.2 and C++17 from 4.0 on. Its compiler takes what is new in C++17 with a
warning, but for what the tables say; kernels may call themselves since Metal 2.4. Derived classes
and noexcept, which the section has too, are in MLX's own kernels and so are left alone.
"""

import re

from .options import Language, MetalCompileError

VERSIONS: tuple[Language, ...] = ("3.1", "3.2", "4.0")
NEVER = (
    *("dynamic_cast", "typeid", "new", "delete", "goto", "register", "thread_local"),
    *("virtual", "try", "catch", "throw"),
)
FORBIDDEN = re.compile(rf"\b(?:{'|'.join(NEVER)})\b")
LAMBDA = re.compile(r"(?<![\w\])\[])\s*(\[[&=\w\s,*]*\])\s*(?:\([^()]*\)[\w\s>:-]*)?\{")
AUTO = re.compile(r"\btemplate\s*<[^<>;{}]*\bauto\b")
# By what it is called: from which version on it is part of the language.
SINCE: tuple[tuple[re.Pattern[str], str, Language], ...] = (
    (LAMBDA, "a lambda expression", "3.2"),
    (AUTO, "a template's parameter of any type", "4.0"),
)
# A variable outside of all braces: a type, a name, then a value, a size or the end.
VARIABLE = re.compile(
    r"^(?:(?:static|inline|const|constexpr|volatile|thread|device|threadgroup|unsigned|signed)\s+)*"
    r"[A-Za-z_][\w:]*(?:\s*<[^;{}]*?>)?(?:\s*[*&]\s*|\s+)(?:const\s+)?[A-Za-z_]\w*\s*"
    r"(?:\[[^\]]*\]\s*)*(?:=|\{|$)"
)
NO_VARIABLE = re.compile(
    r"^(?:#|using\b|typedef\b|struct\b|class\b|enum\b|union\b|namespace\b|friend\b|extern\b"
    r"|static_assert\b|return\b)"
)
TEMPLATE = re.compile(r"^template\s*(?:<(?:[^<>]|<[^<>]*>)*>)?\s*")
ATTRIBUTE = re.compile(r"\[\[.*?\]\]|\"(?:\\.|[^\"\\\n])*\"", re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", re.M)


def check_limits(text: str, file: str, version: Language) -> None:
    """Refuse what that version of Metal does not have; the text has no comments.

    Raises MetalCompileError, with the line.
    """
    text = DIRECTIVE.sub(_blank, ATTRIBUTE.sub(_blank, text))
    if match := FORBIDDEN.search(text):
        raise _refused(text, file, match.start(), f"Metal does not have {match[0]}")
    for pattern, name, since in SINCE:
        found = pattern.search(text)
        if found and VERSIONS.index(version) < VERSIONS.index(since):
            raise _refused(text, file, found.start(), f"Metal {version} does not have {name}")
    for start, statement in _outside(text):
        said = TEMPLATE.sub("", statement)
        if VARIABLE.match(said) and not NO_VARIABLE.match(said) and not _constant(said):
            problem = "a variable of the program must be in constant memory"
            raise _refused(text, file, start, problem)


def _constant(statement: str) -> bool:
    return re.search(r"\bconstant\b", statement.split("=")[0]) is not None


def _outside(text: str) -> list[tuple[int, str]]:
    """Return what stands outside of all braces, by statement, and where each begins.

    What is in a namespace's braces is outside of braces, too.
    """
    found: list[tuple[int, str]] = []
    depth, start, inner = 0, 0, ""
    for at, sign in enumerate(text):
        if sign == "{":
            if not depth and re.match(r"\s*(?:inline\s+)?namespace\b", inner):
                start, inner = at + 1, ""
                continue
            depth += 1
            if depth == 1:
                found.append((start, inner.strip() + "{"))
        elif sign == "}" and depth:
            depth -= 1
            start, inner = (at + 1, "") if not depth else (start, inner)
        elif sign == ";" and not depth:
            found.append((start, inner.strip()))
            start, inner = at + 1, ""
        elif not depth:
            inner += sign
    return [(at + len(text[at:]) - len(text[at:].lstrip()), said) for at, said in found if said]


def _refused(text: str, file: str, at: int, problem: str) -> MetalCompileError:
    return MetalCompileError(f"{file}:{text.count(chr(10), 0, at) + 1}: error: {problem}")


def _blank(match: "re.Match[str]") -> str:
    return re.sub(r"[^\n]", " ", match[0])
