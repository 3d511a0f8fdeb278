"""The count of operations, part by part, against a count made elsewhere."""

import re
import subprocess
import sys

import pytest

from rig3r_jax.models.rig3r import build
from rig3r_jax.training.rig3r.flops import attention_flops, forward_flops, forward_parts

FULL = {"variant": "large", "point_head": "dpt", "backend": "cpu"}


def test_parts_add_up_and_grow_as_their_work_does():
    model = build(**FULL)
    few, many = (forward_parts(model, views, 512, 512) for views in (6, 24))
    assert sum(many.values()) == forward_flops(model, 24, 512, 512)
    assert many.keys() == few.keys() and all(value >= 0 for value in few.values())
    grows = {name: many[name] / few[name] for name in many if few[name]}
    assert grows.pop("decoder_attention") == pytest.approx(16)
    assert set(grows.values()) == {4.0}
    assert few["decoder_embed"] == 0 < forward_parts(build(**FULL, decoder_width=512), 6, 512, 512)["decoder_embed"]
    assert attention_flops(1024, 64) == 4 * 1024 * 1024 * 64


@pytest.mark.parametrize("views", [8, 24])
def test_golden_roofline_counts_the_same(shared, views):
    """The linear layers there have a projection from encoder to decoder that we have for unequal widths only."""
    command = [sys.executable, str(shared / "roofline.py"), str(views)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("===")[2]
    theirs = {name.strip(): float(value) for name, value in re.findall(r"^([\w ]+?) +([\d.]+) TFLOP fwd", told, re.M)}
    parts = {name: value / 1e12 for name, value in forward_parts(build(**FULL), views, 512, 512).items()}
    ours = {
        "encoder linear": parts["encoder_linear"] + parts["patch_embed"],
        "encoder attention": parts["encoder_attention"],
        "decoder linear": parts["decoder_linear"],
        "decoder attention": parts["decoder_attention"],
        "heads": parts["point_head"] + parts["ray_heads"],
        "FORWARD total": sum(parts.values()),
    }
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=0.01, abs=0.006), name  # they print two decimals
