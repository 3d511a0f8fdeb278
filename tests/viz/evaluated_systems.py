"""Systems of files to make a page of: three scenes of a rig, a system that is nearly right and one that is not."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.summary import evaluate_systems
from rig3r_jax.exports.export import export
from rig3r_jax.viz.systems.page import write_page
from tests.evaluation.systems.system_scores_test import shaken
from tests.exports.reconstructions import rig_of_three

SCENES = ("s0", "s1", "<script>alert(1)</script>".replace("/", "-"))  # a name that must be escaped
NEAR, FAR = "near", "far & <b>away<b>"
SIGMA = 0.05


def write_systems(root: Path) -> Path:
    """The folder of truth/, and of a folder for each system; images are at hand."""
    for number, scene in enumerate(SCENES):
        truth = dataclasses.replace(rig_of_three("pinhole"), image_folder=str(root / "images"))
        for row, image in enumerate(truth.images):
            path = root / "images" / image.name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (image.width, image.height), (20 * row, 90, 200)).save(path)
        export(truth, root / "truth" / scene, ["cameras", "npz"])
        for name, size in ((NEAR, 0.02 * (number + 1)), (FAR, 0.3)):
            system = shaken(truth, seed=number, size=size)
            images = [dataclasses.replace(image, covariance=SIGMA**2 * np.eye(6)) for image in system.images]
            kept = tuple(images if name == NEAR else images[:-1])
            points = system.points
            if name == FAR:
                fields = {field.name: getattr(points, field.name) for field in dataclasses.fields(points)}
                points = type(points)(**{key: one if one is None else one[:-1] for key, one in fields.items()})
            export(dataclasses.replace(system, images=kept, points=points), root / name / scene, ["cameras", "npz"])
    return root


def write_example(root: Path) -> tuple[Path, object]:
    """The page of these systems, and the evaluation that it is of."""
    folder = write_systems(root)
    evaluation = evaluate_systems([folder / NEAR, folder / FAR], folder / "truth", SystemOptions(resamples=100))
    out = root / "out"
    out.mkdir()
    chart = out / "chart.png"
    Image.new("RGB", (60, 30)).save(chart)
    write_page(out / "report.html", evaluation, [chart])
    return out / "report.html", evaluation
