"""What the header of a .las or .laz file promises, held against its size (ASPRS, "LAS Specification" 1.4, tables 3, 6,
and 27)."""

import struct

from rig3r_jax.formats.declared import check_present, check_unpacked

_START, _HEADER = b"LASF", 227  # bytes of the header of 1.2; 1.4 has 375
_VLR, _EXTENDED_VLR = 54, 60  # bytes that a record of each kind has at least
_PACKED = 0x80  # of a point format: LAZ


def check_las(data: bytes, where: object) -> None:
    """ValueError naming `where` for what is no LAS file, and for more points or records than its bytes can hold."""
    if not data.startswith(_START) or len(data) < _HEADER:
        raise ValueError(f"{where}: is no LAS file, which begins with {_START!r} and has {_HEADER} bytes at least")
    (count_of_records,) = struct.unpack_from("<I", data, 100)
    point_format, point_size, points = struct.unpack_from("<BHI", data, 104)
    check_present(where, _VLR * count_of_records, len(data), "bytes of records")
    if data[25] >= 4 and len(data) >= 375:
        (extended,) = struct.unpack_from("<I", data, 243)
        check_present(where, _EXTENDED_VLR * extended, len(data), "bytes of extended records")
        points = max(points, *struct.unpack_from("<Q", data, 247))
    if point_format & _PACKED:
        check_unpacked(where, points * point_size, len(data))
        _check_chunks(data, where)
    else:
        check_present(where, points * point_size, len(data), "bytes of points")


def _check_chunks(data: bytes, where: object) -> None:
    """Of LAZ: where the points begin stands where the table of their chunks is (-1: that stands at the file's end); the
    table begins with its version and the number of chunks (LASzip, laszip_api)."""
    (start,) = struct.unpack_from("<I", data, 96)
    check_present(where, start + 8, len(data), "bytes before its points")
    (table,) = struct.unpack_from("<q", data, start)
    if table == -1:
        (table,) = struct.unpack_from("<q", data, len(data) - 8)
    check_present(where, table, len(data) - 8, "bytes before the table of its chunks")
    (chunks,) = struct.unpack_from("<I", data, table + 4)
    check_present(where, chunks, len(data), "bytes of chunks")
