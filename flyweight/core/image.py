"""Reading and writing pictures: always RGB, uint8, upright.

Grey, CMYK, 16-bit and transparent pictures come out as RGB; an EXIF rotation is applied. A picture
that cannot be read whole is an error, never half a picture.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.core.given_file import check_regular, read_given
from flyweight.core.image_header import ImageHeader, count_scans, is_complete, read_header

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

Image = npt.NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jfif")
# The limit at which Pillow, too, suspects a decompression bomb.
MAX_PIXELS = int(os.environ.get("FLYWEIGHT_MAX_PIXELS", 1024 * 1024 * 1024 // 4 // 3))
# Of a file; a picture of that many pixels, four 16-bit channels uncompressed.
MAX_FILE_BYTES = 8 * MAX_PIXELS + (1 << 20)
# A JPEG is decoded once for each of its scans; encoders write about ten.
MAX_SCANS = 100
HEADER_BYTES = 256 * 1024
# RGB straight from the decoder where OpenCV has it (4.10 and later), else one more pass.
READS_RGB = hasattr(cv2, "IMREAD_COLOR_RGB")
COLOR = cv2.IMREAD_COLOR_RGB if READS_RGB else cv2.IMREAD_COLOR
REDUCED_FLAGS = {
    1: COLOR,
    2: COLOR | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: COLOR | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: COLOR | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
# What decides the pixels of a decoded picture.
DECODERS = f"opencv {cv2.__version__}" + (
    "" if simplejpeg is None else f", simplejpeg {simplejpeg.__version__}"
)
# Below this, in pixels, two of the scales at which a JPEG can be decoded may give the same size.
LEAST_SIDE = 32
# glibc hands back freed memory of a picture's size to the system and takes it anew for the next:
# hundreds of page faults a picture, up to half of its time. One large block, freed untouched,
# raises the size up to which it keeps memory (mallopt(3), M_MMAP_THRESHOLD) to its limit, 32 MB.
np.empty(31 << 20, dtype=np.uint8)


def read_image(source: Source, *, min_size_hw: tuple[int, int] | None = None) -> Image:
    """Read a picture as RGB uint8 `[H, W, 3]`, upright.

    Args:
        source: a file's path, or its bytes.
        min_size_hw: if given, a JPEG that is far larger is decoded at 1/2, 1/4 or 1/8 of its size
            (much faster, and free of aliasing), as long as both sides stay at least twice
            `min_size_hw`. The result is then smaller than the file says.

    Raises:
        InputError: it is missing, empty, truncated, corrupt, no picture, or above `MAX_PIXELS`.
    """
    return read_image_scaled(source, min_size_hw)[0]


def read_image_scaled(
    source: Source, min_size_hw: tuple[int, int] | None
) -> tuple[Image, float, float]:
    """As `read_image`; also the factors of x and of y from the file's pixels to those returned."""
    data, where = (source, None) if isinstance(source, bytes) else (_read_bytes(source), source)
    header = _checked_header(data, where)
    if header.kind != "jpeg":
        return _decode(data, 1, where), 1.0, 1.0
    reduction = 1 if min_size_hw is None else jpeg_reduction(header.size_hw, min_size_hw)
    decoded = _decode_plain_jpeg(data, header, reduction)
    if decoded is None:
        decoded = _decode(data, reduction, where)
    if reduction == 1:
        return decoded, 1.0, 1.0
    height, width = header.size_hw
    return decoded, decoded.shape[1] / width, decoded.shape[0] / height


def jpeg_reduction(size_hw: tuple[int, int], min_size_hw: tuple[int, int]) -> int:
    """By what the sides of a JPEG of `size_hw` are divided while decoding: 1, 2, 4 or 8.

    Both stay at least twice `min_size_hw`.
    """
    spare = min(size_hw[0] / min_size_hw[0], size_hw[1] / min_size_hw[1]) / 2
    return next((factor for factor in (8, 4, 2) if spare >= factor), 1)


