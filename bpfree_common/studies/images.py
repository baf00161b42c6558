"""Figures as files and as outputs of a cell: small, repeatable, and with words.

A picture is shown as Markdown, not as `image/png`: JupyterLab, nbconvert's default
template and Sphinx drop the alt text that `IPython.display.Image` carries, and GitHub
shows data URIs in Markdown only. All of them keep the words of ``![words](data:...)``.
"""

import base64
import html
import io
import os
import re
from pathlib import Path

import numpy as np
from IPython.display import Markdown
from matplotlib.figure import Figure
from PIL import Image

from bpfree_common.errors import ReportError

#: Widest picture that GitHub's and the site's columns show without shrinking it.
WIDEST = 900
_VISIBLE = 12  #: of 255: a colour that is off by more is seen beside the true one
_ALLOWED = 0.0005  #: the share of a picture's points that may be off by more
_PICTURE = re.compile(
    r"!\[((?:\\.|[^\]\\])*)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)"
)


def compact(png: bytes) -> bytes:
    """The same picture with a palette of at most 256 colours, if no eye can tell.

    A heat map or a photograph, whose colours a palette would change visibly, keeps all
    of them. Nothing is dithered: the bytes depend on the picture alone.
    """
    full = Image.open(io.BytesIO(png)).convert("RGB")
    few = full.quantize(
        256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
    )
    true, seen = (np.asarray(each.convert("RGB"), np.int16) for each in (full, few))
    off = (np.abs(true - seen).max(-1) > _VISIBLE).mean()
    buffer = io.BytesIO()
    (few if off <= _ALLOWED else full).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def render(figure: Figure, kind: str = "png") -> bytes:
    """The figure as `png` or `svg`, without facts of the machine or the moment."""
    buffer = io.BytesIO()
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    figure.savefig(buffer, format=kind, metadata=metadata)
    return compact(buffer.getvalue()) if kind == "png" else buffer.getvalue()


def save(figure: Figure, folder: Path, name: str) -> bytes:
    """Write `name.png` into `folder` and return its bytes.

    With ``BPFREE_SVG=1`` in the environment `name.svg` is written beside it. The layout
    is solved for the first and kept for the second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    png = render(figure)
    (folder / f"{name}.png").write_bytes(png)
    if os.environ.get("BPFREE_SVG") == "1":
        figure.set_layout_engine("none")
        (folder / f"{name}.svg").write_bytes(render(figure, "svg"))
    return png


def picture(png: bytes, alt: str, caption: str = "") -> Markdown:
    """A cell's output that shows a picture with its alt text, and its caption below.

    alt: what a reader who does not see the picture is told, in plain words; mathematical
    and code signs are left out. Raises ReportError if it is empty.
    """
    if not alt.strip():
        raise ReportError("a picture needs alt text: say in words what it shows")
    words = html.escape(" ".join(re.sub(r"[\\$`]", "", alt).split()), quote=False)
    words = re.sub(r"([\[\]])", r"\\\1", words)  # the one escape that all renderers undo
    data = base64.b64encode(png).decode()
    below = f"\n\n*{caption}*" if caption else ""
    return Markdown(f"![{words}](data:image/png;base64,{data}){below}")


def pictures(markdown: str) -> list[tuple[bytes, str]]:
    """PNG bytes and alt text of every picture that a Markdown output holds."""
    return [
        (base64.b64decode(data), html.unescape(re.sub(r"\\(.)", r"\1", words)))
        for words, data in _PICTURE.findall(markdown)
    ]
