"""Messages by field numbers, as Google's protobuf writes them."""

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from rig3r_jax.formats.protobuf_wire import Message

KINDS = descriptor_pb2.FieldDescriptorProto


@pytest.fixture(scope="module")
def made():
    """A class of messages: packed and unpacked numbers, text, and itself."""
    file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package="wire", syntax="proto2")
    message = file.message_type.add(name="Made")
    for number, (name, kind, packed) in enumerate(
        [
            ("text", KINDS.TYPE_STRING, None),
            ("whole", KINDS.TYPE_INT32, None),
            ("wholes", KINDS.TYPE_INT64, False),
            ("packed_wholes", KINDS.TYPE_INT64, True),
            ("doubles", KINDS.TYPE_DOUBLE, False),
            ("packed_doubles", KINDS.TYPE_DOUBLE, True),
            ("floats", KINDS.TYPE_FLOAT, True),
            ("children", KINDS.TYPE_MESSAGE, False),
        ],
        1,
    ):
        repeated = KINDS.LABEL_OPTIONAL if packed is None else KINDS.LABEL_REPEATED
        field = message.field.add(name=name, number=number, type=kind, label=repeated)
        if kind == KINDS.TYPE_MESSAGE:
            field.type_name = ".wire.Made"
        elif packed is not None:
            field.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("wire.Made"))


def test_fields_are_those_that_were_written(made):
    wholes = [0, 1, 127, 128, -1, 2**40, -(2**63)]
    written = made(text="Käfer", whole=-5, wholes=wholes, packed_wholes=wholes)
    written.doubles.extend([1.5, -2e300])
    written.packed_doubles.extend([0.1, 0.2, 0.3])
    written.floats.extend([1.25, -3.5])
    written.children.add(text="a")
    written.children.add(text="b", whole=7)
    read = Message(written.SerializeToString())
    assert (read.text(1), read.integer(2)) == ("Käfer", -5)
    assert read.integers(3) == read.integers(4) == wholes
    np.testing.assert_array_equal(read.doubles(5), [1.5, -2e300])
    np.testing.assert_array_equal(read.doubles(6), [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(read.floats(7), np.float32([1.25, -3.5]))
    assert [(child.text(1), child.integer(2)) for child in read.messages(8)] == [("a", 0), ("b", 7)]
    assert read.message(8).text(1) == "b"


def test_what_is_not_there_is_empty():
    read = Message(b"")
    assert not read.has(1) and read.text(1) == "" and read.integer(2) == 0 and read.double(3) == 0
    assert len(read.floats(4)) == len(read.integers(4)) == len(read.messages(5)) == 0
    assert read.message(5).message(1).bytes(2) == b""


@pytest.mark.parametrize(
    "data, message",
    [
        (b"\x0a\x05ab", "field 1 of 5 bytes ends beyond its message"),
        (b"\x09\x00", "field 1 of 8 bytes ends beyond its message"),
        (b"\x80", "cut short or too long"),
        (b"\xff" * 12, "cut short or too long"),
        (b"\x0b", "wire type 3 of field 1"),
    ],
)
def test_bytes_that_are_no_message_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Message(data)


def test_a_field_of_another_kind_is_refused():
    number = Message(b"\x08\x05")
    for read in (number.text, number.message, number.messages, number.doubles):
        with pytest.raises(ValueError, match="field 1 has wire type 0, must have"):
            read(1)
    with pytest.raises(ValueError, match="field 1 is no list of <f8"):
        Message(b"\x0a\x03abc").doubles(1)
