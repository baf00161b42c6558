"""Confirming a report that an older laboratory made, instead of making it again.

A report is confirmed when the quick run of its notebook comes out the same, bit for bit,
on the laboratory that made it and on today's, and that quick run executed every changed
function that the report's own run may execute (see `coverage`). Both laboratories are
commits, so that anybody can do it again. Some reports are remade as a sample: one that
comes out differently revokes every confirmation between the two commits. Times do not
count: a confirmed report shows the times of the laboratory that made it.
"""

import datetime
import random
from pathlib import Path

from bpfree_common import paths
from bpfree_common.errors import ReportError, UserError
from bpfree_common.papers import catalogue, notebook
from bpfree_common.records import integrity, loading, provenance, record, replay, rules
from bpfree_common.records.coverage import Changes

NAME = "confirmed.json"


def load(slug: str, profile: str, reports: Path | None = None) -> dict | None:
    """The confirmation beside a report, or None. Raises ReportError if it is broken."""
    return read(record.folder(slug, profile, reports) / NAME)


def read(path: Path) -> dict | None:
    """The confirmation at `path`, checked; None if there is none. Raises ReportError."""
    if not path.is_file():
        return None
    return record.read(path, "confirmation.schema.json")


def sentence(confirmed: dict) -> str:
    """What a page says of a confirmed report."""
    old, new = confirmed["old"]["revision"][:7], confirmed["new"]["revision"][:7]
    return f"made by {old}, shown on {confirmed['date']} to be the same by {new}"


def belongs(confirmed: dict, slug: str, profile: str, reports: Path | None) -> bool:
    """Whether a confirmation is of this very report."""
    folder = record.folder(slug, profile, reports)
    found = record.load(slug, profile, reports)
    executed = notebook.read(folder / f"{slug}.ipynb")
    return (confirmed["slug"], confirmed["profile"]) == (slug, profile) and confirmed[
        "belongs_to"
    ] == integrity.digests(found, executed)


def confirm(
    slugs: list[str],
    since: str,
    reports: Path | None = None,
    profile: str = "standard",
    jobs: int = 2,
    remake: int = 2,
) -> dict[str, str | None]:
    """Confirm the reports of `slugs`, made by the commit `since`, for today's commit.

    Returns slug -> None if it is confirmed now, else why not. remake: how many of the
    confirmed reports are made again at `profile` as a sample. Raises ReportError when
    what a run reads has changes that are not committed.
    """
    if replay.git("status", "--porcelain", "--", *replay.PARTS):
        raise ReportError("commit your changes first: a confirmation is between commits")
    reports = reports or paths.reports()
    old, new = replay.revision(since), replay.revision("HEAD")
    held = replay.up_to_date(old, slugs, profile, reports)
    tried = [slug for slug in slugs if slug in held]
    folders = [replay.reports(commit, tried, jobs) / "quick" for commit in (old, new)]
    found: dict[str, str | None] = {}
    for slug in slugs:
        if slug not in held:
            found[slug] = f"{old[:7]} itself does not call this report up to date"
            continue
        try:
            found[slug] = _confirm(slug, profile, reports, (old, new), folders)
        except UserError as error:
            found[slug] = str(error)
    return found | _sample(found, profile, reports, (old, new), jobs, remake)


