"""DFA's scaling laws: identities hold, defects are caught, prices are counted."""

import numpy as np
import pytest
import torch
from support import assert_caught, assert_identities_hold, take_steps

from bpfree_common.learning import adam
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "dfa_scaling_laws"
WRITTEN = "one step written out, block by block, is the loaded rule"
SOURCE = "the source is the one asked for"
PRE = "pre-norm, branches zero, B = 1 from the read-out's input"
CAUSAL = "no character of either network sees a later one"
FRONTIER = "a frontier never rises, lies below every run"
CURVE = "of one size the frontier is its curve"
SMALLER = "a smaller model that trains for longer is found"
SHIFTED = "a frontier shifted by k has kappa = k"
EXPONENT = "the exponent of a power law is recovered"
MICRO = "counted: micro DFA saves"
BP = "counted: backpropagation's step costs 6"
SIZE = "a block of either network has 12 d^2 + 13 d"

MUTATIONS = {
    "the worst size is the frontier": ("np.min(sizes", "np.max(sizes", FRONTIER),
    "a longer budget may be worse": (
        "np.minimum.accumulate(L, -1)",
        "L",
        FRONTIER,
    ),
    "what no run costs is free": ("left=np.inf", "left=0.0", FRONTIER),
    "kappa upside down": (
        "paid(teacher, bought(student, at)) / at",
        "at / paid(teacher, bought(student, at))",
        SHIFTED,
    ),
    "the teacher is read at its own loss": (
        "bought(student, at)",
        "bought(teacher, at)",
        SHIFTED,
    ),
    "the dearest size pays": (
        "found[s] = np.minimum(",
        "found[s] = np.maximum(",
        SMALLER,
    ),
    "what beats every run is free": ("right=np.inf", "right=-np.inf", CURVE),
    "compute is not logarithmic": (
        "np.interp(np.log(at), np.log(C), loss",
        "np.interp(at, C, loss",
        CURVE,
    ),
    "compute is not logarithmic in the exponent": (
        "np.polyfit(np.log(compute)",
        "np.polyfit(compute",
        EXPONENT,
    ),
    "a growing exponent": ("-np.polyfit", "np.polyfit", EXPONENT),
    "the source is lost": ("source=source", 'source="output"', SOURCE),
    "the mode is lost": ("mode=mode", 'mode="dfa"', BP),
    "the grain is lost": ("(*shape, grain)", '(*shape, "macro")', MICRO),
    "the kind is lost": ("kind=kind", 'kind="random"', SOURCE),
    "attention looks ahead": ("is_causal=True", "is_causal=False", CAUSAL),
    "no residual path round attention": (
        "return x + self.out(mixed",
        "return self.out(mixed",
        PRE,
    ),
    "a narrow feed-forward part": (
        "nn.Linear(d, 4 * d), nn.Linear(4 * d, d)",
        "nn.Linear(d, 2 * d), nn.Linear(2 * d, d)",
        SIZE,
    ),
}


def test_identities_of_dfa_scaling_laws_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_dfa_scaling_laws_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def letters(rows=3, length=4):
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 7, (rows, length), generator=draw)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def test_macro_feedback_from_the_scores_transports_nothing_but_waits(paper):
    def build(units):
        net, widths = paper.dfa.transformer(9, 16, units - 1, 3, "macro", gains=False)
        return paper.dfa.Tokens(net, adam(1e-3), widths)

    found = audit(build, letters(), 3, depths=(2, 3, 6), steps=4)
    found.expect(crossings=0, locking="full", weight_transport="none", forward=1)


def test_only_the_read_out_of_the_frozen_control_moves(paper):
    torch.manual_seed(0)
    rule = paper.language_model(9, 8, 2, 3, mode="shallow")(0.1)
    before = [p.detach().clone() for p in rule.parameters()]
    take_steps(rule, letters(), 2)
    moved = [
        not torch.equal(p, q) for p, q in zip(rule.parameters(), before, strict=True)
    ]
    readout = len(list(rule.units[-1].parameters()))
    assert moved == [False] * (len(moved) - readout) + [True] * readout


def test_micro_is_cheaper_than_macro_where_the_model_is_wide(paper):
    # its projection is five times as wide: in a narrow model that eats the saving
    def ratio(d, grain):
        build = paper.language_model(9, d, 2, 3, grain=grain)
        theirs = paper.language_model(9, d, 2, 3, mode="backprop")
        return (
            measure(build(0.1), letters()).flops / measure(theirs(0.1), letters()).flops
        )

    assert 4 / 6 < ratio(64, "micro") < 0.75 < ratio(64, "macro") < 1


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_both_networks_learn_a_text_by_heart(paper, norm):
    torch.manual_seed(0)
    batch = letters(2, 4)
    rule = paper.language_model(9, 16, 2, 3, norm=norm)(0.01)
    before = float(rule.objective(batch).detach())
    take_steps(rule, batch, 60)
    assert float(rule.objective(batch).detach()) < before / 3


def test_two_seeds_are_read_each_from_its_own_runs(paper):
    C = np.array([1.0, 4.0, 16.0])
    L = np.array([[3.0, 2.0, 1.0], [4.0, 3.0, 2.0]])
    assert paper.bought([(C, L)], C[1:2]).tolist() == [[2.0], [3.0]]
    both = paper.paid([(C, L)], np.array([[2.0], [2.0]]))
    assert both == pytest.approx(np.array([[4.0], [16.0]]))
