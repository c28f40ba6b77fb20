"""How long a sequence may become, and which lengths rotate positions alike."""

from bessemer.architectures.config import Rope
from bessemer.engine.max_len import max_len_of, rope_key

from .paper_model import request_for


def test_sequences_share_keys_where_ropes_turn_them_alike() -> None:
    long = Rope(64, kind="longrope", original_context=100, context=1000)
    dynamic = Rope(64, kind="dynamic", context=100)
    assert [rope_key([long], max_len) for max_len in (1, 100, 101, 900)] == ["", "", "long", "long"]
    assert [rope_key([dynamic], r) for r in (1, 100, 101, 900)] == ["", "", "101", "900"]
    assert rope_key([long, Rope(64), dynamic], 900) == "long,900"
    assert rope_key([Rope(64), Rope(64, kind="yarn")], 10**6) == ""


def test_a_sequence_may_fill_the_context_and_no_more() -> None:
    lengths = [max_len_of(request_for(1, [5] * 30, count), 100) for count in (50, 70, 90)]
    assert lengths == [80, 100, 100]
