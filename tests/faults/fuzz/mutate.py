"""Damage of a file, a function of a seed: bytes as disks and networks leave them, values as people write them."""

import json
import random
import re
import zlib
from typing import Any

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_WORDS = ("nan", "inf", "-1", "0", "1e400", "1e300", "-0.0", "x", "", "1,5", "999999999999999999999", "../../x", "\x00")
_VALUES = (None, True, -1, 0, 1e400, 1e300, float("nan"), 10**30, "x", "", "1.5", [], {}, [[]], ["x", None], {"x": 1})
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Another content, of about the same size; rarely the same."""
    ways = [_flip, _overwrite, _cut, _cut_out, _repeat, _integer, _zeros]
    if _is_text(data):
        ways += [_word, _word, _line, _line]
        if data.lstrip()[:1] in (b"{", b"["):
            ways += [_json] * 6
    elif data.startswith(b"\x89PNG"):
        ways += [_png] * 3
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(ways)(data, rng) or data
    return data


def _is_text(data: bytes) -> bool:
    return not data[:4096].translate(None, bytes(range(32, 127)) + b"\t\r\n")


def _place(data: bytes, rng: random.Random) -> int:
    """Anywhere, headers more often."""
    return rng.randrange(max(len(data), 1) if rng.random() < 0.5 else max(min(len(data), 256), 1))


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 16))) + data[at + 4 :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _cut_out(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 4, 64)) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at, count = _place(data, rng), rng.choice((1, 8, 100))
    return data[: at + count] + data[at:]


def _zeros(data: bytes, rng: random.Random) -> bytes:
    at, count = _place(data, rng), rng.choice((4, 64, 4096))
    return data[:at] + bytes(min(count, len(data) - at)) + data[at + count :]


def _integer(data: bytes, rng: random.Random) -> bytes:
    """A size or count that lies."""
    size, at = rng.choice((1, 2, 4, 8)), _place(data, rng)
    value = (rng.choice(_EXTREMES) % 256**size).to_bytes(size, rng.choice(("little", "big")))
    return data[:at] + value + data[at + size :]


def _word(data: bytes, rng: random.Random) -> bytes:
    numbers = list(_NUMBER.finditer(data))
    if not numbers:
        return data
    number = rng.choice(numbers)
    return data[: number.start()] + rng.choice(_WORDS).encode() + data[number.end() :]


def _line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.randrange(4)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(at, lines[other])
    elif way == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = b" ".join(lines[at].split()[: rng.randrange(4)])
    return b"\n".join(lines)


def _json(data: bytes, rng: random.Random) -> bytes:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return data
    holder = {"": tree}
    _damage_node(holder, rng)
    try:
        return json.dumps(holder.get("")).encode()
    except ValueError:
        return data


def _damage_node(holder: Any, rng: random.Random) -> None:
    """Goes down at random, then changes one value or key."""
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = rng.choice(keys)
        child = holder[key]
        if isinstance(child, dict | list) and child and rng.random() < 0.9:
            holder = child
            continue
        way = rng.random()
        if way < 0.2:
            del holder[key]
        elif way < 0.3 and isinstance(holder, dict):
            holder[f"{key}_"] = holder.pop(key)
        elif way < 0.4 and isinstance(holder, list):
            holder.append(child)
        else:
            holder[key] = rng.choice(_VALUES)
        return


def _png(data: bytes, rng: random.Random) -> bytes:
    """Another size in the header, with its checksum."""
    header = bytearray(data[12:29])
    at, value = rng.choice((4, 8)), rng.choice((0, 1, 40_000, 2**20, 2**31 - 1, 2**32 - 1))
    header[at : at + 4] = value.to_bytes(4, "big")
    return data[:12] + bytes(header) + zlib.crc32(header).to_bytes(4, "big") + data[33:]
