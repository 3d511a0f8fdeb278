"""An object in the layout of MVImgNet, its COLMAP model in text."""

import numpy as np

from tests.data.written.scenery import Taken, Written, pinhole_pixels, quat_wxyz, write_image
from tests.data.written.singles import SIZE, camera_at, camera_from_world

FX, CX, CY, K1 = 70.0, 32.0, 24.0, -0.05
# In the world; error and number of images that show it. The last two are no depth: too large an error, too few images.
POINTS = (
    ((0.2, -0.8, 12.0), 0.5, 4),
    ((0.9, -1.5, 11.0), 1.5, 4),
    ((0.0, -1.0, 13.0), 9.0, 4),
    ((0.5, -0.5, 12.5), 0.3, 2),
)


def bent(pixel):
    """COLMAP's SIMPLE_RADIAL: a factor 1 + k1 r^2 on the plane at 1."""
    x, y = (pixel[0] - CX) / FX, (pixel[1] - CY) / FX
    factor = 1 + K1 * (x * x + y * y)
    return FX * factor * x + CX, FX * factor * y + CY


def write_mvimgnet(root):
    taken, folder, count = [], root / "0/0f01c3e5", 4
    images, tracks = "# Image list\n", {number: [] for number in range(len(POINTS))}
    for number in range(count):
        centre, axes = camera_at(number)
        matrix = camera_from_world(centre, axes)
        seen = []
        for point, (place, _, views) in enumerate(POINTS):
            if number < views:
                (pixel,) = pinhole_pixels([np.array(place)], centre, axes, FX, FX, CX, CY)
                tracks[point].append((number + 1, len(seen)))
                seen.append((*bent(pixel), point + 1))
        numbers = [float(value) for value in (*quat_wxyz(matrix[:3, :3]), *matrix[:3, 3])]
        name = f"{number + 1:03d}.jpg"
        images += f"{number + 1} {' '.join(map(repr, numbers))} 1 {name}\n"
        images += (
            " ".join(f"{u!r} {v!r} {point}" for u, v, point in ((float(u), float(v), p) for u, v, p in seen)) + "\n"
        )
        write_image(folder / "images" / name, SIZE, number)
        places = np.array([place for place, *_ in POINTS])
        pixels = np.array([bent(pixel) for pixel in pinhole_pixels(places, centre, axes, FX, FX, CX, CY)])
        taken.append(Taken("camera", float(number), centre, axes, places, pixels))
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text(f"# Camera list\n1 SIMPLE_RADIAL 64 48 {FX} {CX} {CY} {K1}\n")
    (model / "images.txt").write_text(images)
    points = "# Points\n"
    for point, (place, error, _) in enumerate(POINTS):
        track = " ".join(f"{image} {index}" for image, index in tracks[point])
        points += f"{point + 1} {' '.join(map(str, place))} 200 100 50 {error} {track}\n"
    (model / "points3D.txt").write_text(points)
    return Written(root, taken, "camera")
