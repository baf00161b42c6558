"""Is a report what its run left behind? Record and executed notebook against each other.

`seal` ties the two together when a run has ended; `problems` tells, in sentences, what
was changed since, and what a record says that does not follow from its own numbers.
"""

import math
import statistics
from pathlib import Path

from bpfree_common.errors import UserError
from bpfree_common.papers import notebook
from bpfree_common.records import record

INJECTED = "injected-parameters"

#: By how much of its size a number may miss its band and still count as inside: rounding.
TOLERANCE = 1e-9

NOT_ATTEMPTED = "not attempted at this scale"


def seal(record_path: Path, notebook_path: Path) -> None:
    """Put digests of the executed notebook and of the record itself into the record.

    The notebook's hash becomes that of the cells that were executed, whatever happened
    to the file on disk meanwhile. Raises ReportError if the record is not valid,
    CatalogueError if the notebook cannot be read.
    """
    found, executed = record.read(record_path), notebook.read(notebook_path)
    found["hashes"]["notebook"] = executed_source(executed)
    found["hashes"]["seal"] = digests(found, executed)
    record.write(found, record_path)


def digests(found: dict, executed: dict) -> dict[str, str]:
    """Digests of the canonical notebook, of the record, and of everything timed."""
    plain = {k: v for k, v in found.items() if k not in ("hashes", "timing")}
    inputs = {k: v for k, v in found["hashes"].items() if k != "seal"}
    return {
        "report": notebook.digest(notebook.canonical(executed)),
        "record": notebook.digest([plain, inputs]),
        "timing": notebook.digest([found["timing"], notebook.uncompared(executed)]),
    }


def executed_source(executed: dict) -> str:
    """`notebook.content_hash` of the notebook that an executed one was made from."""
    cells = [c for c in executed["cells"] if INJECTED not in notebook.tags(c)]
    return notebook.cells_hash(cells)


def problems(slug: str, profile: str, reports: Path | None = None) -> list[str]:
    """What is wrong with a report, one sentence each; none if it is what it was.

    Nothing is said of a report that is not there. Reads record and notebook only: what
    changed around them is asked by `staleness`.
    """
    folder = record.folder(slug, profile, reports)
    try:
        found = record.load(slug, profile, reports)
    except UserError as error:
        return [str(error)]
    path = folder / f"{slug}.ipynb"
    if found is None:
        return [f"there is no record beside {path.name}"] if path.exists() else []
    try:
        executed = notebook.read(path)
        return [
            *_identity(found, slug, profile),
            *_numbers(found),
            *_notebook(found, executed),
            *_sealed(found, executed),
        ]
    except UserError as error:
        return [str(error)]


def _identity(found: dict, slug: str, profile: str) -> list[str]:
    """Is it the record of this notebook at this profile, with its own parameters?"""
    words = []
    if found["method"] != slug:
        words.append(f"the record is of {found['method']!r}")
    if found["profile"] != profile:
        words.append(f"the record is of the profile {found['profile']!r}")
    if notebook.digest(found["parameters"]) != found["hashes"]["parameters"]:
        words.append("the record's parameters are not those it was made with")
    return words


def _sealed(found: dict, executed: dict) -> list[str]:
    """What differs from the digests taken when the run ended."""
    seal = found["hashes"].get("seal")
    if seal is None:
        return ["the record is not sealed: its run did not end"]
    said = {
        "report": "the executed notebook was changed after its run",
        "record": "the record was changed after its run",
        "timing": "times in the record or the notebook were changed after the run",
    }
    now = digests(found, executed)
    return [said[name] for name, digest in seal.items() if digest != now[name]]


# --- executed notebook ------------------------------------------------------------------


