"""What files declare is believed as far as it is there."""

import io
import struct
import zipfile

import numpy as np
import pytest

from rig3r_jax.formats.declared import FREE, MOST_EXPANSION, check_pixels, check_present, check_unpacked, exr_size
from rig3r_jax.formats.las_sizes import check_las
from rig3r_jax.formats.npz import Npz, read_npy, read_npy_or_npz

ARRAYS = {
    "matrix": np.arange(12.0).reshape(3, 4),
    "by columns": np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
    "big endian": np.arange(5, dtype=">f4"),
    "scalar": np.float32(3.5),
    "empty": np.zeros((0, 3), np.uint8),
    "text": np.array(["a", "längst"]),
    "word": np.array("json"),
    "rows": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    "truth": np.array([True, False]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_as_numpy_reads_them(name, tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS[name])
    np.savez_compressed(tmp_path / "a.npz", **{name: ARRAYS[name]})
    data = (tmp_path / "a.npy").read_bytes()
    expected = np.load(io.BytesIO(data))
    with Npz(tmp_path / "a.npz") as arrays:
        assert list(arrays) == [name] and "other" not in arrays
        for array in (read_npy(data, "a.npy"), arrays[name], read_npy_or_npz(data, "a.npy")):
            assert array.dtype == expected.dtype and array.shape == expected.shape
            np.testing.assert_array_equal(array, expected)
        with pytest.raises(KeyError):
            arrays["other"]


def test_limits_are_exact():
    check_present("a", 5, 5)
    check_unpacked("a", FREE, 0)
    check_unpacked("a", MOST_EXPANSION * FREE, FREE)
    check_pixels("a", 2**13, 2**14)
    for refuse in (
        lambda: check_present("a", 6, 5),
        lambda: check_present("a", -1, 5),
        lambda: check_unpacked("a", FREE + 1, 0),
        lambda: check_unpacked("a", MOST_EXPANSION * FREE + 1, FREE),
        lambda: check_pixels("a", 2**13, 2**14 + 1),
        lambda: check_pixels("a", 0, 4),
    ):
        with pytest.raises(ValueError, match="^a: its "):
            refuse()


def test_the_size_of_an_exr_is_that_of_its_pixels(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {"Z": np.ones((7, 11), np.float32)}) as file:
        file.write(str(tmp_path / "a.exr"))
    assert exr_size((tmp_path / "a.exr").read_bytes()) == (7, 11)
    for damaged in (b"", b"\x76\x2f\x31\x01", (tmp_path / "a.exr").read_bytes()[:60]):
        with pytest.raises(ValueError, match="EXR image"):
            exr_size(damaged)


def test_damage_of_archives_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(1000))
    whole = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        Npz(tmp_path / "absent.npz")
    path.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match="a.npz: is no NumPy archive"):
        Npz(path)
    path.write_bytes(whole[:60] + b"\xff" * 20 + whole[80:])
    with Npz(path) as arrays, pytest.raises(ValueError, match="a.npz: a.npy: does not unpack"):
        arrays["a"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", "text")
    with Npz(path) as arrays, pytest.raises(ValueError, match="a.npz: a: is no NumPy array but is text"):
        arrays["a"]


def laz_header(table):
    """A LAZ file of 1.2 without points, whose header says that the table of its chunks begins at byte `table`."""
    data = bytearray(400)
    data[:4], data[25], data[104] = b"LASF", 2, 0x80
    struct.pack_into("<I", data, 96, 227)
    struct.pack_into("<q", data, 227, table)
    return bytes(data)


def test_the_chunks_of_a_laz_lie_within_it():
    check_las(laz_header(table=392), "a.laz")
    for table in (-8, -5, -2, 393):
        with pytest.raises(ValueError, match=f"^a.laz: its header promises {table} bytes before the table of its"):
            check_las(laz_header(table), "a.laz")
