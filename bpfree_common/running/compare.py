"""Are two folders of reports the same, but for ids and clocks?"""

import json
from pathlib import Path

from bpfree_common import records
from bpfree_common.data.checksum import checksum
from bpfree_common.papers import notebook


def differences(one: Path, two: Path, notebooks: bool = True) -> list[str]:
    """What differs between two folders of reports of one profile, in words.

    notebooks: compare the executed notebooks too; where nbval has made the second run
    there is none, and its cells have been compared by nbval.
    """
    slugs = sorted({path.name for root in (one, two) for path in root.iterdir()})
    found = []
    for slug in slugs:
        try:
            pairs = [_report(root / slug, slug, notebooks) for root in (one, two)]
        except FileNotFoundError as error:
            found.append(f"{slug}: there is no {error.filename}")
            continue
        found += [f"{slug}: {words}" for words in _report_differences(*pairs)]
    return found


def _report(folder: Path, slug: str, notebooks: bool) -> tuple[dict, dict]:
    executed = {"cells": []}
    if notebooks:
        executed = json.loads((folder / f"{slug}.ipynb").read_text())
    record = json.loads((folder / records.NAME).read_text())
    if not notebooks:  # a seal binds a record to its executed notebook
        record["hashes"].pop("seal", None)
    record["figures"] = [record["figures"], _figures(folder)]
    return notebook.canonical(executed | {"metadata": {}}), records.canonical(record)


def _figures(folder: Path) -> dict[str, str]:
    """SHA-256 of every figure file beside a report."""
    files = sorted((folder / "figures").glob("*"))
    return {file.name: checksum(file.read_bytes()) for file in files}


def _report_differences(a: tuple[dict, dict], b: tuple[dict, dict]) -> list[str]:
    cells = zip(a[0]["cells"], b[0]["cells"], strict=False)
    words = [f"cell {n} differs" for n, (x, y) in enumerate(cells) if x != y]
    if len(a[0]["cells"]) != len(b[0]["cells"]):
        words.append("the notebooks have different numbers of cells")
    keys = [key for key in a[1] | b[1] if a[1].get(key) != b[1].get(key)]
    return words + [f"the record's {key} differs" for key in keys]
