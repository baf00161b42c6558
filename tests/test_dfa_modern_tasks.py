"""DFA on modern tasks: its identities hold, defects and cheats are caught."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from support import (
    assert_caught,
    assert_identities_hold,
    mutant,
    small_batch,
    small_sizes,
    take_steps,
)

from bpfree_common.data import Graph
from bpfree_common.errors import DataCorrupted
from bpfree_common.learning import adam, gcn, mlp
from bpfree_common.learning.alignment import compute_credit
from bpfree_common.learning.opponents import Backprop
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure
from bpfree_common.papers import catalogue, notebook

SLUG = "dfa_modern_tasks"
CLOSED_FORM = "the hidden credits equal their closed form"
ONE_POINT = "one point below a linear read-out, B = W"
NORM = "E |signal_i|^2 = n_i / (3 n_max) |g|^2"
ROWS = "r rows for one output: each gets the signal over sqrt(r)"
HIDDEN = "source `hidden`, B = 1"

# The cut below a point, and the same without one.
CUT = """            h = points[-1].detach()  # and a cut after it
        if self.source == "hidden":
            h.requires_grad_()
        o = self.units[-1](h)
        o.retain_grad()
        loss = self.loss(self.read(o, x), y)
        loss.backward()"""
LEAK = CUT.replace(".detach()  # and", " * 1  # no").replace(
    "loss.backward()", "loss.backward(retain_graph=True)"
)

MUTATIONS = {
    "flipped sign": (
        "g.flatten(0, -2) @ self.B",
        "-g.flatten(0, -2) @ self.B",
        CLOSED_FORM,
    ),
    "B redrawn": ("-2) @ self.B", "-2) @ torch.rand_like(self.B)", CLOSED_FORM),
    "rows mixed up": ("g.flatten(0, -2) @", "g.flatten(0, -2).flip(0) @", CLOSED_FORM),
    "missing detach": (CUT, LEAK, CLOSED_FORM),
    "half the range": ("(2 * torch.rand(", "(1 * torch.rand(", NORM),
    "no normalisation": (" - 1) / widest**0.5", " - 1)", NORM),
    "last columns": ("P[:, :n], x", "P[:, -n:], x", CLOSED_FORM),
    "sum over rows": (" / r**0.5", "", ROWS),
    "rows out of order": ("signal.repeat_interleave(r, 0)", "signal.repeat(r, 1)", ROWS),
    "read-out too fast": (
        "loss.backward()  #",
        "loss.backward(), [p.grad.mul_(2) for p in self.units[-1].parameters()]  #",
        ONE_POINT,
    ),
    "activity for gradient": ("else h.grad", "else h.detach()", HIDDEN),
    "ones for the identity": ("torch.eye(outputs", "torch.ones(outputs", HIDDEN),
    "baseline twice as fast": (
        "loss = self.objective(batch)",
        "loss = 2 * self.objective(batch)",
        "without cuts and feedback the rule is backpropagation",
    ),
}


def test_identities_of_dfa_modern_tasks_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_dfa_modern_tasks_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


# --- the audit -------------------------------------------------------------------------


def audited(build, batch=None, depth=4):
    return audit(build, batch or small_batch(), depth=depth, depths=(2, 4))


CLEAN = {"crossings": 0, "locking": "full", "weight_transport": "none", "forward": 1}


def test_feedback_from_the_output_is_clean_but_locked(paper):
    audited(lambda n: paper.build_dense(small_sizes(n - 1), adam(1e-3))).expect(**CLEAN)


def test_feedback_from_the_read_outs_input_transports_the_read_out_and_no_more(paper):
    def build(n):
        sizes = small_sizes(n - 1)
        return paper.DirectFeedback(mlp(sizes), adam(1e-3), sizes[1:], source="hidden")

    found = audited(build)
    assert (found.crossings, found.weight_transport) == (1, "part")
    transport = torch.tensor(found.transport)
    assert (transport[:-1, -1] > 0).all()  # every hidden unit uses the read-out
    assert (transport[:-1, :-1].triu(1) == 0).all()  # and nothing else above it


def text_probe(paper, source):
    """A Transformer whose null spaces exist: 9 rows of 16 numbers, no gains in norms."""

    def build(n):
        net, widths = paper.transformer(9, 16, n - 1, 3, "macro", gains=False)
        return paper.Tokens(net, adam(1e-3), widths, source=source)

    return build


def text_batch():
    tokens = torch.randint(0, 7, (3, 4), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def test_the_transformer_transports_the_read_out_only_with_the_authors_source(paper):
    found = audited(text_probe(paper, "hidden"), text_batch(), 3)
    transport = torch.tensor(found.transport)
    assert (found.crossings, found.weight_transport) == (1, "part")
    assert (transport[:-1, -1] > 0).all()
    assert (transport[:-1, :-1].triu(1) == 0).all()
    audited(text_probe(paper, "output"), text_batch(), 3).expect(**CLEAN)


def test_the_graph_network_is_clean_but_locked(paper):
    draw, chain = torch.Generator().manual_seed(0), torch.arange(5)
    edges = torch.stack([chain, chain + 1])
    x = torch.randn(6, 32, generator=draw)
    graph = Graph(x, torch.cat([edges, edges.flip(0)], 1), torch.arange(6) % 3)

    def build(n):
        sizes = [32] * n + [3]
        return paper.Nodes(graph.x, gcn(graph, sizes), adam(1e-3), sizes[1:])

    audited(build, (torch.tensor([1, 4]), torch.tensor([1, 0])), 3).expect(**CLEAN)


def test_a_missing_cut_is_caught_by_the_audit():
    leaky = mutant(SLUG, CUT, LEAK)
    found = audited(lambda n: leaky.build_dense(small_sizes(n - 1), adam(1e-3)))
    assert (found.crossings, found.weight_transport) == (3, "full")


def test_the_shallow_control_trains_the_last_unit_alone(paper):
    torch.manual_seed(0)
    sizes = small_sizes(3)
    rule = paper.DirectFeedback(mlp(sizes), adam(1e-3), sizes[1:], mode="shallow")
    credits = compute_credit(rule, small_batch())
    assert all(not c.any() for c in credits[:-1])
    assert credits[-1].any()
    (group,) = rule.configure_optimizers().param_groups
    assert len(group["params"]) == 2


def test_a_step_costs_no_more_than_backpropagation_plus_one_small_product(paper):
    sizes, (x, y) = small_sizes(4), small_batch()
    ours = measure(paper.build_dense(sizes, adam(1e-3)), (x, y))
    theirs = measure(Backprop(mlp(sizes), adam(1e-3)), (x, y))
    across = 2 * len(y) * (12 * 3 + 12 * 12 * 3)  # BP's products with W^T
    assert ours.flops == theirs.flops - across + 2 * len(y) * 3 * 12


def test_a_deep_dense_network_learns(paper):
    torch.manual_seed(0)
    rule = paper.build_dense([16, 32, 32, 32, 3], adam(1e-2))
    batch = small_batch()
    before = float(rule.objective(batch).detach())
    take_steps(rule, batch, 50)
    assert float(rule.objective(batch).detach()) < before / 5


# --- the paper's networks --------------------------------------------------------------


def test_both_grains_of_the_transformer_are_one_network(paper):
    scores = []
    for placement in ("macro", "micro"):
        torch.manual_seed(0)
        units, widths = paper.transformer(9, 16, 2, 5, placement)
        assert len(units) == len(widths) == (3 if placement == "macro" else 7)
        x = torch.arange(10).view(2, 5) % 9
        for unit in units:
            x = unit(x)
        scores.append(x)
    assert torch.equal(*scores)


def test_no_character_sees_a_later_one(paper):
    torch.manual_seed(0)
    net = torch.nn.Sequential(*paper.transformer(9, 16, 2, 5, "macro")[0])
    x = torch.arange(5)[None]
    other = x.clone()
    other[0, 3] = 8
    assert torch.equal(net(x)[0, :3], net(other)[0, :3])
    assert not torch.equal(net(x)[0, 3:], net(other)[0, 3:])


def test_a_click_network_learns_who_likes_what(paper):
    torch.manual_seed(0)
    x = torch.randint(0, 6, (400, 2))
    y = ((x[:, 0] + x[:, 1]) % 2).long()
    rule = paper.build_clicks(6, 6, adam(1e-2))
    take_steps(rule, (x, y), 150)
    assert roc_auc_score(y.numpy(), rule.predict(x).detach().numpy()) > 0.95


# --- ratings that are missing, and ratings that are corrupted ---------------------------


class Asked:
    """Stands for a study that must not be asked for data."""

    def data(self, name):
        raise AssertionError(f"{name} was read")


def look_for_ratings(monkeypatch, folder):
    """Run the cell that looks for the ratings, with `folder` as the only place."""
    monkeypatch.setenv("BPFREE_DATA", str(folder))
    monkeypatch.setenv("BPFREE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("BPFREE_OFFLINE", "1")
    cells = notebook.read(catalogue.get(SLUG).path)["cells"]
    texts = [notebook.source(c) for c in cells if c["cell_type"] == "code"]
    (text,) = [text for text in texts if "films, MOVIES =" in text]
    space = {"ratings": True, "study": Asked()}
    exec(text, space)
    return space


def test_missing_ratings_are_left_out_and_named(monkeypatch, tmp_path):
    space = look_for_ratings(monkeypatch, tmp_path)
    assert space["films"] is None
    assert "movielens-100k is not on this machine" in space["why"]


def test_corrupted_ratings_stop_the_run(monkeypatch, tmp_path):
    (tmp_path / "movielens").mkdir()
    (tmp_path / "movielens" / "ml-100k.zip").write_bytes(b"no archive")
    with pytest.raises(DataCorrupted, match="is corrupted"):
        look_for_ratings(monkeypatch, tmp_path)
