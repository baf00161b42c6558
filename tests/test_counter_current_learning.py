"""Counter-current learning: identities hold, defects are caught, the audit sees."""

import numpy as np
import pytest
import torch
from support import assert_caught, assert_identities_hold, small_batch, small_sizes

from bpfree_common.data.tasks import Data
from bpfree_common.learning.opponents import Backprop
from bpfree_common.learning.optim import sgd
from bpfree_common.learning.training import fit
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "counter_current_learning"
GRADIENT = "credit equals the gradient of the pair losses"
FAST = "the fast form gives the same credits as the plain one"
GRAPHS = "local graphs give the same credits as the formulas"
CLIPPED = "U and V are clipped apart, and keep their directions"
PAIR = "a pair's loss is 0 if S = Y; normalised, it ignores lengths"

MUTATIONS = {
    "sign of the target": ("(a[l] @ b[l].T - Y)", "(a[l] @ b[l].T + Y)", GRADIENT),
    "strength": ("512 * self.c / (a[l]", "256 * self.c / (a[l]", GRADIENT),
    "width forgotten": ("(a[l].shape[1] * Y.numel())", "Y.numel()", GRADIENT),
    "sum for mean in the last layer": (
        "(a[-1].softmax(1) - Y) / len(y)",
        "a[-1].softmax(1) - Y",
        GRADIENT,
    ),
    "no slope": ("signal * (out.clamp(max=0) + 1)", "1 * signal", GRADIENT),
    "sign of the target in the fast form": ("beta=-k", "beta=k", FAST),
    "slope of the input in the fast form": (
        "1, 1, 1, True, out",
        "1, 1, 1, False, out",
        FAST,
    ),  # fmt: skip
    "missing detach, upward": ("U(a[-1].detach())", "U(a[-1])", GRAPHS),
    "missing detach, downward": ("V(b[0].detach())", "V(b[0])", GRAPHS),
    "one clip for both": (
        "[w for unit in net for w in unit.parameters()]",
        "list(self.parameters())",
        CLIPPED,
    ),
    "no clip": ("clip_grad_norm_(weights, self.clip)", "torch.ones(1)", CLIPPED),
    "rows not normalised": ("F.normalize(a), F.normalize(b)", "a, F.normalize(b)", PAIR),
    "means added": ("g.sub_(", "g.add_(", "centralised credits have mean 0"),
    "frozen feedback learns": (
        "rule.units[rule.L :].requires_grad_(False)",
        "rule.units[rule.L :].requires_grad_(True)",
        "a feedback network that does not learn stays bit for bit",
    ),
    "nobody flooded": ("> 0.9)", "> 1.9)", "a flooded sample teaches no hidden layer"),
    "prediction cut between layers": (
        "x = U(x)",
        "x = U(x.detach())",
        "without stopped gradients the cross-entropy is backprop's",
    ),
    "softmax over the batch": (
        "(a @ b.T).softmax(1) - Y",
        "(a @ b.T).softmax(0) - Y",
        "cross-entropy pairs follow the cross-entropy of S",
    ),
    "free prototypes start elsewhere": (
        "torch.log1p(b.clamp(-0.999, 0))",
        "b",
        "free prototypes start where the feedback network starts",
    ),
}


def test_identities_of_counter_current_learning_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_counter_current_learning_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def audited(paper, rule, clip):
    """The audit of a form of the rule on a probe of four layers."""

    def build(L):
        return rule(*paper.dense_nets(small_sizes(L - 1)), sgd(0.1), clip=clip)

    return audit(build, small_batch(), depths=(2, 4))


def test_without_a_common_clip_a_layer_depends_on_the_two_paths_to_its_pair(paper):
    found = audited(paper, paper.ClippedByLayer, 1e-3)
    D = np.array(found.dependence) > 0  # units U_1 .. U_4, V_4 .. V_1
    assert found.locking == "part"
    assert not np.triu(D[:4, :4], 1).any()
    assert not np.triu(D[4:, 4:], 1).any()
    for l in range(1, 5):
        assert D[l - 1, 4:].tolist() == [m > l for m in (4, 3, 2, 1)] or l == 4
        assert D[8 - l, :4].tolist() == [m < l for m in (1, 2, 3, 4)]


def test_no_weights_are_transported_but_perhaps_those_of_the_layer_that_reads_labels(
    paper,
):
    for rule in (paper.CounterCurrent, paper.FastCounterCurrent):
        T = np.array(audited(paper, rule, 1e9).transport)
        unknown = np.argwhere(np.isnan(np.triu(T, 1)))
        assert set(unknown[:, 1]) == {4}  # V_4, whose inputs are the one-hot labels
        assert not np.nan_to_num(np.triu(T, 1)).any()


def test_the_papers_clip_couples_all_layers_of_a_network_when_it_acts(paper):
    D = np.array(audited(paper, paper.FastCounterCurrent, 1e-3).dependence) > 0
    assert D[:4, :4].all()
    idle = np.array(audited(paper, paper.FastCounterCurrent, 1e9).dependence) > 0
    assert not np.triu(idle[:4, :4], 1).any()


def test_live_bytes_grow_with_depth_by_the_prototypes_alone(paper):
    def live(L):
        rule = paper.build_dense(small_sizes(L - 1), sgd(0.1))
        x, y = small_batch()
        return measure(rule, (x.repeat(8, 1), y.repeat(8))).live_bytes

    assert live(16) - live(8) == 8 * 3 * 12 * 4  # 8 layers, 3 classes, float32


def test_a_step_needs_less_compute_than_backprop_when_the_batch_is_large(paper):
    sizes, x = [784] + [256] * 5 + [10], torch.randn(256, 784)
    y = torch.arange(256) % 10
    ours = paper.build_dense(sizes, sgd(0.1))
    theirs = Backprop(torch.nn.ModuleList(paper.dense_nets(sizes)[0]), sgd(0.1))
    assert measure(ours, (x, y)).flops < 0.9 * measure(theirs, (x, y)).flops


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_both_builders_learn_at_any_depth(paper, kind):
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.randn(60, 1, 8, 8) + 2 * torch.randn(3, 1, 8, 8)[y]
    for depth in (1, 3):
        if kind == "dense":
            data, rule = (
                x.flatten(1),
                paper.build_dense([64] + [32] * depth + [3], sgd(0.3)),
            )
        else:
            data = x
            rule = paper.build_conv((1, 8, 8), [8] * depth, 3, sgd(0.3, 0.8))
        fit(rule, Data("toy", 3, data, y, data, y, data, y), epochs=12, batch_size=20)
        assert (rule.predict(data).argmax(1) == y).float().mean() > 0.8


def test_prediction_never_calls_the_feedback_network(paper):
    rule = paper.build_dense([6, 5, 4, 3], sgd(0.1))
    for V in rule.nets()[1]:
        V.register_forward_hook(lambda *_: pytest.fail("the feedback network ran"))
    rule.predict(torch.randn(2, 6)).sum().backward()
    assert all(w.grad is not None for unit in rule.nets()[0] for w in unit.parameters())
