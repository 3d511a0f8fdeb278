"""NumPy's files, .npy and .npz, without pickles, and without memory for more than they hold: see `declared`."""

import io
import typing
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from rig3r_jax.formats.declared import check_present, check_unpacked, count_of
from rig3r_jax.formats.foreign import HEAD, describe

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_ZIP = b"PK\x03\x04"


def read_npy(data: bytes, where: object) -> np.ndarray:
    """The array of a .npy file, read-only: a view of `data`, without a copy. ValueError naming `where`."""
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"is of version {version}")
        shape, columns_first, dtype = _HEADERS[version](stream)
        count = count_of(shape)
    except Exception as error:  # a damaged header is Python text that does not parse in any way at all
        kind = f"({error})" if data.startswith(npy.MAGIC_PREFIX) else f"but {describe(data[:HEAD])}"
        raise ValueError(f"{where}: is no NumPy array {kind}") from error
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"{where}: holds {dtype}, must hold numbers or text: no objects, which would be pickles")
    start = stream.tell()
    check_present(where, count * dtype.itemsize, len(data) - start)
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if columns_first else "C")


class Npz(Mapping[str, np.ndarray]):
    """The arrays of a .npz file by name, each read when it is asked for. A context manager, as the file is open.

    Raises ValueError naming `where` for what is no such file, for an array that is damaged, promises more than its
    bytes or holds objects; KeyError for one that is not there.
    """

    def __init__(self, file: bytes | str | Path | typing.BinaryIO, where: object = None) -> None:
        """Opens the content of a file, or the file at a path; OSError where that is missing."""
        self._where = file if where is None and isinstance(file, str | Path) else where
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file)
            self._members = {info.filename.removesuffix(".npy"): info for info in self._archive.infolist()}
        except OSError:
            raise
        except Exception as error:  # a damaged list of members fails in any way at all
            raise ValueError(f"{self._where}: is no NumPy archive ({error}); restore the file") from error

    def __enter__(self) -> "Npz":
        return self

    def __exit__(self, *_) -> None:
        self._archive.close()

    def __getitem__(self, name: str) -> np.ndarray:
        """The array `name`, read-only."""
        return read_npy(read_member(self._archive, self._members[name], self._where), f"{self._where}: {name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def read_npy_or_npz(data: bytes, where: object, preferred: str = "") -> np.ndarray:
    """The array of a .npy file, or of a .npz: `preferred`, else its first. ValueError naming `where`."""
    if not data.startswith(_ZIP):
        return read_npy(data, where)
    with Npz(data, where) as arrays:
        if not arrays:
            raise ValueError(f"{where}: is a NumPy archive without arrays; restore the file")
        return arrays[preferred if preferred in arrays else next(iter(arrays))]


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: object) -> bytes:
    """The content of a member of a zip archive, once it is sure that it unpacks to no more than it may.

    ValueError naming `where` and the member.
    """
    place = f"{where}: {member.filename}"
    check_present(place, member.compress_size, archive.start_dir)  # where the list of members begins
    check_unpacked(place, member.file_size, member.compress_size)
    try:
        return archive.read(member)  # no more than file_size, whatever the packed bytes say; its checksum is looked at
    except Exception as error:  # damage shows as errors of zipfile, of zlib and of the file system
        raise ValueError(f"{place}: does not unpack ({error}); fetch the file again") from error
