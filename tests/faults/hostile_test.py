"""Files that are made to do harm: nothing of them runs, no memory is taken for what they promise, no path climbs."""

import dataclasses
import os
import pickle
import re
import socket
import subprocess
import sys
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from rig3r_jax.data.depth_files import DEPTH_READERS
from rig3r_jax.data.image_bytes import read_image
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.frame_pickle import read_data_frame
from rig3r_jax.formats.npz import Npz
from rig3r_jax.formats.point_cloud import read_points
from rig3r_jax.training.messages import decode, encode
from rig3r_jax.weights.files import read_weights
from tests import runs
from tests.data.records_test import change_camera, change_frame
from tests.data.scenes import encode as encode_image
from tests.data.scenes import make_scene
from tests.faults.faults import fault
from tests.faults.fuzz.checkpoints import write_checkpoint

LITTLE = 80e6  # bytes that a refusal may take: the file itself and a copy


@pytest.fixture
def little_memory():
    """Fails a test that takes more than LITTLE."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LITTLE, f"{peak / 1e6:.0f} MB"


class Run:
    """Pickled as a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@fault(
    32,
    what="A pickle that would run a command stands as weights, as a pandas table, and as a message between processes.",
    seen="`asks for posix.system, which is none of the harmless names of a checkpoint; nothing was run`.",
    kept="Nothing of it is run, in no reader.",
)
def test_no_pickle_is_ever_run(tmp_path):
    """Fault 32: a pickle names os.system."""
    mark = tmp_path / "ran"
    hostile = pickle.dumps(Run(mark))
    call = b"cposix\nsystem\n(X" + len(f"touch {mark}").to_bytes(4, "little") + f"touch {mark}".encode() + b"tR0"
    path = write_checkpoint(tmp_path / "a.pth", {"weight": np.zeros(3, np.float32)}, tail=call)
    with pytest.raises(ValueError, match=r"a.pth: asks for posix.system.*nothing was run"):
        read_weights(path)
    (tmp_path / "b.bin").write_bytes(hostile)
    with pytest.raises(ValueError, match="b.bin: is a bare pickle"):
        read_weights(tmp_path / "b.bin")
    with pytest.raises(ValueError, match="c.pkl: asks for posix.system"):
        read_data_frame(hostile, "c.pkl")
    with pytest.raises(ValueError, match="of no process of this run"):
        decode(hostile)
    np.save(tmp_path / "d.npy", np.array([Run(mark)], object), allow_pickle=True)
    with pytest.raises(ValueError, match="d.npy: holds object"):
        read_points(tmp_path / "d.npy")
    assert decode(encode({"loss": 1.0})) == {"loss": 1.0}
    assert not mark.exists()


@fault(
    33,
    what="Headers lie: .safetensors of 2^62 bytes, tensors beyond the file, .npy, .pcd and .ply of 10^12 rows.",
    seen="`FILE: its header promises N bytes, M are there; it is cut short or damaged, fetch it again`, or of a header "
    "that is at odds with itself what the format's library says, with the file's name; exit code 2.",
    kept="No memory is taken for what is not there.",
)
def test_headers_that_lie_take_no_memory(tmp_path, little_memory):
    """Fault 33: headers promise more than the files hold."""
    weights = tmp_path / "a.safetensors"
    tensor = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,%d]}}'
    beyond, at_odds = tensor % (4 * 10**12), tensor % 4
    for length, header, words in (
        (2**62, b"{}", f"its header promises {2**62} bytes, 66 are there"),
        (len(beyond), beyond, "its header promises 4000000000000 bytes, 64 are there"),
        (len(at_odds), at_odds, "is no whole .safetensors file"),
    ):
        weights.write_bytes(length.to_bytes(8, "little") + header + bytes(64))
        with pytest.raises(ValueError, match=f"a.safetensors: {words}"):
            read_weights(weights)
    rows = np.zeros((10, 3), np.float32)
    np.save(tmp_path / "a.npy", rows)
    content = (tmp_path / "a.npy").read_bytes()
    lie = b"(1000000000000, 3), }"
    (tmp_path / "a.npy").write_bytes(content.replace(b"(10, 3), }".ljust(len(lie)), lie))  # spaces end the header
    with pytest.raises(ValueError, match=r"a.npy: its header promises 12000000000000 bytes, \d+ are there"):
        read_points(tmp_path / "a.npy")
    pcd = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nPOINTS 1000000000000\nDATA binary\n"
    (tmp_path / "a.pcd").write_bytes(pcd.encode() + bytes(120))
    ply = "ply\nformat binary_little_endian 1.0\nelement vertex 1000000000000\n"
    ply += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    (tmp_path / "a.ply").write_bytes(ply.encode() + bytes(120))
    for name in ("a.pcd", "a.ply"):
        with pytest.raises(ValueError, match=rf"{name}: its header promises 12000000000000 .*, 120 are there"):
            read_points(tmp_path / name)


