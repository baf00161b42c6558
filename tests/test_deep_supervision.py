"""The rule of deep_supervision: its identities hold, and defects in it are caught."""

import pytest
from support import assert_caught, assert_identities_hold

SLUG = "deep_supervision"
CLOSED_FORM = "hidden credit equals its closed form"

MUTATIONS = {
    "sign": ("loss.backward()", "(-loss).backward()", CLOSED_FORM),
    "scale": ("h @ getattr", "2 * h @ getattr", CLOSED_FORM),
    "sum for mean": ("loss.backward()", "(loss * len(y)).backward()", CLOSED_FORM),
}


def test_identities_of_deep_supervision_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_deep_supervision_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])
