"""What a reader meets first: the paper's card, its BibTeX, and what was found."""

import os

from bpfree_common.papers import catalogue
from bpfree_common.studies import tables


def card(entry: catalogue.Entry) -> str:
    """The paper in a few lines of Markdown, from its entry in the catalogue."""
    arxiv = (
        f"[arXiv {entry.arxiv}](https://arxiv.org/abs/{entry.arxiv})"
        if entry.arxiv
        else ""
    )
    code = f"[official code]({entry.code})" if entry.code else "no official code"
    where = "; ".join(filter(None, (arxiv, code)))
    lines = [
        f"**{entry.title}**  ",
        f"{', '.join(entry.authors)} ({entry.year}), {entry.venue}. {where}.",
        "",
        f"*Family*: {catalogue.FAMILIES[entry.family]}. *Idea*: {entry.idea}",
    ]
    links = {"Builds on": entry.builds_on, "Compare with": entry.compare_with}
    for words, slugs in links.items():
        if slugs:
            lines += ["", f"*{words}*: {', '.join(link(s, entry) for s in slugs)}."]
    if entry.headline:
        lines += ["", *_headline(entry.headline).splitlines()]
    lines += ["", "<details><summary>BibTeX</summary>", "", "```bibtex", bibtex(entry)]
    return "\n".join([*lines, "```", "", "</details>"])


def bibtex(entry: catalogue.Entry) -> str:
    """The paper as a BibTeX entry."""
    fields = {
        "title": f"{{{entry.title}}}",
        "author": " and ".join(entry.authors),
        "year": entry.year,
        "note": entry.venue,
    }
    if entry.arxiv:
        fields |= {"eprint": entry.arxiv, "archiveprefix": "arXiv"}
    body = ",\n".join(f"  {k} = {{{v}}}" for k, v in fields.items() if v)
    return f"@misc{{{entry.slug},\n{body}\n}}"


def link(slug: str, entry: catalogue.Entry) -> str:
    """A Markdown link from one notebook to another; the bare name if there is none."""
    other = catalogue.load().get(slug)
    if other is None or not other.path.is_file():
        return f"`{slug}`"
    return f"[{other.short}]({os.path.relpath(other.path, entry.path.parent)})"


def _headline(rows: list[dict]) -> str:
    """The paper's own numbers; those that nobody here could read are marked."""
    shown = []
    for row in rows:
        row = dict(row)
        if row.pop("unverified", False):
            row["source"] = f"{row.get('source', '')} (**unverified**: judges nothing)"
        shown.append(row)
    return tables.markdown(shown).data


def findings(sentences: list[str], profile: str, seeds: int) -> str:
    """What this run found, as a Markdown list under its heading."""
    spread = "one seed" if seeds == 1 else f"{seeds} seeds, 95 % intervals in brackets"
    about = f"*Measured by this very run: {profile} profile, {spread}.*"
    lines = [f"- {sentence}" for sentence in sentences] or ["- nothing was stated"]
    return "\n".join(["### What we found", "", *lines, "", about])
