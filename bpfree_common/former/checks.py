"""Identities: the exact mathematics of a rule, run every time its notebook runs.

An identity is a named function that returns how far it is from holding (a residual, to
be at most `tolerance`) or whether it holds::

    @identity("closed form equals autograd", tolerance=1e-12)
    def _():
        return (closed_form - autograd).abs().max()

A mutation test breaks one line of the rule and demands that a named identity fails.
"""

from collections.abc import Callable

import torch

from bpfree_common.errors import IdentityFailed

#: Names and tolerances of the identities that held in this process, in order.
HELD: list[dict] = []


def identity(name: str, tolerance: float = 0.0) -> Callable:
    """Run the decorated function at once; raise IdentityFailed unless it holds."""

    def run(function: Callable):
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(0)
            result = function()
        if result is None:
            raise IdentityFailed(f"{name}: the function returned nothing")
        if isinstance(result, bool):
            held, size = result, "false"
        else:
            residual = float(torch.as_tensor(result).detach())
            held, size = residual <= tolerance, f"off by {residual:.3g}"
        if not held:
            raise IdentityFailed(f"{name}: {size}")
        bound = f"to {tolerance:g}" if tolerance else "exactly"
        print(f"holds {bound}: {name}")
        HELD.append({"name": name, "tolerance": tolerance})
        return function

    return run