def image_size_hw(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of the picture in `path` as shown (after EXIF rotation), from its header.

    Raises:
        InputError: it is missing, empty or no picture.
    """
    file = Path(path)
    try:
        header = read_header(read_first_bytes(file))
    except OSError as error:
        raise _reading_error(file, error) from error
    except ValueError:
        # A header longer than what was read (large embedded profiles or previews).
        header = _checked_header(_read_bytes(file), file)
    if header is not None and header.kind != "tiff":
        return header.size_hw
    image = read_image(file)  # a TIFF's rotation is known to its decoder alone
    return image.shape[0], image.shape[1]


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins like a picture of a kind that is read here, or is empty."""
    try:
        data = read_first_bytes(path)
        return not data or read_header(data) is not None
    except ValueError:
        return True  # of that kind, but damaged
    except (OSError, InputError):
        return False


def read_first_bytes(path: str | os.PathLike[str]) -> bytes:
    """What most headers fit into.

    Raises:
        OSError: the file cannot be read.
        InputError: it is a pipe or a device.
    """
    check_regular(path)
    with open(path, "rb", buffering=0) as stream:
        return stream.read(HEADER_BYTES)


def write_image(path: str | os.PathLike[str], image: Image) -> None:
    """Write RGB uint8 `[H, W, 3]`; the suffix of `path` chooses the format (JPEG at quality 92)."""
    with write_atomically(path) as temporary:
        options = _jpeg_quality(temporary.suffix, 92)
        if not cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options):
            raise InputError("the picture cannot be written", where=path, fix="use .jpg or .png")


def encode_image(image: Image, *, suffix: str = ".jpg", quality: int = 88) -> bytes:
    """RGB uint8 `[H, W, 3]` as the bytes of a picture file."""
    options = _jpeg_quality(suffix, quality)
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def _jpeg_quality(suffix: str, quality: int) -> list[int]:
    """OpenCV's writing options; it complains where a format is given another's."""
    is_jpeg = suffix.lower() in (".jpg", ".jpeg", ".jfif")
    return [cv2.IMWRITE_JPEG_QUALITY, quality] if is_jpeg else []


def _decode(data: bytes, reduction: int, where: str | os.PathLike[str] | None) -> Image:
    """RGB uint8 `[H, W, 3]` of a picture of any kind, a JPEG with its sides by `reduction`."""
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED_FLAGS[reduction])
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError(
            "the picture cannot be decoded", where=where, fix="replace it or remove it"
        )
    if not READS_RGB:
        decoded = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, decoded)
    return np.asarray(decoded, dtype=np.uint8)


def _decode_plain_jpeg(data: bytes, header: ImageHeader, reduction: int) -> Image | None:
    """The pixels that `_decode` gives, a fifth sooner; None for what is left to it.

    simplejpeg calls the same library, libjpeg-turbo, without OpenCV's streams; it neither turns
    pictures nor reads damaged ones.
    """
    if simplejpeg is None or header.orientation != 1 or min(header.size_hw) < LEAST_SIDE:
        return None
    height, width = (-(-side // reduction) for side in header.size_hw)
    try:
        # It takes the smallest scale that has so many pixels: exactly 1 / `reduction`.
        decoded = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    except ValueError:
        return None
    return np.asarray(decoded, dtype=np.uint8)


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return read_given(path, most_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise _reading_error(path, error) from error


def _reading_error(path: str | os.PathLike[str], error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError("the picture does not exist", where=path, fix="check the path")
    reason = (error.strerror or str(error)).lower()
    return InputError(f"the picture cannot be read: {reason}", where=path)


def _checked_header(data: bytes, where: str | os.PathLike[str] | None) -> ImageHeader:
    if not data:
        raise InputError("the picture is empty (0 bytes)", where=where, fix="copy it again")
    try:
        header = read_header(data)
    except ValueError as error:
        raise InputError(
            f"the picture is corrupt: {error}", where=where, fix="copy it again or remove it"
        ) from error
    if header is None:
        # OpenCV knows twenty kinds more, whose size nobody would have checked before it is
        # allocated.
        raise InputError(
            "the picture cannot be decoded", where=where, fix="replace it or remove it"
        )
    height, width = header.size_hw
    if height * width > MAX_PIXELS:
        raise InputError(
            f"the picture has {height * width / 1e6:.0f} megapixels, over the limit of "
            f"{MAX_PIXELS / 1e6:.0f}",
            where=where,
            fix="scale it down, or raise FLYWEIGHT_MAX_PIXELS",
        )
    if not is_complete(data, header):
        raise InputError("the picture is truncated", where=where, fix="copy it again or remove it")
    if header.kind == "jpeg" and count_scans(data, header, most=MAX_SCANS) > MAX_SCANS:
        raise InputError(
            f"the picture has more than {MAX_SCANS} scans", where=where, fix="save it again"
        )
    return header
