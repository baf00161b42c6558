"""The championship: who takes part, beside which opponents, and what the page says."""

import math

import pytest
import torch
from support import standard_record

from bpfree_common import adam, load_rule
from bpfree_common.data import Data
from bpfree_common.errors import ContractError, ReportError
from bpfree_common.learning import mlp
from bpfree_common.learning.opponents import Backprop, Frozen
from bpfree_common.papers import catalogue, notebook
from bpfree_common.studies import championship, championship_tables, championship_words
from bpfree_common.studies.championship import Entrant, Field, against, front, groups, own
from bpfree_common.studies.contest import CONVERGED, EPOCHS, SCALE, layers
from bpfree_common.studies.contest_networks import (
    BACKPROP,
    CONV,
    DENSE,
    FROZEN,
    SUPERVISED,
    Networks,
)

PAPERS = [entry for entry in catalogue.load().values() if entry.is_paper]


def defines(entry, function):
    cells = notebook.tagged(notebook.read(entry.path), *notebook.RULE)
    return any(f"def {function}(" in text for _, text in cells)


DENSE_RULES = [entry.slug for entry in PAPERS if defines(entry, "build_dense")]
CONV_RULES = [entry.slug for entry in PAPERS if defines(entry, "build_conv")]


# --- who takes part ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "grounds", "rules"),
    [("contest_dense", DENSE, DENSE_RULES), ("contest_conv", CONV, CONV_RULES)],
)
def test_every_rule_that_can_be_built_and_every_shared_network_has_a_job(
    group, grounds, rules
):
    jobs = [catalogue.get(slug) for slug in catalogue.jobs(group)]
    entrants = [entry.job["entrant"] for entry in jobs]
    assert sorted(entrants) == sorted([*grounds, *rules])
    for entry, entrant in zip(jobs, entrants, strict=True):
        network = entry.job["network"]
        assert (entry.slug, group) == (f"{group}-{entrant}", f"contest_{network}")
        for profile in ("quick", "standard"):
            entry.resolve(profile)  # every entrant is one that the notebook allows


def test_quick_runs_the_shared_network_that_its_rules_are_compared_with():
    quick = [
        entry.job["entrant"]
        for entry in catalogue.load().values()
        if entry.of == "contest_dense" and entry.quick
    ]
    rules = [name for name in quick if name not in DENSE]
    assert len(rules) >= 2
    for name in rules:
        assert networks(name).shared in quick


@pytest.mark.parametrize("slug", DENSE_RULES)
@pytest.mark.parametrize("hidden", [1, 2, 4, 9])
def test_a_dense_rule_is_built_at_any_depth(slug, hidden):
    torch.manual_seed(0)
    rule = load_rule(slug).build_dense([20, *[16] * hidden, 5], adam(1e-3))
    check(rule, torch.rand(8, 20))


@pytest.mark.parametrize("slug", ["foton", "pepita", "target_projection"])
def test_a_dense_rule_is_built_without_a_hidden_layer(slug):
    torch.manual_seed(0)
    rule = load_rule(slug).build_dense([20, 5], adam(1e-3))
    check(rule, torch.rand(8, 20))


@pytest.mark.parametrize("slug", CONV_RULES)
@pytest.mark.parametrize(
    ("channels", "shape"),
    [
        ([4], (3, 8, 8)),
        ([4, 6], (3, 8, 8)),
        ([4, 6], (3, 16, 16)),
        ([4, 6, 8], (3, 16, 16)),
        ([4] * 5, (1, 32, 32)),  # down to one pixel
    ],
)
def test_a_convolutional_rule_is_built_at_any_depth(slug, channels, shape):
    torch.manual_seed(0)
    rule = load_rule(slug).build_conv(shape, channels, 5, adam(1e-3))
    check(rule, torch.rand(8, *shape))


def check(rule, x):
    """Every parameter learns, and predictions are differentiable scores.

    In float64: what reaches the first of ten layers may be less than float32 resolves.
    """
    rule, x = rule.double(), x.double()
    rule.check_contract()
    rule.credit((x, torch.arange(8) % 5))
    for name, p in rule.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name
    rule.zero_grad()
    scores = rule.predict(x)
    assert scores.shape == (8, 5)
    scores.sum().backward()
    assert any(p.grad is not None for p in rule.units[0].parameters())


JOBS = [*catalogue.jobs("contest_dense"), *catalogue.jobs("contest_conv")]


