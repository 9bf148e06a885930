"""A batch in parts, so that what a matcher holds for all pairs of object and anchor stays small."""

from __future__ import annotations

# B images, G object slots of an image, A anchors

# The overlaps of a batch take several float tensors [B, G, A]; images go in parts beyond this.
MAX_PAIRS = 2**25


def image_parts(images: int, *, pairs_per_image: int) -> list[slice]:
    """Ranges of images, in order, of at most `MAX_PAIRS` pairs each (or of a single image).

    Args:
        images: B.
        pairs_per_image: G · A.
    """
    step = max(1, MAX_PAIRS // max(1, pairs_per_image))
    return [slice(start, start + step) for start in range(0, images, step)]
