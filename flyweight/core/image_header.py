"""What a picture's first bytes tell: its size, its rotation, whether it was cut off.

Reading them takes microseconds where decoding takes milliseconds, and OpenCV does not say when a
JPEG ends too early: it paints the rest grey.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

ORIENTATION_TAG = 0x0112
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN = b"\xff\xda"
END_OF_IMAGE = b"\xff\xd9"
# After 0xFF within the pixels: a stuffed zero, restarts, more of the same.
NO_MARKER = frozenset({0x00, 0x01, 0xFF, *range(0xD0, 0xD9)})
# Tags of a TIFF (6.0, section 8) and the types of their values.
TIFF_WIDTH, TIFF_HEIGHT = 256, 257
TIFF_TYPES = {3: "H", 4: "I"}
# A BMP of OS/2 1.x has sides of 16 bits; all later ones have 32.
OS2_HEADER_BYTES = 12
STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})


@dataclass(frozen=True)
class ImageHeader:
    """Facts of a picture file.

    Attributes:
        kind: `jpeg`, `png`, `bmp`, `gif`, `webp` or `tiff`.
        size_hw: as a viewer shows it, after the EXIF rotation; of a TIFF as it is stored.
        orientation: JPEG only: EXIF's, 1 (upright) to 8.
        scan_start: JPEG only: where the compressed pixels start, else 0.
    """

    kind: str
    size_hw: tuple[int, int]
    scan_start: int = 0
    orientation: int = 1


def read_header(data: bytes) -> ImageHeader | None:
    """The header in `data` (a file's beginning or all of it); None if it is of another kind.

    Raises:
        ValueError: the kind is known, but the header is broken or cut off.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack(">II", data[16:24])
            return ImageHeader("png", (height, width))
        if data[:2] == b"BM":
            return _bmp(data)
        if data[:4] == b"GIF8":
            width, height = struct.unpack("<HH", data[6:10])
            return ImageHeader("gif", (height, width))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
    except (struct.error, IndexError) as error:
        raise ValueError("the header is cut off") from error
    return None


def is_complete(data: bytes, header: ImageHeader) -> bool:
    """Whether the whole file `data` has the end that its kind prescribes."""
    if header.kind == "jpeg":
        # Inside the scans a 0xFF is always stuffed, so the end marker cannot occur by chance there.
        return data.endswith(END_OF_IMAGE) or data.find(END_OF_IMAGE, header.scan_start) >= 0
    if header.kind == "png":
        return data.find(b"IEND", max(0, len(data) - 4096)) >= 0
    if header.kind == "webp":
        return len(data) >= int(struct.unpack("<I", data[4:8])[0]) + 8
    return True


def count_scans(data: bytes, header: ImageHeader, *, most: int) -> int:
    """How often the pixels of a whole JPEG are gone through; exact where that is above `most`.

    A scan of a progressive JPEG may have ten bytes, and takes as long as any other.
    """
    scans = data.count(START_OF_SCAN, header.scan_start)
    if scans <= most:
        return scans
    # Not all of these are scans: what follows the end may be a film.
    scans, position = 0, header.scan_start
    while 0 <= position < len(data) - 3:
        marker = data[position + 1]
        if data[position] != 0xFF or marker in NO_MARKER:
            position = data.find(b"\xff", position + 1)
        elif marker == END_OF_IMAGE[1]:
            break
        else:
            scans += marker == START_OF_SCAN[1]
            position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
    return scans


def _jpeg(data: bytes) -> ImageHeader:
    position, size_hw, orientation = 2, None, 1
    while True:
        if data[position] != 0xFF:
            raise ValueError("a JPEG marker is missing")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in STANDALONE:
            position += 2
            continue
        (length,) = struct.unpack(">H", data[position + 2 : position + 4])
        segment = data[position + 4 : position + 2 + length]
        if marker in START_OF_FRAME:
            height, width = struct.unpack(">HH", segment[1:5])
            size_hw = (height, width)
        elif marker == 0xE1 and segment[:6] == b"Exif\x00\x00":
            orientation = _exif_orientation(segment[6:])
        elif marker == 0xDA:
            if size_hw is None:
                raise ValueError("the JPEG has no frame header")
            shown_hw = size_hw[::-1] if orientation >= 5 else size_hw
            return ImageHeader("jpeg", shown_hw, position, orientation)
        position += 2 + length


def _exif_orientation(tiff: bytes) -> int:
    """Orientation 1 to 8 in a TIFF block (EXIF 2.3, table 4); 5 to 8 swap the sides."""
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (directory,) = struct.unpack(order + "I", tiff[4:8])
        (entries,) = struct.unpack(order + "H", tiff[directory : directory + 2])
        for index in range(entries):
            start = directory + 2 + 12 * index
            (tag,) = struct.unpack(order + "H", tiff[start : start + 2])
            if tag == ORIENTATION_TAG:
                return int(struct.unpack(order + "H", tiff[start + 8 : start + 10])[0])
    except (KeyError, struct.error):
        pass
    return 1


def _tiff(data: bytes) -> ImageHeader:
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack(order + "I", data[4:8])
    (entries,) = struct.unpack(order + "H", data[directory : directory + 2])
    sides: dict[int, int] = {}
    for start in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack(order + "HH", data[start : start + 4])
        if tag in (TIFF_WIDTH, TIFF_HEIGHT) and kind in TIFF_TYPES:
            form = order + TIFF_TYPES[kind]
            (side,) = struct.unpack_from(form, data[start + 8 : start + 12])
            # Which of two the decoder believes is its own affair.
            sides[tag] = max(side, sides.get(tag, 0))
    if len(sides) < 2:
        raise ValueError("the TIFF has no size")
    return ImageHeader("tiff", (sides[TIFF_HEIGHT], sides[TIFF_WIDTH]))


def _bmp(data: bytes) -> ImageHeader:
    (header_bytes,) = struct.unpack("<I", data[14:18])
    if header_bytes == OS2_HEADER_BYTES:
        width, height = struct.unpack("<HH", data[18:22])
    else:
        width, height = struct.unpack("<ii", data[18:26])
    if width < 0:
        raise ValueError(f"the BMP is {width} pixels wide")
    return ImageHeader("bmp", (abs(height), width))


def _webp(data: bytes) -> ImageHeader:
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif chunk == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    else:
        width, height = (value & 0x3FFF for value in struct.unpack("<HH", data[26:30]))
    return ImageHeader("webp", (height, width))
