"""Which image a file means by a name: paths of other folders, other machines, without suffixes."""

import typing
from collections.abc import Iterable, Mapping, Sequence

from rig3r_jax.data.sources.folder.images import SUFFIXES
from rig3r_jax.formats.text import with_slashes

Value = typing.TypeVar("Value")


def match_names(listed: Iterable[str], images: Sequence[str], path: object) -> dict[str, str]:
    """The image that each of the listed names is of, for those that are of one.

    A listed path and an image's name are of one file where the shorter one ends the longer one, folder by folder:
    `../images/front/0.jpg` and `front/0.jpg`, `0.jpg` and `shots/0.jpg`, where no other image ends so. A listed name
    without a suffix of images is of the image that is named so but for its suffix. Names are compared, never opened.
    ValueError naming `path` where two are of one image.
    """
    exact = {image: image for image in images}
    bare = _only((image.rpartition(".")[0], image) for image in images)
    endings = _only((ending, image) for image in images for ending in _endings(image))
    bare_endings = _only((ending, image) for stem, image in bare.items() for ending in _endings(stem))
    matched: dict[str, str] = {}
    name_of: dict[str, str] = {}
    for name in listed:
        parts = [part for part in with_slashes(name).split("/") if part not in ("", ".", "..")]
        plain = "/".join(parts)
        image = _image_of(plain, exact, endings)
        if image is None and not plain.lower().endswith(SUFFIXES):
            image = _image_of(plain, bare, bare_endings)
        if image is None:
            continue
        if (before := name_of.setdefault(image, name)) != name:
            raise ValueError(f"{path}: both {before} and {name} are the image {image}; remove one of them")
        matched[name] = image
    return matched


def of_images(
    values: Mapping[str, Value], images: Sequence[str], path: object, what: str
) -> tuple[dict[str, Value], list[str]]:
    """What a file says, by the names of the images, and a note on how many it is of.

    ValueError naming the file where its names are of no image, or two are of one.
    """
    matched = match_names(values, images, path)
    if not matched:
        some = ", ".join(list(values)[:3])
        raise ValueError(
            f"{path}: its names, such as {some}, are of none of the {len(images)} images, such as "
            f"{', '.join(images[:3])}; name both alike"
        )
    others = [name for name in values if name not in matched]
    note = f"{what} of {len(matched)} of {len(images)} images"
    note += f"; {len(others)} others are of no image here, such as {others[0]}" if others else ""
    return {image: values[name] for name, image in matched.items()}, [note]


def _image_of(path: str, exact: Mapping[str, str], endings: Mapping[str, str]) -> str | None:
    """The image of that very name, else the only one that ends so, else the one that its own end is."""
    own_ends = (exact[ending] for ending in _endings(path) if ending in exact)
    return exact.get(path) or endings.get(path) or next(own_ends, None)


def _endings(name: str) -> list[str]:
    """The name and what is left of it without its first folders, the longest first."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _only(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The value of each key that has one alone."""
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    return {key: images[0] for key, images in values.items() if len(images) == 1}
