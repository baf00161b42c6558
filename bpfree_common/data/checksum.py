"""SHA-256 of a published file, and of a folder of many small ones."""

import hashlib


def checksum(content: bytes | dict[str, bytes]) -> str:
    """64 hex digits: of a file's bytes, or of what `sha256sum *` prints in a folder.

    content: the bytes, or the bytes of each file in the folder by its name.
    """
    if isinstance(content, dict):
        order = sorted(content, key=str.encode)
        lines = (f"{checksum(content[name])}  {name}\n" for name in order)
        content = "".join(lines).encode()
    return hashlib.sha256(content).hexdigest()
