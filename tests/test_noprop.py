"""NoProp: identities hold, defects are caught, memory is that of one block."""

import pytest
import torch
from support import LOCAL, assert_caught, assert_identities_hold
from torch import nn

from bpfree_common import load_rule
from bpfree_common.learning import sgd
from bpfree_common.learning.alignment import compute_credit
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "noprop"
CREDIT = "a block's credit equals its closed form"
OWN = "each term of the loss reaches its own unit and no other"
STEP = "the step keeps the promised mean and variance"
WEIGHTS = "every weight is positive and the weights add up to SNR(T) - SNR(0)"

MUTATIONS = {
    "time runs the wrong way": ("(1 - t / T)", "(t / T)", WEIGHTS),
    "the noise has the wrong size": (
        "return abar**0.5 * u",
        "return abar * u",
        "a noised code has mean sqrt(abar) u and variance 1 - abar",
    ),
    "a step forgets the root": ("b = alpha**0.5 *", "b = alpha *", STEP),
    "a step adds too much noise": ("c = (1 - abar_t)", "c = (1 - abar_s)", STEP),
    "inference forgets a_t": (
        "return a * u_hat + b * z",
        "return u_hat + b * z",
        "a chain of perfect denoisers ends in the promised law",
    ),
    "ascent": ("loss.backward()  # reaches", "(-loss).backward()  # reaches", CREDIT),
    "the error is averaged over d": (
        "return weight * (u_hat - u).square().sum(1).mean()",
        "return weight * (u_hat - u).square().mean()",
        CREDIT,
    ),
    "the weight is the SNR itself": (
        "weight = self.eta / 2 * (snr(self.abar[t]) - snr(self.abar[t - 1]))",
        "weight = self.eta / 2 * snr(self.abar[t])",
        CREDIT,
    ),
    "no softmax": (
        "return logits.softmax(1) @ self.W",
        "return logits @ self.W",
        "the guess lies between the class codes",
    ),
    "the cross-entropy flows into the last block": (
        "self.readout(noised(u, self.abar[-1])), y)",
        "self.readout(self.guess(self.T, x, u)[0]), y)",
        OWN,
    ),
    "learned codes are held constant": (
        "u = self.readout.W[y]\n        u_hat, _",
        "u = self.readout.W[y].detach()\n        u_hat, _",
        "with a learned W its credit is the gradient of all three terms",
    ),
    "CT: the schedule falls": (
        "gap * (1 - bar)",
        "gap * bar",
        "CT: abar = SNR / (1 + SNR), and the slope is the derivative",
    ),
    "CT: half the weight is lost": (
        "self.eta / 2 * (slope",
        "self.eta / 4 * (slope",
        "CT: the shared block's credit equals its closed form",
    ),
    "FM: the wrong velocity": (
        "(v - (z1 - z0))",
        "(v - z1)",
        "FM: the loss is zero for the true velocity only",
    ),
    "the prior's logarithm has the wrong sign": (
        "rest - 1 - rest.log()",
        "rest - 1 + rest.log()",
        "the prior term is the divergence of two normal laws",
    ),
    "CT: the schedule starts above 0": (
        "(s - low) * v",
        "s * v",
        "CT: gamma_bar climbs from 0 to 1 for any weights",
    ),
    "FM: every step is the whole way": (
        "@ readout.W / self.steps",
        "@ readout.W",
        "FM: the true velocity leads to the code in any number of steps",
    ),
}


def test_identities_of_noprop_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_noprop_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def blocks(T, paper):
    return [paper.Block((1, 4, 4), 10, 10, 16) for _ in range(T)]


def build(T, kind="NoProp", **options):
    paper = load_rule("noprop")
    return getattr(paper, kind)(blocks(T, paper), torch.eye(10), sgd(0.1), **options)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(6, 1, 4, 4), torch.arange(6)


def test_blocks_share_nothing_and_memory_is_flat_in_the_number_of_blocks(batch):
    found = audit(build, batch)
    found.expect(**LOCAL, live_memory="flat", forward=1)
    diagonal = torch.eye(5) > 0
    assert torch.equal(torch.tensor(found.dependence) > 0, diagonal)
    assert len(set(found.live_bytes.values())) == 1  # T = 2, 4, 8, 16


def test_backpropagation_through_the_same_blocks_grows_in_proportion_to_T(batch):
    found = audit(lambda T: build(T, "BackpropChain"), batch)
    found.expect(locking="full", weight_transport="full", live_memory="linear")
    sizes = list(found.live_bytes.values())
    steps = [b - a for a, b in zip(sizes, sizes[1:], strict=False)]  # T + 2, + 4, + 8
    assert steps[1] == pytest.approx(2 * steps[0], rel=0.1)
    assert steps[2] == pytest.approx(4 * steps[0], rel=0.1)