def _confirm(slug, profile, reports: Path, commits, folders) -> str | None:
    """Confirm one report; None, or why not."""
    old, new = commits
    if different := replay.differences(*(folder / slug for folder in folders)):
        return f"quick differs: {', '.join(different[:4])}"
    made = record.load(slug, profile, reports)
    quick = record.read(folders[1] / slug / record.NAME)
    if _edited([slug], old, new):
        return "the notebook itself is another"
    if untested := _rules(slug, quick["hashes"], old, new):
        return f"rules changed, and not executed by quick: {', '.join(untested[:3])}"
    if packages := _other_packages(old, quick["hashes"]["lock"]):
        return f"other packages: {', '.join(packages)}"
    before, after = (_counted(replay.laboratory(c)) for c in commits)
    changes = Changes(before, after, quick["hashes"]["laboratory"])
    data = list(made["hashes"]["data"])
    if missing := loading.missing(new, data):
        return f"no {', '.join(missing)} here to compare: `make data` gets it"
    if apart := loading.different(old, new, data):
        return f"data are loaded differently: {', '.join(apart)}"
    listed = _listed(made["hashes"], before, bool(quick["hashes"]["rule_calls"]))
    if untested := changes.untested(listed):
        more = f" and {len(untested) - 3} more" if len(untested) > 3 else ""
        return f"changed, and not executed by quick: {', '.join(untested[:3])}{more}"
    executed = notebook.read(record.folder(slug, profile, reports) / f"{slug}.ipynb")
    kept = {k: quick["hashes"][k] for k in ("notebook", "builds_on", "names", "lock")}
    value = {
        "schema": 1,
        "slug": slug,
        "profile": profile,
        "belongs_to": integrity.digests(made, executed),
        "old": {"revision": old, "trees": replay.trees(old)},
        "new": {"revision": new, "trees": replay.trees(new)},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "environment": quick["environment"],
        "hashes": kept | {"laboratory": changes.watched},
    }
    record.validator("confirmation.schema.json")(value)
    record.write_json(value, record.folder(slug, profile, reports) / NAME)
    return None


def _rules(slug: str, quick: dict, old: str, new: str) -> list[str]:
    """Changed functions of other notebooks' rules that quick has not put to the test."""
    user, found = replay.file(new, _path(slug)), []
    for other in _edited(list(quick["builds_on"]), old, new):
        both = (replay.file(commit, _path(other)) for commit in (old, new))
        called = quick["rule_calls"].get(other, [])
        found += [f"{other}: {name}" for name in rules.untested(*both, called, user)]
    return found


def _path(slug: str) -> str:
    """Where a notebook is, seen from the project."""
    return f"notebooks/{catalogue.get(slug).path.relative_to(paths.NOTEBOOKS)}"


def _edited(slugs: list[str], old: str, new: str) -> list[str]:
    """Which notebooks differ between two commits in more than their layout."""
    found = []
    for slug in slugs:
        one, two = (replay.file(commit, _path(slug)) for commit in (old, new))
        if not replay.same_source(one, two):
            found.append(slug)
    return found


def _counted(laboratory: dict) -> dict:
    """Without the modules that cannot change a result, in the old or the new layout."""
    rooms = {each.rpartition(".")[2] for each in provenance.PLUMBING} | {"processes"}
    return {
        module: units
        for module, units in laboratory.items()
        if module and provenance.counts(module) and module not in rooms
    }


def _listed(hashes: dict, before: dict, loads_rules: bool):
    """Old module -> units that the report's run executed.

    Loaders of data are left out: they are compared by what they load.
    """
    listed = {module: set(units) for module, units in hashes["laboratory"].items()}
    apart = {*loading.MODULES, *(() if loads_rules else ("loader",))}
    return {
        module: units
        for module, units in listed.items()
        if module in before and module.rpartition(".")[2] not in apart
    }


def _other_packages(old: str, used: dict[str, str]) -> list[str]:
    """Packages that the run used and that the old commit pins to another version."""
    pins = provenance.pinned(replay.file(old, "requirements.lock").splitlines())
    return [name for name, version in used.items() if pins.get(name) != version]


def _sample(found, profile, reports: Path, commits, jobs: int, remake: int) -> dict:
    """Make some confirmed reports again; revoke all if one comes out differently."""
    confirmed = sorted(slug for slug, reason in found.items() if reason is None)
    chosen = random.Random(commits[1]).sample(confirmed, min(remake, len(confirmed)))
    if not chosen:
        return {}
    folder = replay.reports(commits[1], chosen, jobs, profile)
    for slug in chosen:
        again = folder / profile / slug
        made = record.folder(slug, profile, reports)
        if different := replay.differences(made, again):
            for each in confirmed:
                (record.folder(each, profile, reports) / NAME).unlink(missing_ok=True)
            words = f"revoked: {slug}, remade, differs ({', '.join(different[:3])})"
            return dict.fromkeys(confirmed, words)
    return {}
