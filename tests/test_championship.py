"""Every rule that can be built on a given network takes part, at any depth."""

import pytest
import torch

from bpfree_common import adam, load_rule
from bpfree_common.papers import catalogue, notebook

PAPERS = [entry for entry in catalogue.load().values() if entry.is_paper]


def defines(entry, function):
    cells = notebook.tagged(notebook.read(entry.path), *notebook.RULE)
    return any(f"def {function}(" in text for _, text in cells)


DENSE = [entry.slug for entry in PAPERS if defines(entry, "build_dense")]
CONV = [entry.slug for entry in PAPERS if defines(entry, "build_conv")]


def test_the_championship_lists_every_rule_that_can_be_built():
    listed = catalogue.get("championship").builds_on
    assert sorted(listed) == sorted({*DENSE, *CONV})


@pytest.mark.parametrize("slug", DENSE)
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


@pytest.mark.parametrize("slug", CONV)
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
    """Every parameter learns, and predictions are differentiable scores."""
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
