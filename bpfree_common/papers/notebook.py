"""Notebooks as data: reading, tagged cells, content hashes, the canonical form."""

import ast
import copy
import hashlib
import json
import re
from functools import cache
from pathlib import Path

from bpfree_common.errors import CatalogueError

#: Outputs of cells with these tags depend on the clock and are never compared.
TIMING = "timing"

#: Cells with these tags make up a rule's module: the plain rule, and its fast form.
RULE = ("rule", "fast")


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
    cells = [[c["cell_type"], tags(c), source(c)] for c in read(path)["cells"]]
    return digest(cells)


def digest(value) -> str:
    """SHA-256 of the canonical JSON form of `value`, shortened to 32 hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def module_hash(path: Path) -> str:
    """Hash of a module's syntax tree: comments, docstrings and layout do not count."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            node.body = body[1:]
    return digest(ast.dump(tree))


def _is_docstring(node) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


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
