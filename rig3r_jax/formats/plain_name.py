"""Names in files of others that become paths of files of ours."""

import re
import typing


def check_plain_name(where: str, name: typing.Any) -> None:
    """ValueError unless a name is a relative path with forward slashes, no step upwards and no control characters."""
    safe = isinstance(name, str) and name and name.isprintable() and "\\" not in name
    if not safe or re.match(r"[A-Za-z]:", name) or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"{where}: name {name!r} is no plain relative path; use names such as front/000.jpg")
