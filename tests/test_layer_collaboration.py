"""Layer collaboration: identities hold, defects are caught, the audit sees the lock."""

import pytest
import torch
from support import (
    GLOBAL,
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
)

from bpfree_common import adam
from bpfree_common.former.audit import audit

SLUG = "layer_collaboration"
OWN = "each layer ascends its own p_i, with gamma from a frozen copy"

MUTATIONS = {
    "p for 1 - p": ("ff.targets(x), 0.0", "1 - ff.targets(x), 0.0", OWN),
    "sign of gamma": ("(own + gamma,", "(own - gamma,", OWN),
    "wrong rows pulled": (
        "return ff.row_errors(own + gamma, t, theta)",
        "return ff.row_errors(own + gamma, t, theta) * (2 * t - 1)",
        OWN,
    ),
    "gamma of right rows for all": (
        "return total - own",
        "return (total - own)[..., : own.shape[-1] // 2].repeat(1, 2)",
        OWN,
    ),
    "own goodness counted twice": ("return total - own", "return total", OWN),
    "threshold of one layer": (
        '{"all": widths, "below"',
        '{"all": widths[:1], "below"',
        OWN,
    ),
    "below includes itself": ("return below if", "return below + own if", OWN),
    "input not normalised": ("(normalise(a, G),) if n", "(a,) if n", OWN),
    "always the first layer's turn": (
        "(self.turn + 1)",
        "(self.turn + 0)",
        "in turn: one layer per step",
    ),
    "first layer not read": (
        "self.goodness(x).sum(0)",
        "self.goodness(x)[1:].sum(0)",
        "prediction sums the goodness of all layers",
    ),
    "entropy without its mean": (
        "- torch.xlogy(mean, mean)",
        "- 0 * mean",
        "Ent(h) >= 0, and 0 for a constant h",
    ),
    "right and wrong swapped in one ascent": (
        "own in self.layers(x, shown)",
        "own in self.layers(x, shown.roll(len(x)))",
        "keeping the rows or sending them up twice is the same",
    ),
}


def test_identities_of_layer_collaboration_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_layer_collaboration_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def audited(module, rule="LayerCollaboration", **options):
    """The notebook's probe: a small threshold that goodness is near, at any depth."""

    def build(units):
        kind = getattr(module, rule)
        made = kind(image_sizes(units), adam(1e-3), theta=0.045, **options)
        with torch.no_grad():
            for p in made.parameters():
                p *= 0.3
        return made

    return audit(build, image_batch())


NO_GRADIENT = {
    "crossings": 0,
    "weight_transport": "none",
    "memory": "none",
    "backward": 0,
}


def test_all_layers_lock_each_other_through_a_number_without_weight_transport(paper):
    audited(paper).expect(**NO_GRADIENT, locking="full", live_memory="linear", forward=2)


def test_a_second_ascent_buys_flat_memory(paper):
    found = audited(paper, recompute=True)
    found.expect(**NO_GRADIENT, locking="full", live_memory="flat", forward=4)


@pytest.mark.parametrize("gamma", ["below", "none"])
def test_layers_below_need_nothing_from_above_and_keep_nothing(paper, gamma):
    found = audited(paper, gamma=gamma)
    found.expect(**NO_GRADIENT, locking="none", live_memory="flat", forward=2)


def test_letting_the_gradient_through_is_backpropagation(paper):
    audited(paper, "BackpropPairwise").expect(**GLOBAL, memory="linear")


def test_the_dense_builder_makes_a_network_that_learns_and_predicts(paper):
    torch.manual_seed(0)
    for inputs in (20, 800):  # the label is appended, or replaces the first pixels
        rule = paper.build_dense([inputs, 16, 16, 4], adam(1e-3))
        rule.credit((torch.rand(6, inputs), torch.arange(6) % 4))
        assert all(p.grad is not None for p in rule.parameters())
        assert rule.predict(torch.rand(5, inputs)).shape == (5, 4)
