"""What the catalogue says of a claim: who claims it, and what would confirm it.

In `papers.yaml` a claim is its text alone, or a mapping::

    claims:
      epochs:
        text: FF needs about three times the epochs of backpropagation.
        source: paper
        band: [1.5, null]   # what would confirm it; null leaves a side open
        null: 1             # what would be measured if the effect did not exist
        unit: times

A band that contains its null is refused: then no measurement could fail to confirm.
"""

from dataclasses import dataclass, fields

from bpfree_common.errors import CatalogueError, choices

#: Who makes a claim; those of the authors and ours are counted apart.
SOURCES = ("abstract", "paper", "repository", "independent", "third party", "ours")

MEASURED = "measured"  #: the null is another arm's value, which the study measures


@dataclass(frozen=True)
class ClaimEntry:
    """One declared claim; where only a text stands, it has no source and no band.

    text: the claim, a sentence. source: one of `SOURCES`. band: (low, high) in `unit`,
    None for an open side; both sides are open only where none is declared. null: the
    value without the effect, or "measured". final_accuracy: whether it is about the
    accuracy at the end of training.
    """

    text: str
    source: str = ""
    band: tuple[float | None, float | None] = (None, None)
    null: float | str | None = None
    unit: str = ""
    final_accuracy: bool = False


def text(where: str, name: str, raw: str | dict) -> str:
    """The text of a claim in either form. Raises CatalogueError if it has none."""
    found = raw.get("text") if isinstance(raw, dict) else raw
    if not isinstance(found, str) or not found.strip():
        raise CatalogueError(f"{where}: claim {name!r} has no text")
    return found


def plain(raw: str | dict) -> str | dict:
    """A claim as it was written; YAML reads the bare key `null` as no key at all."""
    if not isinstance(raw, dict):
        return raw
    return {"null" if key is None else key: value for key, value in raw.items()}


def claim(where: str, name: str, raw: str | dict) -> ClaimEntry:
    """The declaration of a claim in either form; raises CatalogueError for a slip."""
    if isinstance(raw, str):
        return ClaimEntry(raw)
    try:
        return _claim(raw)
    except ValueError as error:
        raise CatalogueError(f"{where}: claim {name!r}: {error}") from None


def _claim(raw: dict) -> ClaimEntry:
    known = [field.name for field in fields(ClaimEntry)]
    if unknown := [key for key in raw if key not in known]:
        raise ValueError(f"unknown key {unknown[0]!r}: {choices(unknown[0], known)}")
    if raw.get("source") not in SOURCES:
        raise ValueError(f"source is one of {', '.join(SOURCES)}")
    if not isinstance(raw.get("unit", ""), str):
        raise ValueError(f"unit is a text, not {raw['unit']!r}")
    if not isinstance(raw.get("final_accuracy", False), bool):
        raise ValueError("final_accuracy is true or false")
    band, null = _band(raw.get("band")), raw.get("null")
    if not (null is None or null == MEASURED or _is_number(null)):
        raise ValueError(f"null is a number or {MEASURED!r}, not {null!r}")
    if raw.get("band") and _is_number(null) and _inside(null, band):
        raise ValueError(
            f"the band {list(band)} contains its null {null:g}, "
            "so it would be confirmed without the effect"
        )
    return ClaimEntry(**raw | {"band": band})


def _band(raw) -> tuple[float | None, float | None]:
    if raw is None:
        return None, None
    if not isinstance(raw, list) or len(raw) != 2:
        raise ValueError("band is [low, high], null for an open side")
    if not all(side is None or _is_number(side) for side in raw):
        raise ValueError(f"a side of the band {raw} is neither a number nor null")
    low, high = raw
    if low is None and high is None:
        raise ValueError("the band is open on both sides, so anything would confirm it")
    if None not in raw and low > high:
        raise ValueError(f"the band {raw} ends below its beginning")
    return low, high


def _inside(value: float, band: tuple[float | None, float | None]) -> bool:
    low, high = band
    return (low is None or low <= value) and (high is None or value <= high)


def _is_number(value) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e300  # neither infinite nor "not a number"
