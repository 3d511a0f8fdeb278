"""A category in the layout of CO3D v2: PyTorch3D's cameras in both conventions of normalised coordinates."""

import gzip
import json

import cv2
import numpy as np

from tests.data.written.scenery import Written, write_image
from tests.data.written.singles import camera_at, taken_at, write_png16

HEIGHT, WIDTH = 48, 64
FX, FY, CX, CY = 70.0, 72.0, 33.0, 22.0


def viewpoint(number, convention):
    """By what PyTorch3D documents: x_camera = x_world R + T, columns of R being the camera's left, up and forward."""
    centre, axes = camera_at(number)
    left_up_forward = np.stack([-axes[:, 0], -axes[:, 1], axes[:, 2]], axis=1)
    by = (WIDTH / 2, HEIGHT / 2) if convention == "ndc_norm_image_bounds" else (min(WIDTH, HEIGHT) / 2,) * 2
    return {
        "R": left_up_forward.tolist(),
        "T": (-centre @ left_up_forward).tolist(),
        "focal_length": [FX / by[0], FY / by[1]],
        "principal_point": [(WIDTH / 2 - CX) / by[0], (HEIGHT / 2 - CY) / by[1]],
        "intrinsics_format": convention,
    }


def write_co3d(root):
    """Depth of 3 units by a factor of a half, but in pixels that the mask or a zero leaves out."""
    taken, entries, lists, category = [], [], {"train": [], "val": [], "test": []}, root / "apple"
    sequences = (
        ("110_13051_23361", "train", "ndc_norm_image_bounds", 4),
        ("189_20393_38136", "test", "ndc_isotropic", 3),
    )
    for sequence, split, convention, count in sequences:
        for number in range(1, count + 1):
            path = f"apple/{sequence}/images/frame{number:06d}.jpg"
            depth = f"apple/{sequence}/depths/frame{number:06d}.jpg.geometric.png"
            mask = f"apple/{sequence}/depth_masks/frame{number:06d}.png"
            write_image(root / path, (HEIGHT, WIDTH), number)
            halves = np.full((HEIGHT, WIDTH), 6.0, np.float16)
            halves[0, 0] = 0
            write_png16(root / depth, halves.view(np.uint16))
            known = np.full((HEIGHT, WIDTH), 255, np.uint8)
            known[1, 1] = 0
            (root / mask).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / mask), known)
            entries.append(
                {
                    "sequence_name": sequence,
                    "frame_number": number,
                    "frame_timestamp": number / 10 if split == "train" else -1.0,
                    "image": {"path": path, "size": [HEIGHT, WIDTH]},
                    "depth": {"path": depth, "scale_adjustment": 0.5, "mask_path": mask},
                    "mask": {"path": "none", "mass": 1.0},
                    "viewpoint": viewpoint(number, convention),
                    "meta": {},
                }
            )
            lists[split].append([sequence, number, path])
            time = number / 10 if split == "train" else float(number)
            taken.append(taken_at("camera", number, time, FX, FY, CX, CY, sequence))
    (category / "frame_annotations.jgz").write_bytes(gzip.compress(json.dumps(entries).encode()))
    (category / "set_lists").mkdir()
    (category / "set_lists/set_lists_fewview_dev.json").write_text(json.dumps(lists))
    return Written(root, taken, "camera")
