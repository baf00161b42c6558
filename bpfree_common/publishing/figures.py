"""The figures of committed reports as files, out of the notebooks that show them."""

import shutil
from pathlib import Path

from bpfree_common import records
from bpfree_common.studies import overview


def collect(slugs: list[str], profile: str, reports: Path) -> int:
    """Write each report's figures to `figures/<profile>/<notebook>/`; their number.

    Nothing is run: a report that is stale gives the figures that it has. Raises
    ReportError when a report lacks a figure of its record.
    """
    count = 0
    for slug in slugs:
        target = reports / "figures" / profile / slug
        shutil.rmtree(target, ignore_errors=True)
        record = records.load(slug, profile, reports) or {"figures": []}
        pictures = overview.figure_pngs(slug, profile, record["figures"], reports)
        for name, png in pictures.items():
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{name}.png").write_bytes(png)
        count += len(pictures)
    return count
