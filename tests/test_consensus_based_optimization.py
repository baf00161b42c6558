"""Consensus-based optimization: identities hold, defects are caught, swarms agree."""

import pytest
import torch
from support import assert_caught, assert_identities_hold, small_batch, small_sizes

from bpfree_common.learning import mlp, sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "consensus_based_optimization"
LIMITS = "alpha = 0 gives the mean, alpha to infinity the best particle"
SPREAD = "spread grows by (1 - lam dt)^2 + sigma^2 dt"
ONE_STEP = "a step with one group is one consensus and one move"
HOP = "a hop stays where its particles are"
GROUPS = "full: all particles move to each group's consensus point in turn"
KICK = "a stalled consensus point kicks all particles"

MUTATIONS = {
    "the worst particle counts most": ("torch.exp(-alpha", "torch.exp(alpha", LIMITS),
    "weights that do not add up to one": (
        "return w / w.sum(-1, keepdim=True)",
        "return w",
        "the consensus point ignores a constant",
    ),
    "away from the consensus": ("X - lam * dt * D", "X + lam * dt * D", SPREAD),
    "noise in proportion to the time step": ("math.sqrt(dt) * size", "dt * size", SPREAD),
    "noise without a scale": (
        "size = D.abs() if length is None else length",
        "size = 1.0 if length is None else length",
        "where all agree nothing moves",
    ),
    "a hop around the origin": ("X = x + spread * B", "X = spread * B", HOP),
    "every group sees the first swarm": (
        "P = [part[some] for part in X]",
        "P = [part[some] for part in start]",
        GROUPS,
    ),
    "a group moves as if it were another": (
        "part.index_copy(0, some, new)",
        "part.index_copy(0, some.flip(0), new)",
        "partial: each group moves to its own consensus point in turn",
    ),
    "the sign of the credit": (
        "p.grad = (before - after)",
        "p.grad = (after - before)",
        ONE_STEP,
    ),
    "a kick at every group": (
        "if self.stalls(x) and self.kick:",
        "if self.kick:",
        KICK,
    ),
    "a kick of another size": (
        "push = self.kick * sigma * math.sqrt(self.dt)",
        "push = self.kick * sigma * self.dt",
        KICK,
    ),
    "cooling by the natural logarithm": (
        "self.sigma / math.log2(epoch + 2)",
        "self.sigma / math.log(epoch + 2)",
        "cooling: sigma times",
    ),
    "a hop in units of the spread": (
        "self.tau / self.spread**2",
        "self.tau / self.spread",
        "plain SGD at rate tau lands at the hop's consensus point",
    ),
    "the fast swarm drifts twice": (
        "rest, push = 1 - self.lam * self.dt",
        "rest, push = 1 - 2 * self.lam * self.dt",
        "the fast move is the plain one, with the sign of D",
    ),
    "the wall on one side": (
        "* (x - 4) ** 2 / 8 + 2)) ** 2",
        "* (x - 4) ** 2 / 8 + 1)) ** 2",
        "the canyon: 0 at the origin",
    ),
}


def test_identities_of_consensus_based_optimization_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_consensus_based_optimization_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.fixture
def build(paper):
    """Makes swarms of four networks of any depth."""

    def made(units, kind="CBO", **options):
        layers = paper.swarm_of(4, small_sizes(units - 1), 0.3)
        return getattr(paper, kind)(layers, **({"group": 4} | options))

    return made


@pytest.mark.parametrize("group", [1, 2, 4])
def test_a_step_evaluates_every_particle_once_whatever_the_groups(build, group):
    counted = measure(build(3, group=group), small_batch())
    assert counted.forward == counted.evaluations == 4


def test_isotropic_noise_of_a_layer_reads_the_weights_of_all(paper):
    def build(units):
        sizes = [40] + [32] * (units - 1) + [3]
        return paper.CBO(paper.swarm_of(4, sizes, 0.3), 4, sigma=0.1, isotropic=True)

    torch.manual_seed(0)
    found = audit(build, (torch.randn(6, 40), torch.arange(6) % 3), depth=3)
    found.expect(crossings=2, locking="full", weight_transport="full", forward=4)


@pytest.mark.parametrize("isotropic", [False, True])
def test_weights_that_no_pass_sees_reach_other_layers_by_isotropic_noise_alone(
    paper, isotropic
):
    torch.manual_seed(0)
    layers = paper.swarm_of(4, [40, 32, 3], 0.3)
    rule = paper.CBO(layers, 4, sigma=0.1, isotropic=isotropic, kick=0.0).double()
    x, batch = torch.randn(6, 40).double(), torch.arange(6) % 3

    def sent_elsewhere():
        torch.manual_seed(3)
        rule.credit((x, batch))
        return rule.units[1].weight.grad.clone()

    before, unseen = sent_elsewhere(), torch.randn_like(rule.units[0].weight)
    with torch.no_grad():
        rule.units[0].weight += unseen - unseen @ torch.linalg.pinv(x) @ x
    assert torch.allclose(sent_elsewhere(), before, rtol=0, atol=1e-9) != isotropic


def test_a_swarm_without_kick_agrees_and_then_rests(build):
    rule = build(2, kick=0.0, dt=0.5)
    optimizer, batch = rule.configure_optimizers(), small_batch()
    with torch.no_grad():
        for _ in range(200):
            rule.credit(batch)
            optimizer.step()
    for p in rule.parameters():
        assert p.view(4, -1).var(0).max() < 1e-10


def test_the_network_predicts_with_the_mean_of_its_particles(build):
    rule, x = build(2), small_batch()[0]
    units = mlp(small_sizes(1))
    for p, own in zip(units.parameters(), rule.parameters(), strict=True):
        p.data = own.data.view(4, -1).mean(0).view_as(p)
    expected = torch.nn.Sequential(*units)(x)
    assert torch.allclose(rule.predict(x), expected, atol=1e-6)


def test_the_rate_of_the_laboratory_does_not_shorten_a_move(paper):
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    weight.grad = torch.tensor([2.0])
    optimizer = paper.Land([weight])
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert weight.item() == 1.0


def test_hopping_follows_the_gradient_of_the_loss(paper):
    torch.manual_seed(0)
    units, batch = mlp(small_sizes(1)), small_batch()
    rule = paper.Hopping(units, sgd(0.1), tau=0.1, spread=0.03, N=20_000)
    rule.credit(batch)
    found = torch.cat([p.grad.flatten() for p in rule.parameters()])
    true = torch.autograd.grad(rule.objective(batch), list(rule.parameters()))
    true = torch.cat([g.flatten() for g in true])
    assert torch.cosine_similarity(found, true, dim=0) > 0.9
