"""What a pickle promises, held against its bytes before a machine reads it that takes memory for promises."""

import pickletools

_PLACES = ("PUT", "BINPUT", "LONG_BINPUT")  # in the list of what was read, which grows to the number of the place


def check_opcodes(data: bytes) -> None:
    """ValueError for content that is cut short, and for places beyond what so many bytes can fill. Nothing is made."""
    for code, argument, _ in pickletools.genops(data):
        if code.name in _PLACES and argument > len(data):
            raise ValueError(f"{code.name} {argument} in {len(data)} bytes")
