"""A reader of inputs: what it takes, and that it stays what it was read as."""

from pathlib import Path

import pytest

from bessemer.engine.embedding.inputs import InputError, load_reader
from bessemer.engine.embedding.sentence_transformers import ModelOptions, describe

from ..tiny_embedders import EMBEDDERS

TEXT = "the cat sleeps on the old stone and the dog runs"


def test_a_shorter_reader_leaves_the_other_as_it_is(tmp_path: Path) -> None:
    reader = load_reader(describe(EMBEDDERS["no_modules"].write(tmp_path)), ModelOptions(), 160, 90)
    short = reader.shortened(6)
    assert (reader.longest, short.longest) == (20, 6)
    assert (len(reader.text(TEXT).tokens), len(short.text(TEXT).tokens)) == (13, 6)
    assert reader.shortened(20) is reader
    with pytest.raises(InputError, match="13 tokens, and the model takes 6"):
        short.text(TEXT, truncate=False)
    assert short.text(TEXT).tokens == [*reader.text(TEXT).tokens[:5], 2]
