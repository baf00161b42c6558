"""Notebooks as data: reading, tagged cells, content hashes, the canonical form."""

import copy
import hashlib
import json
import re
from pathlib import Path

from bpfree_common.errors import CatalogueError

#: Outputs of cells with these tags depend on the clock and are never compared.
TIMING = "timing"

#: Cells with these tags make up a rule's module: the plain rule, and its fast form.
RULE = ("rule", "fast")

#: The lines of a paper's card that lead to other notebooks.
LEADS = re.compile(r"^\*(?:Builds on|Compare with)\*: .+$", re.MULTILINE)


def read(path: Path) -> dict:
    """The notebook at `path` as a dict. Raises CatalogueError when unreadable."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        sound = all({"cell_type", "source"} <= set(cell) for cell in content["cells"])
    except FileNotFoundError:
        raise CatalogueError(f"there is no notebook at {path}") from None
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, too deep
        raise CatalogueError(f"{path} is not a notebook: {error}") from None
    except (TypeError, KeyError):
        sound = False
    if not sound:
        raise CatalogueError(f"{path} is not a notebook: it holds no list of cells")
    return content


def source(cell: dict) -> str:
    """The text of a cell, whichever of the two forms nbformat allows it has."""
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def tags(cell: dict) -> list[str]:
    """The tags of a cell."""
    return cell.get("metadata", {}).get("tags", [])


def tagged(notebook: dict, *wanted: str) -> list[tuple[int, str]]:
    """(index, source) of every code cell with one of the tags, in notebook order."""
    return [
        (index, source(cell))
        for index, cell in enumerate(notebook["cells"])
        if cell["cell_type"] == "code" and not set(wanted).isdisjoint(tags(cell))
    ]


def parameters_source(path: Path) -> str:
    """The source of the one cell tagged `parameters`."""
    cells = tagged(read(path), "parameters")
    if len(cells) != 1:
        raise CatalogueError(
            f"{path} has {len(cells)} cells tagged 'parameters'; it needs one"
        )
    return cells[0][1]


def content_hash(path: Path) -> str:
    """SHA-256 of what a reader sees in the source: types, tags and text of the cells."""
    return cells_hash(read(path)["cells"])


def cells_hash(cells: list[dict]) -> str:
    """SHA-256 of the types, tags and text of some cells."""
    return digest([[c["cell_type"], tags(c), source(c)] for c in cells])


def digest(value) -> str:
    """SHA-256 of the canonical JSON form of `value`, shortened to 32 hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def canonical(notebook: dict) -> dict:
    """A copy without what differs between two runs of the same inputs.

    Dropped: papermill and execution metadata, cell ids, kernel facts, outputs on stderr,
    outputs of cells tagged `timing`, and memory addresses in text.
    """
    clean = copy.deepcopy(notebook)
    clean["metadata"] = {}
    for cell in clean["cells"]:
        cell.pop("id", None)
        keep = tags(cell)
        cell["metadata"] = {"tags": keep}
        outputs = [] if TIMING in keep else cell.get("outputs", [])
        if cell["cell_type"] == "code":
            cell["outputs"] = [
                _canonical_output(o) for o in joined(outputs) if o.get("name") != "stderr"
            ]
    return clean


def uncompared(notebook: dict) -> list:
    """The outputs that `canonical` leaves out: those of timing cells, and of stderr."""
    left = []
    for cell in notebook["cells"]:
        outputs = joined(cell.get("outputs", []))
        timed = TIMING in tags(cell)
        left.append([o for o in outputs if timed or o.get("name") == "stderr"])
    return left


def joined(outputs: list[dict]) -> list[dict]:
    """Chunks of one stream as one output: where they were cut is chance."""
    result: list[dict] = []
    for output in outputs:
        if output["output_type"] != "stream":
            result.append(output)
            continue
        text = "".join(output["text"])
        if result and result[-1].get("name") == output["name"]:
            result[-1]["text"] += text
        else:
            result.append(output | {"text": text})
    return result


def _canonical_output(output: dict) -> dict:
    text = json.dumps(output, sort_keys=True)
    return json.loads(re.sub(r"0x[0-9a-f]{6,}", "0x", text))