@pytest.mark.parametrize("slug", JOBS)
def test_a_committed_job_is_of_real_data_with_seeds_that_chose_nothing(slug):
    record = standard_record(slug)
    assert record["parameters"]["entrant"] == catalogue.get(slug).job["entrant"]
    assert record["parameters"]["dataset"] not in ("digits", "mnist5k")
    assert record["parameters"]["samples"] >= (20_000 if "dense" in slug else 2_000)
    assert len(record["seeds"]) >= (10 if "dense" in slug else 5)
    assert not set(record["seeds"]) & set(record["tuning_seeds"])
    assert all(tuned["tried"] >= 3 for tuned in record["tuning"].values())


# --- its own opponents ------------------------------------------------------------------


def task(*shape) -> Data:
    torch.manual_seed(0)
    x, y = torch.rand(20, *shape), torch.arange(20) % 10
    return Data("toy", 10, x, y, x, y, x, y)


def networks(entrant: str, dense: bool = True) -> Networks:
    """An entrant on a network of 784 inputs, wide enough that scales are sharp."""
    if dense:
        return Networks(entrant, task(784), [100, 100, 100])
    return Networks(entrant, task(1, 28, 28), [8, 16])


EVERY = [(slug, True) for slug in DENSE_RULES] + [(slug, False) for slug in CONV_RULES]


@pytest.mark.parametrize(("slug", "dense"), EVERY)
def test_every_rule_has_its_own_backprop_and_frozen_control_here_or_shared(slug, dense):
    found = networks(slug, dense)
    arms = found.arms()
    if found.shared:
        assert list(arms) == [slug]
        assert found.shared in (DENSE if dense else CONV)
        return
    assert list(arms) == [slug, BACKPROP, FROZEN]
    batch = found.task.x_train[:8], found.task.y_train[:8]
    for arm in (BACKPROP, FROZEN):
        torch.manual_seed(3)
        rule = arms[arm](optimizer="adam", lr=1e-3)
        rule.check_contract()
        rule.credit(batch)
        learning = [p for p in rule.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.any() for p in learning)
        whole = len(list(rule.parameters()))
        assert (len(learning) == whole) == (arm == BACKPROP)


