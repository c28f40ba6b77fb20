"""The byte plan: what fits, what does not, and what the refusal says."""

import pytest

from bessemer.engine.memory import DoesNotFit, plan, size

GB = 10**9
MODEL = {"weights": 4 * GB, "working": GB // 10, "page": 4_000_000, "page_tokens": 32}


def test_the_automatic_pool_takes_half_of_what_is_left_at_most() -> None:
    settled = plan(budget=10 * GB, context=131072, **MODEL)
    assert settled.pool <= (10 * GB - 4 * GB - GB // 10) // 2
    assert settled.pool > 0.98 * (10 * GB - 4 * GB - GB // 10) // 2
    assert settled.context == settled.pages * 32 < 131072


def test_a_small_context_gets_a_few_conversations_and_no_more() -> None:
    settled = plan(budget=100 * GB, context=2048, **MODEL)
    assert (settled.pages, settled.context) == (4 * 2048 // 32, 2048)


def test_a_pool_that_was_asked_for_is_taken_at_its_word() -> None:
    settled = plan(budget=5 * GB, context=131072, pool=2 * GB, **MODEL)
    assert settled.pages == 500


@pytest.mark.parametrize(("budget", "pool"), [(3 * GB, 0), (5 * GB, 1_000_000), (4_150_000_000, 0)])
def test_what_does_not_fit_is_refused_with_the_numbers(budget: int, pool: int) -> None:
    with pytest.raises(DoesNotFit) as caught:
        plan(budget=budget, context=131072, pool=pool, **MODEL)
    assert "4 GB" in str(caught.value) and "--kv-cache" in str(caught.value)
    assert size(budget) in str(caught.value)


def test_the_plan_reads_as_one_line() -> None:
    text = str(plan(budget=100 * GB, context=2048, **MODEL))
    assert (
        "weights 4 GB" in text and "1.02 GB (256 pages of 4 MB)" in text and "2048 tokens" in text
    )
