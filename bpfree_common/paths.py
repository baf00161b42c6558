"""Where things are: the project, its notebooks, its reports, the user's cache."""

import os
from pathlib import Path

import platformdirs

from bpfree_common.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = Path(os.environ.get("BPFREE_NOTEBOOKS") or PROJECT / "notebooks").resolve()
CATALOGUE = NOTEBOOKS / "papers.yaml"
LOCK = PROJECT / "requirements.lock"
LABORATORY = Path(__file__).resolve().parent


def reports() -> Path:
    """The folder of reports; `BPFREE_REPORTS` moves it."""
    return _named("BPFREE_REPORTS") or (PROJECT / "reports").resolve()


def cache() -> Path:
    """The user's cache for downloads and checkpoints; `BPFREE_CACHE` moves it."""
    return _named("BPFREE_CACHE") or platformdirs.user_cache_path("bpfree")


def data_dir() -> Path | None:
    """The user's folder of data sets, `BPFREE_DATA`, or None."""
    return _named("BPFREE_DATA")


def _named(variable: str) -> Path | None:
    """The folder that an environment variable names; None when it is empty or unset."""
    folder = os.environ.get(variable, "").strip()
    try:
        return Path(folder).expanduser().resolve() if folder else None
    except (RuntimeError, OSError):  # ~somebody who is no user here, a loop of links
        raise UserError(f"{variable}={folder!r} is no folder that can exist") from None
