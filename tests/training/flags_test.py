"""Flags become a config whoever calls, and what is wrong with them is said in a line."""

import pytest

from rig3r_jax.training.flags import read_config


def test_overrides_are_read_from_the_given_arguments(repo):
    config = read_config([f"--config={repo}/configs/demo.py", "--config.train.steps=3", "--config.model.variant=small"])
    assert (config.train.steps, config.model.variant) == (3, "small")
    with pytest.raises(AttributeError):
        config.train.stepz = 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--config is missing"),
        (["--config=nowhere.py"], "no file"),
        (["--config={}/configs/demo.py", "--config.train.step=1"], "did you mean steps"),
        (["--config={}/configs/demo.py", "steps"], "'steps' is no flag"),
        (["--config={}/configs/demo.py", "--frob=1"], "frob"),
    ],
)
def test_what_is_wrong_is_one_message(repo, arguments, message):
    with pytest.raises(ValueError, match=message):
        read_config([argument.format(repo) for argument in arguments])


def test_home_is_expanded_in_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("from rig3r_jax.configs.ddad import get_config as get_config\n")
    words = ["--config=~/mine.py", "--config.data.records=~/records", "--config.data.root=~/ddad", "--config.title=~"]
    config = read_config(words)
    assert config.data.records == f"{tmp_path}/records"
    assert config.data.mixture[0].root == config.data.root == f"{tmp_path}/ddad"
    assert config.title == "~"
    config = read_config(["--config=demo", "--config.data.mixture[0].root=~/demo"])
    assert config.data.mixture[0].root == f"{tmp_path}/demo"


def test_a_file_without_a_config_is_named(tmp_path):
    (tmp_path / "empty.py").touch()
    with pytest.raises(ValueError, match=r"empty.py', which defines no get_config\(\)"):
        read_config([f"--config={tmp_path}/empty.py"])
