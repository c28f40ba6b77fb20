"""Anthropic's turns, blocks and tools, by the official package's names of their fields."""

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from anthropic.types.beta import (
    BetaContentBlockParam,
    BetaMessageParam,
    BetaToolChangeToolDefinitionParam,
    BetaToolChangeToolReferenceParam,
    BetaToolParam,
    BetaToolReferenceBlockParam,
)

from bessemer.translate.anthropic_blocks import ChangedTool, InputBlock, InputMessage, InputTool


def fields(*types: Any) -> Iterator[str]:
    """Yield the fields of types, unions of them included."""
    for each in types:
        if members := get_args(each):
            yield from fields(*members)
        else:
            yield from getattr(each, "model_fields", None) or each.__annotations__


@pytest.mark.parametrize(
    ("struct", "theirs"),
    [
        (InputMessage, (BetaMessageParam,)),
        (InputBlock, (BetaContentBlockParam, BetaToolReferenceBlockParam)),
        (InputTool, (BetaToolParam,)),
        (ChangedTool, (BetaToolChangeToolReferenceParam, BetaToolChangeToolDefinitionParam)),
    ],
)
def test_fields_are_the_official_package_s(struct: type[msgspec.Struct], theirs: Any) -> None:
    ours = {each.encode_name for each in msgspec.structs.fields(struct)}
    # What one search result among a server's has is read of a block's content.
    assert ours - {"url"} <= {*fields(*theirs)}


def test_what_a_block_does_not_have_is_not_told() -> None:
    block = msgspec.json.decode(b'{"type": "text", "text": "a", "caller": {}}', type=InputBlock)
    assert msgspec.to_builtins(block) == {"type": "text", "text": "a"}
