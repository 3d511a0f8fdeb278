"""Coloured point clouds as PLY files, for CloudCompare, MeshLab, Open3D and Blender."""

import dataclasses
import re
import typing
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.foreign import HEAD, describe
from rig3r_jax.formats.ply_rows import SCALARS, AsciiRows, BinaryRows, Element
from rig3r_jax.formats.text import decode_text

FLOAT_MOVES = 1e-5  # of a cloud's extent, that single precision may move its points
_TYPES = {"u1": "uchar", "<f4": "float", "<f8": "double"}
_MAX_HEADER_BYTES = 64 * 1024
_HEADER_END = re.compile(rb"(?<=[\r\n])end_header[ \t]*(\r\n|\r|\n)")
_COLORS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))


class _Header(typing.NamedTuple):
    byte_order: str  # of numpy, or "ascii"
    elements: dict[str, Element]  # in the order of the file
    comments: tuple[str, ...]
    length: int  # bytes


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PointCloud:
    """What a PLY file holds; `colors` and `confidence` are None where the file has none."""

    points_world: Float[np.ndarray, "n 3"]
    colors: UInt8[np.ndarray, "n 3"] | None
    confidence: Float[np.ndarray, "n"] | None
    # All others of the vertices by name, each (n,) of the file's type; of lists (n,) of object, an array each.
    properties: dict[str, np.ndarray]
    other_elements: dict[str, int]  # how many faces, edges and others the file has, which are not kept
    comments: tuple[str, ...]  # of the header


def write_ply(
    path: str | Path,
    points_world: Float[np.ndarray, "n 3"],
    colors: UInt8[np.ndarray, "n 3"],
    confidence: Float[np.ndarray, "n"] | None = None,
    error: Float[np.ndarray, "n"] | None = None,
) -> None:
    """Writes a binary little-endian PLY: float x y z, uchar red green blue, and float confidence and error where given.

    x y z are double where floats would move a point by more than FLOAT_MOVES of the cloud's extent, as far from the
    world's origin.

    Raises:
      ValueError: no points, arrays of different lengths, or a value that float32 cannot hold (NaN, infinity, overflow).
    """
    scalars = {"confidence": confidence, "error": error}
    scalars = {name: values for name, values in scalars.items() if values is not None}
    _check_points(path, points_world, colors, scalars)
    fields = [(axis, _axis_type(points_world)) for axis in "xyz"]
    fields += [(name, "u1") for name in ("red", "green", "blue")] + [(name, "<f4") for name in scalars]
    vertices = np.empty(len(points_world), dtype=fields)
    for index, axis in enumerate("xyz"):
        vertices[axis] = points_world[:, index]
    for index, name in enumerate(("red", "green", "blue")):
        vertices[name] = colors[:, index]
    for name, values in scalars.items():
        vertices[name] = values
    properties = [f"property {_TYPES[kind]} {name}" for name, kind in fields]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment OpenCV axes: x right, y down, z forward",
        f"element vertex {len(vertices)}",
        *properties,
        "end_header",
    ]
    write_atomically(path, ("\n".join(header) + "\n").encode("ascii") + vertices.tobytes())


def read_ply(path: str | Path) -> PointCloud:
    """Reads the vertices of a PLY file, binary (either byte order) or ascii; faces and the like are counted.

    Colours are bytes, or floats from 0 to 1; others, and alpha, stay among the properties.

    Raises:
      ValueError: the file is no PLY, is cut short, or has no vertices with x, y and z.
    """
    data = Path(path).read_bytes()
    header = _parse_header(path, data)
    if header.byte_order == "ascii":
        rows: AsciiRows | BinaryRows = AsciiRows(path, data[header.length :])
    else:
        rows = BinaryRows(path, data[header.length :], header.byte_order)
    columns: dict[str, np.ndarray] = {}
    for name, element in header.elements.items():
        columns = rows.read(name, element)
        if name == "vertex":
            break
    points_world = np.stack([columns.pop(axis) for axis in "xyz"], axis=-1)
    confidence = columns.pop("confidence", None)
    return PointCloud(
        points_world=_native_float(points_world),
        colors=_take_colors(columns),
        confidence=None if confidence is None else _native_float(confidence),
        properties=columns,
        other_elements={name: element.count for name, element in header.elements.items() if name != "vertex"},
        comments=header.comments,
    )


