"""Changed rules of other notebooks: has a quick run executed every change it may reach?

A notebook that builds on another's rule runs the same cells in every profile; parameters
alone differ. So its own run at a larger profile can differ from a quick one that came
out the same only through a changed function of the other rule that it reaches and that
quick has not executed.
"""

import json

from bpfree_common.papers import notebook
from bpfree_common.records.units import Units, units


def untested(old: str, new: str, called: list[str], user: str) -> list[str]:
    """Changed units of a rule that `user` may reach and that its quick run did not run.

    old, new: the two notebooks that hold the rule, as JSON. called: functions of the
    rule that the quick run called. user: the notebook that builds on it, as JSON.
    """
    before, after = _units(old), _units(new)
    ran = set(called)
    reached = _reached(words(json.loads(user)), after, ran)
    return sorted(
        name
        for name, digest in before.all.items()
        if after.all.get(name, digest) != digest  # whoever called what is gone changed
        and all(part in reached or part[:2] == "__" for part in name.split("."))
        and not _tested(name, after, ran)
    )


def _reached(found: set[str], rule: Units, ran: set[str]) -> set[str]:
    """Words of the user, of what ran, and of the classes that these name."""
    found = found.union(*(rule.words[name] for name in ran & set(rule.functions)))
    while True:
        classes = [n for n in rule.bindings if n in found and n in rule.words]
        more = found.union(*(rule.words[name] for name in classes))
        if more == found:
            return found
        found = more


def _tested(name: str, after: Units, ran: set[str]) -> bool:
    """A function ran; of a class some method did; a constant is named by what ran."""
    if name in ran:
        return True
    if any(function.startswith(f"{name}.") for function in ran):
        return True
    is_constant = name in after.bindings and name not in after.functions
    return is_constant and any(name in after.words[f] for f in ran if f in after.words)


def _units(content: str) -> Units:
    cells = notebook.tagged(json.loads(content), *notebook.RULE)
    return units("\n".join(text for _, text in cells))


def words(content: dict) -> set[str]:
    """The identifiers and strings of a notebook's code."""
    found: set[str] = set()
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            lines = notebook.source(cell).splitlines()
            code = units("\n".join(line for line in lines if line[:1] not in "%!"))
            found |= set().union(*code.words.values(), code.bindings)
    return found
