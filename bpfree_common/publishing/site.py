"""The website: pages made from records and executed notebooks, built by Sphinx.

Nothing is executed and nothing fetched. The sources are written to a temporary folder,
built, and the result takes the former site's place in one move.
"""

import json
import os
import re
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from bpfree_common import paths
from bpfree_common.errors import ParameterError, ReportError, short
from bpfree_common.papers import catalogue, notebook
from bpfree_common.publishing import api, atlas, tables
from bpfree_common.publishing.pages import FOLDER, Page
from bpfree_common.studies import cards, front, images, overview
from bpfree_common.studies.palette import use_style

DOCS = paths.PROJECT / "docs"
CHAMPIONSHIP = "championship"
SCHEMATIC = "schematic"  #: the name of the figure that draws where credit goes
PAGES = (CHAMPIONSHIP, "overview")  #: of the collection, beside those of papers
_NEEDED = ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx-mathjax-offline")

_STATES = {
    "current": "Nothing that can change it has changed since.",
    "confirmed": "The laboratory has changed since; runs on the old and the new one are "
    "equal bit for bit.",
    "stale": "Something has changed since that can change it: it waits to be made again.",
}

_INSTALL = """\
# The laboratory and this notebook's paper, into this machine: about a minute
!git clone --quiet --depth 1 https://github.com/{repository} bpfree
%pip install --quiet --editable bpfree
import sys
sys.path.insert(0, "bpfree")"""


def build(output: Path, profile: str = "standard", repository: str = "") -> Path:
    """Build the site into `output`, in place of what was there; returns its first page.

    repository: OWNER/NAME on GitHub, where the site lies on the branch gh-pages; with it
    every paper gets a badge that opens it in Colab. Raises ParameterError if it is no
    such name, and ReportError if a package is missing, a report cannot be read, Sphinx
    warns of anything, or `output` holds what is no site.
    """
    if repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ParameterError(f"repository={short(repository)} is not OWNER/NAME")
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ReportError(f"the site needs {missing[0]}: `make env` installs it")
    if output.exists() and not (output / "objects.inv").is_file():
        raise ReportError(f"{output} is there and holds no site: choose another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=output.parent) as folder:
        source, made = Path(folder, "source"), Path(folder, "html")
        write(source, profile, repository)
        _sphinx(source, made, Path(folder, "doctrees"))
        if output.exists():
            output.rename(Path(folder, "former"))
        made.rename(output)
    return output / "index.html"


def write(source: Path, profile: str, repository: str = "") -> None:
    """Write the sources of the site: what Sphinx reads."""
    found = overview.rows(profile)
    made = atlas.of(found, profile)
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("__pycache__"))
    _write_papers(source, found, made, repository)
    _write_tables(source, found, made)
    there = (source / FOLDER / f"{CHAMPIONSHIP}.ipynb").is_file()
    line = f"Championship <{FOLDER}/{CHAMPIONSHIP}>" if there else ""
    _fill(source / "index.md", championship=line)
    for room in api.ROOMS:
        (source / "api" / f"{room}.md").write_text(api.page(room), encoding="utf-8")


def _write_papers(source: Path, found, made: dict, repository: str) -> None:
    pages = [s for s in PAGES if _report(s, made["profile"]).is_file()]
    known = {row.slug for row in found} | set(pages)
    for row in found:
        names = [c["name"] for c in made["claims"] if c["paper"] == row.slug]
        page = Page(row.slug, paths.reports() / atlas.report(row), source, known)
        page.write(about(row, page, repository), names)
        if repository:
            _write_for_colab(source, row.entry, repository)
    for slug in pages:
        Page(slug, _report(slug, made["profile"]), source, known).write("", [])
    families: dict[str, list[str]] = {}
    for row in overview.by_family(found):
        family = catalogue.FAMILIES[row.entry.family]
        families.setdefault(family, []).append(f"{row.entry.short} <{row.slug}>")
    trees = [_toctree(lines, caption) for caption, lines in families.items()]
    if others := [slug for slug in pages if slug != CHAMPIONSHIP]:
        trees.append(_toctree(others, "All together"))
    text = "# Papers\n\n" + "\n\n".join(trees) + "\n"
    (source / FOLDER / "index.md").write_text(text, encoding="utf-8")


def _report(slug: str, profile: str) -> Path:
    return paths.reports() / profile / slug / f"{slug}.ipynb"


