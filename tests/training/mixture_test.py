"""The paper's config over many data sets at once: real recordings and written ones of every lens, tiny."""

import json

import pytest

from rig3r_jax import cli
from tests.data.kitti_drives import write_360, write_raw
from tests.data.nuscenes_drive import write_nuscenes
from tests.data.waymo_drive import write_v2
from tests.data.written.argoverse2 import write_argoverse2
from tests.data.written.pandaset import write_pandaset
from tests.data.written.vkitti2 import write_vkitti2

STEPS = 20


def roots(shared, folder):
    """Folders of eight data sets: pinholes, Brown's lenses (waymo) and fisheyes (kitti360), rigs and single cameras."""
    written = {"nuscenes": write_nuscenes, "kitti360": write_360, "kitti_raw": write_raw}
    written |= {"argoverse2": write_argoverse2, "pandaset": write_pandaset, "vkitti2": write_vkitti2}
    for name, write in written.items():
        (folder / name).mkdir()
        write(folder / name)
    (folder / "waymo").mkdir()
    write_v2(folder / "waymo", lidar=False)
    return {name: folder / name for name in (*written, "waymo")} | {"ddad": shared / "realdata/ddad_dgp_rig"}


@pytest.mark.slow
def test_the_paper_s_config_trains_over_eight_data_sets_at_once(shared, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    of_sets = roots(shared, tmp_path / "data")
    flags = [f"--config.data.roots.{name}={root}" for name, root in of_sets.items()]
    flags += ["--config=full", "--config.data.skip_missing=True", "--config.data.max_bad_fraction=1.0"]
    flags += ["--config.data.build_workers=1", "--config.data.threads=2", "--workdir=run"]
    flags += ["--config.sampling.num_views=2", "--config.sampling.image_size=32", "--config.mesh.data=1"]
    flags += ["--config.train.batch_size=4", f"--config.train.steps={STEPS}", "--config.train.log_every=5"]
    flags += ["--config.model.variant=tiny", "--config.model.dtype=float32", "--config.model.unroll=False"]
    flags += ["--config.evaluation.enabled=False", "--config.optimizer.warmup_steps=5"]
    flags += ["--config.train.event_writer=tensorboard", "--config.model.point_head=linear"]
    assert cli.main(["train", *flags]) == 0, capfd.readouterr()
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    logged = [row for row in rows if "loss/total" in row]
    assert logged[-1]["step"] == STEPS and all(row["loss/total"] < 100 for row in logged)
    drawn = {name: sum(row[f"data/samples/{name}"] for row in logged) for name in of_sets}
    assert sum(drawn.values()) == 4 * STEPS and sum(count > 0 for count in drawn.values()) >= 6, drawn
