"""The standard of experiments, held over every committed record and its notebook."""

import pytest
from support import standard_record as record

from bpfree_common.papers import catalogue, notebook
from bpfree_common.papers.claims import MEASURED
from bpfree_common.studies import claims, statistics

ENTRIES = catalogue.load()
PAPERS = [slug for slug, entry in ENTRIES.items() if entry.is_paper]


def code(slug: str) -> list[dict]:
    content = notebook.read(ENTRIES[slug].path)
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def source(slug: str) -> str:
    return "\n".join(notebook.source(cell) for cell in code(slug))


def folded(cell: dict) -> bool:
    hidden = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
    assert hidden == ("hide-input" in notebook.tags(cell)), "folded in one place only"
    return hidden


def lines(cells: list[dict]) -> int:
    texts = (notebook.source(cell).splitlines() for cell in cells)
    return sum(bool(line.strip()) for text in texts for line in text)


# --- notebooks --------------------------------------------------------------------------


@pytest.mark.parametrize("slug", PAPERS)
def test_a_reader_meets_few_lines_of_code(slug):
    cells = code(slug)
    assert lines([cell for cell in cells if not folded(cell)]) <= 165
    assert lines(cells) <= 950


@pytest.mark.parametrize("slug", PAPERS)
def test_checks_are_folded_and_parameters_and_the_main_rule_are_not(slug):
    cells = code(slug)
    for cell in cells:
        tags = notebook.tags(cell)
        assert not (folded(cell) and {"parameters", "setup"} & set(tags))
        assert folded(cell) or "check" not in tags
    assert not folded(next(cell for cell in cells if "rule" in notebook.tags(cell)))


@pytest.mark.parametrize("slug", PAPERS)
def test_the_first_screen_is_filled_by_the_run(slug):
    text = source(slug)
    assert "study.found()" in text
    assert text.count("headline=True") == 1
    assert text.count("study.finding(") >= 2


@pytest.mark.parametrize("slug", PAPERS)
def test_all_identities_are_asked_before_one_may_stop_the_run(slug):
    checks = [notebook.source(c) for c in code(slug) if "check" in notebook.tags(c)]
    assert checks[-1].rstrip().endswith("identities_hold()")


# --- claims -----------------------------------------------------------------------------


@pytest.mark.parametrize("slug", PAPERS)
def test_every_claim_has_a_source_a_band_and_a_null(slug):
    for name, claim in ENTRIES[slug].declared_claims.items():
        assert claim.source, name
        found = record_claim(slug, name)
        if found["verdict"] != claims.NOT_ATTEMPTED or found["measured"]:
            assert any(side is not None for side in claim.band), name
            assert found["null"] is not None, f"{name} has no null"
        if claim.null not in (None, MEASURED):
            assert not claims.contains(claim.band, claim.null), name


def record_claim(slug: str, name: str) -> dict:
    return next(c for c in record(slug)["claims"] if c["name"] == name)


@pytest.mark.parametrize("slug", PAPERS)
def test_a_verdict_against_a_claim_says_why(slug):
    for claim in record(slug)["claims"]:
        if claim["verdict"] not in (claims.REPRODUCED, claims.UNDECIDED):
            assert len(claim["why"] or claim["note"]) > 20, claim["name"]


@pytest.mark.parametrize("slug", PAPERS)
def test_a_failed_final_accuracy_stood_when_the_budget_was_doubled(slug):
    for claim in record(slug)["claims"]:
        declared = ENTRIES[slug].declared_claims[claim["name"]]
        failed = claim["verdict"] == claims.NOT_REPRODUCED and declared.final_accuracy
        if failed and claim["share"] != 1.0:
            assert claim["doubled"], claim["name"]


@pytest.mark.parametrize("slug", PAPERS)
def test_a_verdict_follows_from_its_numbers(slug):
    for claim in record(slug)["claims"]:
        found = {}
        for setting, (low, mean, high) in claim["intervals"].items():
            values = claim["measured"][setting]
            if low != high:
                again = statistics.estimate(values)
                assert again.as_list() == pytest.approx([low, mean, high])
            estimate = statistics.Estimate(mean, low, high, len(values))
            found[setting] = claims.judge(estimate, claim["band"], claim["null"])
        assert found == claim["verdicts"], claim["name"]


# --- seeds and tuning -------------------------------------------------------------------


@pytest.mark.parametrize("slug", PAPERS)
def test_at_least_five_seeds_report_and_others_choose(slug):
    found = record(slug)
    assert len(found["seeds"]) >= 5
    assert not set(found["seeds"]) & set(found["tuning_seeds"])


@pytest.mark.parametrize("slug", PAPERS)
def test_an_arm_at_an_edge_is_known_to_be(slug):
    for arm, tuned in record(slug)["tuning"].items():
        chosen = tuned["chosen"]
        rates = [
            s["hyper"]["lr"]
            for s in tuned["settings"]
            if s["hyper"] | {"lr": chosen["lr"]} == chosen
        ]
        edge = chosen["lr"] in (min(rates), max(rates))
        assert tuned["at_edge"] == (edge and not tuned.get("fixed")), arm
        assert tuned["tried"] == len(tuned["settings"])


@pytest.mark.parametrize("slug", PAPERS)
def test_the_main_comparison_has_its_opponents(slug):
    arms = {m["arm"] for m in record(slug)["metrics"] if m["name"] == "test accuracy"}
    if slug in arms:
        missing = {"backprop", "textbook", "frozen"} - arms
        assert all(f'"{arm}":' in source(slug) for arm in missing)


@pytest.mark.parametrize("slug", PAPERS)
def test_backprop_trains_where_a_rule_is_set_beside_it(slug):
    """A rule that is above a backprop which has learned nothing says nothing."""
    control = ENTRIES[slug].control
    found = {
        m["arm"]: sum(m["values"]) / len(m["values"])
        for m in record(slug)["metrics"]
        if m["name"] == "test accuracy"
    }
    if control in found and "backprop" in found:
        assert found["backprop"] > found[control]