def about(row: overview.Row, page: Page, repository: str = "") -> str:
    """What stands below a paper's title: its state, how to run it, how to cite it."""
    seeds, profile = len(row.record["seeds"]), row.record["profile"]
    lines = [
        ":::{admonition} Run it",
        ":class: tip",
        *([_badge(row.slug, repository), ""] if repository else []),
        "```sh",
        f"make reports M={row.slug}  # offline, in seconds",
        f"make reports PROFILE={profile} M={row.slug}  # what is shown here",
        "```",
        f"This page shows the {profile} profile, {seeds} seeds, as it was "
        f"recorded. The record is **{row.state}**. {_STATES[row.state]}",
        f'<a href="../atlas.html?paper={row.slug}">All its claims</a>, with verdicts.',
        ":::",
    ]
    text = "\n".join(lines)
    if "```bibtex" not in json.dumps(page.content):
        head, tail = "<details><summary>BibTeX</summary>", "</details>"
        text += f"\n\n{head}\n\n```bibtex\n{cards.bibtex(row.entry)}\n```\n\n{tail}"
    return text


def _badge(slug: str, repository: str) -> str:
    address = f"https://colab.research.google.com/github/{repository}/blob/gh-pages"
    return f"[Open in Colab]({address}/colab/{slug}.ipynb)"


def _write_for_colab(source: Path, entry: catalogue.Entry, repository: str) -> None:
    """The paper's notebook, with a first cell that installs what it needs."""
    content = notebook.read(entry.path)
    first = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    first["source"] = _INSTALL.format(repository=repository)
    content["cells"].insert(0, first | {"id": "install"})
    folder = source / "extra" / "colab"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / entry.path.name).write_text(text, encoding="utf-8")


def _write_tables(source: Path, found: list[overview.Row], made: dict) -> None:
    """The pages whose texts stand in docs/: the first, schematics, overview, atlas."""
    heroes = _pictures(source, "gallery", found, overview.hero)
    drawn = [row for row in found if _schematic(row)]
    drawn = _pictures(
        source, "schematics", drawn, lambda r: overview.picture(r, SCHEMATIC)
    )
    use_style()
    gaps = images.render(overview.gap_figure(found))
    (source / "static" / "gallery" / "gaps.png").write_bytes(gaps)
    words = "\n".join(
        f"- {sentence}" for sentence in front.sentences(found, made["profile"])
    )
    _fill(source / "index.md", findings=words, gallery=_raw(tables.gallery(heroes)))
    _fill(source / "schematics.md", schematics=_raw(tables.schematics(drawn)))
    _fill(source / "overview.md", methods=_raw(tables.methods(found)))
    _fill(source / "atlas.md", claims=_raw(tables.claims(made)))
    extra = source / "extra"
    extra.mkdir(exist_ok=True)
    atlas.write(made, extra / "atlas.json")
    shutil.copy(atlas.SCHEMA, extra)


def _schematic(row: overview.Row) -> bool:
    return any(figure["name"] == SCHEMATIC for figure in row.record["figures"])


def _pictures(source: Path, folder: str, found, of) -> tables.Pictures:
    """Write a picture of every paper into a static folder; rows by family, with words.

    of: gives PNG, caption and words of a row's picture.
    """
    shown = source / "static" / folder
    shown.mkdir(parents=True)
    pictures = []
    for row in overview.by_family(found):
        png, _, alt = of(row)
        (shown / f"{row.slug}.png").write_bytes(png)
        pictures.append((row, alt))
    return pictures


def _fill(path: Path, **parts: str) -> None:
    """Replace `%name%` in a page by its part."""
    text = path.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"%{name}%", part)
    path.write_text(text, encoding="utf-8")


def _raw(text: str) -> str:
    return f"```{{raw}} html\n{text}\n```"


def _toctree(lines: list[str], caption: str) -> str:
    body = "\n".join(lines)
    return f"```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n\n{body}\n```"


def _sphinx(source: Path, made: Path, doctrees: Path) -> None:
    """Run Sphinx. Raises ReportError with what it warned of, the first lines of it."""
    from sphinx.cmd.build import build_main

    log = doctrees.with_name("warnings.txt")
    told = ["-q", "--keep-going", "-W", "-w", str(log), "-d", str(doctrees)]
    before = os.environ.get("DOCUTILSCONFIG")
    os.environ["DOCUTILSCONFIG"] = ""  # a user's own settings change no page
    try:
        code = build_main([*told, "-b", "html", str(source), str(made)])
    finally:
        os.environ.pop("DOCUTILSCONFIG")
        if before is not None:
            os.environ["DOCUTILSCONFIG"] = before
    if code:
        lines = log.read_text(encoding="utf-8").replace(f"{source}{os.sep}", "")
        first = "; ".join(lines.splitlines()[:5])
        raise ReportError(f"the site cannot be built: {first or 'see above'}")