@fault(
    34,
    what="Archives of some MB promise GB: zeros deflated in a .npz and a .pth, one number shown 10^8 times.",
    seen="`its N bytes promise to unpack to M, may unpack to ...`.",
    kept="No memory is taken; an archive's members are read by name and never unpacked into files.",
)
def test_bombs_in_archives_are_refused(tmp_path, little_memory):
    """Fault 34: archives unpack to a thousand times their size; names in them climb."""
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("points.npy", "w", force_zip64=True) as member,
    ):
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 4), }" % (2**24 * 3)
        member.write(b"\x93NUMPY\x01\x00" + (len(header)).to_bytes(2, "little") + header)
        for _ in range(3 * 256):
            member.write(bytes(2**20))
    assert (tmp_path / "a.npz").stat().st_size < 4e6
    with pytest.raises(ValueError, match="points.npy: its .* bytes promise to unpack to 8053"):
        read_points(tmp_path / "a.npz")
    # A pickle that is deflated: a long text of zeros.
    weight = np.zeros(2, np.float32)
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as member:
        member.write(b"\x80\x02X" + (2**29).to_bytes(4, "little"))
        for _ in range(2**9):
            member.write(bytes(2**20))
        member.write(b".")
    with pytest.raises(ValueError, match="data.pkl: its .* bytes promise to unpack"):
        read_weights(path)
    # Tensors that show the same numbers over and over, by strides of 0 and by their sheer count.
    content = {"a.weight": weight, "b.weight": np.lib.stride_tricks.as_strided(weight, (2**14, 2**14), (0, 0))}
    write_checkpoint(path, content, storages=[weight.tobytes(), weight.tobytes()])
    with pytest.raises(ValueError, match="its tensors: .* promise to unpack to 1073741832"):
        read_weights(path)
    np.savez(tmp_path / "climbs.npz", **{"../../up": np.zeros(3)})
    with Npz(tmp_path / "climbs.npz") as arrays:
        assert list(arrays) == ["../../up"] and not (tmp_path.parent.parent / "up.npy").exists()


