"""Guarded memory: poison around it and in it, mappings that are used again."""

import mlx.core as mx

from bessemer.kernels.simulator.buffers import PAGE, POISON, Mappings, borrowed

from .running import I, planted

SHARED = "threadgroup float s[64];\n"


def test_poison() -> None:
    (o,) = planted(f"{I}if (i % 2) o[i] = a[i];", "fast")
    bits = o.view(mx.uint32)
    assert bits[0].item() == 0xFFFFFFFF and bits[1].item() != 0xFFFFFFFF
    (o,) = planted(f"{SHARED}{I}o[i] = s[i];", "fast")
    assert mx.all(o.view(mx.uint32) == 0xFFFFFFFF)


def test_memory_ends_at_a_guard_and_notices_what_is_beside_it() -> None:
    with borrowed() as borrower:
        memory = borrower.take(100)
        assert memory.pages == 1 and memory.base % 16 == 0
        assert 0 <= memory.high - PAGE - (memory.base + 100) < 16
        memory.values()[:] = 1
        assert memory.clean()
        longer = type(memory)(memory.low, memory.high, memory.base, 101)
        longer.values()[100] = POISON - 1
        assert not memory.clean()


def test_mappings_are_used_again() -> None:
    mappings = Mappings()
    first = mappings.take(100)
    mappings.give(first)
    first_again, second = mappings.take(200), mappings.take(100)
    assert first_again.low == first.low and first_again.clean()
    assert second.low != first.low
