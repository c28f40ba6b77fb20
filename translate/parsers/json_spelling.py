"""Lark grammars of a text turned into grammars of its spelling in a JSON string, quotes left out.

A model that writes `{"input": "..."}` is held to a grammar of the input by this. Terminals become
rules, of which each part is a terminal: llguidance's lexer does not go back where an escape turns
out to be the next terminal's.
"""

import json
import re
import warnings
from collections.abc import Mapping
from itertools import pairwise

PLAIN = r'[^"\\\x00-\x1f]'
SPECIAL = ['"', "\\", *map(chr, range(0x20))]  # characters that a JSON string has to escape
ORDINARY = [each for each in map(chr, range(0x180)) if each not in SPECIAL]
SLASH = r"\/"

TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*)
    |(?P<string>"(?:\\.|[^"\\\n])*"i?)
    |(?P<regex>/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+/[imslux]*)
    |(?P<imported>%import\s+common\.\w+)
    |(?P<other>%\w*|@\w+|<[^>\n]*>)
    |(?P<terminal>(?<!\w)_*[A-Z][A-Z0-9_]*(?:\.\d+)?(?!\w))
    |(?P<plain>\w+|.)""",
    re.DOTALL | re.VERBOSE,
)
ATOM = re.compile(
    r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|\(\?[^:)]*[:)]|[*+?}][?+]|\{[\d,]+\}"
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]|.",
    re.DOTALL,
)
QUANTIFIERS = ("*", "+", "?", "{")
# Lark's own terminals (lark/grammars/common.lark).
COMMON: Mapping[str, str] = {
    "LF": r"\n",
    "CR": r"\r",
    "NEWLINE": r"(\r?\n)+",
    "WS": r"[ \t\f\r\n]+",
    "WS_INLINE": r"[ \t]+",
    "ESCAPED_STRING": r'"([^"\\\n]|\\.)*"',
    "DIGIT": "[0-9]",
    "HEXDIGIT": "[a-fA-F0-9]",
    "INT": "[0-9]+",
    "SIGNED_INT": "[+-]?[0-9]+",
    "LCASE_LETTER": "[a-z]",
    "UCASE_LETTER": "[A-Z]",
    "LETTER": "[a-zA-Z]",
    "WORD": "[a-zA-Z]+",
    "CNAME": "[a-zA-Z_][a-zA-Z0-9_]*",
}


class SpellingError(ValueError):
    """A grammar has what cannot be spelled; the message goes on from the name of the field."""


def spelled_lark(grammar: str) -> str:
    """Return the grammar of the spellings of what a Lark grammar is of. Raises SpellingError."""
    return "".join(_spelled(token) for token in TOKEN.finditer(grammar))


def _spelled(token: re.Match[str]) -> str:
    text = token[0]
    match token.lastgroup:
        case "comment":
            return ""
        case "string" if text.endswith("i"):
            return spelled_regex(re.escape(_inner(text[:-1])), "i")
        case "string":
            return _literal(_inner(text))
        case "regex":
            body, _, flags = text[1:].rpartition("/")
            return spelled_regex(body.replace(SLASH, "/"), flags)
        case "imported":
            name = text.rpartition(".")[2]
            if name not in COMMON:
                raise SpellingError(f"imports {name}, which is not built")
            return f"{_rule(name)}: {spelled_regex(COMMON[name])}"
        case "other":
            raise SpellingError(f"has {text}, which is not built for texts in JSON")
        case "terminal":
            return _rule(text)
    return text


def _rule(terminal: str) -> str:
    """Return the name of the rule in place of a terminal, whose priority means nothing then."""
    return f"t{terminal.partition('.')[0].lower()}"


def _inner(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        raise SpellingError(f"has the string {text}, which is none of JSON's") from None


def _literal(text: str) -> str:
    """Return a text's spelling as a string of Lark's."""
    return json.dumps(json.dumps(text, ensure_ascii=False)[1:-1], ensure_ascii=False)


def spelled_regex(regex: str, flags: str = "") -> str:
    """Return the spellings of what a regular expression matches, as an expression of Lark's."""
    atoms = [*ATOM.findall(regex), ""]
    parts = (_spelled_atom(atom, after, flags) for atom, after in pairwise(atoms))
    return f"({' '.join(filter(None, parts)) or chr(34) * 2})".replace(" {", "{")


def _spelled_atom(atom: str, after: str, flags: str) -> str:
    """Return what spells the characters that a part of an expression stands for, if it does."""
    if atom in ("(", "(?:"):
        return "("
    if atom in (")", "|") or atom.startswith(QUANTIFIERS):
        return atom[:1] if atom[:1] in "*+?" else atom
    if atom in ("^", "$") or atom.startswith("(?"):
        raise SpellingError(f"has {atom}, which is not built")
    return _characters(atom, after, flags)


def _characters(atom: str, after: str, flags: str) -> str:
    """Return one character of those that an atom stands for; a run of them where it is repeated."""
    case, run = "i" if "i" in flags else "", "+" if after.startswith(("*", "+")) else ""
    terminals = list[str]()
    if any(_matches(atom, each, flags) for each in ORDINARY):
        plain = PLAIN if atom == "." else f"[{atom}&&{PLAIN}]"
        terminals.append(f"/{plain.replace('/', SLASH)}{run}/{case}")
    if escapes := [json.dumps(each)[1:-1] for each in SPECIAL if _matches(atom, each, flags)]:
        terminals.append(f"/{'|'.join(map(re.escape, escapes))}/")
    if not terminals:
        raise SpellingError(f"has {atom}, which is not built")
    return f"({' | '.join(terminals)})"


def _matches(atom: str, character: str, flags: str) -> bool:
    options = re.DOTALL if "s" in flags else 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return re.fullmatch(atom, character, options) is not None
    except (re.error, FutureWarning):
        raise SpellingError(f"has {atom}, which is not built") from None
