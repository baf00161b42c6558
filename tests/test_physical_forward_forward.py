"""PhyLL: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import assert_caught, assert_identities_hold

from bpfree_common import adam, catalogue, loader
from bpfree_common.audit import audit
from bpfree_common.cost import measure
from bpfree_common.rule import LearningRule

SLUG = "physical_forward_forward"
GRADIENT = "credit equals the gradient of each layer's own loss"
DIGITAL = "digital variant: credit equals the gradient of each own loss"
CHANNELS = "channels of the device have no order"
CAMERA = "a camera of 4 bits has at most 16 readings, and no graph"
PREDICTION = "a prediction is one run per label"

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
    "sign of h forgotten": ("delta * z.sign()", "delta", GRADIENT),
    "growth rewarded": ("p - (g / length)[:, None] * a", "p", GRADIENT),
    "length forgotten": ("(slope / length)[:, None]", "slope[:, None]", GRADIENT),
    "bias uphill": ("delta.T @ u, delta.sum(0)", "delta.T @ u, -delta.sum(0)", GRADIENT),
    "absolute value handed on": (
        "return (z, z.abs())",
        "return (z.abs(), z.abs())",
        GRADIENT,
    ),
    "GELU not differentiated": (
        "delta = torch.ops.aten.gelu_backward(delta, z)",
        "pass",
        DIGITAL,
    ),
    "right label as wrong": ("randint(1,", "randint(0,", "wrong labels are never right"),
    "image cut at the wrong end": ("x[:, classes:]", "x[:, :-classes]", PREDICTION),
    "one layer counted": ("self.goodness(x).sum(0)", "self.goodness(x)[-1]", PREDICTION),
    "signed goodness": ("(z, z.abs())", "(z, z)", GRADIENT),
    "camera of one more bit": ("(2**self.bits - 1)", "(4**self.bits - 1)", CAMERA),
}

TEACH = """h, logged[f"loss {l + 1}"] = self.teach(l, u)"""
LEAK = f"""{TEACH}
            self.units[l].weight.grad *= self.units[-1].weight.norm()"""


def test_identities_of_phyll_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_phyll_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.fixture(scope="module")
def intact():
    return loader.build(catalogue.get(SLUG).path, "intact_phyll")


def probe():
    torch.manual_seed(0)
    return torch.rand(6, 42), torch.arange(6)


def stack(module, depth, physical=True):
    device = (lambda l, n: module.Device(n, 24, l)) if physical else None
    return module.PhyLL([42] + [32] * depth + [10], adam(1e-3), device)


@pytest.mark.parametrize("physical", [True, False])
def test_phyll_is_layer_local_and_holds_no_more_when_the_stack_grows(intact, physical):
    audit(lambda depth: stack(intact, depth, physical), probe()).expect(
        crossings=0,
        locking="none",
        weight_transport="none",
        memory="none",
        live_memory="flat",
        forward=2,
        backward=0,
    )


def test_a_layer_that_looks_at_the_layers_above_is_caught_by_the_audit():
    path = catalogue.get(SLUG).path
    leaky = loader.build(path, "leaky_phyll", replace=(TEACH, LEAK))
    found = audit(lambda depth: stack(leaky, depth), probe(), depths=(2, 4))
    assert found.locking == "part"
    assert found.weight_transport == "part"


def test_the_rule_never_differentiates_a_device(intact):
    rule = stack(intact, 3)
    for device in rule.f:
        device.register_full_backward_hook(
            lambda *_: pytest.fail("a device ran backward")
        )
    rule.credit(probe())
    rule.zero_grad()
    rule.predict(probe()[0]).sum().backward()


def test_patience_makes_all_its_steps_on_one_measurement(intact):
    rule = stack(intact, 2)
    rule.__class__ = type("Three", (intact.PatientPhyLL,), {"repeats": 3})
    steps, runs = [], []
    optimizers = rule.configure_optimizers()
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(lambda *_: steps.append(1))
    rule.optimizers = lambda: optimizers
    for device in rule.f:
        device.register_forward_hook(lambda *_: runs.append(1))
    rule.training_step(probe(), 0)
    assert (len(steps), len(runs)) == (6, 2)
    assert isinstance(rule, LearningRule)


def test_build_dense_is_the_digital_variant_at_any_depth(intact):
    for hidden in ([16], [16, 12, 8, 8]):
        rule = intact.build_dense([42, *hidden, 10], adam(1e-3))
        assert len(rule.units) == len(hidden)
        assert rule.predict(probe()[0]).shape == (6, 10)
        assert measure(rule, probe()).forward == 2
