"""Reversible backpropagation: identities, defects, bytes, schedule, and its audit."""

import threading

import pytest
import torch
from support import assert_caught, assert_identities_hold

from bpfree_common import load_rule
from bpfree_common.learning import opponents, sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "reversible_backprop"
TOKENS = "Reprop's gradient is autograd's, through attention and MLP"
MAPS = "Reprop's gradient is autograd's, through folds and batch norm"
PARALLEL = "PaReprop on two threads equals Reprop bit for bit, at depths 1, 2 and 3"
CHECKPOINTS = "checkpointing with any number of slots: autograd's gradient"
INVERSE = "recover is the inverse of forward, with a fold and without"

MUTATIONS = {
    "the inverse adds": (
        "self.rounded(v - p.detach())",
        "self.rounded(v + p.detach())",
        INVERSE,
    ),
    "the inverse forgets to unfold": (
        "a = self.S.back(self.rounded(v - p.detach()))",
        "a = self.rounded(v - p.detach())",
        INVERSE,
    ),
    "the gradient of the other stream is dropped": (
        "self.S.back(du) + b.grad",
        "b.grad",
        TOKENS,
    ),
    "the gradient does not pass through F": (
        "self.S.back(du) + b.grad",
        "self.S.back(du)",
        TOKENS,
    ),
    "gradients are not unfolded": (
        "return self.S.back(dv), self.S.back(du) + b.grad",
        "return self.S(dv), self.S.back(du) + b.grad",
        MAPS,
    ),
    "both streams are changed at once": (
        "return self.S(b), self.rounded(self.S(a) + self.f(b))",
        "return self.S(b) + self.f(a), self.rounded(self.S(a) + self.f(b))",
        "a coupling preserves volume: its Jacobian has determinant 1 or -1",
    ),
    "PaReprop takes a stale gradient": (
        "grads = self.grads(graphs, grads)  # worker A",
        "self.grads(graphs, grads)  # worker A",
        PARALLEL,
    ),
    "PaReprop uses the graphs of the wrong block": (
        "streams, graphs = ahead()",
        "streams, _ = ahead()",
        PARALLEL,
    ),
    "statistics move twice": (
        "norm.replay = True",
        "norm.replay = False",
        "a step moves the running statistics of batch norm once, not twice",
    ),
    "the plan forgets the passes to the kept place": (
        "(m + plan(n - m, slots - 1)[0]",
        "(plan(n - m, slots - 1)[0]",
        "the plan: n(n+1)/2 passes without a slot, 2n - 1 with n - 1, optimal between",
    ),
    "a checkpoint starts one coupling too far": (
        "for coupling in couplings[:m]:",
        "for coupling in couplings[: m + 1]:",
        CHECKPOINTS,
    ),
    "squares are flipped on the way back": (
        "return F.pixel_shuffle(y, self.s) if self.s > 1 else y",
        "return F.pixel_shuffle(y.flip(1), self.s) if self.s > 1 else y",
        "folding is a permutation: it keeps every number, and comes back",
    ),
    "streams are rounded on one way only": (
        "v = coupling.rounded(coupling.S(a.detach()) + p.detach())",
        "v = coupling.S(a.detach()) + p.detach()",
        "rounded streams are bfloat16 numbers, the same from below as forward",
    ),
}


def test_identities_of_reversible_backprop_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_reversible_backprop_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.fixture(scope="module")
def paper():
    return load_rule(SLUG)


def vit(paper, kind, depth, **options):
    torch.manual_seed(0)
    units = paper.revvit((1, 2, 4), 3, depth, 8, 2)
    return kind(units, sgd(0.1), **options)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(3, 1, 2, 4), torch.arange(3)


def test_its_row_is_that_of_backpropagation_but_for_memory(paper, batch):
    # stem, two blocks, head: the blocks run forward twice, 6 passes of 4 units
    row = {"crossings": 3, "locking": "full", "weight_transport": "full"}
    row |= {"evaluations": 1, "live_memory": "flat", "forward": 1.5}
    for kind, options in ((paper.Reprop, {}), (paper.PaReprop, {"threads": 1})):
        build = lambda n, kind=kind, options=options: vit(paper, kind, n, **options)  # noqa: E731
        found = audit(build, batch, depth=2, depths=(4, 8), steps=4)
        found.expect(**row)
        assert len(set(found.live_bytes.values())) == 1


def test_bytes_of_each_way_grow_as_it_promises(paper, batch):
    def live(kind, depth, **options):
        return measure(vit(paper, kind, depth, **options), batch).live_bytes

    assert live(paper.Reprop, 3) == live(paper.Reprop, 12)
    plain = [live(opponents.Backprop, n) for n in (4, 8, 12)]
    assert plain[2] - plain[1] == plain[1] - plain[0] > 0  # so many bytes for each block
    kept = [live(paper.Budgeted, n, slots=2 * n - 1) for n in (4, 8, 12)]
    # a new stream for each coupling, 8 in 4 blocks: 3 samples, 2 tokens, 8 numbers
    assert kept[2] - kept[1] == kept[1] - kept[0] == 8 * 3 * 2 * 8 * 4


def test_one_more_forward_pass_is_all_that_is_computed_again(paper, batch):
    def flops(kind, depth):
        return measure(vit(paper, kind, depth), batch).flops

    plain = flops(opponents.Backprop, 6)
    # of a block's products a third are forward, the others for inputs and for weights
    forward = (flops(opponents.Backprop, 7) - plain) // 3
    assert flops(paper.Reprop, 6) - plain == 6 * forward


def test_pareprop_recovers_all_blocks_but_the_last_on_another_thread(paper, batch):
    rule, seen = vit(paper, paper.PaReprop, 4), []
    recover = rule.recover
    rule.recover = lambda *given: (seen.append(threading.get_ident()), recover(*given))[1]
    rule.credit(batch)
    assert seen[0] == threading.get_ident()
    assert len(seen) == 4 and threading.get_ident() not in seen[1:]


def test_the_lossy_twin_has_the_same_parameters_and_shapes_and_no_way_back(paper):
    torch.manual_seed(0)
    own, twin = paper.irevnet(10), paper.irevnet(10, S=paper.Lossy)
    shapes = [[p.shape for p in units.parameters()] for units in (own, twin)]
    assert shapes[0] == shapes[1]
    x = torch.rand(2, 4, 6, 6)
    once = paper.Lossy(2)(x)
    assert once.shape == paper.Fold(2)(x).shape
    torch.testing.assert_close(once, paper.Lossy(2)(x.flip(2, 3)).flip(2, 3))
    assert len(once[0, :4].flatten().unique()) == 9  # nine means, each four times


def test_the_input_comes_back_through_the_start(paper):
    torch.manual_seed(0)
    start = paper.irevnet(10, channels=7)[0]
    for colours in (1, 3):
        x = torch.rand(2, colours, 8, 8)
        assert torch.equal(start.merge(start.split(x), colours), x)
