"""What tests of papers share: break one line of a rule, demand that an identity fails."""

import re

import pytest

from bpfree_common import catalogue, loader
from bpfree_common.errors import IdentityFailed


def assert_identities_hold(slug: str) -> None:
    """The rule and check cells of a paper run by themselves, and every identity holds."""
    path = catalogue.get(slug).path
    loader.run_checks(path, loader.build(path, f"intact_{slug}"))


def assert_caught(slug: str, old: str, new: str, identity: str) -> None:
    """With `old` replaced by `new` in the rule cells, the named identity fails."""
    path = catalogue.get(slug).path
    mutant = loader.build(path, f"mutant_{slug}", replace=(old, new))
    with pytest.raises(IdentityFailed, match=re.escape(identity)):
        loader.run_checks(path, mutant)
