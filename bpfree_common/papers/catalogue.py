"""The catalogue of papers, `notebooks/papers.yaml`: one entry per notebook.

An entry's key is the notebook's file name. `family` is its folder; pages of the
collection itself (overview, template) have no family and stand beside the catalogue.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from bpfree_common import paths
from bpfree_common.errors import CatalogueError
from bpfree_common.papers import notebook, parameters

PROFILES = ("quick", "standard", "paper")

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

    control: the arm that says what is reached without the rule's learning.
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
    reads_records: bool = False

    @property
    def path(self) -> Path:
        """The notebook's file."""
        return paths.NOTEBOOKS / (self.family or "") / f"{self.slug}.ipynb"

    @property
    def is_paper(self) -> bool:
        """Whether this is a paper's notebook, not a page of the collection."""
        return self.family is not None

    def has(self, profile: str) -> bool:
        """Whether a report at `profile` is expected of this notebook."""
        return profile == "quick" or self.reads_records or profile in self.profiles

    def declared(self) -> dict[str, parameters.Parameter]:
        """The parameters that the notebook declares."""
        text = notebook.parameters_source(self.path)
        return parameters.parse(text, f"{self.path.name}, parameters cell")

    def resolve(self, profile: str, overrides: dict | None = None) -> dict:
        """Parameter values of a profile: defaults, then profile, then `overrides`."""
        changed = self.changes(profile) | (overrides or {})
        return parameters.resolve(self.declared(), changed)

    def changes(self, profile: str) -> dict:
        """What `profile` changes; quick changes nothing, by definition.

        A page that shows records gets the profile itself; other pages without an entry
        for the profile change nothing.
        """
        if profile not in PROFILES:
            raise CatalogueError(
                f"there is no profile {profile!r}: choose one of {', '.join(PROFILES)}"
            )
        if self.reads_records:
            return {"profile": profile}
        if profile == "quick" or not (self.is_paper or profile in self.profiles):
            return {}
        if profile not in self.profiles:
            raise CatalogueError(f"{self.slug} has no {profile!r} profile in papers.yaml")
        return self.profiles[profile]


@cache
def load(path: Path | None = None) -> dict[str, Entry]:
    """All entries by slug, in the order of the file. Raises CatalogueError."""
    path = path or paths.CATALOGUE
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise CatalogueError(
            f"there is no catalogue at {path}: run inside a checkout of the project"
        ) from None
    except yaml.YAMLError as error:
        raise CatalogueError(f"{path.name} is not valid YAML: {error}") from None
    return {slug: _entry(slug, fields) for slug, fields in raw.items()}


def get(slug: str) -> Entry:
    """The entry of `slug`. Raises CatalogueError naming the nearest slugs."""
    entries = load()
    if slug not in entries:
        raise CatalogueError(
            f"there is no notebook {slug!r}: choose one of {', '.join(entries)}"
        )
    return entries[slug]


def _entry(slug: str, fields: dict) -> Entry:
    try:
        entry = Entry(slug=slug, **fields)
    except TypeError as error:
        raise CatalogueError(f"papers.yaml, {slug}: {error}") from None
    if entry.family is not None and entry.family not in FAMILIES:
        raise CatalogueError(f"papers.yaml, {slug}: unknown family {entry.family!r}")
    return entry
