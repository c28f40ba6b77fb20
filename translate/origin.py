"""Signatures of thoughts in a dialect whose own servers did not make them: they say who did.

A client sends a thought back to whichever server answers next, and only the one that signed it can
read the signature. Those of a dialect's own servers are as these made them.
"""

from .parts import SignedThought

ORIGINS = ("openai", "responses", "anthropic", "ollama")
MARK = ":"  # which no signature has: they are base64, hexadecimal or UUIDs
OMITTED = f"omitted{MARK}"  # the thought's text was, which is not the same as redacted


def carried(thought: SignedThought, dialect: str) -> str:
    """Return a thought's signature as clients of a dialect are given it."""
    if thought.origin in ("", dialect):
        return thought.signature
    return f"{thought.origin}{MARK}{OMITTED if thought.omitted else ''}{thought.signature}"


def brought(text: str, signature: str, dialect: str) -> SignedThought:
    """Return a thought that a client sends back, with the signature as it was made."""
    origin, mark, rest = signature.partition(MARK)
    if not mark or origin not in ORIGINS:
        return SignedThought(text, signature, dialect)
    omitted = not text and rest.startswith(OMITTED)
    return SignedThought(text, rest.removeprefix(OMITTED), origin, omitted)


def known(thoughts: tuple[SignedThought, ...], format: str) -> tuple[SignedThought, ...]:
    """Return the thoughts that a server of this format may have made."""
    return tuple(thought for thought in thoughts if thought.origin in ("", format))
