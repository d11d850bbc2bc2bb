"""Where in the input a grid looks, as lines to draw."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike

from stn import grids


def to_pixels(
  points: np.ndarray, size: Sequence[int], *, align_corners: bool = False
) -> np.ndarray:
  """Points (..., d) in pixels of an input of a spatial size.

  Example:
    >>> to_pixels(np.array([[-1., 1.]], np.float32), (2, 4))
    array([[-0.5,  1.5]], dtype=float32)
  """
  axes = [
    np.asarray(
      grids.normalised_to_pixel(points[..., i], n, align_corners=align_corners)
    )
    for i, n in enumerate(reversed(size))
  ]
  return np.stack(axes, axis=-1)


def grid_outline(
  grid: ArrayLike, size: Sequence[int], *, align_corners: bool = False
) -> np.ndarray:
  """The outline, in pixels of the input, of the region that a grid looks at.

  Args:
    grid: one grid (H', W', 2), normalised.
    size: (H, W) of the input.
    align_corners: the coordinate rule, see `stn.grids`.

  Returns:
    A closed line (n, 2) of (x, y), clockwise from the output's top left pixel.

  Example:
    >>> outline = grid_outline(grids.regular_grid((3, 3)), (3, 3))
    >>> outline[[0, 2, 4, 6, -1]].tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0], [0.0, 0.0]]
  """
  grid = np.asarray(grid)
  ring = np.concatenate(
    [grid[0, :-1], grid[:-1, -1], grid[-1, :0:-1], grid[:0:-1, 0], grid[:1, 0]]
  )
  return to_pixels(ring, size, align_corners=align_corners)


def region_lines(
  grid: np.ndarray, size: Sequence[int]
) -> tuple[np.ndarray, list[np.ndarray]]:
  """What to draw of the region that a grid looks at, seen along depth.

  Args:
    grid: one grid (*output, d), normalised; d is 1, 2 or 3.
    size: of the input, d ints.

  Returns:
    The place of the output's first pixel, (x, y), and lines (n, 2): both ends
    of a signal's region, at the heights 0 and 1; the outline in an image; the
    edges of the body in a volume, seen along depth.

  Example:
    >>> first, lines = region_lines(np.asarray(grids.regular_grid((4,))), (4,))
    >>> [line[:, 0].tolist() for line in lines]
    [[0.0, 0.0], [3.0, 3.0]]
  """
  d = grid.shape[-1]
  if d == 1:
    ends = to_pixels(grid[[0, -1]], size)[:, 0]
    return np.array([ends[0], 0.5]), [np.array([[x, 0], [x, 1]]) for x in ends]
  if d == 2:
    outline = grid_outline(grid, size)
    return outline[0], [outline]
  pixels = to_pixels(grid, size)
  lines = [
    np.moveaxis(pixels, axis, 0)[:, i, j, :2]
    for axis in range(3)
    for i in (0, -1)
    for j in (0, -1)
  ]
  return pixels[0, 0, 0, :2], lines
