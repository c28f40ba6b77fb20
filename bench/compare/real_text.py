"""Real text to judge a model's arithmetic on, which every machine with Python and Bessemer has.

In turns: Python's documentation and some of its source (PSF licence), the descriptions of packages
that Bessemer needs (MIT, BSD and Apache licences), and the built-in model's questions and answers.
"""

import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain, zip_longest
from pydoc_data.topics import topics

from bessemer.bench.guide.corpus import entries
from bessemer.engine.text.tokenizer import Tokenizer

DESCRIBED = ("typer", "msgspec", "huggingface_hub", "numpy", "jinja2", "rich", "h11", "psutil")
MODULES = (textwrap, inspect)


def sources() -> dict[str, Iterator[str]]:
    """Return texts by what they are, each in pieces."""
    answers = (f"{entry.questions[0]}\n{entry.answer}\n" for entry in entries())
    return {
        f"Python {sys.version_info[0]}.{sys.version_info[1]}'s documentation": _topics(),
        "its source": (inspect.getsource(module) for module in MODULES),
        "packages' descriptions": _descriptions(),
        "the guide's answers": answers,
    }


def _topics() -> Iterator[str]:
    return (text for _, text in sorted(topics.items()))


def _descriptions() -> Iterator[str]:
    for name in DESCRIBED:
        try:
            about = distribution(name).read_text("METADATA") or ""
        except PackageNotFoundError:
            continue
        yield about.partition("\n\n")[2]  # what follows its fields


def windows(tokenizer: Tokenizer, count: int, size: int) -> list[tuple[int, ...]]:
    """Return so many windows of tokens, or all there are, the sources in turns."""
    begin = tokenizer.encode("", special=True)
    cuts = (_cut(tokenizer, text, size - len(begin)) for text in sources().values())
    turns = chain.from_iterable(zip_longest(*cuts))
    found = (window for window in turns if window is not None)
    return [(*begin, *window) for window, _ in zip(found, range(count), strict=False)]


def _cut(tokenizer: Tokenizer, pieces: Iterator[str], size: int) -> Iterator[Sequence[int]]:
    tokens: list[int] = []
    for piece in pieces:
        tokens += tokenizer.encode(piece, special=False)
        while len(tokens) >= size:
            yield tokens[:size]
            tokens = tokens[size:]
