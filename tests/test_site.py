"""The website, built from the committed reports: links, words, the index, the tables."""

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from bpfree_common import paths
from bpfree_common.__main__ import main
from bpfree_common.errors import ParameterError, ReportError
from bpfree_common.papers import catalogue, notebook
from bpfree_common.publishing import api, atlas
from bpfree_common.publishing import site as website
from bpfree_common.publishing.pages import Page
from bpfree_common.studies import overview

LOADED = "script[src], img[src], link[rel=stylesheet], iframe[src]"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, BeautifulSoup]:
    found = [p for p in site.rglob("*.html") if "_static" not in p.parts]
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in found}


@pytest.fixture(scope="module")
def made(site) -> dict:
    return json.loads((site / "atlas.json").read_text())


@pytest.fixture(scope="module")
def papers() -> list[overview.Row]:
    return overview.rows("standard")


# --- the whole of it --------------------------------------------------------------------


def test_no_link_inside_the_site_is_dead(pages):
    ids = {p: {tag["id"] for tag in soup.select("[id]")} for p, soup in pages.items()}
    dead, seen = [], 0
    for path, soup in pages.items():
        for tag in soup.select("a[href], link[href], script[src], img[src]"):
            address = tag.get("href") or tag.get("src")
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            seen += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = not target.exists()
            if not lost and parts.fragment and target in ids:
                lost = unquote(parts.fragment) not in ids[target]
            dead += [f"{path.name}: {address}"] if lost else []
    assert dead == []
    assert seen > 1000


def test_every_picture_has_words_that_are_no_file_name(pages):
    images = [(p.name, i) for p, soup in pages.items() for i in soup.select("img")]
    mute = [(name, i["src"]) for name, i in images if len(i.get("alt", "").split()) < 3]
    assert mute == []
    assert len(images) > 100


def test_no_page_loads_anything_from_elsewhere(pages):
    for path, soup in pages.items():
        for tag in soup.select(LOADED):
            address = tag.get("src") or tag.get("href")
            assert not urlsplit(address).netloc, f"{path.name} loads {address}"


def test_every_page_has_a_title_of_its_own_and_one_first_heading(pages):
    titles = [soup.title.get_text() for soup in pages.values()]
    assert len(set(titles)) == len(titles)
    for path, soup in pages.items():
        assert len(soup.select("h1")) == 1, path.name


def test_every_paper_has_a_page_with_state_command_bibtex_and_the_search_knows_it(
    pages, papers, site
):
    index = (site / "searchindex.js").read_text()
    for row in papers:
        text = pages[site / "papers" / f"{row.slug}.html"].get_text()
        assert row.entry.title in " ".join(text.split())
        assert f"The record is {row.state}." in text
        assert f"make reports M={row.slug}" in text
        assert text.count(f"@misc{{{row.slug},") == 1
        assert f'"papers/{row.slug}"' in index


def test_folded_cells_stay_folded_and_the_rule_stays_open(pages, papers, site):
    for row in papers:
        soup = pages[site / "papers" / f"{row.slug}.html"]
        classes = [set(cell["class"]) for cell in soup.select("div.cell")]
        folded = [c for c in classes if "tag_hide-input" in c]
        assert 0 < len(folded) < len(classes), row.slug
        rule = notebook.tagged(notebook.read(row.entry.path), "rule")[0][1]
        first = next(line for line in rule.splitlines() if line.strip())
        shown = [c for c in soup.select("div.cell") if first in c.get_text()]
        assert shown, row.slug


def test_what_cells_show_as_markdown_is_markdown(pages):
    for path, soup in pages.items():
        text = soup.get_text()
        for mark in ("| :---", "](data:image"):
            assert mark not in text, f"{path.name} shows {mark!r}"


# --- its tables -------------------------------------------------------------------------


def test_the_atlas_shows_every_claim_and_leads_to_its_cell(pages, made, site):
    soup = pages[site / "atlas.html"]
    rows = soup.select("#claims tbody tr")
    assert [r.select("a")[1]["href"] for r in rows] == [c["page"] for c in made["claims"]]
    for row, claim in zip(rows, made["claims"], strict=True):
        assert row["data-verdict"] == claim["verdict"]
        assert row["data-source"] == claim["source"]
        assert row["data-family"] == made["papers"][claim["paper"]]["family"]
        assert claim["text"] in row.get_text()
    assert (site / "atlas.schema.json").read_text() == atlas.SCHEMA.read_text()
    atlas.validator()(made)


def test_the_overview_and_the_gallery_show_every_paper_with_its_numbers(
    pages, papers, site
):
    cards = pages[site / "index.html"].select(".cards > li")
    rows = pages[site / "overview.html"].select("#methods tbody tr")
    found = overview.by_family(papers)
    assert len(cards) == len(rows) == len(found)
    for row, card, line in zip(found, cards, rows, strict=True):
        accuracy = row.accuracy(row.slug)
        assert len(card.select("dd")) == 3
        assert len(card.select("img")) == 1
        for shown in (card, line):
            assert row.entry.title in shown.get_text()
            assert accuracy is None or accuracy.text() in shown.get_text()


def test_the_page_of_schematics_shows_every_paper_in_the_order_of_families(
    pages, papers, site
):
    cards = pages[site / "schematics.html"].select(".cards > li")
    found = overview.by_family(papers)
    assert [card.select_one("h3").get_text() for card in cards] == [
        row.entry.title for row in found
    ]
    for row, card in zip(found, cards, strict=True):
        figures = {each["name"]: each for each in row.record["figures"]}
        assert card.select_one("img")["alt"] == figures["schematic"]["alt"]


