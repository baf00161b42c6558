"""A changed rule of another notebook: what a quick run has put to the test of it."""

import json

import pytest

from bpfree_common.records import loading
from bpfree_common.records.rules import untested

RULE = """
STEP = 0.3

def slope(x):
    return x > 0

def unused(x):
    return x

class Base:
    def shared(self):
        return STEP

class Rule(Base):
    def __init__(self):
        self.n = 0
    def credit(self, batch):
        return slope(batch)
    def rarely(self):
        return 1

class Other:
    def credit(self, batch):
        return batch
"""

USER = "rule = paper.Rule()\nif large:\n    rule.rarely()\nrule.credit(1)\n"
RAN = ["Rule.__init__", "Rule.credit", "slope"]


def notebook(text: str, *tags: str) -> str:
    cell = {"cell_type": "code", "source": text, "metadata": {"tags": list(tags)}}
    return json.dumps({"cells": [cell]})


@pytest.mark.parametrize(
    ("old", "new", "asked"),
    [
        ("return slope(batch)", "return 2 * slope(batch)", []),  # it ran in quick
        ("return x > 0", "return x >= 0", []),
        ("return 1", "return 2", ["Rule.rarely"]),  # named, and not run by quick
        ("return x\n", "return 2 * x\n", []),  # nobody names it
        ("return batch\n", "return 2 * batch\n", []),  # a class that nobody names
        ("return STEP", "return STEP + 1", []),  # nobody calls it by name
        ("        return 1\n", "        return 1\n    def more(self): pass\n", []),
    ],
)
def test_a_changed_function_must_have_run_if_it_can_be_reached(old, new, asked):
    assert RULE.count(old) == 1
    pair = notebook(RULE, "rule"), notebook(RULE.replace(old, new), "rule")
    assert untested(*pair, RAN, notebook(USER)) == asked


def test_a_changed_constant_is_tested_by_what_names_it():
    pair = notebook(RULE, "rule"), notebook(RULE.replace("0.3", "0.4"), "rule")
    user = notebook(f"{USER}rule.shared()\npaper.STEP\n")
    assert untested(*pair, RAN, user) == ["STEP"]
    assert untested(*pair, [*RAN, "Base.shared"], user) == []


def test_cells_that_are_no_rule_do_not_count():
    pair = notebook(RULE, "rule"), json.loads(notebook(RULE, "rule"))
    pair[1]["cells"] += json.loads(notebook("print(1)", "check"))["cells"]
    assert untested(pair[0], json.dumps(pair[1]), [], notebook(USER)) == []


def test_a_loader_that_fails_or_gives_other_tensors_is_told(monkeypatch):
    found = {
        ("old", ("a", "b", "c")): {"a": "1", "b": "2", "c": None},
        ("new", ("a", "b", "c")): {"a": "1", "b": "3", "c": None},
    }
    monkeypatch.setattr(loading, "digests", lambda commit, names: found[commit, names])
    assert loading.different("old", "new", ["c", "a", "b"]) == ["b", "c"]