def _take_colors(columns: dict[str, np.ndarray]) -> UInt8[np.ndarray, "n 3"] | None:
    """Takes the colours out of the columns; None, and nothing taken, where they are none that bytes can hold."""
    names = next((names for names in _COLORS if all(name in columns for name in names)), None)
    if names is None:
        return None
    colors = np.stack([columns[name] for name in names], axis=-1)
    if colors.dtype.kind == "f" and ((colors >= 0) & (colors <= 1)).all():
        colors = np.round(255 * colors.astype(np.float64)).astype(np.uint8)
    if colors.dtype != np.uint8:
        return None
    for name in names:
        del columns[name]
    return colors


def _native_float(values: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order, float64 when they were no float32."""
    return values.astype(np.float32 if values.dtype.itemsize == 4 and values.dtype.kind == "f" else np.float64)


def _axis_type(points_world: np.ndarray) -> str:
    moved = np.abs(points_world - points_world.astype(np.float32)).max()
    return "<f8" if len(points_world) > 1 and moved > FLOAT_MOVES * np.ptp(points_world, axis=0).max() else "<f4"


def _check_points(
    path: str | Path, points_world: np.ndarray, colors: np.ndarray, scalars: Mapping[str, np.ndarray]
) -> None:
    """Every rule on what `write_ply` takes."""
    count = len(points_world)
    if count == 0:
        raise ValueError(f"{path}: no points to write; lower the confidence threshold or check the depth masks")
    lengths = {"colors": len(colors)} | {name: len(values) for name, values in scalars.items()}
    for name, length in lengths.items():
        if length != count:
            raise ValueError(f"{path}: {length} {name} for {count} points; give one per point")
    for name, values in {"points_world": points_world, **scalars}.items():
        bad = ~(np.abs(values) <= np.finfo(np.float32).max)  # NaN compares false
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise ValueError(
                f"{path}: {name}[{row}] = {values[row]} is not a finite float32 ({int(bad.sum())} such values); "
                "mask out invalid pixels before writing"
            )


def _parse_header(path: str | Path, data: bytes) -> _Header:
    end = _HEADER_END.search(data, 0, _MAX_HEADER_BYTES)
    if not re.match(rb"ply\s*[\r\n]", data) or not end:
        raise ValueError(f"{path}: {describe(data[:HEAD])}; a PLY file begins with ply and ends its header")
    order, elements, comments = None, {}, []
    for line in decode_text(data[: end.start()], path).split("\n")[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            comments += [" ".join(words[1:])] if words else []
            continue
        follows = False
        if words[0] == "format" and len(words) == 3:
            order = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "ascii"}.get(words[1])
            follows = order is not None
        elif words[0] == "element" and len(words) == 3 and re.fullmatch("[0-9]{1,18}", words[2]):
            follows = words[1] not in elements
            elements[words[1]] = Element(int(words[2]), {})
        elif words[0] == "property" and elements:
            fields = list(elements.values())[-1].fields
            is_list = words[1:2] == ["list"]
            *kinds, name = words[2 if is_list else 1 :] or [""]
            follows = len(kinds) == 1 + is_list and all(kind in SCALARS for kind in kinds) and name not in fields
            fields[name] = tuple(SCALARS.get(kind, "") for kind in kinds)
        if not follows:
            raise ValueError(
                f"{path}: header line {line!r} is not understood; elements and properties have distinct names and "
                f"types of PLY: {', '.join(SCALARS)}, list"
            )
    missing = {"x", "y", "z"} - {name for name, kinds in _vertices(elements).fields.items() if len(kinds) == 1}
    if order is None or missing:
        raise ValueError(f"{path}: the header lacks its format, its vertices or x, y, z; export the file again")
    return _Header(order, elements, tuple(comments), end.end())


def _vertices(elements: dict[str, Element]) -> Element:
    return elements.get("vertex", Element(0, {}))
