"""PhyLL: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import (
    LOCAL,
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
    mutant,
)

from bpfree_common.learning.optim import adam
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "physical_forward_forward"
GRADIENT = "credit equals the gradient of each layer's own loss"
DIGITAL = "digital variant: credit equals the gradient of each own loss"
FAST = "the fast digital form"
CHANNELS = "channels of the device have no order"
CAMERA = "a camera of 4 bits has at most 16 readings, and no graph"
PREDICTION = "a prediction is one run per label"
WRONG = "wrong labels are never right"

MUTATIONS = {
    # the plain rule
    "sign of the step": ("slope = -theta *", "slope = theta *", GRADIENT),
    "sum for mean": ("(right - wrong)) / len(right)", "(right - wrong))", GRADIENT),
    "missing sharpness": (
        "torch.sigmoid(-theta * (right - wrong))",
        "torch.sigmoid(wrong - right)",
        GRADIENT,
    ),
    "reversed contrast": (
        "F.softplus(-theta * (right - wrong))",
        "F.softplus(theta * (right - wrong))",
        "right and wrong swapped",
    ),
    "loss summed over pairs": (
        "(right - wrong)).mean(), torch",
        "(right - wrong)).sum(), torch",
        "equal runs: the loss is log 2",
    ),
    "both runs pushed up": ("cat([slope, -slope])", "cat([slope, slope])", GRADIENT),
    "sign of h forgotten": ("z, z.abs(), z.sign()", "z, z.abs(), 1", GRADIENT),
    "absolute value handed on": ("z, z.abs(), z", "z.abs(), z.abs(), z", GRADIENT),
    "signed goodness": ("z, z.abs(), z.sign()", "z, z, 1", GRADIENT),
    "growth rewarded": ("(p - g * a / length)", "p", GRADIENT),
    "length forgotten": ("/ length * da_dz", "* da_dz", GRADIENT),
    "right label as wrong": (
        "labels = (y, uniform_labels(y, self.classes))",
        "labels = (y, y.flip(0))",
        WRONG,
    ),
    "image cut at the wrong end": ("x[:, classes:]]", "x[:, :-classes]]", PREDICTION),
    "one layer counted": (
        'g.append(cosine(a, getattr(self, f"p{l}"))[0][:, 0])',
        'g[:] = [cosine(a, getattr(self, f"p{l}"))[0][:, 0]]',
        PREDICTION,
    ),
    "GELU's density forgotten": ("below + z * density", "below", DIGITAL),
    # the device
    "camera of one more bit": ("(2**self.bits - 1)", "(4**self.bits - 1)", CAMERA),
    "light bleeds into the next pixels": (
        "field.square().sum(1) / power",
        "field.square().sum(1).cummax(1).values / power",
        CHANNELS,
    ),
    # the fast digital form
    "right and wrong rows exchanged": (
        "label.flatten(0, 1)",
        "label.flip(0).flatten(0, 1)",
        FAST,
    ),
    "fast: GELU not differentiated": (
        "torch.ops.aten.gelu_backward.grad_input(delta, z, grad_input=delta)",
        "pass",
        FAST,
    ),
    "fast: growth rewarded": ("(-pull * g / length)", "(0 * pull)", FAST),
}

TEACH = "            h, loss = self.teach(l, u)\n            losses"
LEAK = """            h, loss = self.teach(l, u)
            self.units[l].weight.grad *= self.units[-1].weight.norm()
            losses"""


def test_identities_of_phyll_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_phyll_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def stack(module, depth, physical=True, **options):
    sizes, shelf = image_sizes(depth), lambda l, n: module.Device(n, 24, l)
    if not physical:
        return module.build_dense(sizes, adam(1e-3))
    rule = module.PatientPhyLL if options else module.PhyLL
    return rule(sizes, adam(1e-3), shelf, **options)


@pytest.mark.parametrize("physical", [True, False])
def test_phyll_is_layer_local_and_holds_no_more_when_the_stack_grows(paper, physical):
    audit(lambda depth: stack(paper, depth, physical), image_batch()).expect(
        **LOCAL, live_memory="flat", forward=2, evaluations=2
    )


def test_several_steps_on_one_measurement_are_as_local_as_one(paper):
    audit(lambda depth: stack(paper, depth, repeats=2), image_batch()).expect(
        **LOCAL, live_memory="flat", forward=6
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
    rule = stack(paper, 2, repeats=3)
    steps, runs = [], []
    optimizers = rule.configure_optimizers()
    rule.optimizers = lambda: optimizers
    rule._step_optimizer = lambda optimizer: steps.append(optimizer)
    for device in rule.f:
        device.register_forward_hook(lambda *_: runs.append(1))
    rule.step(image_batch())
    assert steps == [optimizers[0]] * 3 + [optimizers[1]] * 3
    assert len(runs) == 2


def test_a_patient_layer_hands_on_what_it_gives_after_its_last_step(paper):
    patient, plain = (stack(paper, 2, **more) for more in ({"repeats": 1}, {}))
    plain.load_state_dict(patient.state_dict())
    batch, seen = image_batch(), []
    optimizers = patient.configure_optimizers()
    patient.optimizers = lambda: optimizers
    patient._step_optimizer = lambda optimizer: optimizer.step()
    patient.f[1].register_forward_pre_hook(lambda _, h: seen.append(h[0]))
    for device in (*patient.f, *plain.f):
        device.noise = 0.0
    torch.manual_seed(0)
    patient.step(batch)
    torch.manual_seed(0)
    with torch.no_grad():
        u = plain.measure(0, plain.pairs(batch))
        plain.teach(0, u)
        plain.recipe(plain.units[0].parameters()).step()
        assert torch.equal(seen[0], plain.units[0](u))


def test_build_dense_is_the_digital_variant_at_any_depth(paper):
    batch = image_batch()
    for hidden in ([16], [16, 12, 8, 8]):
        rule = paper.build_dense([42, *hidden, 10], adam(1e-3))
        assert len(rule.units) == len(hidden)
        assert rule.predict(batch[0]).shape == (6, 10)
        assert measure(rule, batch).forward == 2
