"""PhyLL: identities hold, defects are caught, the audit sees what it must."""

import pytest
from support import (
    LOCAL,
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
    mutant,
)

from bpfree_common import adam
from bpfree_common.former.audit import audit
from bpfree_common.former.cost import measure
from bpfree_common.learning.rule import LearningRule

SLUG = "physical_forward_forward"
GRADIENT = "credit equals the gradient of each layer's own loss"
DIGITAL = "digital variant: credit equals the gradient of each own loss"
CHANNELS = "channels of the device have no order"
CAMERA = "a camera of 4 bits has at most 16 readings, and no graph"
PREDICTION = "a prediction is one run per label"
SPARED = "the credit is the same when nothing is handed on"
SHARED = "the shared first layer equals"

MUTATIONS = {
    "sign of the step": ("slope = -theta *", "slope = theta *", GRADIENT),
    "sum for mean": ("(-theta * gap) / len(gap)", "(-theta * gap)", GRADIENT),
    "missing sharpness": ("torch.sigmoid(-theta * gap)", "torch.sigmoid(-gap)", GRADIENT),
    "reversed contrast": (
        "return F.softplus(-theta * gap)",
        "return F.softplus(theta * gap)",
        "right and wrong swapped",
    ),
    "both runs pushed up": ("cat([slope, -slope])", "cat([slope, slope])", GRADIENT),
    "sign of h forgotten": ("delta *= z.sign()", "pass", GRADIENT),
    "growth rewarded": ("(-pull * g / length)", "(0 * pull)", GRADIENT),
    "length forgotten": ("pull = slope / length", "pull = slope", GRADIENT),
    "absolute value handed on": (
        "return (z, z.abs())",
        "return (z.abs(), z.abs())",
        GRADIENT,
    ),
    "GELU not differentiated": (
        "torch.ops.aten.gelu_backward.grad_input(delta, z, grad_input=delta)",
        "pass",
        DIGITAL,
    ),
    "right label as wrong": (
        "uniform_labels(y, self.classes)",
        "y.flip(0)",
        "wrong labels are never right",
    ),
    "image cut at the wrong end": ("x[:, classes:]", "x[:, :-classes]", PREDICTION),
    "one layer counted": ("self.goodness(x).sum(0)", "self.goodness(x)[-1]", PREDICTION),
    "signed goodness": ("(z, z.abs())", "(z, z)", GRADIENT),
    "camera of one more bit": ("(2**self.bits - 1)", "(4**self.bits - 1)", CAMERA),
    "loss summed over pairs": (
        "(-theta * gap).mean()",
        "(-theta * gap).sum()",
        "equal runs: the loss is log 2",
    ),
    "right and wrong rows exchanged": (
        "rest, label.flatten(0, 1)",
        "rest, label.flip(0).flatten(0, 1)",
        SHARED,
    ),
    "needed memory taken": ("None if keep else a", "None if keep else z", SPARED),
    "right rows alone": (
        "unit.write(delta, *u)",
        "unit.write(delta * (torch.arange(len(delta)) < 5)[:, None], *u)",
        GRADIENT,
    ),
    "light bleeds into the next pixels": (
        "field.square().sum(1) / power",
        "field.square().sum(1).cummax(1).values / power",
        CHANNELS,
    ),
}

TEACH = """h, loss = self.teach(l, u)"""
LEAK = f"""{TEACH}
            self.units[l].weight.grad *= self.units[-1].weight.norm()"""


def test_identities_of_phyll_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_phyll_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def stack(module, depth, physical=True):
    device = (lambda l, n: module.Device(n, 24, l)) if physical else None
    return module.PhyLL(image_sizes(depth), adam(1e-3), device)


@pytest.mark.parametrize("physical", [True, False])
def test_phyll_is_layer_local_and_holds_no_more_when_the_stack_grows(paper, physical):
    audit(lambda depth: stack(paper, depth, physical), image_batch()).expect(
        **LOCAL, memory="none", live_memory="flat", forward=2, backward=0
    )


def test_a_layer_that_looks_at_the_layers_above_is_caught_by_the_audit():
    leaky = mutant(SLUG, TEACH, LEAK)
    found = audit(lambda depth: stack(leaky, depth), image_batch(), depths=(2, 4))
    assert found.locking == "part"
    assert found.weight_transport == "part"


def test_the_rule_never_differentiates_a_device(paper):
    rule = stack(paper, 3)
    for device in rule.f:
        device.register_full_backward_hook(
            lambda *_: pytest.fail("a device ran backward")
        )
    x, y = image_batch()
    rule.credit((x, y))
    rule.zero_grad()
    rule.predict(x).sum().backward()


def test_patience_makes_all_its_steps_on_one_measurement(paper):
    rule = stack(paper, 2)
    rule.__class__ = type("Three", (paper.PatientPhyLL,), {"repeats": 3})
    steps, runs = [], []
    optimizers = rule.configure_optimizers()
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(lambda *_: steps.append(1))
    rule.optimizers = lambda: optimizers
    for device in rule.f:
        device.register_forward_hook(lambda *_: runs.append(1))
    rule.step(image_batch())
    assert (len(steps), len(runs)) == (6, 2)
    assert isinstance(rule, LearningRule)


def test_build_dense_is_the_digital_variant_at_any_depth(paper):
    batch = image_batch()
    for hidden in ([16], [16, 12, 8, 8]):
        rule = paper.build_dense([42, *hidden, 10], adam(1e-3))
        assert len(rule.units) == len(hidden)
        assert rule.predict(batch[0]).shape == (6, 10)
        assert measure(rule, batch).forward == 2
