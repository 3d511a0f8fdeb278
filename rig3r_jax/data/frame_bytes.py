"""Depth and mask of a frame as the bytes that a scene, and its records, hold."""

import struct

import numpy as np
from jaxtyping import Bool, UInt8

from rig3r_jax.data.scene import BadRecord, DenseDepth, SparseDepth

# Bits of a mask: pixels that show no part of the scene (the vehicle itself, a lens's border), and those of what moves.
OUTSIDE, MOVING = 1, 2

_DENSE, _SPARSE, _SPARSE_MOVING = b"D", b"S", b"M"
NO_POINTS = SparseDepth(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))  # the depth of a frame that has none


def encode_depth(depth: DenseDepth | SparseDepth) -> bytes:
    """Bytes that `decode_depth` turns back: a tag, the shape, then the raw little-endian values."""
    if isinstance(depth, DenseDepth):
        bits = {"float16": 16, "float32": 32}[depth.values.dtype.name]
        return _DENSE + struct.pack("<BHH", bits, *depth.values.shape) + np.ascontiguousarray(depth.values).tobytes()
    points = np.concatenate([depth.pixels, depth.depths[:, None]], axis=1).astype("<f4")
    counted = struct.pack("<I", len(points)) + points.tobytes()
    if depth.moving is None:
        return _SPARSE + counted
    return _SPARSE_MOVING + counted + np.packbits(depth.moving).tobytes()


def decode_depth(data: bytes) -> DenseDepth | SparseDepth:
    """Inverse of `encode_depth`; BadRecord when the bytes are cut short or of another kind."""
    try:
        if data[:1] == _DENSE:
            bits, height, width = struct.unpack_from("<BHH", data, 1)
            values = np.frombuffer(data, dtype={16: "<f2", 32: "<f4"}[bits], offset=6)
            return DenseDepth(values.reshape(height, width))
        if data[:1] in (_SPARSE, _SPARSE_MOVING):
            (count,) = struct.unpack_from("<I", data, 1)
            end, moving = 5 + 12 * count, None
            if data[:1] == _SPARSE_MOVING:
                packed = np.frombuffer(data, np.uint8, offset=end)
                if len(packed) != -(-count // 8):
                    raise ValueError(f"{len(packed)} bytes of flags for {count} points")
                moving = np.unpackbits(packed, count=count).astype(bool)
            elif len(data) != end:
                raise ValueError(f"{count} points in {len(data)} bytes")
            points = np.frombuffer(data[5:end], dtype="<f4").reshape(count, 3)
            return SparseDepth(points[:, :2], points[:, 2], moving)
    except (struct.error, KeyError, ValueError) as error:
        raise BadRecord(f"depth of {len(data)} bytes does not decode ({error}); build the records again") from error
    tags = f"{_DENSE!r}, {_SPARSE!r} or {_SPARSE_MOVING!r}"
    raise BadRecord(f"depth begins with {data[:1]!r}, not with {tags}; build the records again")


def encode_mask(outside: Bool[np.ndarray, "h w"], moving: Bool[np.ndarray, "h w"] | None = None) -> bytes:
    """A mask as PNG: where the image shows no part of the scene, and where it shows what moves; b"" if nowhere."""
    import cv2  # where options of sources are read nobody waits for it

    bits = np.where(outside, OUTSIDE, 0).astype(np.uint8)
    if moving is not None:
        bits |= np.where(moving, MOVING, 0).astype(np.uint8)
    return cv2.imencode(".png", bits)[1].tobytes() if bits.any() else b""


def decode_mask(data: bytes) -> UInt8[np.ndarray, "h w"]:
    """The bits OUTSIDE and MOVING of every pixel; BadRecord when the bytes are no such mask."""
    import cv2

    try:
        bits = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        bits = None
    if bits is None or bits.ndim != 2 or bits.dtype != np.uint8 or (bits & ~np.uint8(OUTSIDE | MOVING)).any():
        what = "does not decode" if bits is None else f"is {bits.dtype} {bits.shape} with values to {bits.max()}"
        raise BadRecord(f"mask of {len(data)} bytes {what}, must be an 8-bit grey PNG of 0..3; build the records again")
    return bits
