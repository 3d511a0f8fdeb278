"""The choices between records and batches, with their defaults; the sections of a config are made from these fields.

Nothing heavy is imported here: a config is read, and a model built, without the packages that read records.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

KINDS = ("varied", "consecutive", "two_cluster")  # of windows
GREY = 128  # of images that show nothing
AUTO, LENS_KINDS = "auto", ("pinhole", "brown", "fisheye", "unified")


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """What may happen to one view. `1 +- x` means a factor uniform in [1 - x, 1 + x]; zeros and (1, 1) switch off."""

    image_size: int = 512  # pixels; images are padded to a square of this side
    aspect_range: tuple[float, float] = (0.5, 2.0)  # width / height of a centred crop over the image's, log-uniform
    crop_scale_range: tuple[float, float] = (0.7, 1.0)  # side of the crop over the largest crop of its aspect
    shared_crops: bool = True  # images of one camera are cropped alike, so that they share intrinsics; or each its own
    brightness: float = 0.2  # 1 +- x
    contrast: float = 0.2  # 1 +- x, about the image's mean luma
    saturation: float = 0.2  # 1 +- x
    hue: float = 0.1  # radians, +- x about the grey axis
    blur_probability: float = 0.1  # per frame
    blur_sigma_range: tuple[float, float] = (0.3, 1.5)  # pixels of the finished view
    moving_points: bool = False  # whether points of what moves, where data sets tell it, count as known depth
    max_pixels: int = 2**27  # to which an image may be decoded; a JPEG is decoded smaller first, others are refused

    def problems(self) -> list[str]:
        """One line for every value that cannot be used: key, value, rule."""
        rules = [("image_size", self.image_size >= 1, "at least 1"), ("max_pixels", self.max_pixels >= 1, "at least 1")]
        for key in ("aspect_range", "crop_scale_range", "blur_sigma_range"):
            low, high = getattr(self, key)
            rules.append((key, 0 < low <= high, "0 < low <= high"))
        rules.append(("crop_scale_range", self.crop_scale_range[1] <= 1, "at most 1"))
        for key in ("brightness", "contrast", "saturation", "blur_probability"):
            rules.append((key, 0 <= getattr(self, key) <= 1, "in [0, 1]"))
        rules.append(("hue", 0 <= self.hue <= math.pi, "in [0, pi]"))
        return [f"{key}={getattr(self, key)!r} must be {rule}" for key, holds, rule in rules if not holds]


@dataclasses.dataclass(frozen=True)
class PipelineOptions(ViewOptions):
    """Every choice between records and batches; ValueError naming all values that cannot be used."""

    num_views: int = 24  # images per sample
    grids: Sequence[Sequence[int]] = ()  # allowed (time steps, cameras) of a sample; (): any that covers num_views
    min_cameras: int = 1  # of a sample, without `grids`
    max_cameras: int = 8  # of a sample, without `grids`
    min_stride: int = 1  # least distance of one drawn time step from the next, in steps of the recording
    max_stride: int = 4  # largest distance between them
    min_seconds: float = 0.0  # least distance of one drawn time step from the next, where max_seconds is not 0
    max_seconds: float = 0.0  # largest, in place of strides in steps; 0: strides in steps. For sets of different rates
    overlapping: float = 0.0  # share of samples of which each camera sees something that another one sees, if it can be
    apart: float = 0.0  # share of samples of which no camera sees what another one sees, if it can be
    # Of scenes whose frames have no order, such as photographs: the least share of what a frame shows that another one
    # of the sample shows too. Frames are drawn by that, not by time steps; 0: by time steps, as of recordings.
    covisible: float = 0.1
    shuffled: bool = True  # frames in random order; or by time, the front camera first, so that it is the reference
    metadata_dropout: float = 0.5  # probability that a field is hidden, per sample and field
    blank_images: bool = False  # all grey, in training and evaluation: what can be learnt without seeing anything
    frame_index_pool: int = 100  # images beside the reference, which has 0, draw distinct indices of 1..pool
    camera_id_range: int = 1000  # cameras of a sample draw distinct ids of 0..range-1
    max_bad_fraction: float = 0.05  # of draws that cannot be used, above which the run stops
    min_draws: int = 100  # draws before that fraction is looked at
    # Kinds of lenses that a batch's arrays can hold, joined by commas, such as "brown,fisheye"; auto: those that occur.
    lenses: str = AUTO
    ordered: bool = False  # sample n comes from record n mod the number of records

    def __post_init__(self):
        problems = self.problems()
        rules = [
            ("num_views", 1 <= self.num_views <= self.frame_index_pool + 1, "at least 1, at most frame_index_pool + 1"),
            ("min_cameras", 1 <= self.min_cameras <= self.max_cameras, "at least 1, at most max_cameras"),
            ("max_cameras", self.max_cameras <= self.camera_id_range, "at most camera_id_range"),
            ("min_stride", 1 <= self.min_stride <= self.max_stride, "at least 1, at most max_stride"),
            ("max_seconds", 0 <= self.min_seconds <= self.max_seconds < math.inf, "finite, at least min_seconds >= 0"),
            ("overlapping", min(self.overlapping, self.apart) >= 0, "not negative, nor apart"),
            ("apart", self.overlapping + self.apart <= 1, "at most 1 - overlapping"),
            ("covisible", 0 <= self.covisible <= 1, "in [0, 1]"),
            ("metadata_dropout", 0 <= self.metadata_dropout <= 1, "in [0, 1]"),
            ("max_bad_fraction", 0 <= self.max_bad_fraction <= 1, "in [0, 1]"),
            (
                "lenses",
                self.lenses == AUTO or set(self.lenses.split(",")) <= set(LENS_KINDS),
                f"{AUTO}, or kinds of {', '.join(LENS_KINDS)} joined by commas",
            ),
            ("grids", all(t * c >= self.num_views and c >= 1 for t, c in self.grids), "times x cameras >= num_views"),
        ]
        problems += [f"{key}={getattr(self, key)!r} must be {rule}" for key, holds, rule in rules if not holds]
        if problems:
            raise ValueError("pipeline options: " + "; ".join(problems) + "; change these keys")

    def draw(self) -> dict[str, Any]:
        """What `sampling.draw_frames` and `sampling.can_fill` take of these."""
        names = ("num_views", "max_cameras", "min_cameras", "max_stride", "min_stride", "grids")
        names += ("min_seconds", "max_seconds", "overlapping", "apart", "covisible")
        return {name: getattr(self, name) for name in names}

    def for_evaluation(self) -> "PipelineOptions":
        """The same without augmentation, with all metadata, records in order."""
        plain = {"aspect_range": (1.0, 1.0), "crop_scale_range": (1.0, 1.0), "metadata_dropout": 0.0, "ordered": True}
        plain |= dict.fromkeys(("brightness", "contrast", "saturation", "hue", "blur_probability"), 0.0)
        plain |= dict.fromkeys(("shared_crops", "shuffled"), True)  # the same samples for runs trained either way
        return dataclasses.replace(self, **plain)


@dataclasses.dataclass(frozen=True)
class WindowOptions:
    """What windows are drawn, and in what ratio; the ratios need not sum to 1."""

    views: int = 8  # frames of a window
    varied: float = 1.0  # ratio of windows of distinct frames around a random one
    consecutive: float = 0.0  # ratio of windows of every stride-th frame
    two_cluster: float = 0.0  # ratio of windows that join two visits of one place
    reach: int = 16  # frames, of varied windows
    stride: int = 1  # frames, of consecutive windows
    max_metres: float = 0.3  # between the frames of a revisit
    max_degrees: float = 15.0  # between them
    min_gap: int = 100  # frames between them; at least `views`

    def __post_init__(self) -> None:
        ratios = {kind: getattr(self, kind) for kind in KINDS}
        rules = [
            (min(ratios.values()) >= 0 and 0 < sum(ratios.values()) < math.inf, f"{ratios}", "not negative, not all 0"),
            (self.views >= 2, f"views={self.views}", "at least 2"),
            (self.reach >= self.views - 1, f"reach={self.reach}", f"at least views - 1 = {self.views - 1}"),
            (self.stride >= 1, f"stride={self.stride}", "at least 1"),
            (self.min_gap >= self.views, f"min_gap={self.min_gap}", f"at least views = {self.views}"),
            (min(self.max_metres, self.max_degrees) > 0, "max_metres and max_degrees", "positive"),
        ]
        problems = [f"{what} must be {rule}" for holds, what, rule in rules if not holds]
        if problems:
            raise ValueError("window options: " + "; ".join(problems))

    @property
    def frames_needed(self) -> int:
        """Of a sequence, for windows of every kind to fit."""
        return (self.views - 1) * self.stride + 1 if self.consecutive else self.views
