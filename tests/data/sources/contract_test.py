"""What holds for every source: options, splits, scenes, records, damage, and the messages about all of them.

A new source gets a line in `source_cases.CASES`.
"""

import dataclasses
import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from rig3r_jax.configs import base
from rig3r_jax.data.build import build_records, build_stamp
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.scene_rules import check_scene
from rig3r_jax.data.source import filled_options, option_fields, options_from_words, takes_several_types, typed
from rig3r_jax.data.sources import SOURCES, make_source, source_class
from rig3r_jax.training.checks import mixture_problems
from rig3r_jax.training.flags import read_config
from tests.conftest import REPO
from tests.data.made_source import make_source as make_fake_source
from tests.data.records_test import assert_same
from tests.data.source_cases import CASES

NAMES = list(SOURCES)
ON_DISK = [name for name, case in CASES.items() if case.make]


def test_every_source_has_a_case():
    assert list(CASES) == NAMES


def open_case(name, shared, folder):
    """Source and root."""
    case = CASES[name]
    root = str(case.make(shared, folder / name)) if case.make else ""
    return make_source(name, root, case.options), root


@pytest.fixture(scope="module")
def sources(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return {name: open_case(name, shared, folder)[0] for name in NAMES}


def test_options_are_read_without_anything_heavy():
    code = f"""
import sys
import typing
from rig3r_jax.data.sources import make_source
for name in {NAMES}:
    make_source(name)
print(*{{name.split(".")[0] for name in sys.modules}})
"""
    loaded = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True).stdout
    heavy = {"jax", "flax", "cv2", "grain", "tensorflow_datasets", "array_record", "tensorflow", "torch", "matplotlib"}
    assert "numpy" in loaded.split() and not heavy & set(loaded.split())


@pytest.mark.parametrize("name", NAMES)
def test_options_are_frozen_and_survive_json(sources, name):
    source, kind = sources[name], source_class(name)
    assert isinstance(source, kind) and next(iter(dataclasses.fields(kind))).name == "root"
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.root = "/elsewhere"
    again = make_source(name, source.root, json.loads(json.dumps(source.options())))
    assert again == source and hash(again) == hash(source)
    for field in option_fields(kind).values():
        assert typed(field.default, field.type) == field.default and field.default is not None, field.name


@pytest.mark.parametrize("name", NAMES)
def test_stamp_is_that_of_equal_options(sources, name):
    source = sources[name]
    stamp = build_stamp(name, source)
    assert stamp == json.loads(json.dumps(stamp)) == build_stamp(name, make_source(name, source.root, source.options()))
    default = build_stamp(name, source_class(name)(source.root))
    assert stamp != default and set(stamp["options"]) == set(default["options"]) == set(option_fields(type(source)))


@pytest.mark.parametrize("name", NAMES)
def test_scenes_are_good_unique_and_the_same_again(sources, name):
    source = sources[name]
    splits = source.splits()
    assert splits and len(set(splits)) == len(splits) and all(split.isidentifier() for split in splits)
    for split in splits:
        scenes = source.scenes(split)
        names = [scene_name for scene_name, _ in scenes]
        assert names and len(set(names)) == len(names)
        again = make_source(name, source.root, source.options()).scenes(split)
        assert [scene_name for scene_name, _ in again] == names
        for (scene_name, load), (_, load_again) in zip(scenes, again, strict=True):
            scene = load()
            check_scene(scene)
            assert scene.name == scene_name
            assert_same(scene, load_again())


@pytest.mark.parametrize("name", NAMES)
def test_records_hold_the_scenes(sources, name, tmp_path):
    source = sources[name]
    report = build_records(name, source, tmp_path / "records", progress=False)
    assert not report.skipped and tuple(report.splits) == source.splits()
    for split, count in report.splits.items():
        stored, scenes = RecordSource(report.path, split), source.scenes(split)
        assert count == len(stored) == len(scenes)
        for number, (_, load) in enumerate(scenes):
            assert_same(load(), stored[number])
    again = build_records(name, make_source(name, source.root, source.options()), report.path, progress=False)
    assert again.reused and again.splits == report.splits
    with pytest.raises(ValueError, match="holds other records .options: .*delete it first"):
        build_records(name, make_source(name, source.root), report.path, progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_split_is_named(sources, name):
    splits = ", ".join(sources[name].splits())
    with pytest.raises(BadRecord, match=f"has no split 'nights'; it has {splits}"):
        sources[name].scenes("nights")


@pytest.mark.parametrize("name", ON_DISK)
def test_root_that_holds_no_data_is_one_error(name, tmp_path):
    kind = source_class(name)
    assert kind.needs_root
    (tmp_path / "data.tgz").write_bytes(b"\x1f\x8b")
    for root, message in (
        ("", "root is empty"),
        (str(tmp_path / "nowhere"), "nowhere: data folder does not exist"),
        (str(tmp_path / "data.tgz"), "data.tgz: is a file, no folder; unpack it where it is an archive"),
    ):
        with pytest.raises(BadRecord, match=f"{message}; give the folder that holds "):
            kind(root).splits()
    with pytest.raises(BadRecord, match=f"{tmp_path}: .* give the folder"):
        build_records(name, make_source(name, str(tmp_path)), tmp_path / "records", progress=False)


@pytest.mark.parametrize("name", ON_DISK)
@pytest.mark.parametrize("content", [None, b"", b"\xff\xd8\xff\x00{]"])
def test_damage_costs_frames_of_one_scene_and_is_named(shared, tmp_path, name, content):
    case = CASES[name]
    source, root = open_case(name, shared, tmp_path)
    (file,) = Path(root).glob(case.damaged)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    bad = []
    for split in source.splits():
        for scene_name, load in source.scenes(split):
            try:
                bad += [(f"{split}/{scene_name}", frame.reason) for frame in load().left_out]
            except BadRecord as error:
                bad.append((f"{split}/{scene_name}", str(error)))
    broken = {scene for scene, _ in bad}
    assert case.damaged_scene in broken and all(file.name in reason for _, reason in bad)
    assert len(broken) <= 4  # a scene file may have two windows, and a data set may list a scene in two splits


@pytest.mark.parametrize("name", ON_DISK)
def test_files_are_read_by_loaders_alone(shared, tmp_path, name):
    source, root = open_case(name, shared, tmp_path)
    scenes = source.scenes("train")
    for path in Path(root).rglob("*"):
        if path.suffix in (".png", ".jpg", ".parquet", ".arrow"):
            path.unlink()
    with pytest.raises(BadRecord, match="cannot be read|has no images|no image can be used"):
        scenes[0][1]()


def other_values(field):
    """Values that differ from the default, one for each type that the option takes."""
    default = field.default
    if takes_several_types(field):
        others = {str: "other", bool: False, tuple: (500.0, 501.5, 320.0, 240.0)}
        return [others[typing.get_origin(kind) or kind] for kind in typing.get_args(field.type)]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int | float):
        return [default + 1]
    if isinstance(default, str):
        return ["other"]
    if field.type == tuple[str, ...]:
        return [("a", "b"), ("CAMERA_01",)]
    return [tuple(value + 0.25 for value in default)]


