"""What grammars in llguidance's Lark are written with, of whole answers and of calls.

It is described in https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import json

ANY = "/(?s:.)*/"  # text without special tokens
# What may stand between two parts of a JSON text: no model can write blanks without end.
WHITESPACE = r"[ \t]{1,40}|\r?\n[ \t]{0,40}"


def guided(schema: Mapping[str, Any], strict: bool = True) -> dict[str, Any]:
    """Return a JSON schema with what llguidance is told of it.

    Of one that is not `strict` it leaves out the keywords that it does not know.
    """
    return {**schema, "x-guidance": {"whitespace_pattern": WHITESPACE, "lenient": not strict}}


def quoted(text: str) -> str:
    return json.encode(text).decode()


def parts(text: str, specials: Mapping[str, int]) -> list[str]:
    """Return a text as Lark has it: quoted, but for special tokens, which are by their ids."""
    names = sorted((name for name in specials if name in text), key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
    return [
        f"<[{specials[piece]}]>" if piece in specials else quoted(piece)
        for piece in pieces
        if piece
    ]