def stating(data, height, width):
    """A PNG whose header states another size, with its checksum."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]


@fault(
    35,
    what="Images, depth images and masks of some kB state 2^31 pixels and more.",
    seen="`image is 46341x46341 (height x width), sides may be 32767; store it smaller`; the frame is left out.",
    kept="The other frames, and the build; no memory is taken.",
)
def test_images_that_promise_too_many_pixels_cost_their_frame(build, tmp_path, little_memory):
    """Fault 35: PNGs, JPEGs and EXRs state sizes that no memory holds."""
    scene = make_scene(1, steps=2, cameras=2, size=(24, 32))
    png = scene.frames[0].image
    jpeg = bytearray(encode_image(np.zeros((24, 32, 3), np.uint8), ".jpg"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xdc\xff\xdc"
    for number, data in enumerate((stating(png, 46341, 46341), bytes(jpeg), stating(png, 2**31 - 1, 2))):
        scene = change_frame(scene, number, image=data)
    report = build([scene], max_bad_fraction=0.9)
    assert report.frames == 1 and len(report.left_out) == 3
    assert all("pixels" in frame.reason or "sides may be" in frame.reason for _, frame in report.left_out)

    masked = change_frame(make_scene(2, steps=1, cameras=2, size=(24, 32)), 0, mask=stating(png, 2**15, 2**17))
    report = build([masked], "masks", max_bad_fraction=0.9)
    assert [frame.kind for _, frame in report.left_out] == ["mask"]

    (tmp_path / "a.png").write_bytes(stating(png, 2**16, 2**16))
    with pytest.raises(BadRecord, match="a.png: .*32767"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png.*must be 1 to 134217728"):
        DEPTH_READERS[".png"](tmp_path / "a.png")
    window = b"dataWindow\0box2i\0" + (16).to_bytes(4, "little") + np.array([0, 0, 2**20, 2**20], "<i4").tobytes()
    (tmp_path / "a.exr").write_bytes(b"\x76\x2f\x31\x01\x02\0\0\0" + window + bytes(200))
    with pytest.raises(BadRecord, match="a.exr: .*1048577 x 1048577 pixels"):
        DEPTH_READERS[".exr"](tmp_path / "a.exr")


@fault(
    36,
    what="Names of a reconstruction's images, or of the cameras of a data set, a rig or a protocol climb "
    "(`../../up.jpg`), are absolute, or hold zeros, and files are written by them.",
    seen="`name '../../up.jpg' is no plain relative path; use names such as front/000.jpg`; exit code 2. In data that "
    "is read such a name is that of an image which is not here, and counted so.",
    kept="No file is written outside of the folder that was asked for.",
)
@pytest.mark.parametrize("name", ["../../up.jpg", "/tmp/up.jpg", "a/../../up.jpg", "up\0.jpg"])
def test_names_that_climb_write_nothing_outside(tmp_path, name):
    """Fault 36: names in a reconstruction are paths that leave the folder of an export."""
    from rig3r_jax.exports.export import export
    from tests.exports.reconstructions import rig_of_three

    made = rig_of_three("pinhole")
    images = (dataclasses.replace(made.images[0], name=name), *made.images[1:])
    out = tmp_path / "a/b/out"
    with pytest.raises(ValueError, match=re.escape(f"name {name!r} is no plain relative path")):
        export(dataclasses.replace(made, images=images), out)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(out)]
    assert not written and not os.path.exists("/tmp/up.jpg")


CLIMBS = "name '../../up.* is no plain relative path"


@pytest.mark.parametrize("place", ["source", "protocol"])
def test_cameras_that_climb_write_nothing_outside(tmp_path, place):
    """Fault 36: images are written into folders of their cameras."""
    out = tmp_path / "a/b/out"
    with pytest.raises(ValueError, match=CLIMBS):
        _WRITERS[place](out)
    assert not [path for path in tmp_path.rglob("up*") if not path.is_relative_to(out)]


def _write_source(out):
    from rig3r_jax.data.sources import make_source
    from rig3r_jax.inference.source_images import _written

    scene = make_scene(0, steps=2, cameras=2, size=(16, 16))
    climbing = change_camera(scene, 1, name="../../up")
    _written(make_source("procedural", ""), "train/made", climbing, out)


def _write_protocol(out):
    from rig3r_jax.evaluation.protocol import read_protocol, write_protocol

    protocol = read_protocol(runs.REPO / "protocols/procedural_unseen_rigs.json")
    frames = tuple(("../../up", step, seconds) for _, step, seconds in protocol.samples[0].frames)
    first = dataclasses.replace(protocol.samples[0], frames=frames)
    write_protocol(out.parent / "protocol.json", dataclasses.replace(protocol, samples=(first,)))
    read_protocol(out.parent / "protocol.json")


_WRITERS = {"source": _write_source, "protocol": _write_protocol}


def listening(port):
    """The addresses on which this machine listens on a port, as /proc has them."""
    rows = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as file:
            rows += [line.split() for line in file.readlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


@fault(
    37,
    what="Another machine asks for the viewer, or for the coordinator of a run that launch/local.py started.",
    seen="Nothing listens but on 127.0.0.1, unless `--public` asks for it; a page of another site is refused.",
    kept="What is looked at stays on this machine.",
)
def test_nothing_listens_beyond_this_machine():
    """Fault 37: ports of the viewer and of the coordinator are looked up among all addresses."""
    from rig3r_jax.viz.viewer.serve import start

    pytest.importorskip("viser")
    server = start(0, public=False)
    try:
        assert listening(server.get_port()) == {"0100007F"}
        for origin, status in ((f"http://127.0.0.1:{server.get_port()}", 101), ("http://elsewhere.org", 403)):
            assert upgrade(server.get_port(), origin) == status
    finally:
        server.stop()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = (
        "from rig3r_jax.training.processes import Processes, join\n"
        f"join(Processes('127.0.0.1:{port}', 1, 0))\nprint('joined', flush=True)\ninput()"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, env=environment) as run:
        assert run.stdout.readline() == b"joined\n"
        addresses = listening(port)
        run.communicate(b"\n")
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"} and addresses


def upgrade(port, origin):
    """The status with which a WebSocket that a page of `origin` opens is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: viser-v0.0.0\r\n\r\n".encode()
        )
        return int(connection.recv(200).split()[1])
