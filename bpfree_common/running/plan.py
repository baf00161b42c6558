"""What has to run, and why; and which notebooks cannot, before any of them starts."""

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from bpfree_common import progress, records
from bpfree_common.data import datasets
from bpfree_common.errors import DataError, UserError
from bpfree_common.papers import catalogue, notebook
from bpfree_common.running import execute

CUSTOM = "custom"
LONGEST_LABEL = 60  # characters of a folder's name


@dataclass
class Job:
    """One notebook to run, and what became of it.

    place: the folder of its report under `reports/`, the profile's but for custom runs.
    gpu: the one that it may use, where there are several.
    """

    slug: str
    profile: str
    parameters: dict
    reason: str
    place: str
    expected: float | None = None
    staging: Path | None = None
    process: subprocess.Popen | None = None
    gpu: str = ""
    started: float = 0.0
    seconds: float = 0.0
    result: dict = field(default_factory=dict)

    def position(self) -> dict:
        """Cell, stage and epoch, as far as the run has said."""
        return progress.read(self.staging / execute.CELLS) | progress.read(
            self.staging / execute.PROGRESS
        )


@dataclass
class Plan:
    """The jobs to run, and why the other notebooks are not among them.

    fresh: up to date. absent: have no such profile. refused: slug -> what is wrong.
    """

    jobs: list[Job] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def plan(
    slugs: list[str],
    profile: str,
    overrides: dict,
    reports: Path,
    force: bool = False,
    figures: bool = False,
) -> Plan:
    """Decide for every notebook; what is wrong with one does not stop the others.

    overrides: parameters given by hand; their report goes to a place of its own.
    """
    found = Plan()
    for slug in dict.fromkeys(slugs):
        entry = catalogue.get(slug)
        needs_profile = entry.is_paper or entry.own or entry.of
        if needs_profile and profile not in ("quick", *entry.profiles):
            found.absent.append(slug)
            continue
        try:
            job = _job(entry, profile, overrides, reports, force, figures)
        except UserError as error:
            found.refused[slug] = str(error)
            continue
        if job is None:
            found.fresh.append(slug)
        else:
            found.jobs.append(job)
    return found


def _job(entry, profile: str, overrides: dict, reports: Path, force, figures):
    values = entry.resolve(profile, overrides)
    where = place(profile, overrides)
    name = CUSTOM if overrides else profile
    reason = "parameters given by hand"
    if not overrides:
        reason = _reason(entry.slug, profile, reports, force, figures)
    if reason is None:
        return None
    expected = _expected(entry.slug, where, reports)
    return Job(entry.slug, name, values, reason, where, expected)


def place(profile: str, overrides: dict) -> str:
    """Folder of a run under `reports/`: one for each set of parameters given by hand.

    The same parameters give the same folder, others never do.
    """
    if not overrides:
        return profile
    changes = overrides if profile == "quick" else {"profile": profile} | overrides
    text = ",".join(f"{name}={changes[name]}" for name in sorted(changes))
    if len(text) > LONGEST_LABEL or not all(map(_is_plain, changes.values())):
        text = re.sub(r"[^A-Za-z0-9=,._+-]", "_", text)[:LONGEST_LABEL]
        text += "-" + notebook.digest(json.dumps(changes, sort_keys=True))[:8]
    return f"{CUSTOM}/{text}"


def _is_plain(value) -> bool:
    """Whether a value stands for itself in a name: a number, or a word that is none."""
    if isinstance(value, str):
        word = re.fullmatch(r"[A-Za-z][A-Za-z0-9_.+-]*", value)
        return bool(word) and value not in ("True", "False", "None", "inf", "nan")
    return isinstance(value, bool | int | float)


def _reason(slug: str, profile: str, reports: Path, force: bool, figures: bool):
    if force:
        return "asked for"
    reason = records.stale(slug, profile, reports)
    if reason is None and figures and figures_of(slug, profile, reports) is None:
        return "no figures"
    return reason


def figures_of(slug: str, where: str, reports: Path) -> list[Path] | None:
    """The PNG and SVG files that the record lists, or None if one is not there."""
    record = records.load(slug, where, reports)
    folder = records.folder(slug, where, reports) / "figures"
    names = [f["name"] for f in record["figures"]] if record else []
    files = [folder / f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    return files if all(f.is_file() for f in files) else None


def _expected(slug: str, where: str, reports: Path) -> float | None:
    """Seconds that the last run took, to estimate the time left."""
    try:
        record = records.load(slug, where, reports)
    except UserError:
        return None
    return record["timing"].get("seconds") if record else None


def check_data(jobs: list[Job]) -> dict[str, str]:
    """Find, verify and if need be download the data of `jobs` before a kernel starts.

    Every parameter whose value names a data set counts. Returns slug -> what is missing,
    for the notebooks that cannot run.
    """
    problems = {name: _problem(name) for name in sorted(set().union(*map(_data, jobs)))}
    missing = {}
    for job in jobs:
        found = [problems[name] for name in _data(job) if problems[name]]
        if found:
            missing[job.slug] = "; ".join(found)
    return missing


def _data(job: Job) -> list[str]:
    """Names of the data sets that a job's parameters name."""
    named = [v for v in job.parameters.values() if isinstance(v, str)]
    return sorted(set(named) & set(datasets.catalogue()))


def _problem(name: str) -> str:
    """Why a data set cannot be used; empty if it can."""
    try:
        datasets.files(name)
    except DataError as error:
        return str(error)
    return ""
