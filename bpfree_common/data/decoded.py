"""Arrays that take long to decode, kept in the cache and verified like the files.

What a published file is decoded to is published too: the catalogue holds the digest. So
a kept copy that was cut, changed or replaced is noticed, made anew and never used.
"""

import contextlib
import hashlib
import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bpfree_common import paths
from bpfree_common.errors import DataCorrupted


def array_digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of named arrays: of their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def decoded(
    file: str, published: str, decode: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that `decode` makes, or the good copy of them that was kept as `file`.

    published: their `array_digest`. Raises DataCorrupted when `decode` makes others.
    """
    path = paths.cache() / "decoded" / file
    arrays = _kept(path)
    if arrays is not None and array_digest(arrays) == published:
        return arrays
    arrays = decode()
    if array_digest(arrays) != published:
        raise DataCorrupted(
            f"{path.stem} was decoded to other numbers than the published ones: "
            "an installed package is at fault; run `make env`"
        )
    _keep(path, arrays)
    return arrays


def _kept(path: Path) -> dict[str, np.ndarray] | None:
    """What the copy holds, read once; None if there is none or it cannot be read."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write atomically: several notebooks may decode at the same time.

    A cache that cannot be written costs time only, so it is a warning.
    """
    part = path.with_suffix(f".{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, **arrays)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        warnings.warn(
            f"{path} cannot be written ({error.strerror}), so it is decoded every time: "
            "set BPFREE_CACHE to a folder of yours",
            stacklevel=3,
        )
