"""The settings of a worker: the declarations agree with themselves, and travel whole."""

from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest

from bessemer.engine.settings import Flag, OneAnswer, Settings
from bessemer.engine.wire import VERSION, Configure, WireError, server_channel, worker_channel
from bessemer.http.config import declared
from bessemer.kernels.cpu.library import AUTO, TIERS

NO_FLAGS = {"one_answer"}
HINTS = {
    name: hint
    for name, hint in get_type_hints(Settings, include_extras=True).items()
    if name not in NO_FLAGS
}


class Further(Settings, frozen=True, kw_only=True):
    """One field more: what a new setting has to say of itself, and all of it."""

    draft_length: Annotated[int, Flag("N", "Tokens to guess.", min=1, max=8, auto=True)] = 0


def test_every_field_has_a_flag_and_a_default_that_it_takes() -> None:
    assert {*HINTS, *NO_FLAGS} == {*Settings.__struct_fields__}
    for name, hint in HINTS.items():
        kind, flag = get_args(hint)
        default = getattr(Settings(), name)
        assert isinstance(flag, Flag) and flag.help.endswith("."), name
        if get_origin(kind) is Literal:
            assert default in get_args(kind), name
        elif isinstance(default, bool):
            assert not default and not flag.metavar, name  # the flag can only switch it on
        else:
            assert default == 0 if flag.auto else flag.min <= default <= flag.max, name


def test_every_tier_of_the_cpu_kernels_can_be_chosen() -> None:
    kind, _ = get_args(HINTS["cpu_tier"])
    assert get_args(kind) == (AUTO, *TIERS)


def test_a_further_field_is_a_flag_of_the_same_name() -> None:
    settings = declared(Further)
    assert list(settings) == [*HINTS, "draft_length"]
    source = settings["draft_length"]
    assert (source.flag, source.metavar, source.default) == ("--draft-length", "N", "auto")
    assert source.environment == ("BESSEMER_DRAFT_LENGTH",)
    assert source.help == "Tokens to guess."
    assert settings["queue"].parse("0") == 0  # where nothing is said of the least
    assert (source.parse("5"), source.parse("auto")) == (5, 0)
    with pytest.raises(ValueError, match="a whole number from 1 to 8, or auto"):
        source.parse("9")
    sent = msgspec.msgpack.encode(Further(draft_length=5, chunk=7))
    assert msgspec.msgpack.decode(sent, type=Further) == Further(draft_length=5, chunk=7)


def test_every_field_reaches_the_worker() -> None:
    settings = Settings(
        kv_cache=2**40,
        max_batch=1,
        queue=0,
        chunk=9,
        threads=3,
        cpu_precision="exact",
        cpu_tier="plain",
        kv_bits=8,
        metal="checked",
        metal_kv="functional",
        async_scheduling="on",
        check_weights=True,
        parse_special=True,
        one_answer=OneAnswer(7, None),
    )
    names = Settings.__struct_fields__
    changed = [getattr(settings, name) != getattr(Settings(), name) for name in names]
    assert all(changed)
    (configure,) = worker_channel().feed(server_channel().frame(configured(settings)))
    assert configure == configured(settings)


def test_a_value_that_no_flag_allows_is_not_taken() -> None:
    unknown = msgspec.structs.replace(Settings(), cpu_tier="sse")
    with pytest.raises(WireError, match="cpu_tier"):
        list(worker_channel().feed(server_channel().frame(configured(unknown))))


def configured(settings: Settings) -> Configure:
    return Configure(VERSION, "/models/m", 10**12, settings)
