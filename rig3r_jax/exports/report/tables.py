"""The tables of the page: physical cameras, and images with their pictures."""

import math
from collections.abc import Sequence

import numpy as np

from rig3r_jax.exports.report.pictures import jpeg_data_uri
from rig3r_jax.exports.thumbnails import Thumbnails
from rig3r_jax.formats.html import DASH, escape, format_number, tag
from rig3r_jax.schema import LensLike, PhysicalCamera, PosedImage, Reconstruction

UNITS = {"metre": "m", "scene": "scene units"}
CAMERA_SOURCES = {  # in words: where a physical camera, its lens and its place in the rig come from
    "given": "given",
    "discovered": "predicted, by clustering the images",
    "fitted": "fitted",
}


def camera_table(reconstruction: Reconstruction) -> str:
    """A row for each physical camera: its lens, its place in the rig, and where these come from."""
    unit = UNITS[reconstruction.length_unit]
    counts = {camera.id: 0 for camera in reconstruction.cameras}
    for image in reconstruction.images:
        if image.camera is not None:
            counts[image.camera] += 1
    titles = ("Camera", "Images", "Lens", "fx", "fy", "cx", "cy", "Distortion", f"Place in the rig, {unit}", "From")
    return _table(titles, [_camera_row(camera, counts[camera.id]) for camera in reconstruction.cameras])


def image_table(reconstruction: Reconstruction, thumbnails: Thumbnails) -> str:
    """A row for each image; a button in it shows the scene from there."""
    unit = UNITS[reconstruction.length_unit]
    uncertain = any(image.covariance is not None for image in reconstruction.images)
    titles = ["Image", "Camera", "Time, s", "Size, px", f"Centre x y z, {unit}"]
    titles += [f"σ of the centre, {unit}", "σ of the direction, °"] if uncertain else []
    stated = any(image.pose_source is not None for image in reconstruction.images)
    titles += ["Pose from"] if stated else []
    titles += ["Lens"]
    rows = []
    for number, image in enumerate(reconstruction.images):
        camera = reconstruction.camera_of(image)
        cells = [
            _picture(number, image, thumbnails),
            escape(camera.name) if camera else DASH,
            format_number(image.time),
            f"{image.width} × {image.height}",
            " ".join(format_number(value) for value in image.world_from_camera[:3, 3].tolist()),
            *(standard_deviations(image) if uncertain else ()),
            *([image.pose_source or DASH] if stated else ()),
            ("its camera’s" if camera and camera.lens == image.lens else _lens(image.lens))
            + (f" ({image.lens_source})" if image.lens_source else ""),
        ]
        rows.append(cells)
    return _table(titles, rows)


def standard_deviations(image: PosedImage) -> tuple[str, str]:
    """Of the centre in the length unit and of the direction in degrees: roots of the traces of the covariance's blocks
    (root mean square of the length of the error); dashes where it is not known."""
    if image.covariance is None:
        return DASH, DASH
    variances = np.diag(image.covariance)
    centre, direction = (math.sqrt(max(float(part.sum()), 0.0)) for part in (variances[:3], variances[3:]))
    return format_number(centre, 3), format_number(math.degrees(direction), 3)


def _camera_row(camera: PhysicalCamera, count: int) -> list[str]:
    numbers = camera.lens.to_numbers() if camera.lens else {}
    focal = [format_number(numbers[name], 6) if numbers else DASH for name in ("fx", "fy", "cx", "cy")]
    place = DASH
    if camera.rig_from_camera is not None:
        place = " ".join(format_number(value) for value in camera.rig_from_camera[:3, 3].tolist())
    source = CAMERA_SOURCES[camera.source] + ("; its images have lenses of their own" if camera.lens is None else "")
    if camera.certainty is not None:
        source += f", certainty {format_number(camera.certainty, 2)}"
    kind = str(numbers.get("kind", DASH))
    return [escape(camera.name), str(count), kind, *focal, _distortion(camera.lens), place, escape(source)]


def _lens(lens: LensLike) -> str:
    numbers = lens.to_numbers()
    words = [str(numbers["kind"]), *(f"{name} {format_number(numbers[name], 6)}" for name in ("fx", "fy", "cx", "cy"))]
    distortion = _distortion(lens)
    return ", ".join([*words, *([distortion] if distortion != DASH else [])])


def _distortion(lens: LensLike | None) -> str:
    numbers = lens.to_numbers() if lens else {}
    names = [name for name in numbers if name not in ("kind", "fx", "fy", "cx", "cy")]
    return " ".join(f"{name} {format_number(numbers[name])}" for name in names) or DASH


def _picture(number: int, image: PosedImage, thumbnails: Thumbnails) -> str:
    content, picture = escape(image.name), thumbnails.pictures.get(number)
    if picture is not None:
        height, width = picture.shape[:2]
        content = f'<img alt="" width="{width}" height="{height}" src="{jpeg_data_uri(picture)}">{content}'
    return tag("button", content, type="button", class_="image", data_image=number)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are markup; the first of a row is its heading."""
    head = tag("tr", "".join(tag("th", escape(title), scope="col") for title in titles))
    body = "".join(
        tag("tr", tag("th", row[0], scope="row") + "".join(tag("td", cell) for cell in row[1:])) for row in rows
    )
    return tag("div", tag("table", tag("thead", head) + tag("tbody", body)), class_="scroll", tabindex=0)
