"""A notebook, its catalogue entry and its test for a new rule, made of the template.

What is written runs as it stands: the template's example rule under the new name, to be
replaced part by part.
"""

import contextlib
import copy
import json
import os
import re
import textwrap
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path

import yaml

from bpfree_common import paths
from bpfree_common.errors import CatalogueError, choices, short
from bpfree_common.papers import catalogue, notebook

TEMPLATE = "template"
LONGEST = 14  #: characters of a short name, as axes and tables can show it
ARMS = ("backprop", "textbook", "frozen")  #: what every rule is compared with

ENTRY = """
{slug}:
  title: {title}
  short: {short}
  family: {family}
  # authors: [First Author, Second Author]
  # year: 2026
  # venue: arXiv
  # arxiv: "2601.00001"
  # code: https://...
  idea: {idea}
  # headline:  # the paper's own numbers, a row each, with the place where they were read
  #   - dataset: MNIST
  #     network: 784-800-10
  #     metric: "test error, %"
  #     method: 1.4
  #     backprop: 1.3
  #     source: table 1
{claims}
  # builds_on: [another_notebook]
  # compare_with: [another_notebook]
  profiles:
    standard: {{dataset: mnist, seeds: 5, epochs: 10, width: 128}}
"""
IDEA = (
    "every hidden unit minimises the cross-entropy of a fixed random read-out of its own"
)

OPENING = (
    "# {title}\n\n"
    "Say in a sentence or two what the rule does and why it might work. *(yours)*\n\n"
    "What is marked *yours* still holds the template's example: every hidden unit is "
    "trained by a *fixed random read-out* of its own, and nothing flows backward between "
    "units. Replace it part by part; the notebook runs at every stage."
)


@dataclass(frozen=True)
class Scaffold:
    """Where the three files of a new rule are; the catalogue gained an entry."""

    notebook: Path
    test: Path
    catalogue: Path


def new(
    slug: str, title: str, family: str, name: str = "", own: bool = False
) -> Scaffold:
    """Write the notebook, the test and the entry of a new rule; returns where they are.

    name: how figures call it, at most `LONGEST` characters; from the slug if empty.
    own: a user's own rule, in the folder that git ignores. The entry is written last.
    Raises CatalogueError, and writes nothing, for a name that cannot be or is taken, and
    for an unknown family.
    """
    name = name or shortened(slug)
    _check_slug(slug)
    _check_words(slug, title, family, name)
    made = _places(slug, family, own)
    for path in (made.notebook, made.test):
        if path.exists():
            raise CatalogueError(f"{path} is there already: choose another name")
    _write(
        {
            made.notebook: _notebook(slug, title),
            made.test: _test(slug),
            made.catalogue: _with_entry(made.catalogue, slug, title, family, name),
        }
    )
    return made


def shortened(slug: str) -> str:
    """A short name from the words of a slug: all of them, or their first letters."""
    words = slug.replace("_", " ").strip().capitalize()
    letters = "".join(word[0] for word in slug.split("_") if word).upper()
    return words if len(words) <= LONGEST else letters[:LONGEST]


def _check_slug(slug: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,59}", slug) or iskeyword(slug):
        raise CatalogueError(
            f"{short(slug)} cannot name a notebook: write small letters, digits and _, "
            "as in sign_readout"
        )
    if slug in ARMS:
        raise CatalogueError(
            f"{slug!r} is an arm of every comparison: choose another name"
        )
    for known, entry in catalogue.load().items():
        if known == slug:
            raise CatalogueError(f"{slug} is {entry.path} already: choose another name")
    for path in paths.NOTEBOOKS.rglob(f"{slug}.ipynb"):
        raise CatalogueError(f"{path} is there already: choose another name")


def _check_words(slug: str, title: str, family: str, name: str) -> None:
    if family not in catalogue.FAMILIES:
        raise CatalogueError(
            f"unknown family {short(family)}: {choices(family, catalogue.FAMILIES)}"
        )
    for what, text in (("title", title), ("short name", name)):
        if not (text.strip() and text.isprintable()):
            raise CatalogueError(
                f"the {what} {short(text)} of {slug} is not a line of text"
            )
    if len(name) > LONGEST:
        raise CatalogueError(
            f"the short name {short(name)} has more than {LONGEST} characters"
        )


def _places(slug: str, family: str, own: bool) -> Scaffold:
    """A user's own files lie together; those of a paper where the collection has them."""
    folder = paths.NOTEBOOKS / (catalogue.OWN if own else family)
    tests = folder if own else paths.NOTEBOOKS.parent / "tests"
    entries = (folder if own else paths.NOTEBOOKS) / paths.CATALOGUE.name
    return Scaffold(folder / f"{slug}.ipynb", tests / f"test_{slug}.py", entries)


def _notebook(slug: str, title: str) -> str:
    """The template under another name, with a card of the paper."""
    content = copy.deepcopy(notebook.read(catalogue.get(TEMPLATE).path))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            text = re.sub(rf"(['\"]){TEMPLATE}\1", rf"\1{slug}\1", notebook.source(cell))
            cell["source"] = text.splitlines(keepends=True)
    content["cells"][0]["source"] = OPENING.format(title=title).splitlines(keepends=True)
    place = next(
        index
        for index, cell in enumerate(content["cells"])
        if "setup" in notebook.tags(cell)
    )
    setup = content["cells"][place]
    lines = notebook.source(setup).replace("study.found()", "").rstrip()
    setup["source"] = lines.splitlines(keepends=True)
    content["cells"][place + 1 : place + 1] = [
        _cell("card", "study.card()"),
        _cell("found", "study.found()"),
    ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(name: str, text: str) -> dict:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {},
        "outputs": [],
        "source": [text],
    }


def _test(slug: str) -> str:
    """The template's test under another name."""
    path = paths.PROJECT / "tests" / f"test_{TEMPLATE}.py"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}") from None
    text = text.replace("The template's example rule", f"The rule of {slug}")
    return text.replace("the_template", slug).replace(f'"{TEMPLATE}"', f'"{slug}"')


def _with_entry(path: Path, slug: str, title: str, family: str, name: str) -> str:
    """The text of the catalogue at `path`, which need not exist, with one more entry."""
    kept = path.read_text(encoding="utf-8").rstrip("\n") + "\n" if path.exists() else ""
    claims = yaml.safe_dump(
        {"claims": catalogue.get(TEMPLATE).written_claims},
        default_flow_style=None,
        sort_keys=False,
        allow_unicode=True,
        width=1_000,
    )
    return kept + ENTRY.format(
        slug=slug,
        title=json.dumps(title, ensure_ascii=False),  # which YAML reads as it is
        short=json.dumps(name, ensure_ascii=False),
        family=family,
        idea=IDEA,
        claims=textwrap.indent(claims.rstrip(), "  "),
    )


def _write(contents: dict[Path, str]) -> None:
    """Write files so that nobody reads half of one; nothing is left if it goes wrong."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    try:
        for path, part in parts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(contents[path], encoding="utf-8")
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        raise CatalogueError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):  # it was moved, or never made
                part.unlink()
