"""Digests of the two ends of files: cheap enough to look at whenever a folder of records is opened.

A file of another size or of other ends is cut, half copied or of another folder. What is damaged between the ends is
found by the checksums of its chunks, when a reader comes to it.
"""

import hashlib
import os
from pathlib import Path

END = 2**14  # bytes at each end; an index of records lies at the end of its file


def digest_of_ends(path: Path) -> str:
    """Of size, first and last END bytes, 32 hexadecimal digits. OSError where the file cannot be read."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.blake2b(f"{size} ".encode() + file.read(END), digest_size=16)
        file.seek(max(size - END, 0))
        digest.update(file.read(END))
    return digest.hexdigest()
