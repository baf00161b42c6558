"""An executed notebook as a page of the site: links, pictures, folding and anchors.

Markdown that a cell shows becomes a Markdown cell, so that Sphinx reads it as it reads
the rest of the page: tables, formulae and links work, and the search finds it.
"""

import base64
import json
import re
from collections.abc import Container
from pathlib import Path

from bpfree_common.papers import catalogue, notebook
from bpfree_common.publishing import atlas
from bpfree_common.studies import images

#: The folder of the pages, and from there that of their pictures.
FOLDER, FIGURES = "papers", "figures"

_OPEN = {"rule", "fast", "parameters", "injected-parameters"}
_SHORT = 3  #: lines of a call that stays open
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)\s]*?([\w-]+)\.ipynb\)")
_NAME = re.compile(r"`(\w+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_DATA = re.compile(r"\(data:image/png;base64,([A-Za-z0-9+/=]+)\)")


class Page:
    """One executed notebook on its way to the site.

    slug: the notebook's. known: the slugs that have pages; links to others become plain
    words. Pictures are written below `root`, the folder of Sphinx's sources.
    """

    def __init__(self, slug: str, report: Path, root: Path, known: Container[str]):
        self.slug, self.root, self.known = slug, root, known
        self.content = notebook.read(report)
        self.folded = any("hide-input" in notebook.tags(c) for c in self.content["cells"])
        self.heading, self.pictures = slug, 0

    def write(self, about: str, claims: list[str]) -> Path:
        """Write the page's source: `about` stands below the title, claims get anchors."""
        old = self.content["cells"]
        places = atlas.claim_cells(old, claims)
        cells = []
        for index, cell in enumerate(old):
            here = [name for name, place in places.items() if place == index]
            cells += [_anchors(here)] if here else []
            cells += self._cell(cell)
            cells += [_markdown(about)] if index == 0 and about else []
        content = {"cells": cells, "metadata": self.content["metadata"]}
        content |= {"nbformat": 4, "nbformat_minor": 4}
        path = self.root / FOLDER / f"{self.slug}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return path

    def text(self, markdown: str) -> str:
        """Markdown with links to pages and with its pictures in files."""
        text = notebook.LEADS.sub(self._lead, _LINK.sub(self._link, markdown))
        return _DATA.sub(self._picture, text)

    def _cell(self, cell: dict) -> list[dict]:
        """The cell, and after it what it shows as Markdown."""
        if cell["cell_type"] != "code":
            if heads := _HEADING.findall(notebook.source(cell)):
                self.heading = heads[-1]
            return [_markdown(self.text(notebook.source(cell)))]
        tags = ["hide-input"] if self._folds(cell) else []
        parts = [_code(notebook.source(cell), tags)]
        for output in notebook.joined(cell.get("outputs", [])):
            if output.get("name") == "stderr":
                continue
            shown = self._shown(output)
            if shown is not None:
                parts.append(_markdown(self.text(shown)))
                continue
            if parts[-1]["cell_type"] == "markdown":
                parts.append(_code("", ["remove-input"]))
            parts[-1]["outputs"].append(self._linked(output))
        return parts

    def _folds(self, cell: dict) -> bool:
        """Whether the cell's input is folded: as it says, or, of old, by what it is."""
        if self.folded:
            return "hide-input" in notebook.tags(cell)
        lines = notebook.source(cell).count("\n") + 1
        return lines > _SHORT and _OPEN.isdisjoint(notebook.tags(cell))

    def _shown(self, output: dict) -> str | None:
        """The output as Markdown, if it is that or a picture.

        A picture that came without words is said to be one, and where it stands.
        """
        data = output.get("data", {})
        if "text/markdown" in data:
            return "".join(data["text/markdown"])
        if "image/png" not in data:
            return None
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        alt = alt or f"A picture without a description, under the heading {self.heading}"
        return images.picture(base64.b64decode("".join(data["image/png"])), alt).data

    def _linked(self, output: dict) -> dict:
        """An output of another kind; hidden facts of the kernel are left out."""
        return {**output, "metadata": {}} if "data" in output else output

    def _link(self, match: re.Match) -> str:
        words, slug = match.groups()
        return f"[{words}]({slug}.ipynb)" if slug in self.known else words

    def _lead(self, match: re.Match) -> str:
        """Where a card leads: what came later than the report is a bare name there."""
        return _NAME.sub(self._name, match[0])

    def _name(self, match: re.Match) -> str:
        slug = match[1]
        if slug not in self.known:
            return match[0]
        return f"[{catalogue.get(slug).short}]({slug}.ipynb)"

    def _picture(self, match: re.Match) -> str:
        self.pictures += 1
        name = f"{self.slug}-{self.pictures}.png"
        folder = self.root / FIGURES
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(base64.b64decode(match[1]))
        return f"(../{FIGURES}/{name})"


def _anchors(names: list[str]) -> dict:
    spans = (f'<span class="claim-anchor" id="{atlas.anchor(n)}"></span>' for n in names)
    return _markdown("".join(spans))


def _markdown(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str, tags: list[str]) -> dict:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": tags},
        "outputs": [],
        "source": source,
    }
