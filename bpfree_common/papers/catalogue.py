"""The catalogue of papers, `notebooks/papers.yaml`: one entry per notebook.

An entry's key is the notebook's file name. `family` is its folder; pages of the
collection itself (overview, template) have no family and stand beside the catalogue.

A user's own notebooks lie in `notebooks/my/`, which git ignores, with a catalogue of
their own there. They run as papers do, and may build on papers, but are none.

An entry with `jobs` stands for several runs of one notebook, each with parameters of its
own: every job is an entry by itself, `entry-job`, with a report, a record and a state.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import yaml

from bpfree_common import paths
from bpfree_common.errors import CatalogueError, choices, short
from bpfree_common.papers import claims, notebook, parameters
from bpfree_common.papers.claims import ClaimEntry

PROFILES = ("quick", "standard", "paper")

OWN = "my"  #: the folder of a user's own notebooks, beside those of the families

FAMILIES = {
    "forward_only": "Forward-only learning",
    "feedback_alignment": "Feedback alignment",
    "local_loss": "Local losses",
    "energy_hebbian": "Energy-based and Hebbian learning",
    "forward_gradient": "Forward gradients",
    "zeroth_order": "Zeroth-order optimisation",
    "population": "Populations",
    "federated": "Federated learning",
    "closed_form_discrete": "Closed-form and discrete updates",
    "backprop_reengineered": "Backpropagation re-engineered",
}


@dataclass(frozen=True)
class Entry:
    """One notebook of the collection and what its paper says of itself.

    control: the arm that says what is reached without the rule's learning. claims: the
    text of each; `declared_claims` holds the rest. headline: the paper's own numbers, a
    row each; `unverified: true` marks one that nobody here could read at its source.
    own: it is a user's own notebook, in the folder `OWN`.

    notebook: the name of its file, if not the slug. reads_records: it is a page that
    shows records: those of all papers (true), or of the jobs of the entries named.
    job: what a job changes of the parameters, in every profile; of: the entry whose job
    it is; quick: whether a quick report is made of it unless it is asked for.
    """

    slug: str
    title: str
    short: str
    family: str | None = None
    authors: list[str] = field(default_factory=list)
    year: int | None = None
    venue: str = ""
    arxiv: str = ""
    code: str = ""
    idea: str = ""
    headline: list[dict] = field(default_factory=list)
    claims: dict[str, str] = field(default_factory=dict)
    builds_on: list[str] = field(default_factory=list)
    compare_with: list[str] = field(default_factory=list)
    profiles: dict[str, dict] = field(default_factory=dict)
    control: str = "frozen"
    reads_records: bool | list[str] = False
    notebook: str = ""
    job: dict = field(default_factory=dict, init=False)
    of: str = field(default="", init=False)
    quick: bool = field(default=True, init=False)
    own: bool = field(default=False, init=False)

    @property
    def path(self) -> Path:
        """The notebook's file."""
        folder = OWN if self.own else self.family or ""
        return paths.NOTEBOOKS / folder / f"{self.notebook or self.slug}.ipynb"

    @property
    def declared_claims(self) -> dict[str, ClaimEntry]:
        """The claims with all that is declared of them, in the order of the file.

        A claim that is declared by its text alone has no source and no band.
        """
        where = f"{_file(self.own)}, {self.slug}"
        return {
            name: claims.claim(where, name, raw)
            for name, raw in self.written_claims.items()
        }

    @property
    def written_claims(self) -> dict[str, str | dict]:
        """The claims as `papers.yaml` writes them: texts, or mappings."""
        return self.claims | vars(self).get("_declared", {})

    @property
    def is_paper(self) -> bool:
        """Whether this is a paper's notebook: no page or job, not a user's own."""
        return self.family is not None and not (self.own or self.of)

    def has(self, profile: str) -> bool:
        """Whether a report at `profile` is expected of this notebook."""
        if profile == "quick":
            return self.quick
        return bool(self.reads_records) or profile in self.profiles

    @property
    def runs_at(self) -> list[str]:
        """The profiles at which a report is expected of this notebook."""
        return [profile for profile in PROFILES if self.has(profile)]

    def declared(self) -> dict[str, parameters.Parameter]:
        """The parameters that the notebook declares.

        A word that a job sets is one of its choices, listed in the notebook or not: a
        further job leaves the notebook, and so the reports of all other jobs, alone.
        """
        text = notebook.parameters_source(self.path)
        found = parameters.parse(text, f"{self.path.name}, parameters cell")
        for name, value in self.job.items():
            known = found[name].choices if name in found else None
            if known is not None and isinstance(value, str) and value not in known:
                found[name] = replace(found[name], choices=(*known, value))
        return found

    def resolve(self, profile: str, overrides: dict | None = None) -> dict:
        """Parameter values of a profile: defaults, then profile, then `overrides`."""
        changed = self.changes(profile) | (overrides or {})
        return parameters.resolve(self.declared(), changed)

    def changes(self, profile: str) -> dict:
        """What `profile` changes; quick changes nothing but what makes a job this job.

        A page that shows records gets the profile itself; other pages without an entry
        for the profile change nothing.
        """
        if profile not in PROFILES:
            raise CatalogueError(
                f"there is no profile {short(profile)}: {choices(profile, PROFILES)}"
            )
        if self.reads_records:
            return {"profile": profile}
        if profile == "quick" or not (self.is_paper or profile in self.profiles):
            return dict(self.job)
        if profile not in self.profiles:
            file = _file(self.own)
            raise CatalogueError(f"{self.slug} has no {profile!r} profile in {file}")
        return self.profiles[profile] | self.job


