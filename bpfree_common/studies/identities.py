"""Identities: the exact mathematics of a rule, run every time its notebook runs.

An identity is a named function that returns how far it is from holding (a residual, to
be at most `tolerance`) or whether it holds::

    @identity("closed form equals autograd", tolerance=1e-12)
    def _():
        return (closed_form - autograd).abs().max()

All of them run, whatever the first one says; the last check cell ends with
``identities_hold()``, which raises with the name of every one that failed. A mutation
test breaks one line of the rule and demands that a named identity fails.
"""

from collections.abc import Callable

import torch

from bpfree_common.errors import IdentityFailed

#: Names and tolerances of the identities that held in this process, in order.
HELD: list[dict] = []

#: What the failed ones said, since the last call of `identities_hold`.
FAILED: list[str] = []


def identity(name: str, tolerance: float = 0.0) -> Callable:
    """Run the decorated function at once, in a random state of its own."""

    def run(function: Callable):
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(0)
            try:
                failure = _failure(function(), tolerance)
            except Exception as error:  # a broken rule may raise: that is a failure too
                failure = f"{type(error).__name__}: {error}"
        if failure is None:
            bound = f"to {tolerance:g}" if tolerance else "exactly"
            print(f"holds {bound}: {name}")
            HELD.append({"name": name, "tolerance": tolerance})
        else:
            print(f"FAILS: {name}: {failure}")
            FAILED.append(f"{name}: {failure}")
        return function

    return run


def identities_hold() -> None:
    """Raise IdentityFailed naming every identity that failed since the last call."""
    failed, FAILED[:] = list(FAILED), []
    if failed:
        raise IdentityFailed("; ".join(failed))
    print(f"{len(HELD)} identities hold")


def _failure(result, tolerance: float) -> str | None:
    """What is wrong with an identity's result; None if it holds."""
    if result is None:
        return "the function returned nothing"
    if isinstance(result, bool):
        return None if result else "false"
    residual = float(torch.as_tensor(result).detach())
    return None if residual <= tolerance else f"off by {residual:.3g}"
