"""A rig's photographs, and a model that knows the truth of them."""

import cv2
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole
from rig3r_jax.geometry.estimate import estimate_of
from rig3r_jax.inference.options import ReconstructOptions
from rig3r_jax.inference.photographs import read_upright, usable
from rig3r_jax.inference.plan import plan
from rig3r_jax.inference.reconstruct import reconstruct
from rig3r_jax.inference.seen import fitted_crop, seen_image
from rig3r_jax.schema import Predictions

SIDE, RAYS, POINTS, Z_BAR = 64, 8, 16, 9.0
SIZES = {"front": (90, 120), "left": (120, 80), "back": (100, 100)}  # height, width; the second is upright
LENSES = {
    "front": Pinhole(np.array([[95.0, 0, 58.0], [0, 96.0, 47.0], [0, 0, 1]])),
    "left": Brown(np.array([[80.0, 0, 41.0], [0, 80.0, 58.0], [0, 0, 1]]), np.array([-0.2, 0.05, 0.001, -0.001, 0.0])),
    "back": Fisheye(np.array([[40.0, 0, 50.0], [0, 40.0, 50.0], [0, 0, 1]]), np.array([0.02, -0.01, 0.0, 0.0])),
}


def transform(yaw, x, y, z):
    rotation = Rotation.from_euler("yx", [yaw, 3.0], degrees=True).as_matrix()
    return rigid.from_rotation_translation(rotation, np.array([x, y, z], float))


PLACES = {"front": np.eye(4), "left": transform(-70, -0.8, 0.1, -0.4), "back": transform(175, 0.1, -0.2, -2.1)}
RIG = RigCalibration(
    tuple(CalibratedCamera(name, LENSES[name], SIZES[name], PLACES[name]) for name in SIZES), "the front camera"
)


def write_rig_images(folder, steps=2):
    """Steps of three cameras; the left camera's files lie on their side and say so in EXIF."""
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        (folder / "images" / name).mkdir(parents=True)
        for step in range(steps):
            small = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
            image = Image.fromarray(cv2.resize(small, (width, height)))
            exif = Image.Exif()
            if name == "left":
                image = image.transpose(Image.Transpose.ROTATE_90)
                exif[0x0112] = 6  # turn clockwise to show
            image.save(folder / "images" / name / f"{step:03d}.png", exif=exif)
    return folder


class Truth:
    """A model that predicts the true cameras of the images of `photographs`, `noise` metres off, in the frame of the
    first image of a pass and in a unit of its own, and points at a fixed distance. It knows images by their pixels."""

    name, licence, usual_views, takes_rig, fill = "truth", None, 6, True, 0
    notes, most_views, describe, digest = (), None, None, "truth"

    def __init__(self, photographs, world_from_camera, rig_from_camera, lenses, noise=0.0):
        self.poses, self.rig, self.lenses = world_from_camera.copy(), rig_from_camera, lenses
        self.poses[1:, :3, 3] += np.random.default_rng(1).normal(scale=noise, size=(len(self.poses) - 1, 3))
        seen = [seen_image(read_upright(photograph), (SIDE, SIDE))[0] for photograph in photographs]
        self.row_of = {image.tobytes(): row for row, image in enumerate(seen)}
        self.seen, self.passes = None, 0

    def input_size(self, sizes):
        return SIDE, SIDE

    def peak_bytes(self, views, size):
        return 1000 * views

    def estimate(self, views, lenses, wide):
        return estimate_of(self.predict(views), views.image_mask, lenses, wide, alpha=0.2)

    def predict(self, views):
        self.seen, self.passes = views, self.passes + 1
        rows = [self.row_of[image.tobytes()] for image in views.images]
        unit = Z_BAR * (1 + 0.1 * (self.passes - 1))
        first = rigid.invert(self.poses[rows[0]])
        cells = (np.arange(RAYS) + 0.5) * SIDE / RAYS
        pixels = np.arange(POINTS) * (SIDE // POINTS) + SIDE // POINTS // 2 + 0.5
        directions, rig_directions, points = [], [], []
        for pose, place, lens in ((self.poses[row], self.rig[row], self.lenses[row]) for row in rows):
            rays = lens.rays(np.stack(np.meshgrid(cells, cells), axis=-1))
            directions.append(rays @ (first @ pose)[:3, :3].T)
            rig_directions.append(rays @ place[:3, :3].T)
            away = 5.0 * lens.rays(np.stack(np.meshgrid(pixels, pixels), axis=-1))
            points.append(rigid.apply(first @ pose, away.reshape(-1, 3)).reshape(POINTS, POINTS, 3))
        centers = (first @ self.poses[rows])[:, :3, 3]
        return Predictions(
            points=np.stack(points) / unit,
            confidence=np.ones((len(rows), POINTS, POINTS)),
            pose_directions=np.stack(directions),
            pose_center=centers / unit,
            rig_directions=np.stack(rig_directions),
            rig_center=self.rig[rows][:, :3, 3] / unit,
        )


def drive(photographs, noise=0.0):
    """(world_from_camera of every photograph, the model that knows them)."""
    steps = [transform(8 * step, 0.3 * step, 0, 1.7 * step) for step in range(1 + photographs[-1].step)]
    places = np.stack([PLACES[photograph.camera] for photograph in photographs])
    poses = np.stack([steps[photograph.step] @ PLACES[photograph.camera] for photograph in photographs])
    seen = []
    for photograph in photographs:
        crop = fitted_crop(*SIZES[photograph.camera], (SIDE, SIDE))
        scale_u, scale_v = crop.seen_width / crop.width, crop.seen_height / crop.height
        seen.append(LENSES[photograph.camera].crop(crop.left, crop.top).resize(scale_u, scale_v))
    return poses, Truth(photographs, poses, places, seen, noise)


def reconstructed(model, folder, photographs, known, **options):
    """By a plan of its own."""
    sizes, _ = usable(photographs)
    how = ReconstructOptions(**options)
    planned = plan(model, [sizes[one.name] for one in photographs], how)
    return reconstruct(model, folder, photographs, known, planned, how)
