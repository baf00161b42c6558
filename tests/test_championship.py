"""Every rule that can be built on a given network takes part, at any depth."""

import pytest
import torch

from bpfree_common import adam, catalogue, load_rule, notebook

PAPERS = [entry for entry in catalogue.load().values() if entry.is_paper]


def defines(entry, function):
    cells = notebook.tagged(notebook.read(entry.path), "rule")
    return any(f"def {function}(" in text for _, text in cells)


DENSE = [entry.slug for entry in PAPERS if defines(entry, "build_dense")]
CONV = [entry.slug for entry in PAPERS if defines(entry, "build_conv")]


def test_the_championship_lists_every_rule_that_can_be_built():
    listed = catalogue.get("championship").builds_on
    assert sorted(listed) == sorted({*DENSE, *CONV})


@pytest.mark.parametrize("slug", DENSE)
@pytest.mark.parametrize("hidden", [1, 4])
def test_a_dense_rule_is_built_at_any_depth(slug, hidden):
    torch.manual_seed(0)
    rule = load_rule(slug).build_dense([20, *[16] * hidden, 5], adam(1e-3))
    check(rule, torch.rand(8, 20))


@pytest.mark.parametrize("slug", CONV)
@pytest.mark.parametrize("channels", [[4, 6], [4, 6, 8]])
def test_a_convolutional_rule_is_built_at_any_depth(slug, channels):
    torch.manual_seed(0)
    rule = load_rule(slug).build_conv((3, 16, 16), channels, 5, adam(1e-3))
    check(rule, torch.rand(8, 3, 16, 16))


def check(rule, x):
    rule.check_contract()
    rule.credit((x, torch.arange(8) % 5))
    learning = [p for p in rule.parameters() if p.grad is not None]
    assert learning
    assert all(p.grad.shape == p.shape and p.grad.isfinite().all() for p in learning)
    assert rule.predict(x).shape == (8, 5)