def load(path: Path | None = None) -> dict[str, Entry]:
    """All entries by slug, in the order of the file. Raises CatalogueError.

    Read anew when the file has changed: a running kernel sees a new entry. Without a
    `path`: the collection's, and then the user's own, if there are any.
    """
    if path is not None:
        return _read(path)
    entries, own = _read(paths.CATALOGUE), paths.NOTEBOOKS / OWN / paths.CATALOGUE.name
    if not own.is_file():
        return entries
    mine = _read(own, own=True)
    if twice := [slug for slug in mine if slug in entries]:
        raise CatalogueError(
            f"{_file(own=True)}, {twice[0]}: the collection has a notebook of this name"
        )
    return entries | mine


def _file(own: bool) -> str:
    """How a sentence calls the catalogue, or that of the user's own notebooks."""
    return f"{OWN}/papers.yaml" if own else "papers.yaml"


def _read(path: Path, own: bool = False) -> dict[str, Entry]:
    try:
        found = path.stat()
        return _load(path, found.st_mtime_ns, found.st_size, own)
    except FileNotFoundError:
        raise CatalogueError(
            f"there is no catalogue at {path}: run inside a checkout of the project; "
            "rules alone can be imported from bpfree_common.rules"
        ) from None
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}") from None


@lru_cache(maxsize=8)
def _load(path: Path, mtime: int, size: int, own: bool) -> dict[str, Entry]:
    """The entries of the file as it was at `mtime`, when it had `size` bytes."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _OnceLoader) or {}  # noqa: S506
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = error.problem or error.context
        raise CatalogueError(f"{path.name}{line} is not valid YAML: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CatalogueError(f"{path.name} is not valid YAML: {reason}") from None
    if not isinstance(raw, dict):
        raise CatalogueError(
            f"{path.name} holds a {type(raw).__name__}, not one entry per notebook"
        )
    found = {}
    for slug, fields in raw.items():
        for entry in _entries(slug, fields, own):
            if entry.slug in found:
                raise CatalogueError(f"{_file(own)}: {entry.slug!r} stands here twice")
            found[entry.slug] = entry
    return found


class _OnceLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without code, and without a second entry that silently replaces the first.

    Read by libyaml where PyYAML has it: every command and every kernel reads the file.
    """

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands here twice", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def jobs(name: str) -> list[str]:
    """The slugs of all jobs of the entry `name`, in the order of the file."""
    return [entry.slug for entry in load().values() if entry.of == name]


def read_by(page: Entry) -> list[str]:
    """The slugs whose records a page shows: all papers, or the jobs of some entries."""
    if isinstance(page.reads_records, list):
        if lacking := [name for name in page.reads_records if not jobs(name)]:
            where = f"{_file(page.own)}, {page.slug}"
            raise CatalogueError(f"{where}: there are no jobs of {lacking[0]!r} to read")
        return [slug for name in page.reads_records for slug in jobs(name)]
    return [e.slug for e in load().values() if e.is_paper] if page.reads_records else []


