"""COMQ: the identities hold, and single-line defects of the rule are caught by name."""

import pytest
import torch
from support import assert_caught, assert_identities_hold

SLUG = "comq"
BRUTE_FORCE = "a code update is the best of all 2^b codes (brute force)"
EQUAL_FORMS = "G and explicit residuals give identical codes, in both orders"
ON_GRID = "weights that already lie on the grid are left alone"

MUTATIONS = {
    "numerator has the wrong sign": ("old + r[k]", "old - r[k]", BRUTE_FORCE),
    "one code too many": ("z + 2**bits - 1)", "z + 2**bits)", BRUTE_FORCE),
    "rank-one update has the wrong sign": (
        "r[k + 1 :] -= ",
        "r[k + 1 :] += ",
        EQUAL_FORMS,
    ),
    "explicit residual is not updated": (
        "U += x * (v - V[rows, i])",
        "U += 0 * x",
        EQUAL_FORMS,
    ),
    "scale upside down": (
        "inner / square, delta",
        "square / inner, delta",
        "a code or scale update never raises the error of any channel",
    ),
    "one step too many in the first grid": ("/ (2**bits - 1))", "/ 2**bits)", ON_GRID),
    "smallest contribution first": (
        "descending=True",
        "descending=False",
        "the greedy order visits the largest |w| ‖X‖ first",
    ),
    "patches without padding": (
        "layer.padding",
        "0",
        "the Gram matrix of patches gives the error of a convolution",
    ),
    "inputs from the wrong network": (
        "quantised if follow else units",
        "units if follow else quantised",
        "inputs come from the full-precision network unless `follow` is set",
    ),
    "residual of the block's first state": (
        "C[k, k + 1 :]",
        "C[k, k + 1 :] * 0",
        EQUAL_FORMS,
    ),
    "0 / 0 where an input never fires": (
        "C[k, k].clamp_min(1e-30)",
        "C[k, k]",
        "an input that never fires keeps its rounded code",
    ),
}


def test_identities_of_comq_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_comq_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def test_the_sweeps_start_from_the_unquantised_weights(paper):
    torch.manual_seed(0)
    W, X = torch.randn(6, 20).double(), torch.randn(40, 5).double()
    X = X @ torch.randn(5, 20).double() + 0.1 * torch.randn(40, 20).double()
    delta, z = paper.grid(W, 2)
    order = paper.visiting_order(W, X.T @ X, greedy=False)

    def one_sweep_from(V):
        return paper.sweep_explicit(V, W, X, delta, z, 2, order)

    options = {"sweeps": 1, "greedy": False, "rescale": False}
    Q, *_ = paper.comq(W, X.T @ X, 2, **options)
    assert torch.equal(Q, one_sweep_from(W))
    assert not torch.equal(Q, one_sweep_from(delta * paper.snap(W, delta, z, 2)))
