"""Flags become a config whoever calls, and what is wrong with them is said in a line."""

import pwd

import pytest

from rig3r_jax.data.sources import make_source
from rig3r_jax.data.sources.dgp import Dgp
from rig3r_jax.data.sources.tum import Tum
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
        (["--config=nowhere.py"], "neither a file nor an installed config; give an installed config by its name"),
        (["--config={}/configs/demo.py", "--config.train.step=1"], "did you mean steps"),
        (["--config={}/configs/demo.py", "steps"], "'steps' is not a flag"),
        (["--config={}/configs/demo.py", "--frob=1"], "frob"),
    ],
)
def test_what_is_wrong_is_one_message(repo, arguments, message):
    with pytest.raises(ValueError, match=message):
        read_config([argument.format(repo) for argument in arguments])


ENTRY = "--config.data.mixture[0]"


@pytest.mark.parametrize(
    "words",
    [
        (f"{ENTRY}.name=tum", f"{ENTRY}.options.window=16", f"{ENTRY}.options.intrinsics=freiburg3"),
        (f"{ENTRY}.options.intrinsics=freiburg3", f"{ENTRY}.options.window=16", f"-{ENTRY[2:]}.name=tum"),
    ],
)
@pytest.mark.parametrize("name", ["full", "ddad", "demo"])
def test_another_source_has_its_own_options(name, words):
    entry = read_config([f"--config={name}", *words, f"{ENTRY}.weight=2.0"]).data.mixture[0]
    options = entry.options.to_dict()
    assert options == Tum().options() | {"window": 16, "intrinsics": "freiburg3"} and entry.weight == 2.0
    assert make_source(entry.name, "/data", options) == Tum("/data", window=16, intrinsics="freiburg3")


def test_the_same_source_keeps_the_options_of_its_config_and_the_last_name_holds():
    first, kept = read_config(["--config=uncertainty", f"{ENTRY}.name=tum", f"{ENTRY}.root=a"]).data.mixture
    assert (first.options.window, first.options.intrinsics, kept.options.window) == (1000, "by_name", 1000)
    (again,) = read_config(["--config=demo", f"{ENTRY}.name=tum", f"{ENTRY}.name=ddad"]).data.mixture  # the last holds
    assert (again.name, again.options.to_dict()) == ("ddad", Dgp().options())
    linked = read_config(["--config=ddad", f"{ENTRY}.name=tum", "--config.data.root=/tum"]).data.mixture[0]
    assert (linked.root, linked.name) == ("/tum", "tum")


@pytest.mark.parametrize(
    "words, message",
    [
        ([f"{ENTRY}.options.windw=8", f"{ENTRY}.name=tum"], "has no 'windw'; did you mean window"),
        ([f"{ENTRY}.options.front=x", f"{ENTRY}.name=tum"], "has no 'front'; it has depth_scale, fractions, gap"),
        ([f"{ENTRY}.name=tun"], r"--config.data.mixture\[0\].name: unknown source 'tun'; .*did you mean 'tum'"),
        (["--config.data.mixture[99].name=tum"], "has no '99'"),
    ],
)
def test_another_source_is_refused_what_it_does_not_have(words, message):
    with pytest.raises(ValueError, match=message):
        read_config(["--config=full", *words])


def test_home_is_expanded_in_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("from rig3r_jax.configs.ddad import get_config as get_config\n")
    words = ["--config=~/mine.py", "--config.data.records=~/records", "--config.data.root=~/ddad", "--config.title=~"]
    config = read_config(words)
    assert config.data.records == f"{tmp_path}/records"
    assert config.data.mixture[0].root == config.data.root == f"{tmp_path}/ddad"
    assert config.title == "~"
    words = ["--config=demo", "--config.data.records=~", "--config.notes=('~', '~/x')", "--config.name=~/x"]
    config = read_config([*words, f"{ENTRY}.name=tum", f"{ENTRY}.root=~root", "--config.model.init_from=a~/b"])
    assert config.data.records == str(tmp_path) and config.model.init_from == "a~/b"
    assert config.data.mixture[0].root == pwd.getpwnam("root").pw_dir
    assert (config.notes, config.name) == (("~", "~/x"), "~/x")
    config = read_config(["--config=demo", "--config.data.mixture[0].root=~/demo"])
    assert config.data.mixture[0].root == f"{tmp_path}/demo"


