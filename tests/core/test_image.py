from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from flyweight.core import image as core_image
from flyweight.core.errors import InputError
from flyweight.core.image_header import read_header


def scene(height: int = 60, width: int = 90) -> np.ndarray:
    """A smooth picture whose four corners differ, so that every rotation shows."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / width, y * 255 / height, (x + y) * 255 / (height + width)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def pillow_rgb(path: Path) -> np.ndarray:
    with PillowImage.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".gif", ".jpg"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    PillowImage.fromarray(scene()).save(path, **({"quality": 95} if suffix != ".gif" else {}))
    read = core_image.read_image(path)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    assert np.abs(read.astype(int) - pillow_rgb(path)).max() <= 4
    assert core_image.image_size_hw(path) == (60, 90)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "rotated.jpg"
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    PillowImage.fromarray(scene()).save(path, exif=exif, quality=95)
    read = core_image.read_image(path)
    assert np.abs(read.astype(int) - pillow_rgb(path)).max() <= 4
    assert core_image.image_size_hw(path) == read.shape[:2]
    assert (read.shape[0] > read.shape[1]) == (orientation >= 5)
    header = read_header(path.read_bytes())
    assert header is not None
    assert header.orientation == orientation


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "I;16", "P", "1", "LA"])
def test_colour_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    if mode == "I;16":
        cv2.imwrite(str(path), scene()[..., 0].astype(np.uint16) * 257)
        expected = np.repeat(scene()[..., :1], 3, axis=-1)
    else:
        PillowImage.fromarray(scene()).convert(mode).save(path, quality=95)
        expected = pillow_rgb(path)
    read = core_image.read_image(path)
    assert read.shape == (60, 90, 3)
    # OpenCV and Pillow round CMYK differently.
    assert np.abs(read.astype(int) - expected).max() <= (6 if mode == "CMYK" else 4)


def test_bytes_and_path_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    core_image.write_image(path, scene())
    np.testing.assert_array_equal(
        core_image.read_image(path), core_image.read_image(path.read_bytes())
    )
    assert core_image.encode_image(scene())[:2] == b"\xff\xd8"


def test_large_jpeg_is_decoded_smaller(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    big = cv2.resize(scene(), (1201, 803), interpolation=cv2.INTER_LINEAR)
    core_image.write_image(path, big)
    small, scale_x, scale_y = core_image.read_image_scaled(path, (96, 96))
    assert small.shape[:2] == (201, 301)
    assert (scale_x, scale_y) == (301 / 1201, 201 / 803)
    expected = cv2.resize(big, (301, 201), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 2
    assert core_image.read_image_scaled(path, (500, 500))[0].shape == big.shape


@pytest.mark.parametrize(
    ("size_hw", "min_size_hw", "reduction"),
    [
        ((480, 640), (100, 100), 2),
        ((480, 640), (120, 160), 2),
        ((480, 640), (121, 160), 1),
        ((480, 640), (30, 40), 8),
        ((480, 640), (1, 1), 8),
        ((480, 640), (900, 900), 1),
        ((800, 600), (100, 20), 4),
    ],
)
def test_both_sides_stay_twice_what_is_needed(
    size_hw: tuple[int, int], min_size_hw: tuple[int, int], reduction: int
) -> None:
    assert core_image.jpeg_reduction(size_hw, min_size_hw) == reduction


def jpeg(mode: str = "RGB", size_wh: tuple[int, int] = (317, 203), **options: object) -> bytes:
    """A JPEG of smooth noise by Pillow."""
    noise = np.random.default_rng(0).integers(0, 256, (26, 40, 3), dtype=np.uint8)
    picture = PillowImage.fromarray(cv2.resize(noise, size_wh)).convert(mode)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


PLAIN_JPEGS = {
    "4:2:0": jpeg(subsampling="4:2:0"),
    "4:2:2": jpeg(subsampling="4:2:2", quality=30),
    "4:4:4": jpeg(subsampling="4:4:4", quality=95),
    "progressive": jpeg(progressive=True),
    "restart markers": jpeg(restart_marker_blocks=3),
    "grey": jpeg("L"),
    "CMYK": jpeg("CMYK"),
    "RGB": jpeg(keep_rgb=True),
    "smallest": jpeg(size_wh=(core_image.LEAST_SIDE, core_image.LEAST_SIDE + 1)),
    "upright": jpeg(
        exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01"
        b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"
    ),
}


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", PLAIN_JPEGS)
def test_the_faster_decoder_gives_the_pixels_of_opencv(kind: str, reduction: int) -> None:
    pytest.importorskip("simplejpeg", reason="the optional JPEG decoder is not installed")
    data = PLAIN_JPEGS[kind]
    header = read_header(data)
    assert header is not None
    faster = core_image._decode_plain_jpeg(data, header, reduction)
    assert faster is not None
    assert faster.flags.writeable
    np.testing.assert_array_equal(faster, core_image._decode(data, reduction, None))


def test_what_is_unusual_is_left_to_opencv() -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    whole = jpeg(quality=95)
    # An end marker where the pixels stop: OpenCV paints the rest, the other decoder refuses.
    damaged = whole[:-2000] + b"\xff\xd9"
    for data in (jpeg(exif=exif), jpeg(size_wh=(20, 300)), damaged):
        header = read_header(data)
        assert header is not None
        assert core_image._decode_plain_jpeg(data, header, 1) is None
        np.testing.assert_array_equal(
            core_image.read_image(data), core_image._decode(data, 1, None)
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"this is no picture", "cannot be decoded"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "corrupt"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "corrupt"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        core_image.read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    core_image.write_image(path, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="truncated"):
        core_image.read_image(path)


def test_embedded_preview_does_not_hide_a_truncation(tmp_path: Path) -> None:
    """The end marker of a preview in the EXIF block is not the picture's own."""
    path = tmp_path / "a.jpg"
    core_image.write_image(path, scene())
    data = path.read_bytes()
    block = b"Exif\x00\x00" + core_image.encode_image(scene(16, 16))
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    path.write_bytes(data[:2] + segment + data[2:])
    assert core_image.read_image(path).shape == (60, 90, 3)
    path.write_bytes((data[:2] + segment + data[2:])[:-40])
    with pytest.raises(InputError, match="truncated"):
        core_image.read_image(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        core_image.read_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="does not exist"):
        core_image.image_size_hw(tmp_path / "none.jpg")


def test_hundred_megapixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    PillowImage.new("1", (10_000, 10_000)).save(path)
    with pytest.raises(InputError, match="100 megapixels"):
        core_image.read_image(path)