def test_checkpointing_the_chain_changes_no_gradient(batch):
    plain, kept = build(3, "BackpropChain"), build(3, "CheckpointedChain")
    kept.load_state_dict(plain.state_dict())
    for rule in (plain, kept):
        torch.manual_seed(3)
        rule.credit(batch)
    for a, b in zip(plain.parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_learned_codes_are_the_only_thing_that_blocks_share(batch):
    found = audit(lambda T: build(T, learned=True), batch)
    found.expect(locking="part", live_memory="flat")
    D = torch.tensor(found.dependence)
    assert torch.equal(D[:4, :4] > 0, torch.eye(4) > 0)
    assert bool((D[:4, 4] > 0).all()) and bool((D[4] > 0).all())


def forgetful(T):
    """NoProp that trains each block on the chain's own output and forgets to detach."""
    paper = load_rule("noprop")

    class Forgetful(paper.NoProp):
        def credit(self, batch):
            x, y = batch
            loss, codes = self.ends(y), self.readout.W[y]
            for t, (_, logits) in enumerate(self.chain(x), 1):
                weight = paper.snr(self.abar[t]) - paper.snr(self.abar[t - 1])
                error = logits.softmax(1) @ self.readout.W - codes
                loss = loss + self.eta / 2 * weight * error.square().sum(1).mean()
            loss.backward()
            return {"loss": loss.detach()}

    return Forgetful(blocks(T, paper), torch.eye(10), sgd(0.1))


def test_a_noprop_that_forgets_to_detach_fails_the_audit(batch):
    found = audit(forgetful, batch)
    assert found.crossings == 3  # every block but the first
    assert found.locking == "part" and found.live_memory == "linear"


def test_the_frozen_control_trains_the_last_linear_layers_only(batch):
    rule = build(3, "FrozenBlocks")
    rule.credit(batch)
    trained = {n for n, p in rule.named_parameters() if p.grad is not None}
    heads = {f"units.{t}.head.2.{p}" for t in range(3) for p in ("weight", "bias")}
    assert trained == heads | {"units.3.f_out.weight", "units.3.f_out.bias"}


def test_a_block_learns_as_a_plain_autograd_implementation_says(batch):
    """The update of block t, written again from the paper's formulas."""
    rule, t, T, eta = build(4).double().eval(), 3, 4, 0.1
    x, y = batch[0].double(), batch[1]
    credits = compute_credit(rule, (x, y), seed=5)
    angles = torch.linspace(torch.pi / 2, 0, T + 1, dtype=torch.float64)
    abar = (angles.cos() ** 2).clamp(1e-3, 0.99).tolist()
    torch.manual_seed(5)
    like = torch.empty(6, 10, dtype=torch.float64)
    noise = [torch.randn_like(like) for _ in range(T + 1)]  # z_T, z_0, z_1, ...
    u = torch.eye(10).double()[y]
    z = abar[t - 1] ** 0.5 * u + (1 - abar[t - 1]) ** 0.5 * noise[t]
    block = rule.units[t - 1]
    p = torch.exp(nn.functional.log_softmax(block(x, z), dim=1))
    gain = abar[t] / (1 - abar[t]) - abar[t - 1] / (1 - abar[t - 1])
    loss = eta / 2 * gain * ((p - u) ** 2).sum() / 6
    true = torch.autograd.grad(loss, [*block.parameters()])
    torch.testing.assert_close(
        credits[t - 1], torch.cat([g.flatten() for g in true]), rtol=1e-9, atol=1e-13
    )


def test_the_continuous_variants_keep_the_contract_and_reach_every_unit(batch):
    paper = load_rule("noprop")
    W = paper.embedding("orthogonal", 10, 12)
    for kind in (paper.NoPropCT, paper.NoPropFM):
        block = paper.Block((1, 4, 4), 12, 10, 16, timed=True)
        rule = kind(block, W, sgd(0.1), learned=True, steps=3)
        rule.check_contract()
        rule.credit(batch)
        assert all(p.grad is not None for p in rule.parameters()), kind
        assert rule.predict(batch[0]).shape == (6, 10)


def test_a_step_holds_one_block_also_with_the_convolutional_block():
    paper = load_rule("noprop")
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)

    def live(T, kind):
        deep = [paper.Block((1, 8, 8), 10, 10, 16, conv=True) for _ in range(T)]
        return measure(kind(deep, torch.eye(10), sgd(0.1)), (x, y)).live_bytes

    assert live(2, paper.NoProp) == live(6, paper.NoProp)
    assert live(6, paper.BackpropChain) > 2 * live(6, paper.NoProp)
