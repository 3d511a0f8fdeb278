"""Views of images alone say what an evaluation without metadata says."""

import jax
import numpy as np

from rig3r_jax.evaluation.evaluator import apply_setting
from rig3r_jax.schema import Views
from tests.batches import random_batch


def test_views_of_images_are_those_of_which_no_metadata_is_given():
    views = jax.tree.map(np.asarray, random_batch(batch=2, views=3).views)
    hidden = apply_setting(views, "none").metadata
    alone = Views.of_images(views.images)
    assert alone.image_mask.all() and alone.image_mask.shape == views.images.shape[:4]
    np.testing.assert_array_equal(alone.metadata.frame_index, [[0, 1, 2], [0, 1, 2]])
    for name in ("camera_id", "time", "rig_from_camera", "intrinsics", "has_camera_id", "has_time", "has_rig"):
        np.testing.assert_array_equal(getattr(alone.metadata, name), getattr(hidden, name), err_msg=name)
        assert getattr(alone.metadata, name).dtype == getattr(hidden, name).dtype