def _notebook(found: dict, executed: dict) -> list[str]:
    """Did the notebook run to its end, and is it the one that the record names?"""
    words = []
    if executed_source(executed) != found["hashes"]["notebook"]:
        words.append("the executed notebook is not the one that made the record")
    code = [c for c in executed["cells"] if c["cell_type"] == "code"]
    if any(c.get("execution_count") is None and notebook.source(c).strip() for c in code):
        words.append("a cell of the executed notebook was not run")
    kinds = [output["output_type"] for c in code for output in c.get("outputs", [])]
    if "error" in kinds:
        words.append("the executed notebook holds an error")
    return words


# --- numbers ----------------------------------------------------------------------------


def _numbers(found: dict) -> list[str]:
    words = [w for metric in found["metrics"] for w in _metric(metric)]
    return words + [word for claim in found["claims"] for word in _claim(claim)]


def _metric(metric: dict) -> list[str]:
    values = metric["values"]
    std = statistics.stdev(values) if len(values) > 1 else None
    where, words = f"{metric['arm']}, {metric['name']}", []
    if not _close(metric["mean"], statistics.fmean(values)):
        words.append(f"{where}: the mean is not that of its values")
    if (std is None) != (metric["std"] is None) or (
        std is not None and not _close(metric["std"], std)
    ):
        words.append(f"{where}: the standard deviation is not that of its values")
    low, high = metric.get("interval") or (metric["mean"], metric["mean"])
    if not low - _slack(low) <= metric["mean"] <= high + _slack(high):
        words.append(f"{where}: the mean lies outside its interval")
    return words


def _claim(claim: dict) -> list[str]:
    """A setting's verdict follows from its interval, the whole from those."""
    words, verdicts = [], claim["verdicts"]
    for setting, (_, mean, _) in claim["intervals"].items():
        values = claim["measured"].get(setting)
        if not values or not _close(statistics.fmean(values), mean):
            named = f" {setting}:" if setting else ""
            words.append(f"claim {claim['name']}:{named} the mean is not of its values")
    follow = {
        setting: _verdict(interval, claim["band"], claim["null"])
        for setting, interval in claim["intervals"].items()
    }
    if verdicts != follow or claim["verdict"] not in _whole(claim):
        words.append(_does_not_follow(claim))
    return words


def _verdict(interval: list, band: list, null: float | None) -> str:
    """The verdict of one interval (low, mean, high; ends null for too few values).

    Derived here anew, not taken from where claims are judged: a check of one by the
    other would find nothing.
    """
    low, mean, high = interval
    near, far = _band(band)
    if low is None or (null is not None and near <= null <= far):
        return "undecided"
    if null > far if null is not None else near == -math.inf:  # turn the line around
        near, far, low, mean, high = -far, -near, -high, -mean, -low
    slack = TOLERANCE * max(1.0, abs(mean))
    if low < near - slack:
        return "not reproduced" if high < near - slack else "undecided"
    if high > far + slack:
        return "beyond" if low > far + slack else "undecided"
    return "reproduced"


def _whole(claim: dict) -> set[str]:
    """The verdicts that a claim may have, given those of its settings."""
    kinds = set(claim["verdicts"].values())
    if not kinds:
        return {NOT_ATTEMPTED}
    if kinds <= {"reproduced", "beyond"}:
        return kinds if len(kinds) == 1 else {"reproduced"}
    if kinds == {"not reproduced"}:  # at a small share of the updates it proves nothing
        small = claim["share"] is None or claim["share"] < 1  # unknown counts as small
        return kinds | {NOT_ATTEMPTED} if small else kinds
    return {"undecided"}


def _does_not_follow(claim: dict) -> str:
    return f"claim {claim['name']}: the verdict does not follow from number and band"


def _band(band: list) -> tuple[float, float]:
    low, high = band
    return -math.inf if low is None else low, math.inf if high is None else high


def _slack(number: float) -> float:
    return TOLERANCE * max(1.0, abs(number)) if math.isfinite(number) else 0.0


def _close(one: float, two: float, relative: float = 1e-9) -> bool:
    return math.isclose(one, two, rel_tol=relative, abs_tol=1e-12)
