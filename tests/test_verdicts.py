"""Verdicts from intervals, bands and nulls."""

from types import SimpleNamespace

import pytest

from bpfree_common.studies import claims
from bpfree_common.studies.claims import (
    BEYOND,
    NOT_ATTEMPTED,
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    assess,
    combine,
    judge,
)
from bpfree_common.studies.statistics import Estimate, estimate


def between(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 5)


def declared(band=(1.0, 3.0), null=0.0, final=False):
    return SimpleNamespace(
        text="it helps", source="paper", band=band, null=null, unit="points",
        final_accuracy=final,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.2, 2.8, REPRODUCED),
        (1.0, 3.0, REPRODUCED),
        (2.5, 3.4, UNDECIDED),  # a band of two sides is a test of equivalence
        (2.9, 9.0, UNDECIDED),
        (3.1, 43.0, BEYOND),
        (-0.5, 0.9, NOT_REPRODUCED),
        (0.5, 2.0, UNDECIDED),
        (0.5, 9.0, UNDECIDED),
    ],
)
def test_a_band_above_its_null(low, high, verdict):
    assert judge(between(low, high), (1.0, 3.0), 0.0) == verdict
    turned = judge(between(-high, -low), (-3.0, -1.0), 0.0)
    assert turned == verdict, "the same with every sign turned"


@pytest.mark.parametrize("band", [(None, 4.0), (-1.0, 4.0)])
def test_of_an_error_rate_the_null_is_above(band):
    assert judge(between(3.0, 3.9), band, 10.0) == REPRODUCED
    assert judge(between(4.2, 5.0), band, 10.0) == NOT_REPRODUCED
    assert judge(between(3.5, 4.5), band, 10.0) == UNDECIDED


def test_rounding_decides_no_verdict():
    measured = between(-0.20000000000000018, -0.20000000000000018)
    assert judge(measured, (-0.2, None), -5.0) == REPRODUCED
    assert judge(between(-0.2001, -0.2001), (-0.2, None), -5.0) == NOT_REPRODUCED


def test_one_seed_decides_nothing():
    assert judge(estimate([2.0]), (1.0, 3.0), 0.0) == UNDECIDED


def test_a_measured_null_inside_the_band_decides_nothing():
    assert judge(between(1.2, 2.0), (1.0, 3.0), 1.5) == UNDECIDED


def test_settings_that_disagree_are_listed_and_undecided():
    found = assess(
        "c", declared(), {"depth 2": [2.0, 2.1, 2.05], "depth 8": [0.1, 0.2, 0.15]}
    )
    assert found.verdict == UNDECIDED
    assert found.verdicts == {"depth 2": REPRODUCED, "depth 8": NOT_REPRODUCED}
    assert "depth 2: 2.05" in found.value


def test_beyond_agrees_with_reproduced():
    assert combine([REPRODUCED, BEYOND]) == REPRODUCED
    assert combine([BEYOND, BEYOND]) == BEYOND


def test_a_count_needs_no_seeds():
    assert assess("c", declared(), 2, counted=True).verdict == REPRODUCED
    assert assess("c", declared(), 2).verdict == UNDECIDED


FAILS, HOLDS = [0.1, 0.2, 0.15], [2.0, 2.1, 2.05]


def test_a_failure_at_a_small_share_of_the_updates_is_not_attempted():
    found = assess("c", declared(final=True), FAILS, share=0.08)
    assert found.verdict == NOT_ATTEMPTED
    assert "8.0% of the paper's updates" in found.note


def test_an_unknown_share_of_the_updates_counts_as_small():
    found = assess("c", declared(final=True), FAILS, share=None)
    assert found.verdict == NOT_ATTEMPTED
    assert "an unknown share" in found.note
    again = assess("c", declared(final=True), FAILS, share=None, doubled=lambda: FAILS)
    assert again.verdict == NOT_REPRODUCED


def test_a_failure_that_doubling_leaves_standing_stands():
    found = assess("c", declared(final=True), FAILS, share=0.08, doubled=lambda: FAILS)
    assert found.verdict == NOT_REPRODUCED
    assert found.doubled == {claims.ALL: FAILS}


def test_a_failure_that_doubling_mends_is_not_attempted():
    found = assess("c", declared(final=True), FAILS, share=0.08, doubled=lambda: HOLDS)
    assert found.verdict == NOT_ATTEMPTED
    assert found.doubled == {claims.ALL: HOLDS}


def test_doubling_is_not_paid_for_where_nothing_failed_or_the_budget_is_the_papers():
    def never():
        raise AssertionError("this costs minutes")

    assert assess("c", declared(final=True), HOLDS, share=0.08, doubled=never)
    assert assess("c", declared(final=True), FAILS, share=1.0, doubled=never)
    assert assess("c", declared(final=False), FAILS, share=0.08, doubled=never)


def test_what_is_not_attempted_says_why():
    found = claims.not_attempted("c", declared(), "it needs a GPU")
    assert (found.verdict, found.why, found.value) == (
        NOT_ATTEMPTED,
        "it needs a GPU",
        "-",
    )


def test_a_claim_without_a_band_or_a_null_cannot_be_judged():
    with pytest.raises(ValueError, match="no band"):
        assess("c", declared(band=(None, None)), HOLDS)
    for null in (None, "measured"):
        with pytest.raises(ValueError, match="no null"):
            assess("c", declared(null=null), HOLDS)
        assert assess("c", declared(null=null), HOLDS, null=0.0).null == 0.0
