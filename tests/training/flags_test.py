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
