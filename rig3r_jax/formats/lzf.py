"""LZF, the compression of Marc Lehmann's liblzf, as PCD files have it: decoded into a size that is known beforehand.

A control byte c below 32 is followed by c + 1 bytes as they are. Any other is a copy of what was written before, of
n + 2 bytes with n = c >> 5, to which the next byte is added where n is 7; then comes the last byte of how far back the
copy begins: 1 + 256 (c & 31) + that byte.
"""


def decode_lzf(data: bytes, size: int) -> bytes:
    """The `size` bytes that were compressed; at most 264 more are ever held. ValueError where `data` is not their
    code."""
    out, at, end = bytearray(), 0, len(data)
    while at < end:
        control = data[at]
        at += 1
        if control < 32:
            length = control + 1
            if at + length > end:
                raise ValueError("ends within a run of bytes")
            out += data[at : at + length]
            at += length
        else:
            length = control >> 5
            if at + 1 + (length == 7) > end:
                raise ValueError("ends within a copy")
            if length == 7:
                length += data[at]
                at += 1
            length += 2
            start = len(out) - ((control & 31) << 8) - data[at] - 1
            at += 1
            if start < 0:
                raise ValueError("copies from before its start")
            piece = out[start : start + length]
            while len(piece) < length:  # the copy reaches into what it writes
                piece += piece[: length - len(piece)]
            out += piece
        if len(out) > size:
            raise ValueError(f"holds more than the {size} bytes that are stated")
    if len(out) != size:
        raise ValueError(f"holds {len(out)} of the {size} bytes that are stated")
    return bytes(out)
