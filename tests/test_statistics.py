"""Intervals, paired differences, equivalence and Holm, against their definitions."""

import math

import numpy as np
import pytest
from scipy import stats

from bpfree_common.studies import statistics as st


def test_the_interval_is_students():
    values = np.array([0.91, 0.93, 0.90, 0.94, 0.92])
    found = st.estimate(values)
    half = 2.7764451051977987 * values.std(ddof=1) / math.sqrt(5)  # t of 4, 97.5 %
    assert found.mean == pytest.approx(0.92)
    assert found.high - found.mean == pytest.approx(half)
    assert found.mean - found.low == pytest.approx(half)


def test_ninety_five_of_a_hundred_intervals_hold_the_mean():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2_000, 5))
    held = [e.low <= 3.0 <= e.high for e in map(st.estimate, draws)]
    assert 0.935 < np.mean(held) < 0.965


@pytest.mark.parametrize(
    ("values", "words"), [([0.5], "one seed"), ([1, 2], "two seeds")]
)
def test_one_or_two_values_have_no_interval_and_say_so(values, words):
    found = st.estimate(values)
    assert (found.low, found.high) == (None, None)
    assert words in found.text()


def test_a_count_is_its_own_interval():
    assert st.exact(3).as_list() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        st.estimate(values)


def test_pairing_takes_the_scatter_that_seeds_share_away():
    shared = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    a, b = shared + np.array([1.0, 1.1, 0.9, 1.05, 0.95]), shared
    found = st.paired(a, b)
    assert 0.9 < found.low < 1.0 < found.high < 1.1
    assert st.p_different(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_values_of_different_seeds_cannot_be_paired():
    with pytest.raises(ValueError, match="3 and 2 values"):
        st.paired([1, 2, 3], [1, 2])


def test_equivalence_needs_the_interval_within_the_margin():
    a = np.array([1.0, 1.2, 0.9, 1.1, 1.0])
    b = np.array([1.1, 1.1, 1.0, 1.0, 1.0])
    low, high = stats.ttest_rel(a, b).confidence_interval(0.90)  # two one-sided 5 % tests
    margin = max(abs(low), abs(high))
    assert st.equivalent(a, b, margin * 1.01)
    assert not st.equivalent(a, b, margin * 0.99)


def test_a_large_scatter_is_no_equivalence_even_at_equal_means():
    assert not st.equivalent([1.0, -1.0, 2.0, -2.0, 0.0], [0.0] * 5, 0.5)


def test_a_margin_of_zero_is_refused():
    with pytest.raises(ValueError, match="positive margin"):
        st.p_equivalent([1, 2], [1, 2], 0.0)


def test_holm_multiplies_by_how_many_are_left_and_never_falls():
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "one seed": math.nan}
    found = st.holm(p)
    assert found["a"] == pytest.approx(0.03)
    assert found["c"] == pytest.approx(0.06)
    assert found["b"] == pytest.approx(0.06)
    assert math.isnan(found["one seed"])
