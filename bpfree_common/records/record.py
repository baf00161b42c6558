"""Records: one JSON file per run, the only source of any number shown anywhere.

A record is written atomically as the last act of its notebook. It carries content hashes
of all that it depends on, so that a stale record is recognised without running anything.
"""

import json
import math
import os
from functools import lru_cache
from pathlib import Path

import fastjsonschema

from bpfree_common import paths
from bpfree_common.data import datasets
from bpfree_common.errors import ReportError
from bpfree_common.papers import catalogue, notebook

NAME = "record.json"

#: Modules that cannot change a number or a picture; a change there makes nothing stale.
PLUMBING = {
    "catalogue",
    "datasets",
    "errors",
    "loader",
    "notebook",
    "parameters",
    "paths",
    "progress",
    "records",
}


def folder(slug: str, profile: str, reports: Path | None = None) -> Path:
    """Where the report of a notebook lies: the executed notebook and its record."""
    return (reports or paths.reports()) / profile / slug


def load(slug: str, profile: str, reports: Path | None = None) -> dict | None:
    """The record of a report, or None if there is none. Raises ReportError if broken."""
    path = folder(slug, profile, reports) / NAME
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        check(record)
    except (json.JSONDecodeError, fastjsonschema.JsonSchemaException) as error:
        reason = getattr(error, "message", str(error))
        raise ReportError(
            f"{path} is not a valid record ({reason}): delete it and run `make reports`"
        ) from None
    return record


def load_all(profile: str, reports: Path | None = None) -> dict[str, dict]:
    """The records of all papers at a profile, in the order of the catalogue."""
    papers = [e.slug for e in catalogue.load().values() if e.is_paper]
    found = {slug: load(slug, profile, reports) for slug in papers}
    return {slug: record for slug, record in found.items() if record is not None}


def check(record: dict) -> None:
    """Raise fastjsonschema.JsonSchemaException unless `record` follows the schema."""
    _validator()(record)


@lru_cache(maxsize=1)
def _validator():
    schema = json.loads((paths.LABORATORY / "records" / "record.schema.json").read_text())
    return fastjsonschema.compile(schema)


def write(record: dict, path: Path) -> None:
    """Check and write a record so that no reader ever sees half of it."""
    check(record)
    _no_nan(record, "record")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8") as stream:
        json.dump(record, stream, indent=1, ensure_ascii=False, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _no_nan(value, where: str) -> None:
    """Raise ReportError naming the place of a number that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ReportError(f"{where} is {value}: a record holds finite numbers only")
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        _no_nan(item, f"{where}.{key}")


def canonical(record: dict) -> dict:
    """The record without timings: equal for equal inputs on one type of machine."""
    return {key: value for key, value in record.items() if key != "timing"}


def hashes(
    slug: str, parameters: dict, modules: list[str], data: list[str], profile: str
) -> dict:
    """Content hashes of everything a record of `slug` depends on.

    modules: names of the laboratory's modules that were used. data: data sets read.
    """
    entry = catalogue.get(slug)
    return {
        "notebook": notebook.content_hash(entry.path),
        "builds_on": {s: _rule_hash(s) for s in entry.builds_on},
        "laboratory": {name: _module_hash(name) for name in modules},
        "data": {n: notebook.digest(datasets.catalogue()[n]["forms"]) for n in data},
        "parameters": notebook.digest(parameters),
        "catalogue": notebook.digest(_shown(entry)),
        "lock": notebook.digest(lock_pins()),
        "records": _records_hash(profile) if entry.reads_records else "",
    }


def stale(slug: str, profile: str, reports: Path | None = None) -> str | None:
    """Why the report of `slug` must be run again, or None if it is up to date."""
    record = load(slug, profile, reports)
    report = folder(slug, profile, reports) / f"{slug}.ipynb"
    if record is None or not report.is_file():
        return "there is no report"
    was = record["hashes"]
    parameters = catalogue.get(slug).resolve(profile)
    try:
        now = hashes(
            slug, parameters, list(was["laboratory"]), list(was["data"]), profile
        )
    except (KeyError, FileNotFoundError) as error:
        return f"{error} is gone"
    changed = [name for name in now if now[name] != was.get(name)]
    return f"changed: {', '.join(changed)}" if changed else None


def lock_pins() -> list[str]:
    """The pinned requirements, without comments."""
    lines = paths.LOCK.read_text().splitlines() if paths.LOCK.is_file() else []
    return sorted(line.strip() for line in lines if line.strip() and line[0] != "#")


def _shown(entry: catalogue.Entry) -> dict:
    """What a notebook shows of its entry; profiles count through the parameters."""
    return {k: v for k, v in vars(entry).items() if k != "profiles"}


def _rule_hash(slug: str) -> str:
    cells = notebook.tagged(notebook.read(catalogue.get(slug).path), "rule")
    return notebook.digest([text for _, text in cells])


def _module_hash(name: str) -> str:
    path = paths.LABORATORY / f"{name.replace('.', '/')}.py"
    return notebook.module_hash(path) if path.is_file() else "gone"


def _records_hash(profile: str) -> str:
    """The state of all papers: the records' contents and which of them are stale."""
    state = {}
    for slug, record in load_all(profile).items():
        state[slug] = [notebook.digest(canonical(record)), stale(slug, profile)]
    return notebook.digest(state)
