"""Pixels of the plain PNG files that label maps are: inflated at once, where Pillow goes row by row."""

import struct
from collections.abc import Iterator

import numpy as np

try:
    from zlib_ng import zlib_ng as zlib  # a tenth of zlib's time
except ImportError:  # there are not wheels for every machine
    import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN = {(8, 0, 0, 0, 0), (8, 3, 0, 0, 0)}  # bits, grey or palette, compression, filter, not interlaced


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The kind and content of each chunk of a PNG file; ValueError or struct.error where one is damaged."""
    view, at = memoryview(data), len(SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(view[at + 4 : at + 8 + length]) != checksum:
            raise ValueError("a wrong checksum")
        yield kind, view[at + 8 : at + 8 + length]
        at += 12 + length


def inflate_rows(data: bytes) -> np.ndarray | None:
    """The (H, 1 + W) bytes of all rows, the first of each its filter; None as in `decode_grey_png`."""
    kinds, contents = zip(*chunks(data), strict=True)
    width, height, *form = struct.unpack(">IIBBBBB", contents[0])
    if data[: len(SIGNATURE)] != SIGNATURE or tuple(form) not in PLAIN or kinds[-1] != b"IEND":
        return None
    first, size = kinds.index(b"IDAT"), height * (1 + width)
    inflater = zlib.decompressobj()
    packed = b"".join(contents[first : first + kinds.count(b"IDAT")])  # they follow one another
    rows = inflater.decompress(packed, size + 1)
    whole = len(rows) == size and inflater.eof and not inflater.unused_data
    return np.frombuffer(rows, dtype=np.uint8).reshape(height, 1 + width) if whole else None


def decode_grey_png(data: bytes) -> np.ndarray | None:
    """The (H, W) uint8 pixel values, grey or indices of the palette, of a PNG file of 8 bits.

    None where the file is of another kind, has rows that are stored as differences, or is damaged.
    """
    try:
        rows = inflate_rows(data)
    except (ValueError, struct.error, zlib.error):
        return None
    return None if rows is None or rows[:, 0].any() else np.ascontiguousarray(rows[:, 1:])
