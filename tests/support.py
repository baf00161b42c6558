"""What tests of papers share: probe networks, a rule with a line broken, a few steps."""

import re
from types import ModuleType

import pytest
import torch

from bpfree_common import LearningRule, paths, records
from bpfree_common.errors import IdentityFailed
from bpfree_common.papers import catalogue, loader

#: What the audit finds above the diagonal in a rule whose units need nothing from above,
#: and in one that differentiates through all four units.
LOCAL = {"crossings": 0, "locking": "none", "weight_transport": "none"}
GLOBAL = {"crossings": 3, "locking": "full", "weight_transport": "full"}

# --- reports ----------------------------------------------------------------------------


def standard_record(slug: str) -> dict:
    """The committed record of a paper at the standard profile; fails if there is none."""
    record = records.load(slug, "standard", paths.PROJECT / "reports")
    if record is None:
        pytest.fail(
            f"{slug} has no standard report: run `make reports PROFILE=standard "
            f"M={slug}` and commit reports/standard/{slug}",
            pytrace=False,
        )
    return record


# --- identities and defects -------------------------------------------------------------


def assert_identities_hold(slug: str) -> None:
    """The rule and check cells of a paper run by themselves, and every identity holds."""
    path = catalogue.get(slug).path
    loader.run_checks(path, loader.build(path, f"intact_{slug}"))


def assert_caught(slug: str, old: str, new: str, identity: str) -> None:
    """With `old` replaced by `new` in the rule cells, the named identity fails."""
    broken = mutant(slug, old, new)
    with pytest.raises(IdentityFailed, match=re.escape(identity)):
        loader.run_checks(catalogue.get(slug).path, broken)


def mutant(slug: str, old: str, new: str) -> ModuleType:
    """The rule cells of a paper with `old`, which occurs once, replaced by `new`."""
    return loader.build(catalogue.get(slug).path, f"mutant_{slug}", replace=(old, new))


# --- probes: fewer samples than inputs of any layer, so that null spaces exist ----------


def small_sizes(hidden: int) -> list[int]:
    """Sizes of a dense network with so many hidden layers, for `small_batch`."""
    return [16] + [12] * hidden + [3]


def small_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Six samples of 16 normal features and three classes; seeds torch with 0."""
    torch.manual_seed(0)
    return torch.randn(6, 16), torch.arange(6) % 3


def image_sizes(hidden: int) -> list[int]:
    """Sizes of a dense network with so many hidden layers, for `image_batch`."""
    return [42] + [32] * hidden + [10]


def image_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Six images of 32 pixels and ten that a label may replace; seeds torch with 0."""
    torch.manual_seed(0)
    return torch.rand(6, 42), torch.arange(6)


# --- learning ---------------------------------------------------------------------------


def take_steps(rule: LearningRule, batch, steps: int) -> None:
    """So many steps of the rule, with its own optimiser, on one batch."""
    optimizer = rule.configure_optimizers()
    for _ in range(steps):
        optimizer.zero_grad()
        rule.credit(batch)
        optimizer.step()


def assert_fixed_but_saved(one: LearningRule, other: LearningRule, name: str) -> None:
    """The matrix is drawn anew for each rule, is no parameter and is in checkpoints."""
    assert not torch.equal(getattr(one, name), getattr(other, name))
    other.load_state_dict(one.state_dict())
    assert torch.equal(getattr(one, name), getattr(other, name))
    assert all(p is not getattr(one, name) for p in one.parameters())
