"""Checkpoints of PyTorch are read bit for bit without PyTorch, and nothing that they name is ever run."""

import argparse
import datetime
import decimal
import io
import os
import pathlib
import pickle
import subprocess
import sys
import uuid
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest

from rig3r_jax.weights import unpickle
from rig3r_jax.weights.files import read_tensors, read_weights

torch = pytest.importorskip("torch")


def saved(tmp_path: pathlib.Path, content, **options) -> pathlib.Path:
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path, **options)
    return path


def same(ours: dict[str, np.ndarray], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].shape == tuple(tensor.shape) and str(tensor.dtype) == f"torch.{ours[name].dtype}"
        want = (
            tensor.detach().contiguous().view(torch.uint8)
            if tensor.ndim
            else tensor.detach().reshape(1).view(torch.uint8)
        )
        np.testing.assert_array_equal(np.ascontiguousarray(ours[name]).reshape(-1).view(np.uint8), want.reshape(-1))


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 5))


def test_dust3r_like_checkpoint_that_torch_refuses(tmp_path):
    net = model()
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(2, 3, 4, 11)).sum().backward()
    optimizer.step()
    arguments = argparse.Namespace(
        model="AsymmetricCroCo3DStereo(...)", lr=1e-4, where=pathlib.PurePosixPath("/x"), best=np.float64(0.5),
        array=np.arange(3), sizes=[(512, 384)], names={"a", "b"}, nothing=None, device=torch.device("cpu"),
    )  # fmt: skip
    content = {"args": arguments, "model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    path = saved(tmp_path, content)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    same(read_tensors(path), net.state_dict())


@pytest.mark.parametrize("place", ["", "model", "state_dict", "model_state_dict", "teacher"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_places_of_the_state_dict(tmp_path, place, prefix):
    state = model().state_dict()
    held = OrderedDict((prefix + name, tensor) for name, tensor in state.items())
    same(read_tensors(saved(tmp_path, {place: held, "epoch": 1} if place else held)), state)


def test_views_shared_storages_types_and_parameters(tmp_path):
    base = torch.arange(60, dtype=torch.float32)
    state = {
        "base": base,
        "transposed": base.view(6, 10).T,
        "strided": base[3:50:5],
        "expanded": base[7:8].expand(4),
        "empty": torch.empty(0, 5),
        "scalar": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(torch.randn(3, 2)),
        "double": torch.randn(3).double(),
        "half": torch.randn(3).half(),
        "bfloat16": torch.randn(5).bfloat16()[1:],
        "count": torch.tensor(7),
        "byte": torch.arange(5, dtype=torch.uint8),
        "flag": torch.tensor([True, False]),
    }
    ours = read_tensors(saved(tmp_path, state))
    same(ours, state)
    assert np.shares_memory(ours["base"], ours["transposed"])
    assert not any(array.flags.writeable for array in ours.values() if array.size)


def test_big_endian_storages(tmp_path):
    """torch writes the byte order beside the storages."""
    path = saved(tmp_path, {"a": torch.arange(5.0), "b": torch.arange(3).bfloat16()})
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    turned = tmp_path / "turned.pth"
    with zipfile.ZipFile(turned, "w") as archive:
        for name, data in entries.items():
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name:
                data = np.frombuffer(data, "u4" if len(data) == 20 else "u2").byteswap().tobytes()
            archive.writestr(name, data)
    same(read_tensors(turned), {"a": torch.arange(5.0), "b": torch.arange(3).bfloat16()})


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("where", ["top", "args", "key", "state"])
@pytest.mark.parametrize("attack", ["system", "eval", "getattr", "exec", "import", "runpy", "numpy", "torch"])
def test_malicious_checkpoints_are_refused_and_run_nothing(tmp_path, where, attack):
    victim = tmp_path / "was_run"
    statement = f"open({str(victim)!r}, 'w')"
    call, name = {
        "system": (Call(os.system, f"touch {victim}"), f"{os.system.__module__}.system"),
        "eval": (Call(eval, statement), "eval"),
        "exec": (Call(exec, statement), "exec"),
        "getattr": (Call(getattr, argparse.Namespace(a=1), "a"), "getattr"),
        "import": (Call(__import__, "antigravity"), "__import__"),
        "runpy": (Call(pathlib.Path.touch, victim), "getattr"),
        "numpy": (Call(np.load, str(victim)), "numpy.load"),
        "torch": (Call(torch.load, str(victim)), "torch.serialization.load"),
    }[attack]
    state = model().state_dict()
    content = {
        "top": {"model": state, "x": call},
        "args": {"args": argparse.Namespace(deep=[{"x": call}]), "model": state},
        "key": [call, {"model": state}],
        "state": {"model": {**state, "last": call}},
    }[where]
    path = saved(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        read_tensors(path)
    assert name in str(caught.value) and "nothing was run" in str(caught.value)
    assert not victim.exists()


def hand_written(tmp_path: pathlib.Path, opcodes: bytes) -> pathlib.Path:
    path = tmp_path / "hand.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hand/data.pkl", opcodes)
        archive.writestr("hand/data/0", bytes(16))
    return path


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x08argparse\x8c\x1eNamespace.__init__.__globals__\x93.",  # a dotted way out of a known name
        b"ccollections\nOrderedDict\n(S'a'\ncos\nsystem\ndR.",
    ],
)
def test_every_opcode_that_names_a_global_is_guarded(tmp_path, opcodes):
    with pytest.raises(ValueError, match="nothing was run"):
        read_tensors(hand_written(tmp_path, opcodes))


def test_a_file_cannot_spoil_the_reader(tmp_path):
    """BUILD sets attributes of what the pickle holds, classes and functions too: the next file must not notice."""
    spoil = b"\x80\x02ccollections\nOrderedDict\nN}U\x0b__setitem__cbuiltins\nset\ns\x86b."
    with pytest.raises(ValueError):
        read_tensors(hand_written(tmp_path, spoil))
    for name in (b"_rebuild_tensor_v2", b"_rebuild_parameter"):
        for attribute in (b"N}U\x0c__defaults__)s\x86b.", b"}U\x04evilK\x01sb."):
            with pytest.raises(ValueError):
                read_tensors(hand_written(tmp_path, b"\x80\x02ctorch._utils\n" + name + b"\n" + attribute))
    assert not any(hasattr(thing, "evil") for thing in (*vars(unpickle).values(), *vars(unpickle.Unpickler).values()))
    state = model().state_dict()
    same(read_tensors(saved(tmp_path, OrderedDict(state))), state)


def tensor_pickle(offset: int, shape: tuple, strides: tuple) -> bytes:
    """A state dict of one tensor on a storage of 4 floats."""
    call = Call(torch._utils._rebuild_tensor_v2, Stored(), offset, shape, strides, False, OrderedDict())
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=2)
    pickler.persistent_id = lambda x: ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(x, Stored) else None
    pickler.dump({"x": call})
    return buffer.getvalue()


