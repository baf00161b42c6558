"""Where a rule must not learn: in `predict`, in `score`, between steps."""

import types
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from bpfree_common.errors import ContractError
from bpfree_common.learning.rule import LearningRule

#: What Lightning keeps in a module for itself, and what a validation collects.
_NOT_STATE = {"_trainer", "_fabric", "_parameters", "_buffers", "_modules", "training"}
_NOT_STATE |= {"_scored", "_logged", "_current_fx_name", "_jit_module", "_hparams"}
_NOT_STATE.add("__executed__")  # notes of which functions ran
_DEEP = 6  #: how far to follow what is kept inside of other things


def refuse_learning_outside_of_steps(rule: LearningRule, batch: tuple) -> None:
    """Raise ContractError if `predict` or `score` changes the rule.

    Watched are parameters, buffers, attributes, what is kept in closures, and globals
    that the rule's methods name. They are called as `training.evaluate` does.
    """
    x = batch[0]
    calls = {"predict": lambda: rule.predict(x), "score": lambda: rule.score(batch)}
    training = rule.training
    for name, call in calls.items():
        before = state(rule)
        with torch.random.fork_rng(), torch.no_grad():
            rule.eval()
            for _ in range(2):
                call()
            rule.train(training)
        changed = differences(before, state(rule))
        if changed:
            raise ContractError(
                f"{type(rule).__name__}.{name} changes {changed[0]}: a rule may learn in "
                "training steps only"
            )


def state(rule: LearningRule) -> dict[str, object]:
    """All that the rule keeps, by name, in a form that can be compared."""
    found: dict[str, object] = {}
    for name, module in rule.named_modules():
        place = f"{name}." if name else ""
        tensors = (*module._parameters.items(), *module._buffers.items())
        for key, value in (*tensors, *vars(module).items()):
            if key not in _NOT_STATE and not key.endswith("_hooks"):
                found |= _flat(place + key, value, 0)
    for method in _methods(type(rule)):
        for key in method.__code__.co_names:
            value = None if key in _NOT_STATE else method.__globals__.get(key)
            if isinstance(value, dict | list | set | Tensor | np.ndarray):
                found |= _flat(f"the global {key}", value, 0)
    return found


def differences(before: dict, after: dict) -> list[str]:
    """Names whose values are not the same in both."""
    names = dict.fromkeys((*before, *after))
    return [n for n in names if before.get(n) != after.get(n)]


def _methods(kind: type) -> Iterator[types.FunctionType]:
    """The functions that a rule's own classes define."""
    for owner in kind.__mro__:
        if owner is LearningRule:
            return
        for value in vars(owner).values():
            if isinstance(value, types.FunctionType):
                yield value


def _flat(name: str, value, depth: int) -> dict[str, object]:
    """`value` and all it holds as comparable things."""
    if depth > _DEEP or isinstance(value, nn.Module | types.ModuleType | type):
        return {}
    if isinstance(value, Tensor):
        return {name: _bytes(value)}
    if isinstance(value, np.ndarray):
        return {name: value.tobytes()}
    if isinstance(value, torch.Generator):
        return {name: value.get_state().numpy().tobytes()}
    if value is None or isinstance(value, int | float | str | bytes | bool):
        return {name: repr(value)}
    found: dict[str, object] = {}
    for key, held in _held(value):
        found |= _flat(f"{name}{key}", held, depth + 1)
    return found


def _held(value) -> Iterator[tuple[str, object]]:
    """What a container, a function or an object holds."""
    if isinstance(value, dict):
        yield from ((f"[{k!r}]", v) for k, v in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset):
        yield "'s length", len(value)
        yield from ((f"[{i}]", v) for i, v in enumerate(value))
    elif isinstance(value, types.MethodType):
        yield "'s function", value.__func__
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            yield "'s closure", cell.cell_contents
    elif type(value).__module__.split(".")[0] not in {"torch", "lightning", "builtins"}:
        yield from ((f".{k}", v) for k, v in getattr(value, "__dict__", {}).items())


def _bytes(t: Tensor) -> object:
    if t.layout != torch.strided:
        return id(t)  # a graph, which never changes
    return t.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def learns_outside_of_units(
    trained: LearningRule, fresh: LearningRule, x: Tensor
) -> bool:
    """Whether what `trained` predicts from `x` is more than its units know.

    The units' weights and buffers are given to `fresh`, made as `trained` was; then both
    must predict the same.
    """
    fresh.units.load_state_dict(trained.units.state_dict())
    answers = []
    for rule in (trained, fresh):
        rule.eval()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            answers.append(rule.predict(x))
    return not torch.equal(*(a.nan_to_num() for a in answers))
