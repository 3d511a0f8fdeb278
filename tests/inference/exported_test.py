"""Networks that run without the code of their models say what the models say."""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny_models import views_of

from rig3r_jax import cli
from rig3r_jax.inference.models.open import open_model
from rig3r_jax.inference.models.protocol import Model


def test_an_exported_network_is_its_model(exported):
    for source, folder in exported.items():
        model, network = open_model(source), open_model(folder)
        assert isinstance(network, Model) and network.most_views == 3 and network.describe is None
        told = ("name", "licence", "notes", "usual_views", "takes_rig", "fill")
        assert [getattr(network, name) for name in told] == [getattr(model, name) for name in told]
        views = views_of(3, *network.input_size([(9, 9)]))
        ours, theirs = (m.estimate(views, [None] * 3, [False] * 3) for m in (network, model))
        for field in dataclasses.fields(ours):
            if isinstance(getattr(ours, field.name), np.ndarray):
                expected = getattr(theirs, field.name)
                np.testing.assert_allclose(
                    getattr(ours, field.name), expected, rtol=2e-3, atol=1e-4, err_msg=field.name
                )
        few = jax.tree.map(lambda leaf: leaf[:2], views)
        assert network.estimate(few, [None] * 2, [False] * 2).points.shape[0] == 2
        with pytest.raises(ValueError, match="takes 3 images a pass, not 4"):
            network.estimate(views_of(4, *network.input_size([])), [None] * 4, [False] * 4)
        assert network.peak_bytes(2, (1, 1)) > 0


def test_the_loader_of_an_exported_readme_needs_no_code_of_ours(exported, vggt_file, rig3r_run):
    for source in (vggt_file, rig3r_run):
        folder, model = exported[source], open_model(source)
        readme = (folder / "README.md").read_text()
        size = open_model(folder).input_size([])
        inputs = model.reading.inputs(views_of(3, *size))
        np.savez(folder / "inputs.npz", **inputs)
        (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        blocked = "import sys\nfor name in ('rig3r_jax', 'flax'):\n    sys.modules[name] = None\n"
        kept = "\nnp.savez('outputs.npz', **outputs)\n"
        done = subprocess.run(
            [sys.executable, "-c", blocked + code + kept], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        expected = model.outputs(views_of(3, *size))
        manifest = json.loads((folder / "model.json").read_text())
        with np.load(folder / "outputs.npz") as outputs:
            assert set(outputs) == set(expected) == set(manifest["outputs"])
            for name, value in expected.items():
                np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_an_exported_network_opens_where_no_model_can_be_imported(exported, rig3r_head):
    code = (
        "import sys\n"
        "sys.modules['rig3r_jax.models'] = None\n"
        "from rig3r_jax.inference.models.exported import load_exported\n"
        f"print(load_exported({str(exported[rig3r_head])!r}).name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pose uncertainty head" in done.stdout


def test_a_damaged_or_foreign_exported_folder_is_named(exported, rig3r_run, tmp_path):
    (tmp_path / "model.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="of no network that this version reads"):
        open_model(tmp_path)
    (tmp_path / "model.json").write_bytes((exported[rig3r_run] / "model.json").read_bytes())
    with pytest.raises(ValueError, match="network.stablehlo is missing"):
        open_model(tmp_path)
    whole = (exported[rig3r_run] / "network.stablehlo").read_bytes()
    (tmp_path / "network.stablehlo").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--views", "2"], "--views is of an exported network"),
        (["--stablehlo", "--views", "0"], "a pass has at least 1 image"),
        (["--stablehlo", "--size", "big"], "say height x width"),
        (["--stablehlo", "--size", "64x64"], "sees such images at 32x32"),
    ],
)
def test_words_that_no_export_has(rig3r_run, tmp_path, words, message, capsys):
    assert cli.main(["export", str(rig3r_run), str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
