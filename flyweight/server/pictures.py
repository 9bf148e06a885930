"""A stranger's picture: looked at before it is decoded.

Only kinds whose size stands in the header are taken, and only the decoders of these kinds see any
data: libjpeg-turbo, libpng, libwebp and OpenCV's BMP.
"""

from __future__ import annotations

from http import HTTPStatus

from flyweight.core.image_header import read_header
from flyweight.server.refusal import RefusalError

KINDS = ("jpeg", "png", "webp", "bmp")


def check_picture(data: bytes, index: int, *, max_pixels: int) -> None:
    """Refuse picture `index` of a request unless it is worth decoding.

    Args:
        data: the file's bytes.
        max_pixels: height × width at most.

    Raises:
        RefusalError: it is empty, of no known kind, corrupt or too large.
    """
    if not data:
        raise not_a_picture("the picture is empty (0 bytes)", index)
    try:
        header = read_header(data)
    except ValueError as error:
        raise not_a_picture(f"the picture is corrupt: {error}", index) from error
    if header is None or header.kind not in KINDS:
        raise not_a_picture("this is no JPEG, PNG, WebP or BMP", index)
    height, width = header.size_hw
    if min(height, width) < 1:
        raise not_a_picture(f"the picture is corrupt: it is {width}×{height}", index)
    if height * width > max_pixels:
        raise RefusalError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too-many-pixels",
            f"the picture has {width}×{height} pixels, over the limit of {max_pixels}",
            picture=index,
        )


def not_a_picture(detail: str, index: int) -> RefusalError:
    """The refusal of what cannot be decoded."""
    return RefusalError(HTTPStatus.UNPROCESSABLE_ENTITY, "not-a-picture", detail, picture=index)
