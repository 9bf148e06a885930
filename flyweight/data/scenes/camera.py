"""The camera of the sample scenes, and the plane geometry that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.data.scenes.paint import Points


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above the table; plane coordinates are pixels around the image's centre."""

    rotation: npt.NDArray[np.float64]
    focal: float
    centre: tuple[float, float]

    def matrix(self) -> npt.NDArray[np.float64]:
        """Homography `[3, 3]` from the plane to the image."""
        r = self.rotation
        planar = np.array(
            [
                [self.focal * r[0, 0], self.focal * r[0, 1], 0],
                [self.focal * r[1, 0], self.focal * r[1, 1], 0],
                [r[2, 0], r[2, 1], self.focal],
            ]
        )
        return np.asarray(translation(*self.centre) @ planar / self.focal)

    def rise(self, at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Where one pixel of height above the plane moves a point at `at` (x, y, image): `[2]`."""
        return np.asarray(-self.rotation[:2, 2] + (at - self.centre) / self.focal)


def draw_camera(rng: np.random.Generator, size_hw: tuple[int, int]) -> Camera:
    """Looks down, tilted up to about 40 degrees."""
    tilt = np.radians(40) * float(rng.beta(1.2, 2.0))
    # Mostly the far side is up in the picture; at times the camera is turned.
    azimuth = float(rng.normal(0, 0.5)) if rng.uniform() < 0.8 else float(rng.uniform(0, 2 * np.pi))
    focal = float(rng.uniform(1.1, 2.2)) * max(size_hw)
    return Camera(tilted(tilt, azimuth), focal, (size_hw[1] / 2, size_hw[0] / 2))


def tilted(tilt: float, azimuth: float) -> npt.NDArray[np.float64]:
    """Rotation `[3, 3]` by `tilt` about an axis in the plane, `azimuth` from x (radians)."""
    axis = np.array([np.cos(azimuth), np.sin(azimuth), 0.0]) * -tilt
    return np.asarray(cv2.Rodrigues(axis)[0])


def clip_polygon(outline: Points, size_hw: tuple[int, int]) -> Points:
    """The part of a convex `outline [P, 2]` (x, y) inside an image: Sutherland and Hodgman 1974."""
    points = outline.astype(np.float64)
    height, width = size_hw
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        depth = sign * (points[:, axis] - limit)
        if len(points) == 0 or (depth >= 0).all():
            continue
        kept = []
        for k in range(len(points)):
            before, now = depth[k - 1], depth[k]
            if (before >= 0) != (now >= 0):
                share = before / (before - now)
                kept.append(points[k - 1] + share * (points[k] - points[k - 1]))
            if now >= 0:
                kept.append(points[k])
        points = np.array(kept).reshape(-1, 2)
    return points.astype(np.float32)


def project(points: Points, matrix: npt.NDArray[np.float64]) -> Points:
    """`points [P, 2]` (x, y) through a homography `[3, 3]`."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[:, :2] / mapped[:, 2:], np.float32)


def translation(x: float, y: float) -> npt.NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def rotation(angle: float) -> npt.NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
