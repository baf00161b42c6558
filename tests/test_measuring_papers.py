"""Rows of real papers, against what their notebooks state."""

import pytest
import torch

from bpfree_common import adam, load_rule, sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

WIDTHS = [42, 32, 32, 32, 10]


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 42, generator=generator), torch.arange(6)


def row_of(slug, optimizer):
    def build(depth):
        torch.manual_seed(0)
        return load_rule(slug).build_dense([42] + [32] * (depth - 1) + [10], optimizer)

    return audit(build, batch())


@pytest.mark.parametrize(
    ("slug", "row"),
    [
        ("direct_feedback_alignment", {"locking": "full", "forward": 1}),
        # hidden layers see two labels, and in one step of four the neutral one too
        ("forward_forward", {"locking": "none", "forward": 2.125}),
        # two passes; the second shares the first layer's product with the image and
        # adds one row for each of ten classes to six: (1 + 10 / 6 + 2 + 2 + 1) / 4
        ("pepita", {"locking": "full", "forward": 1.917}),
    ],
)
def test_rows_of_papers_are_those_they_imply(slug, row):
    found = row_of(slug, adam(0.01) if slug == "forward_forward" else sgd(0.01))
    found.expect(crossings=0, weight_transport="none", live_memory="linear", **row)


def test_the_blocks_of_noprop_are_strangers():
    paper = load_rule("noprop")

    def build(depth):
        blocks = [paper.Block((1, 4, 4), 10, 10, 16) for _ in range(depth)]
        return paper.NoProp(blocks, torch.eye(10), adam(1e-3))

    images = torch.randn(6, 1, 4, 4), torch.arange(6)
    found = audit(build, images, depth=2, depths=(2, 4, 8), steps=2)
    found.expect(crossings=0, locking="none", weight_transport="none", live_memory="flat")
    assert measure(build(3), images).forward == 1
