"""Verdicts follow from measured values and two-sided bands alone."""

import pytest

from bpfree_common.former import claims


@pytest.mark.parametrize(
    ("measured", "band", "verdict"),
    [
        (0.5, (0.4, 0.6), "reproduced"),
        ([0.45, 0.5, 0.55], (0.4, 0.6), "reproduced"),
        ([0.35, 0.5, 0.55], (0.4, 0.6), "partial"),
        ([0.3, 0.7], (0.4, 0.6), "partial"),  # only the mean is inside
        (0.7, (0.4, 0.6), "not reproduced"),  # too good is suspicious
        ([0.1, 0.2], (0.4, None), "not reproduced"),
        (9.0, (0.4, None), "reproduced"),
        (0.0, (None, 0.0), "reproduced"),
    ],
)
def test_the_verdict_follows_from_the_band(measured, band, verdict):
    assert claims.judge("c", "text", measured, band).verdict == verdict


@pytest.mark.parametrize("measured", [float("nan"), [], [0.1, float("inf")]])
def test_what_is_not_a_number_has_no_verdict(measured):
    with pytest.raises(ValueError, match="not a finite number"):
        claims.judge("c", "text", measured, (0, 1))


def test_a_claim_can_be_left_for_a_larger_scale():
    claim = claims.not_attempted("c", "text", "needs ImageNet")
    assert claim.verdict == "not attempted at this scale"
    assert claim.note == "needs ImageNet"
    assert (claim.value, claim.threshold) == ("-", "-")


def test_value_and_threshold_read_well():
    claim = claims.judge("c", "text", [1.0, 2.0], (0.5, None), "points")
    assert claim.value == "1.5 (1 to 2) points"
    assert claim.threshold == ">= 0.5"
    assert claims.judge("c", "text", 1, (0, 2)).threshold == "0 to 2"
