"""Whether a report still holds: `current`, `confirmed` or `stale`, and why."""

from pathlib import Path

from bpfree_common.data import datasets
from bpfree_common.errors import UserError
from bpfree_common.papers import catalogue, notebook
from bpfree_common.records import integrity, provenance, record
from bpfree_common.records.moves import laboratory_changes, shortened

CURRENT, CONFIRMED, STALE = "current", "confirmed", "stale"

#: How many threads a report is made with; others change the last digits.
THREADS = 1

#: What a notebook shows of its entry; profiles count through the parameters.
SHOWN = (
    *("slug", "title", "short", "family", "authors", "year", "venue", "arxiv", "code"),
    *("idea", "headline", "claims", "builds_on", "compare_with", "control"),
    "reads_records",
)


def state(slug: str, profile: str, reports: Path | None = None) -> tuple[str, str | None]:
    """(word, reason) of a report: the word is `current`, `confirmed` or `stale`.

    The reason is None for a current report. A confirmed one was made by another state of
    the laboratory, which gave the same results as today's (see `confirmation`). A
    damaged record or notebook is no error here: it is stale, and the reason says so.
    """
    if not record.folder(slug, profile, reports).exists():
        return STALE, "there is no report"
    try:
        broken = integrity.problems(slug, profile, reports)
        if broken:
            return STALE, broken[0]
        return _judged(slug, profile, reports)
    except UserError as error:
        return STALE, str(error)


def stale(slug: str, profile: str, reports: Path | None = None) -> str | None:
    """Why the report of `slug` must be run again, or None if it holds."""
    word, reason = state(slug, profile, reports)
    return reason if word == STALE else None


def _judged(slug: str, profile: str, reports: Path | None) -> tuple[str, str | None]:
    from bpfree_common.records import confirmation  # which runs `state` itself

    found = record.load(slug, profile, reports)
    if found is None:
        return STALE, "its record is missing"
    threads = found["environment"].get("threads", THREADS)
    if threads != THREADS:
        return STALE, f"made with {threads} threads"
    changed = changes(found["hashes"], slug, profile, reports)
    if not changed:
        return CURRENT, None
    confirmed = confirmation.load(slug, profile, reports)
    if confirmed and confirmation.belongs(confirmed, slug, profile, reports):
        rest = {k: confirmed["hashes"].get(k, v) for k, v in found["hashes"].items()}
        rest |= {"scheme": 2, "names": confirmed["hashes"]["names"]}
        if not changes(rest, slug, profile, reports):
            return CONFIRMED, confirmation.sentence(confirmed)
    return STALE, f"changed: {', '.join(changed)}"


def changes(was: dict, slug: str, profile: str, reports: Path | None = None) -> list[str]:
    """What differs now from the hashes `was` of a run, in words."""
    entry = catalogue.get(slug)
    words = []
    if was["notebook"] != notebook.content_hash(entry.path):
        words.append("notebook")
    words += _rules(was["builds_on"], entry.builds_on)
    words += _laboratory(was)
    words += _data(was["data"])
    if was["parameters"] != notebook.digest(entry.resolve(profile)):
        words.append("parameters")
    if was.get("catalogue") != shown(entry):
        words.append("catalogue")
    words += _lock(was["lock"])
    if entry.reads_records and was.get("records") != pages(entry, profile, reports):
        words.append("records")
    return words


def shown(entry: catalogue.Entry) -> str:
    """Digest of what a notebook shows of its entry."""
    values = {name: getattr(entry, name) for name in SHOWN}
    return notebook.digest(values | {"claims": entry.written_claims})


def pages(
    page: catalogue.Entry, profile: str, reports: Path | None = None
) -> dict[str, list]:
    """What a page of records depends on: the records that it reads, whole, and states.

    The page of all committed records shows those at a paper's own scale too, if any.
    """
    found = {}
    for slug in catalogue.read_by(page):
        found[slug] = _read(slug, profile, reports)
        large = record.folder(slug, "paper", reports).exists()
        if large and page.reads_records is True and profile == "standard":
            found[f"{slug} at scale"] = _read(slug, "paper", reports)
    return found


def _read(slug: str, profile: str, reports: Path | None) -> list:
    """A record's content, and the state that a page says it is in."""
    return [_content(slug, profile, reports), *state(slug, profile, reports)]


def _content(slug: str, profile: str, reports: Path | None) -> str:
    try:
        return notebook.digest(record.load(slug, profile, reports))
    except UserError:
        return "damaged"


def _rules(was: dict[str, str], declared: list[str]) -> list[str]:
    missing = sorted(set(declared) - set(was))
    known = catalogue.load()
    gone = [slug for slug in was if slug not in known]
    changed = [s for s, d in was.items() if s in known and d != provenance.rule_hash(s)]
    return [f"rule of {slug}" for slug in [*missing, *gone, *changed]]


def _laboratory(was: dict) -> list[str]:
    found = laboratory_changes(was["laboratory"], was["names"])
    return [f"laboratory ({shortened(found)})"] if found else []


def _data(was: dict[str, str]) -> list[str]:
    known = datasets.catalogue()
    return [
        f"data ({name})"
        for name, digest in was.items()
        if name not in known or notebook.digest(known[name]["forms"]) != digest
    ]


def _lock(was: dict) -> list[str]:
    pins = provenance.locked()
    changed = [name for name, version in was.items() if pins.get(name) != version]
    return [f"lock ({shortened(changed)})"] if changed else []
