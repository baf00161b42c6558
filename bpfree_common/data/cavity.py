"""A physical system on file: an acoustic cavity's answers, and the vowels it sorted.

Both are measurements that Momeni et al. (Science 382, 2023) published with their code
(MIT licence). The cavity is a black box: what is known of it is what it answered.
"""

import io
import xml.etree.ElementTree as xml
import zipfile

import numpy as np
import pandas as pd
import torch

from bpfree_common.data import datasets
from bpfree_common.data.tasks import Data, split_thirds

#: The seven vowels in the order of the table, as in "had", "hod", "hawed", "heard",
#: "hid", "heed" and "who'd".
VOWELS = ("ae", "ah", "aw", "er", "ih", "iy", "uw")

_CELLS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def load_cavity(name: str = "acoustic-cavity") -> Data:
    """10,000 inputs of the cavity and what was measured of its answers.

    x: (samples, 20) amplitudes that were played, in [0, 1]. y: (samples, 20) amplitudes
    that were heard, not negative, in the authors' units. The split is the authors', in
    the order of the file: 9,000 train, 300 validate, 700 test. `classes` is the number
    of channels. Raises DataMissing or DataCorrupted.
    """
    x, y = (
        torch.from_numpy(pd.read_csv(io.BytesIO(raw)).to_numpy(np.float32))
        for raw in datasets.contents(name).files
    )
    ends = 0, 9_000, 9_300, 10_000
    parts = [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    return Data(name, y.shape[1], *[t[part] for part in parts for t in (x, y)])


def load_formants(name: str = "formants") -> Data:
    """258 vowels spoken by women: x: (samples, 12) Hz, y: (samples,) int64.

    `x` holds the first three formants in the steady state and at 20, 50 and 80 % of the
    vowel's duration; the seven classes are `VOWELS`. 60 % train, 20 % validate, 20 %
    test, drawn once and for all, every class in proportion. Raises DataMissing or
    DataCorrupted.
    """
    (raw,) = datasets.contents(name).files
    words, numbers = _sheet(raw)
    y = np.array([VOWELS.index(word[-2:]) for word in words])
    return split_thirds(name, numbers, y)


def _sheet(workbook: bytes) -> tuple[list[str], np.ndarray]:
    """First column and the rest of an Excel sheet, without its first row (the titles).

    An .xlsx file is a ZIP archive of XML; cells of type `s` hold the number of a text.
    """
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        texts = xml.fromstring(archive.read("xl/sharedStrings.xml"))
        sheet = xml.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    words = ["".join(text.itertext()) for text in texts]
    _, *rows = (
        [cell.findtext(f"{_CELLS}v") for cell in row]
        for row in sheet.iter(f"{_CELLS}row")
    )
    numbers = np.array([row[1:] for row in rows], dtype=float)
    return [words[int(row[0])] for row in rows], numbers