def get(slug: str) -> Entry:
    """The entry of `slug`. Raises CatalogueError naming the nearest slugs."""
    entries = load()
    if slug in entries:
        return entries[slug]
    if found := jobs(slug):
        raise CatalogueError(f"{slug} stands for {len(found)} jobs: {', '.join(found)}")
    known = {entry.path for entry in entries.values()}
    for path in paths.NOTEBOOKS.rglob("*.ipynb"):
        if path.stem == slug and path not in known:
            own = path.parent.name == OWN
            family = "..." if own else path.parent.name
            raise CatalogueError(
                f"{path.name} has no entry in {_file(own)}: add "
                f"`{slug}: {{title: ..., short: ..., family: {family}}}` there"
            )
    raise CatalogueError(f"there is no notebook {short(slug)}: {choices(slug, entries)}")


def _entries(slug: str, fields: dict, own: bool) -> list[Entry]:
    """The entry of a notebook, or those of its jobs."""
    where = f"{_file(own)}, {slug}"
    if not isinstance(slug, str) or not isinstance(fields, dict):
        raise CatalogueError(f"{where}: write `name_of_the_notebook: {{title: ...}}`")
    _check_types(where, fields)
    fields = dict(fields)
    named, quick = fields.pop("jobs", None), fields.pop("quick_jobs", None)
    if named is None and quick is None:
        return [_entry(slug, fields, own)]
    found = []
    for job, changed in (named or {}).items():
        if not isinstance(job, str) or not isinstance(changed, dict):
            raise CatalogueError(
                f"{where}: write each job as `name: {{parameter: value}}`"
            )
        words = {w: f"{fields[w]}: {job}" for w in ("title", "short") if w in fields}
        words["notebook"] = fields.get("notebook", slug)
        entry = _entry(f"{slug}-{job}", fields | words, own)
        object.__setattr__(entry, "job", changed)
        object.__setattr__(entry, "of", slug)
        object.__setattr__(entry, "quick", quick is None or job in quick)
        found.append(entry)
    if unknown := sorted(set(quick or []) - set(named or {})):
        raise CatalogueError(f"{where}: quick_jobs names {unknown[0]!r}, which is no job")
    return found


def _entry(slug: str, fields: dict, own: bool) -> Entry:
    where = f"{_file(own)}, {slug}"
    given = {n: claims.plain(claim) for n, claim in fields.get("claims", {}).items()}
    texts = {name: claims.text(where, name, claim) for name, claim in given.items()}
    try:
        entry = Entry(slug=slug, **fields | ({"claims": texts} if given else {}))
    except TypeError as error:
        raise CatalogueError(f"{where}: {error}") from None
    if entry.family is not None and entry.family not in FAMILIES:
        raise CatalogueError(
            f"{where}: unknown family {entry.family!r}: {choices(entry.family, FAMILIES)}"
        )
    object.__setattr__(entry, "own", own)
    mappings = {name: claim for name, claim in given.items() if isinstance(claim, dict)}
    if mappings:  # beside the fields, which keep the texts
        object.__setattr__(entry, "_declared", mappings)
    entry.declared_claims  # noqa: B018 (a slip is told now, not when a study ends)
    return entry


def _check_types(where: str, fields: dict) -> None:
    """Refuse a field that holds another kind of thing than it should."""
    for name, value in fields.items():
        kinds = _KINDS.get(name)
        if kinds and not isinstance(value, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise CatalogueError(
                f"{where}: {name} is a {type(value).__name__}, not a {wanted}"
            )
    for row in fields.get("headline", []):
        if not isinstance(row, dict):
            raise CatalogueError(f"{where}: a row of headline is no mapping")
        if not isinstance(row.get("unverified", False), bool):
            raise CatalogueError(f"{where}: unverified is true or left out")


_NONE = type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("title", "short", "venue", "arxiv", "code", "idea"), (str,)),
    **dict.fromkeys(("authors", "headline", "builds_on", "compare_with"), (list,)),
    **dict.fromkeys(("claims", "profiles", "jobs"), (dict,)),
    **dict.fromkeys(("notebook",), (str,)),
    "quick_jobs": (list,),
    "family": (str, _NONE),
    "year": (int, _NONE),
    "control": (str,),
    "reads_records": (bool, list),
}
