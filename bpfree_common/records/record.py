"""Records: one JSON file per run, the only source of any number shown anywhere.

A record is written atomically as the last act of its notebook. It carries content hashes
of all that it depends on, so that a stale record is recognised without running anything.
Records of schema 1, made before tuning seeds and intervals were kept, stay readable.
"""

import json
import math
import os
from functools import cache
from pathlib import Path

import fastjsonschema

from bpfree_common import paths
from bpfree_common.errors import ReportError
from bpfree_common.papers import catalogue

NAME = "record.json"
SCHEMA = "record.schema.json"


def folder(slug: str, profile: str, reports: Path | None = None) -> Path:
    """Where the report of a notebook lies: the executed notebook and its record."""
    return (reports or paths.reports()) / profile / slug


def load(slug: str, profile: str, reports: Path | None = None) -> dict | None:
    """The record of a report, or None if there is none. Raises ReportError if broken."""
    path = folder(slug, profile, reports) / NAME
    return read(path) if path.is_file() else None


def read(path: Path, schema: str | None = None) -> dict:
    """The record, or another file of `schema`, at `path`, checked. Raises ReportError."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        validator(schema)(record) if schema else check(record)
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # also the schema's
        reason = getattr(error, "message", str(error))
        raise ReportError(
            f"{path} is not valid ({reason}): delete it and run `make reports`"
        ) from None
    return record


def load_all(profile: str, reports: Path | None = None) -> dict[str, dict]:
    """The records of all papers at a profile, in the order of the catalogue."""
    papers = [e.slug for e in catalogue.load().values() if e.is_paper]
    found = {slug: load(slug, profile, reports) for slug in papers}
    return {slug: record for slug, record in found.items() if record is not None}


def check(record: dict) -> None:
    """Raise fastjsonschema.JsonSchemaException unless `record` follows its schema."""
    validator(SCHEMA)(record)


@cache
def validator(name: str):
    """A function that checks a value against one of this package's schemas."""
    text = (paths.LABORATORY / "records" / name).read_text(encoding="utf-8")
    return fastjsonschema.compile(json.loads(text))


def write(record: dict, path: Path) -> None:
    """Check and write a record so that no reader ever sees half of it."""
    check(record)
    _no_nan(record, "record")
    write_json(record, path)


def write_json(value: dict, path: Path) -> None:
    """Write a JSON file in one move, after it is safe on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, ensure_ascii=False, allow_nan=False)
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
    """The record without times and seal: the same for two equal runs on one machine."""
    kept = {key: value for key, value in record.items() if key != "timing"}
    kept["hashes"] = {k: v for k, v in record["hashes"].items() if k != "seal"}
    return kept
