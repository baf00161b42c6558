"""What changed of the laboratory since a run, where a move alone is no change."""

from bpfree_common.records import provenance
from bpfree_common.records.units import Units


def laboratory_changes(
    was: dict[str, dict[str, str]], names: dict[str, str]
) -> list[str]:
    """Names of executed units that are different now.

    was: module -> unit -> digest, as a record keeps them. names: what public names meant.
    A unit that is found under the same name and with the same digest in another module,
    and no longer in its own, has moved: that is no change.
    """
    now = {module: provenance.disk(module) for module in was}
    changed = [
        _said(module, unit)
        for module, kept in was.items()
        for unit, digest in kept.items()
        if not _same(unit, digest, now[module], was)
    ]
    meaning = provenance.names()
    for name, target in names.items():
        if name not in meaning or not _same_target(target, meaning[name], was):
            changed.append(f"the name {name!r}")
    return changed


def shortened(words: list[str], most: int = 3) -> str:
    """The first few words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _said(module: str, unit: str) -> str:
    return f"{module}.{unit}" if unit else f"{module}, outside its functions"


def _same(unit: str, digest: str, now: Units | None, was: dict) -> bool:
    """Whether a unit of a module is still what it was."""
    if digest.startswith("@"):
        return _same_import(unit, digest[1:], now, was)
    here = now.all.get(unit) if now else None
    if here is not None or (now and unit in now.imports):
        return here == digest
    return digest.startswith("import ") or _moved(unit, digest)


def _moved(unit: str, digest: str) -> bool:
    """Whether some module has such a unit."""
    found = (provenance.disk(module) for module in provenance.all_modules())
    return any(each.all.get(unit) == digest for each in found)


def _same_import(name: str, target: str, now: Units | None, was: dict) -> bool:
    """Whether a name taken from elsewhere in the laboratory still means the same."""
    if now is None or (name not in now.imports and name not in now.all):
        return True  # nobody uses it any more, or its user has changed
    return name in now.imports and _same_target(target, now.imports[name], was)


def _same_target(old: str, new: str, was: dict) -> bool:
    """Whether two addresses, "room.module:name" or "room:module", mean the same code."""
    if old == new:
        return True
    module, name = _resolved(old)
    other, other_name = _resolved(new)
    there = provenance.disk(module) if module else None
    if there is None or (name and name not in there.all):
        return True  # it is gone from its place: its units are looked for everywhere
    used = {
        unit: digest
        for unit, digest in was.get(module, {}).items()
        if digest[0] != "@" and not digest.startswith("import ") and _within(unit, name)
    }
    target = provenance.disk(other) if other else None
    return target is not None and all(
        target.all.get(_renamed(unit, name, other_name)) == digest
        for unit, digest in used.items()
    )


def _within(unit: str, name: str) -> bool:
    return not name or unit == name or unit.startswith(f"{name}.")


def _renamed(unit: str, old: str, new: str) -> str:
    return new + unit.removeprefix(old) if old else unit


def _resolved(target: str) -> tuple[str, str]:
    """(module, name of a unit or "") that an address means."""
    room, _, name = target.partition(":")
    whole = f"{room}.{name}" if room else name
    if provenance.disk(whole) is not None:
        return whole, ""
    if not room and (meaning := provenance.names().get(name)):
        return _resolved(meaning)
    return room, name