def _word(value):
    """As someone types it: a single name is a word."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


@pytest.mark.parametrize("name", NAMES)
def test_command_line_sets_every_option(name, tmp_path):
    kind = source_class(name)
    file = tmp_path / "own.py"
    file.write_text(
        "from rig3r_jax.configs import base\n\n\ndef get_config():\n    config = base.get_config()\n"
        f"    config.data.mixture = [base.dataset({name!r})]\n    return config\n"
    )
    entry = read_config([f"--config={file}"]).data.mixture[0]
    assert filled_options(kind, entry.options.to_dict()) == kind().options()
    values = {option: other_values(field) for option, field in option_fields(kind).items()}
    for number in range(max(map(len, values.values()))):
        chosen = {option: some[number % len(some)] for option, some in values.items()}
        words = [f"{option}={_word(value)}" for option, value in chosen.items()]
        flags = [f"--config.data.mixture[0].options.{word}" for word in words]
        entry = read_config([f"--config={file}", *flags]).data.mixture[0]
        assert filled_options(kind, entry.options.to_dict()) == chosen
        assert filled_options(kind, options_from_words(kind, words)) == chosen
    number = next(option for option, field in option_fields(kind).items() if field.type is int)
    with pytest.raises(ValueError, match=number):
        read_config([f"--config={file}", f"--config.data.mixture[0].options.{number}=few"])
    with pytest.raises(ValueError, match=f"{number}='few' must be a whole number"):
        make_source(name, "", options_from_words(kind, [f"{number}=few"]))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_option_is_named_with_the_nearest_and_all_defaults(name):
    fields = option_fields(source_class(name))
    first, field = next(iter(fields.items()))
    misspelt = first[:-1] + "_" + first[-1]
    message = f"has no option {misspelt}; did you mean {first}.*{first}={field.default!r}".replace("(", ".").replace(
        ")", "."
    )
    with pytest.raises(ValueError, match=message):
        base.dataset(name, **{misspelt: 1})
    with pytest.raises(ValueError, match=message):
        options_from_words(source_class(name), [f"{misspelt}=1"])
    config = base.get_config()
    config.data.mixture = [base.dataset(name)]
    config.data.mixture[0].options[misspelt] = 1
    assert any(misspelt in problem for problem in mixture_problems(config))


def test_all_problems_of_a_mixture_come_before_anything_is_built(monkeypatch, tmp_path):
    fake = make_fake_source(monkeypatch, {"train": []})
    fake.requires = ("no_such_package",)
    config = base.get_config()
    entries = [base.dataset("tum"), base.dataset("ddad", root=str(tmp_path / "no")), base.dataset("made", weight=0.0)]
    entries += [
        base.dataset("made"),
        base.dataset("sevenscenes", weight=-1.0),
        base.dataset("ddad"),
        base.dataset("ddad"),
    ]
    entries[5].options.window, entries[5].options.cameras = 0, ("CAMERA_05",)
    entries[6].name = "dddad"
    config.data.mixture = entries
    problems = list(mixture_problems(config))
    for words in (
        "data.mixture[0] (tum) has no root, the folder of its raw data: --config.data.mixture[0].root=FOLDER",
        f"data.mixture[1].root is '{tmp_path}/no', which is no folder; give the folder that holds scene_dataset",
        "data.mixture[3] (made) needs no_such_package: pip install no_such_package",
        "data.mixture[4].weight is -1.0; it must be finite and not negative",
        "data.mixture[5]: source 'ddad': window=0 must be at least 1 time step; cameras=['CAMERA_05'] must hold",
        "data.mixture[5] (ddad) has no root",
        "data.mixture[6].name: unknown source 'dddad'; sources: procedural, ddad, tum, sevenscenes, ",
        f"data.mixture[6].name: unknown source 'dddad'; sources: {', '.join(NAMES)}, made; did you mean",
    ):
        assert sum(words in problem for problem in problems) == 1, (words, problems)
    assert len(problems) == 7 and not fake.reads
    config.data.mixture = entries[2:3]
    assert list(mixture_problems(config)) == ["data.mixture has no entry with a weight above 0; give at least one"]