def test_home_is_expanded_in_tuples_of_a_config(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    return ConfigDict({'paths': ('~/a', ('~', 3)), 'parts': [ConfigDict({'path': '~/b', 'title': '~'})]})\n"
    )
    config = read_config([f"--config={tmp_path}/mine.py"])
    assert config.paths == (f"{tmp_path}/a", (str(tmp_path), 3))
    assert config.parts[0].to_dict() == {"path": f"{tmp_path}/b", "title": "~"}


@pytest.mark.parametrize(("wrong", "last"), [(9, "stepx8"), (12, "... and 3 more")])
def test_problems_beyond_those_named_are_counted(wrong, last):
    with pytest.raises(ValueError) as caught:
        read_config(["--config=demo", *(f"--config.train.stepx{number}=1" for number in range(wrong))])
    lines = str(caught.value).splitlines()
    assert len(lines) == min(wrong, 10) and last in lines[-1]


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("empty.py", "", r"/empty.py', which defines no get_config\(\); give "),
        ("README.md", "# Title\n", r"/README.md', which is not a Python file \(.py\); give "),
        ("broken.py", "a = 1\ndef (\n", r"/broken.py', .* \(.*/broken.py, line 2: .*\); correct that line$"),
        (
            "utf16.py",
            "a = 1".encode("utf-16-le"),
            r"/utf16.py', which cannot be read as Python \(source .* null bytes\)",
        ),
        ("three.py", "get_config = 3\n", r"/three.py', which defines no get_config\(\); give "),
        (
            "failing.py",
            "a = {}['b']\n",
            r"/failing.py', which fails \(.*/failing.py, line 1: KeyError: 'b'\); correct it$",
        ),
        (
            "module.py",
            "import no_such_module\n",
            r"/module.py, line 1: ModuleNotFoundError: No module named 'no_such_mo",
        ),
        ("asking.py", "def get_config(x): pass\n", r"which fails \(at its call: TypeError: .*missing 1 required"),
        (
            "none.py",
            "def get_config(): pass\n",
            r"whose get_config\(\) returns a NoneType, not a ConfigDict; begin with",
        ),
        ("dict.py", "def get_config(): return {}\n", r"whose get_config\(\) returns a dict, not a ConfigDict"),
        ("importing.py", "import module_that_is_broken\n", r"\(.*/module_that_is_broken.py, line 1: "),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path, monkeypatch, file, text, message):
    (tmp_path / "module_that_is_broken.py").write_text("1 +\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_config([f"--config={tmp_path}/{file}"])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["dmeo", "configs/demo", "~/demo.yaml", "Demo.py"])
def test_a_config_that_is_not_there_gets_the_nearest_name(name):
    with pytest.raises(ValueError, match="neither a file nor an installed config; did you mean demo[?] Otherwise give"):
        read_config([f"--config={name}"])


@pytest.mark.parametrize(
    "key, value, rule",
    [
        ("train.steps", "abc", "a whole number, such as 100"),
        ("train.steps", "3.5", "a whole number, such as 100"),
        ("train.steps", "", "a whole number, such as 100"),
        ("data.mixture[0].options.steps", "x", "a whole number, such as 100"),
        ("optimizer.learning_rate", "fast", "a number, such as 0.1 or 1e-4"),
        ("model.unroll", "maybe", "true or false"),
        ("evaluation.sets", "('a',", "one value, or several in brackets: (1, 2) or ('a', 'b')"),
        ("mesh", "8", "set key by key: it holds data, frames, fsdp"),
        ("data.mixture", "ddad", "set key by key: it holds [0]"),
    ],
)
def test_a_value_of_another_type_is_told_the_rule(key, value, rule):
    with pytest.raises(ValueError) as caught:
        read_config(["--config=demo", "--config.seed=2", f"--config.{key}={value}", "--config.train.stepz=1"])
    first, second = str(caught.value).splitlines()
    assert first == f"--config.{key} is {value!r}; it must be {rule}"
    assert second.startswith("--config.train.stepz: ")


@pytest.mark.parametrize("key, value", [("train.steps", 100), ("model.unroll", False), ("evaluation.sets", ("a", "b"))])
def test_a_value_of_the_right_type_is_taken(key, value):
    config = read_config(["--config=demo", f"--config.{key}={value}"])
    section, name = key.split(".")
    assert config[section][name] == value