class Stored:
    pass


def test_tensors_stay_inside_their_storage(tmp_path):
    inside = read_tensors(hand_written(tmp_path, tensor_pickle(0, (2, 2), (2, 1))))
    np.testing.assert_array_equal(inside["x"], np.zeros((2, 2)))
    for offset, shape, strides in ((0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (3, 1)), (0, (2,), (10**12,))):
        with pytest.raises(ValueError, match="damaged"):
            read_tensors(hand_written(tmp_path, tensor_pickle(offset, shape, strides)))
    for offset, shape, strides in (
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), ()),
        (0, (2.0,), (1,)),
    ):
        with pytest.raises(ValueError, match="cannot be"):
            read_tensors(hand_written(tmp_path, tensor_pickle(offset, shape, strides)))
    with pytest.raises(ValueError, match="cannot be"):
        read_tensors(hand_written(tmp_path, tensor_pickle(0, (2**40, 2**40), (0, 0))))


def test_damaged_old_and_foreign_files(tmp_path):
    path = saved(tmp_path, model().state_dict())
    data = path.read_bytes()
    for cut in (len(data) - 10, len(data) // 2, 10):
        path.write_bytes(data[:cut])
        with pytest.raises(ValueError, match="damaged or cut short"):
            read_tensors(path)
    path = saved(tmp_path, model().state_dict(), _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"PyTorch's format before 1.6 \(2020\); re-save it with a recent PyTorch"):
        read_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/other", b"")
    with pytest.raises(ValueError, match="is a zip archive of x/other, no checkpoint; unpack it"):
        read_tensors(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_tensors(hand_written(tmp_path, b"\x80\x02}U"))


def test_any_flipped_byte_is_read_or_refused(tmp_path):
    path = saved(tmp_path, {"args": argparse.Namespace(a=1), "model": {"a": torch.zeros(3, 2)}})
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for place, value in zip(rng.integers(0, len(data), 200), rng.integers(0, 256, 200), strict=True):
        path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
        try:
            read_tensors(path)
        except ValueError as error:
            assert str(path) in str(error)


def test_compressed_archives_are_refused(tmp_path):
    path = saved(tmp_path, {"a": torch.zeros(1000)})
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match="compressed"):
        read_tensors(path)


def test_files_without_weights_name_their_keys(tmp_path):
    with pytest.raises(ValueError, match="no weights(.|\n)*its keys: optimizer, epoch.*; save the one that you want"):
        read_tensors(saved(tmp_path, {"optimizer": {"exp_avg": torch.zeros(2)}, "epoch": 1}))
    with pytest.raises(ValueError, match="no dictionary"):
        read_tensors(saved(tmp_path, [torch.zeros(2)]))
    with pytest.raises(ValueError, match=r"is a whole pickled torch.nn.modules.container.Sequential; save its"):
        read_tensors(saved(tmp_path, model()))
    with pytest.raises(ValueError, match=r"model \(torch.nn.modules.container.Sequential\) may be a whole pickled"):
        read_tensors(saved(tmp_path, {"model": model(), "epoch": 1}))
    endless = {"epoch": 1}
    endless["model"] = endless
    with pytest.raises(ValueError, match="no weights"):
        read_tensors(saved(tmp_path, endless))


@pytest.mark.parametrize(
    "path", ["model", "network", "weights", "model_ema", "mine", "checkpoint.model", "checkpoint.state_dict.module"]
)
def test_weights_are_found_within_dictionaries(tmp_path, path):
    content = state = model().state_dict()
    for name in reversed(path.split(".")):
        content = {name: content, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    weights = read_weights(saved(tmp_path, content))
    same(weights.tensors, state)
    assert not weights.notes


def test_of_several_dictionaries_the_first_by_rule_is_taken_and_named(tmp_path):
    state, other = model().state_dict(), {"a": torch.zeros(1)}
    for taken, left in (("model", "state_dict"), ("model", "teacher"), ("state_dict", "state_dict_ema")):
        weights = read_weights(saved(tmp_path, {left: other, taken: state}))
        same(weights.tensors, state)
        assert f"weights taken under {taken!r}, not {left!r}; for another: torch.save" in weights.notes[0]
    same(read_tensors(saved(tmp_path, {"student": other, "teacher": state})), state)


def test_unknown_dictionaries_are_joined(tmp_path):
    content = {"encoder": {"a": torch.ones(2)}, "decoder": {"a": torch.zeros(2)}, "optimizer": {"x": torch.ones(1)}}
    same(read_tensors(saved(tmp_path, content)), {"encoder.a": torch.ones(2), "decoder.a": torch.zeros(2)})


def test_what_is_no_tensor_beside_the_tensors_is_left_out_and_named(tmp_path):
    state = model().state_dict()
    weights = read_weights(saved(tmp_path, {**state, "epoch": 5, "args": argparse.Namespace(lr=1)}))
    same(weights.tensors, state)
    assert weights.notes == ("no tensors, left out: epoch, args",)


class Config:
    """Of a package that is not installed where the weights are read."""

    def __init__(self, value):
        self.value = value


def test_harmless_objects_beside_the_weights_are_read_over(tmp_path):
    state = model().state_dict()
    beside = {
        "counter": Counter({3: 1}), "queue": deque([1]), "default": defaultdict(list, {"a": [1]}),
        "when": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "took": datetime.timedelta(3),
        "torch": torch.torch_version.TorchVersion("2.3.1"), "id": uuid.uuid4(), "price": decimal.Decimal("1.5"),
        "random": np.random.default_rng(0), "state": np.random.RandomState(0), "config": Config({"lr": [1]}),
        "numbers": np.arange(3.0), "kind": torch.float16, "rng": torch.get_rng_state(), "range": range(3),
    }  # fmt: skip
    same(read_tensors(saved(tmp_path, {"model": state, **beside})), state)


def test_a_tensor_with_attributes_is_a_tensor(tmp_path):
    parameter = torch.nn.Parameter(torch.randn(3))
    parameter.no_decay = True
    same(read_tensors(saved(tmp_path, {"a": parameter, "c": torch.ones(2, dtype=torch.complex64)})), {
        "a": parameter, "c": torch.ones(2, dtype=torch.complex64)
    })  # fmt: skip


@pytest.mark.parametrize("stray", ["best_loss", "torch_rng_state"])
@pytest.mark.parametrize("place", ["model", "state_dict"])
def test_a_named_place_wins_over_stray_tensors(tmp_path, place, stray):
    state = model().state_dict()
    same(read_tensors(saved(tmp_path, {stray: torch.zeros(3), place: state, "optimizer": {"state": {}}})), state)


def test_an_empty_named_place_is_none(tmp_path):
    with pytest.raises(ValueError, match="top level holds model beside tensors"):
        read_tensors(saved(tmp_path, {"model": {}, "a": torch.zeros(2)}))


def test_torch_is_not_imported(tmp_path):
    path = saved(tmp_path, model().state_dict())
    code = (
        "import sys; from rig3r_jax.weights.files import read_tensors; "
        f"print(len(read_tensors({str(path)!r}))); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(len(model().state_dict())), done.stderr


def test_types_that_name_themselves_are_read(tmp_path):
    numbers = torch.arange(12.0)[2:].reshape(2, 5)  # a view with an offset
    types = (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64)
    tensors = {str(kind): numbers.to(kind) for kind in types} | {"float": numbers}
    same(read_tensors(saved(tmp_path, tensors)), tensors)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"a": torch.ones(2).to_sparse()}, "holds tensors by torch._utils._rebuild_sparse_tensor: .*tensor.to_dense"),
        ({"a": torch.empty(2, device="meta")}, "_rebuild_meta_tensor_no_storage: sparse, quantised or without numbers"),
        ({"a": torch.ones(2).to(torch.float8_e8m0fnu)}, "of the type torch.float8_e8m0fnu, which is not known; cast"),
        ({"a": np.ones(2)}, r"a \(numpy.*_reconstruct\) is NumPy's, no tensor: save torch.from_numpy of each array"),
    ],
)
def test_tensors_of_other_sorts_are_told_how_to_be_saved(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"checkpoint.pth: .*{message}"):
        read_tensors(saved(tmp_path, content))