@pytest.mark.parametrize(("slug", "dense"), EVERY)
def test_own_backprop_starts_from_the_very_weights_that_the_rule_draws(slug, dense):
    found = networks(slug, dense)
    built = []
    for build in (found.rule, found.own):
        torch.manual_seed(5)
        built.append(build(adam(1e-3)))
    rule, opponent = built
    if found.network is None:  # end to end, through the rule's own prediction
        pairs = zip(rule.parameters(), opponent.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        return
    drawn = found.read(rule)
    start = found.read(opponent)
    assert start.activation == drawn.activation
    for ours, theirs in zip(start.hidden, drawn.hidden, strict=True):
        assert torch.equal(ours.weight, theirs.weight)
        assert (ours.bias is None) == (theirs.bias is None)
        if ours.bias is not None:
            assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize(("slug", "dense"), EVERY)
def test_a_start_that_suits_depth_changes_the_scale_of_hidden_weights_only(slug, dense):
    found = networks(slug, dense)
    if found.network is None:
        pytest.skip("no chain of layers: it stays as built")
    build = found.deep_arms(found.widths)[slug]
    torch.manual_seed(5)
    rule = build(optimizer="adam", lr=1e-3)
    torch.manual_seed(5)
    plain = found.rule(adam(1e-3))
    one, other = found.read(rule), found.read(plain)
    for suited, drawn in zip(one.hidden, other.hidden, strict=True):
        ratio = suited.weight.norm() / drawn.weight.norm()
        assert torch.allclose(suited.weight, ratio * drawn.weight, atol=1e-6)
    expected = {"relu": math.sqrt(2), "tanh": 1, "elu": 1.245, "gelu": 1.534}
    assert one.scales == pytest.approx([expected[one.activation]] * len(one.scales))


@pytest.mark.parametrize("ground", DENSE)
def test_a_shared_network_trains_backprop_and_frozen_on_one_and_the_same_start(ground):
    arms = networks(ground).arms()
    starts = []
    for arm, kind in ((BACKPROP, Backprop), (FROZEN, Frozen)):
        torch.manual_seed(2)
        starts.append(arms[arm](optimizer="sgd", lr=0.1))
        assert type(starts[-1]) is kind
    pairs = zip(*(rule.parameters() for rule in starts), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_shared_networks_do_not_start_alike():
    for dense, grounds in ((True, DENSE), (False, CONV)):
        found = networks("pepita", dense)
        starts = [
            found.read(found.at_seed_0(lambda r, n=n: Backprop(found.ground(n), r)))  # noqa: B023
            for n in grounds
        ]
        for k, one in enumerate(starts):
            assert not any(one.starts_like(other) for other in starts[:k])


def test_a_rule_without_the_form_is_refused_by_name():
    with pytest.raises(ContractError, match="noprop has no build_conv"):
        networks("noprop", dense=False).network  # noqa: B018


# --- the page ---------------------------------------------------------------------------

SEEDS = range(10)


def wobble(seed: int) -> float:
    """Noise of a seed, the same for every arm: paired differences do not see it."""
    return 0.01 * math.sin(7 * seed)


def metric(arm, name, values) -> dict:
    return {"arm": arm, "name": name, "values": list(values)}


def entrant(
    name, mean, shared=None, own=None, flops=1.0, live=1.0, noise=1e-4
) -> Entrant:
    """A rule or a ground with accuracies around a mean; own: its own opponents' means."""
    paper = name in catalogue.load()
    arms = {name if paper else BACKPROP: mean} | (own or {})
    metrics = []
    for k, (arm, level) in enumerate(arms.items()):
        values = [level + wobble(s) + noise * math.cos(3 * s + k) for s in SEEDS]
        metrics.append(metric(arm, championship.TEST, values))
        metrics.append(metric(arm, CONVERGED, [v + 0.01 for v in values[:5]]))
        metrics.append(metric(arm, EPOCHS, [9.0] * 5))
        metrics += [metric(arm, layers(d), [level - d / 100] * 3) for d in (2, 16)]
    if shared:
        metrics.append(metric(shared, SCALE, [1.0]))
    cost = {"flops": 1e6 * flops, "flops_ratio": flops, "live_ratio": live,
            "live_bytes": 1024 * live}  # fmt: skip
    setting = {"tried": 4, "chosen": {"optimizer": "adam", "lr": 0.01}, "at_edge": True}
    times = {"ratio": 1.0, "spread": 0.1}
    budget = {"samples": 100, "batch_size": 10, "epochs": 5, "cap": 12}
    record = {
        "metrics": metrics,
        "parameters": budget | {"entrant": name},
        "cost": dict.fromkeys(arms, cost),
        "tuning": dict.fromkeys(arms, setting),
        "timing": {"step_time": dict.fromkeys(arms, times)},
    }
    return Entrant(name, f"contest_dense-{name}", record, "current")


@pytest.fixture
def found() -> Field:
    """Backprop at 90 %; rules above, level, below it, and one no better than frozen."""
    textbook = entrant("textbook", 0.90, own={FROZEN: 0.70})
    relu = entrant("relu", 0.88, own={FROZEN: 0.60})
    grounds = {"textbook": textbook, "relu": relu}
    rules = [
        entrant("foton", 0.93, own={BACKPROP: 0.91, FROZEN: 0.8}, flops=3.0, live=2.0),
        entrant("mono_forward", 0.88, shared="relu", flops=0.8, live=0.7),
        entrant("pepita", 0.85, own={BACKPROP: 0.91, FROZEN: 0.8}, flops=1.2),
        entrant("forward_gradient", 0.60, shared="relu", live=5.0),
    ]
    rules = [championship._with_opponents(rule, grounds) for rule in rules]
    return Field("dense", rules, grounds)


def test_a_rule_stands_beside_its_own_opponents_wherever_they_were_trained(found):
    assert found.find("mono_forward").own is found.grounds["relu"]
    assert found.find("foton").own is None
    gaps = {n: d.gap.mean for n, d in against(found.rules, own(BACKPROP)).items()}
    expected = {"foton": 2, "mono_forward": 0, "pepita": -6, "forward_gradient": -28}
    assert gaps == pytest.approx(expected, abs=0.05)


def test_a_rule_whose_opponents_have_no_record_is_named_with_what_to_do():
    rule = entrant("mono_forward", 0.9, shared="relu")
    with pytest.raises(ReportError, match="contest_dense-mono_forward .* run it first"):
        championship._with_opponents(rule, {})


def test_duels_tell_above_below_tie_and_equal(found):
    duels = against(found.rules, own(BACKPROP))
    words = {name: duel.word for name, duel in duels.items()}
    assert words == {"foton": "above", "mono_forward": "tie", "pepita": "below",
                     "forward_gradient": "below"}  # fmt: skip
    assert [name for name, duel in duels.items() if duel.equal] == ["mono_forward"]
    assert "tie (within 0.5)" in duels["mono_forward"].text


def test_p_values_are_adjusted_for_the_number_of_rules():
    textbook = entrant("textbook", 0.9, noise=0)
    rules = []
    for k, slug in enumerate(DENSE_RULES):
        rule = entrant(slug, 0.9, noise=0)
        for s, values in enumerate([rule.record["metrics"][0]["values"]] * 10):
            values[s] += 1e-3 * (0.75 + math.sin(5 * s + k))  # p of about 0.02 each
        rules.append(rule)
    alone = against(rules[:1], lambda _: textbook.values())[rules[0].name]
    among = against(rules, lambda _: textbook.values())[rules[0].name]
    assert alone.p < 0.05 < among.p
    assert (alone.word, among.word) == ("above", "tie")


def test_one_seed_decides_nothing(found):
    for each in [*found.rules, *found.grounds.values()]:
        for measured in each.record["metrics"]:
            measured["values"] = measured["values"][:1]
    assert {d.word for d in against(found.rules, own(BACKPROP)).values()} == {"open"}
    assert len(groups(found.rules)) == 1
    said = championship_words.sentences(found)
    assert "frozen" not in said
    assert not any("Holm" in sentence for sentence in said.values())


def test_ties_are_grouped_with_the_best_that_they_cannot_be_told_from():
    rules = [
        entrant("foton", 0.90),
        entrant("pepita", 0.8999, noise=1e-3),
        entrant("noprop", 0.85),
    ]
    found = groups(rules[::-1])
    assert [[each.name for each in tied] for tied in found] == [
        ["foton", "pepita"],
        ["noprop"],
    ]


def test_the_front_holds_whoever_is_better_than_all_that_is_cheaper():
    points = {"a": (1, 0.5), "b": (2, 0.4), "c": (2, 0.7), "d": (9, 0.7), "e": (9, 0.8)}
    assert front(points) == ["a", "c", "e"]


def test_work_counts_the_passes_that_were_made(found):
    rule = found.find("foton")
    assert rule.work() == 3e6 * 10 * 5
    assert rule.work(EPOCHS) == 3e6 * 10 * 9


def test_the_sentences_name_who_is_above_below_and_on_the_front(found):
    said = championship_words.sentences(found)
    assert list(said) == ["own", "frozen", "best", "converged", "depth", "price"]
    assert "2 of 4 rules are below, 1 tie (MF) and 1 are above (FOTON +2.0" in said["own"]
    assert "3 of 4 rules beat their own frozen control, 1 do not: FG" in said["frozen"]
    assert "Textbook backprop gains +" in said["frozen"]
    assert "the best rule, FOTON, 93.0" in said["best"]
    assert "The best is FOTON with 94" in said["converged"]
    assert "textbook backprop has 91" in said["converged"]
    assert "FLOPs of training MF, textbook backprop, FOTON" in said["price"]
    assert "1 of 4 rules hold fewer live bytes" in said["price"]
    assert "goes from 88.0" in said["depth"]


def test_the_spread_over_starts_and_deep_supervision_are_told_with_numbers(found):
    assert "spans 3.0 points over these starts (88.0" in championship_words.starts(found)
    assert championship_words.supervision(found) == ""
    ground = entrant("textbook", 0.90, own={FROZEN: 0.70, SUPERVISED: 0.87})
    said = championship_words.supervision(
        Field("dense", found.rules, {"textbook": ground})
    )
    assert "on `textbook`, -3.0" in said


def test_a_rule_that_the_cap_has_ended_is_named(found):
    assert "cap" not in championship_words.sentences(found)["converged"]
    for measured in found.find("pepita").record["metrics"]:
        if measured["name"] == EPOCHS:
            measured["values"] = [9.0, 9.0, 12.0, 9.0, 9.0]
    assert (
        "The cap ended runs of PEPITA:"
        in championship_words.sentences(found)["converged"]
    )
    rows = {row["rule"]: row for row in championship_tables.convergence(found)}
    assert rows["PEPITA"]["epochs"] == "9.6 (cap)"
    assert rows["FOTON"]["epochs"] == "9.0"


def test_the_tables_have_a_row_for_every_rule_and_show_edges_and_the_spending(found):
    rows = championship_tables.standings(found)
    assert [row["rule"] for row in rows][:2] == ["FOTON", "textbook backprop"]
    assert len(rows) == len(championship_tables.convergence(found)) == 5
    costs = {row["rule"]: row for row in championship_tables.costs(found)}
    assert costs["FOTON"]["chosen"] == "adam 0.01 (at edge)"
    assert costs["FOTON"]["settings tried"] == 4
    users = {r["network"]: r for r in championship_tables.grounds_table(found)}
    assert users["relu"]["rules that start there"] == "MF, FG"
    assert users["PEPITA's own"]["rules that start there"] == "PEPITA"


def test_the_rule_that_is_backprop_itself_is_its_own_plain_network():
    units = mlp([784, 100, 10])
    found = Networks("relu", task(784), [100])
    assert found.read(Backprop(units, adam(1e-3))).predicts_like(
        Backprop(units, adam(1e-3))
    )