def test_every_public_function_of_a_room_is_on_its_page(pages, site):
    for room in api.ROOMS:
        shown = {t["id"] for t in pages[site / "api" / f"{room}.html"].select("dt[id]")}
        assert len(shown) > 3, room
    assert "bpfree_common.measuring.foreign.audit_step" in {
        t["id"] for t in pages[site / "api" / "measuring.html"].select("dt[id]")
    }


# --- a page of it -----------------------------------------------------------------------


def page_of(tmp_path, *cells: dict, known=("pepita",)) -> str:
    """What stands in the cells of a page that is made of some cells."""
    report = tmp_path / "some.ipynb"
    whole = [{"metadata": {}} | cell for cell in cells]
    report.write_text(json.dumps({"cells": whole, "metadata": {}}))
    path = Page("some", report, tmp_path, known).write("", [])
    return "\n".join(cell["source"] for cell in notebook.read(path)["cells"])


@pytest.mark.parametrize(
    ("address", "becomes"),
    [
        ("../forward_only/pepita.ipynb", "[it](pepita.ipynb)"),
        ("../pepita/pepita.ipynb", "[it](pepita.ipynb)"),
        ("../../../notebooks/template.ipynb", "it"),
        ("../group-pepita/group-pepita.ipynb", "it"),
        ("https://example.org/pepita.ipynb", "[it](https://example.org/pepita.ipynb)"),
    ],
)
def test_a_link_to_a_notebook_leads_to_its_page_if_it_has_one(tmp_path, address, becomes):
    text = {"cell_type": "markdown", "source": f"See [it]({address})."}
    assert page_of(tmp_path, text) == f"See {becomes}."


def test_a_card_leads_to_a_notebook_that_came_after_its_report(tmp_path):
    card = {"text/markdown": "*Compare with*: `pepita`, `nobody`.\n\nNot `pepita` here."}
    shown = {"output_type": "display_data", "data": card, "metadata": {}}
    text = page_of(tmp_path, {"cell_type": "code", "source": "", "outputs": [shown]})
    assert "*Compare with*: [PEPITA](pepita.ipynb), `nobody`." in text
    assert "Not `pepita` here." in text


def test_a_picture_of_either_standard_becomes_a_file_with_its_words(tmp_path):
    png = "iVBORw0KGgo="
    new = {"text/markdown": f"![a curve](data:image/png;base64,{png})"}
    outputs = [
        {"output_type": "display_data", "data": new, "metadata": {}},
        {
            "output_type": "display_data",
            "data": {"image/png": png},
            "metadata": {"image/png": {"alt": "two [old] curves"}},
        },
        {"output_type": "display_data", "data": {"image/png": png}, "metadata": {}},
    ]
    head = {"cell_type": "markdown", "source": "## Depth"}
    text = page_of(
        tmp_path, head, {"cell_type": "code", "source": "", "outputs": outputs}
    )
    assert "![a curve](../figures/some-1.png)" in text
    assert r"![two \[old\] curves](../figures/some-2.png)" in text
    assert "under the heading Depth](../figures/some-3.png)" in text
    assert len(list((tmp_path / "figures").iterdir())) == 3


def test_interfaces_are_read_and_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "LABORATORY", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bomb.py").write_text(
        '"""A module."""\nraise SystemExit\n'
        'def spark(x: int = 1) -> str:\n    """Some words."""\n'
        'def _hidden():\n    """No."""\n'
    )
    page = api.page("data")
    assert "{py:function} spark(x: int=1) -> str\nSome words." in page
    assert "_hidden" not in page


# --- badges, and what is refused --------------------------------------------------------


def test_with_a_repository_a_badge_opens_a_notebook_that_first_installs(tmp_path, papers):
    row = papers[0]
    report = paths.PROJECT / "reports" / atlas.report(row)
    page = Page(row.slug, report, tmp_path, ())
    address = "/github/owner/name/blob/gh-pages/colab/"
    assert f"{address}{row.slug}.ipynb)" in website.about(row, page, "owner/name")
    assert "colab" not in website.about(row, page)
    website._write_for_colab(tmp_path, row.entry, "owner/name")
    copy = notebook.read(tmp_path / "extra" / "colab" / f"{row.slug}.ipynb")
    first, *rest = copy["cells"]
    assert "https://github.com/owner/name" in notebook.source(first)
    assert "%pip install" in notebook.source(first)
    assert rest == notebook.read(catalogue.get(row.slug).path)["cells"]


def test_what_is_no_repository_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="is not OWNER/NAME"):
        website.build(tmp_path / "site", repository="https://github.com/owner/name")


def test_a_folder_that_holds_no_site_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["site", "-o", str(tmp_path)]) == 2
    assert "holds no site: choose another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_missing_package_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(website, "_NEEDED", ("no_such_package",))
    with pytest.raises(ReportError, match="needs no_such_package: `make env`"):
        website.build(tmp_path / "site")


def test_a_link_that_leads_nowhere_fails_the_build_and_keeps_the_former_site(
    tmp_path, monkeypatch
):
    former = tmp_path / "site"
    former.mkdir()
    (former / "objects.inv").touch()

    def one_page(source, *_):
        source.mkdir()
        (source / "conf.py").write_text("extensions = ['myst_parser']")
        (source / "index.md").write_text("# Home\n\n[lost](nowhere.md)\n")

    monkeypatch.setattr(website, "write", one_page)
    with pytest.raises(ReportError, match=re.escape("index.md:3: WARNING")):
        website.build(former)
    assert [path.name for path in former.iterdir()] == ["objects.inv"]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
