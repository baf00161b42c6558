"""The website in a real browser, with no network behind it."""

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit

import pytest
from browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: `apt-get install chromium` brings it"
)

READY = "!window.MathJax || MathJax.startup.promise.then(() => true)"
SEEN = ["index", "schematics", "overview", "atlas"]
SEEN += ["papers/forward_forward", "api/learning"]
SHOWN = "[...document.querySelectorAll('#claims tbody tr')].filter((r) => !r.hidden)"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served, on this machine alone."""
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as opened:
        opened.look(1400, dark=False)
        yield opened


@pytest.fixture(scope="module")
def claims(site) -> list[dict]:
    made = json.loads((site / "atlas.json").read_text())
    return [c | {"family": made["papers"][c["paper"]]["family"]} for c in made["claims"]]


@pytest.fixture
def atlas(browser, address):
    browser.look(1400, dark=False)
    browser.open(f"{address}/atlas.html")
    return browser


def choose(page: Browser, name: str, value: str) -> None:
    page.ask(
        f"(() => {{const f = document.querySelector('.filters [name={name}]');"
        f"f.value = {json.dumps(value)};"
        "f.dispatchEvent(new Event('input', {bubbles: true}))})()"
    )


# --- every page -------------------------------------------------------------------------


def test_pages_have_no_error_draw_their_formulae_and_ask_nobody_else(
    browser, address, site
):
    browser.errors.clear()
    browser.requests.clear()
    formulae = 0
    for path in sorted([*site.glob("*.html"), *site.glob("papers/*.html")]):
        browser.open(f"{address}/{path.relative_to(site).as_posix()}")
        browser.wait(READY)
        written, drawn, wrong = browser.ask(
            "['.math', 'mjx-container', 'mjx-merror, [data-mjx-error]']"
            ".map((s) => document.querySelectorAll(s).length)"
        )
        assert drawn >= written, path.name
        assert wrong == 0, path.name
        assert browser.errors == [], path.name
        formulae += drawn
    assert formulae > 100
    hosts = {urlsplit(each).netloc for each in browser.requests if "://" in each}
    assert hosts <= {urlsplit(address).netloc, ""}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_a_page_fits_its_width_and_its_words_can_be_read(browser, address, width, dark):
    browser.look(width, dark)
    for name in SEEN:
        browser.open(f"{address}/{name}.html")
        browser.wait(READY)
        wide = browser.ask("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} is {wide} wider than the window"
        theme = browser.ask("document.documentElement.dataset.theme")
        assert theme == ("dark" if dark else "light")
        assert browser.ask(CONTRAST) >= 4.5, name


#: The lowest contrast of words against what is behind them (WCAG's formula).
CONTRAST = """(() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  return Math.min(...[...document.querySelectorAll(
    "article p, article td, article th, article li, article a, article dd, article dt, " +
    "article select, article label")].map((e) => {
      const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
})()"""


def test_the_search_finds_every_paper_by_its_title(browser, address, site):
    papers = json.loads((site / "atlas.json").read_text())["papers"]
    for about in papers.values():
        browser.open(f"{address}/search.html?q={quote(about['title'])}")
        found = f"#search-results a[href*='{about['page']}']"
        browser.wait(f"document.querySelector({json.dumps(found)}) !== null")


# --- tables -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["paper", "family", "source", "verdict"])
def test_a_filter_shows_the_claims_that_fit_and_no_others(atlas, claims, name):
    values = sorted({claim[name] for claim in claims})
    assert len(values) > 1
    for value in values:
        choose(atlas, name, value)
        fitting = [claim for claim in claims if claim[name] == value]
        shown = atlas.ask(f"{SHOWN}.map((r) => r.cells[1].firstChild.textContent)")
        assert shown == [claim["text"] for claim in fitting]
        said = atlas.ask("document.querySelector('.filters output').textContent")
        assert said == f"{len(fitting)} of {len(claims)} shown"


def test_filters_work_together_and_words_are_looked_for_everywhere(atlas, claims):
    choose(atlas, "verdict", "reproduced")
    choose(atlas, "words", "BACKPROP")
    shown = atlas.ask(f"{SHOWN}.map((r) => [r.dataset.verdict, r.textContent])")
    assert 0 < len(shown) < len(claims)
    assert all(v == "reproduced" and "backprop" in t.lower() for v, t in shown)
    assert len([c for c in claims if c["verdict"] == "reproduced"]) > len(shown)


def test_an_address_can_carry_a_filter(browser, address, claims):
    slug = claims[-1]["paper"]
    browser.open(f"{address}/atlas.html?paper={slug}")
    kept = browser.ask(f"{SHOWN}.map((r) => r.dataset.paper)")
    assert kept == [slug] * len([c for c in claims if c["paper"] == slug])


def column(page: Browser, table: str, number: int) -> list[float]:
    """The keys of a column, from top to bottom; a missing one is None."""
    return page.ask(
        f"[...document.querySelectorAll('#{table} tbody tr')].map((r) => "
        f"r.cells[{number}].dataset.key).map((k) => k === '' ? null : Number(k))"
    )


@pytest.mark.parametrize("number", [1, 4, 5, 6, 7, 8, 9, 10])
def test_a_heading_sorts_its_numbers_up_and_then_down(browser, address, number):
    browser.open(f"{address}/overview.html")
    before = column(browser, "methods", number)
    values = sorted(v for v in before if v is not None)
    missing = [None] * (len(before) - len(values))
    head = f"document.querySelectorAll('#methods th')[{number}]"
    for order, wanted in (("ascending", values), ("descending", values[::-1])):
        browser.ask(f"{head}.querySelector('button').click()")
        assert browser.ask(f"{head}.getAttribute('aria-sort')") == order
        assert column(browser, "methods", number) == wanted + missing


def test_a_heading_of_words_sorts_them_by_the_alphabet(atlas):
    atlas.ask("document.querySelectorAll('#claims th button')[2].click()")
    words = atlas.ask(f"{SHOWN}.map((r) => r.cells[2].textContent)")
    assert words == sorted(words)


def test_the_keyboard_reaches_filters_and_headings_and_sorts(atlas):
    met = []
    for _ in range(80):
        atlas.press("Tab", 9)
        met.append(
            atlas.ask(
                "(document.activeElement.name || document.activeElement.textContent)"
                ".trim()"
            )
        )
        if met[-1] == "Verdict":
            break
    assert {"family", "source", "verdict", "words", "Claim", "Verdict"} <= set(met)
    atlas.press("Enter", 13, "\r")
    order = "document.activeElement.closest('th').getAttribute('aria-sort')"
    assert atlas.ask(order) == "ascending"


def test_a_claim_leads_to_its_cell(browser, address, claims):
    browser.look(1400, dark=False)
    claim = claims[0]
    browser.open(f"{address}/{claim['page']}")
    browser.wait("document.readyState === 'complete' && scrollY > 0")
    place = browser.ask(
        f"document.getElementById({json.dumps(claim['page'].split('#')[1])})"
        ".getBoundingClientRect().top"
    )
    assert 0 <= place < 900
