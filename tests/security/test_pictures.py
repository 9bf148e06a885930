"""Pictures and videos from strangers."""

from __future__ import annotations

import http.server
import os
import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from flyweight.core.image import MAX_SCANS, encode_image, image_size_hw, read_image
from tests.security.conftest import Attack

HUGE = 60_000


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def tiff(width: int, height: int) -> bytes:
    """Uncompressed RGB whose only strip is a kilobyte."""
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 200), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, 1000),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    whole = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    return whole.ljust(200, b"\0") + bytes(1000)


def jpeg(width: int, height: int) -> bytes:
    """A small picture whose header says something else."""
    data = bytearray(encode_image(np.zeros((64, 64, 3), np.uint8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


BOMBS = {
    "png": png_header(HUGE, HUGE),
    "jpeg": jpeg(HUGE, HUGE),
    "tiff": tiff(HUGE, 30_000),
    "gif": b"GIF89a" + struct.pack("<HHBBB", HUGE, HUGE, 0, 0, 0) + b";",
    "webp": b"RIFF"
    + struct.pack("<I", 30)
    + b"WEBPVP8X"
    + bytes(8)
    + b"\xff\xff\x00" * 2
    + bytes(8),
    "bmp": b"BM" + struct.pack("<IHHIIiiHHI", 200, 0, 0, 54, 40, HUGE, HUGE, 1, 24, 0) + bytes(200),
    # Kinds that OpenCV knows, and whose headers are not read here.
    "pnm": b"P6 30000 30000 255\n" + bytes(100),
    "pam": b"P7\nWIDTH 30000\nHEIGHT 30000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"
    + bytes(99),
    "pfm": b"PF\n30000 30000\n-1.0\n" + bytes(100),
    "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n" + bytes(100),
}


@pytest.mark.parametrize("kind", sorted(BOMBS))
def test_a_size_that_fills_the_memory(
    kind: str, refused: Attack, colours: Path, tmp_path: Path
) -> None:
    (tmp_path / "bomb.png").write_bytes(BOMBS[kind])
    refused("predict", colours, tmp_path / "bomb.png", "--out", tmp_path / "out", says="bomb.png")
    assert not (tmp_path / "out").exists()


def test_a_sound_tiff_is_read(tmp_path: Path) -> None:
    image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    (tmp_path / "a.tiff").write_bytes(encode_image(image, suffix=".tiff"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff"), image)
    assert image_size_hw(tmp_path / "a.tiff") == (40, 60)


def progressive(scans: int, tail: bytes = b"") -> bytes:
    """One grey picture, its last scan written again and again."""
    ok, coded = cv2.imencode(
        ".jpg", np.zeros((64, 64), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    )
    assert ok
    data = coded.tobytes()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:] + tail


def test_a_jpeg_of_many_scans(refused: Attack, colours: Path, tmp_path: Path) -> None:
    (tmp_path / "scans.jpg").write_bytes(progressive(50_000))
    refused("predict", colours, tmp_path / "scans.jpg", says="scans")
    # ten thousand marks of one in a film behind the picture are none
    read_image(progressive(1, tail=b"\xff\xda" * 10_000))
    read_image(progressive(MAX_SCANS - 20))


@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "loop", "nothing"])
@pytest.mark.parametrize("verb", ["predict", "stats"])
def test_what_is_no_file(
    kind: str, verb: str, refused: Attack, colours: Path, coco: Attack, tmp_path: Path
) -> None:
    """A pipe nobody writes into, a device without end, links to them, in a picture's place."""
    root = tmp_path / "coco"
    coco()
    path = root / "images" / "a.png"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"zero": "/dev/zero", "loop": "a.png", "nothing": "none.png"}[kind])
    if verb == "stats":
        refused("data", "stats", root, says="a.png")
    else:
        refused("predict", colours, path, says="a.png")


@pytest.mark.parametrize(
    "name", ["annotations.json", "Annotations/a.xml", "labels/a.txt", "y.yaml"]
)
def test_pipes_in_place_of_annotations(name: str, refused: Attack, tmp_path: Path) -> None:
    for folder in ("Annotations", "labels", "images"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    os.mkfifo(tmp_path / "data" / name)
    if name.startswith("labels"):
        (tmp_path / "data" / "data.yaml").write_text("train: images\nnames: [a]\n")
        (tmp_path / "data" / "images" / "a.png").write_bytes(png_header(9, 9))
    refused("data", "stats", tmp_path / "data")


@pytest.mark.parametrize("part", [0, 10, 200])
def test_pictures_that_are_cut(part: int, refused: Attack, colours: Path, tmp_path: Path) -> None:
    whole = encode_image(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    (tmp_path / "cut.jpg").write_bytes(whole[:part])
    refused("predict", colours, tmp_path / "cut.jpg", says="cut.jpg")


def test_a_picture_that_is_also_a_page_is_a_picture() -> None:
    """A polyglot: nothing behind the picture's end is looked at."""
    image = np.zeros((40, 40, 3), np.uint8)
    data = encode_image(image, suffix=".png")
    polyglot = data + b"<script>alert(1)</script>" + b"PK\x05\x06" + bytes(18)
    np.testing.assert_array_equal(read_image(polyglot), image)


def test_exif_that_points_anywhere() -> None:
    """65,535 entries, a directory beyond the end, one that is itself: the picture is as it is."""
    whole = encode_image(np.zeros((40, 48, 3), np.uint8))
    for tiff_block in (
        b"II*\0" + struct.pack("<IH", 8, 65_535) + bytes(24),
        b"II*\0" + struct.pack("<I", 0xFFFFFFF0),
        b"MM\0*" + struct.pack(">IH", 0, 9),
    ):
        segment = b"Exif\0\0" + tiff_block
        head = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
        assert read_image(whole[:2] + head + whole[2:]).shape == (40, 48, 3)


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_videos_that_are_none(size: int, refused: Attack, colours: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(size).integers(0, 255, size).astype(np.uint8).tobytes()
    (tmp_path / "none.mp4").write_bytes(noise)
    refused("predict", colours, tmp_path / "none.mp4", says="none.mp4")


@pytest.fixture
def listener() -> object:
    """A web server of this machine, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_video_that_is_a_list_of_addresses(
    suffix: str, bounded: Attack, colours: Path, tmp_path: Path, listener: tuple[int, list[str]]
) -> None:
    """FFmpeg reads play lists: none may make this machine ask another, or read another file."""
    port, asked = listener
    film = tmp_path / f"film{suffix}"
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{}/x.ts\n"
    description = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {} RTP/AVP 26\n"
    for text in (playlist, description, "ffconcat version 1.0\nfile http://127.0.0.1:{}/y\n"):
        film.write_text(text.format(port))
        bounded("predict", colours, film)
    assert asked == []
