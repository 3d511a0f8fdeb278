"""What the command takes, and what it says of what it does not look at."""

from rig3r_jax.cli import main


def test_what_a_check_leaves_out_or_cannot_know_is_said(tmp_path, capsys):
    out, worlds = f"--out={tmp_path}/page.html", ["train_worlds=1", "test_worlds=0", "steps=2", "image_size=64"]
    records = str(tmp_path / "records")
    assert main(["build-data", "procedural", "--out", records, *worlds]) == 0
    capsys.readouterr()
    main(["check-data", records, "--steps=2", out])
    assert "note: records do not keep the frame of the vehicle or IMU" in capsys.readouterr().out
    assert main(["check-data", records, "window=4", "--root=/data", out]) == 2
    assert f"{records} holds records, which take no --root /data window=4" in capsys.readouterr().err
    assert main(["check-data", "tum", "--config=demo", out]) == 2
    assert "tum beside --config: give one of the two" in capsys.readouterr().err
    assert main(["check-data", "--config=full", out]) == 2
    assert "data.mixture[0] (ddad) has no root" in capsys.readouterr().err
    assert main(["check-data", "--config=full", "--config.data.skip_missing=True", out]) == 2
    assert "data.skip_missing leaves out all data sets" in capsys.readouterr().err


def test_data_sets_that_a_run_leaves_out_are_not_checked(tmp_path, capsys):
    config = tmp_path / "mixed.py"
    config.write_text(
        "from rig3r_jax.configs import base, demo\n\n\n"
        "def get_config():\n"
        "    config = demo.get_config()\n"
        "    options = {'train_worlds': 1, 'test_worlds': 0, 'steps': 2, 'image_size': 64}\n"
        "    config.data.mixture = [base.dataset('ddad'), base.dataset('procedural', **options)]\n"
        "    config.data.skip_missing = True\n"
        "    return config\n"
    )
    main(["check-data", f"--config={config}", "--steps=2", f"--out={tmp_path}/page.html"])
    printed = capsys.readouterr().out
    assert "not checked, since the run leaves it out: 0: ddad (data.skip_missing, no root)" in printed
    assert "1: procedural, made here" in printed and "of 1 scenes of train" in printed
