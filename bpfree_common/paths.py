"""Where things are: the project, its notebooks, its reports, the user's cache."""

import os
from pathlib import Path

import platformdirs

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = Path(os.environ.get("BPFREE_NOTEBOOKS") or PROJECT / "notebooks").resolve()
CATALOGUE = NOTEBOOKS / "papers.yaml"
LOCK = PROJECT / "requirements.lock"
LABORATORY = Path(__file__).resolve().parent


def reports() -> Path:
    """The folder of reports; `BPFREE_REPORTS` moves it."""
    return Path(os.environ.get("BPFREE_REPORTS") or PROJECT / "reports").resolve()


def cache() -> Path:
    """The user's cache for downloads and checkpoints; `BPFREE_CACHE` moves it."""
    if folder := os.environ.get("BPFREE_CACHE"):
        return Path(folder).expanduser().resolve()
    return platformdirs.user_cache_path("bpfree")


def data_dir() -> Path | None:
    """The user's folder of data sets, `BPFREE_DATA`, or None."""
    folder = os.environ.get("BPFREE_DATA")
    return Path(folder).expanduser().resolve() if folder else None
