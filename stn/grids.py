"""The regular grid, its transforms, and normalised <-> pixel coordinates.

This is the one home of the `align_corners` rule. A normalised coordinate is
in [-1, 1] over an image axis of `size` pixels:

- `align_corners=False`: -1 and 1 are the outer edges of the first and the last
  pixel. Pixel i has its centre at (2 i + 1) / size - 1, and theta means the
  same at every resolution.
- `align_corners=True`: -1 and 1 are the centres of the first and the last
  pixel. Pixel i is at 2 i / (size - 1) - 1; an axis of size 1 is at 0.

Points and grids hold (x, y) or (x, y, z) in their last axis; x runs along the
LAST spatial axis of the image. See torch's `grid_sample` for the same rules.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import ArrayLike, Float

from stn._checks import (
  as_coordinates,
  check_output_size,
  check_shape,
  check_size,
)
from stn.transforms import (
  Transform,
  apply_affine,
  apply_rows,
  get_transform,
)
from stn.transforms.base import as_theta

# A grid of at most this many points is a constant of the compiled program, and
# so is whatever a transform computes from it without theta. A larger grid is
# cheaper to compute than to read.
_MAX_CONSTANT = 2**17


def _scale(size: int, align_corners: bool) -> float:
  """Pixels per unit of a normalised coordinate."""
  return (size - 1) / 2 if align_corners else size / 2


def pixel_rule(
  size: int, *, align_corners: bool = False
) -> tuple[float, float, float]:
  """What `normalised_to_pixel` computes, for samplers that do so themselves.

  Args:
    size: pixels along that axis.
    align_corners: the rule, see the head of this module.

  Returns:
    scale, offset and tolerance: the pixel is scale * coordinate + offset, or
    an integer within tolerance of it, in float32. A scale of 0 stands for an
    axis of one pixel, where every coordinate but NaN is that pixel.
  """
  tolerance = size * float(jnp.finfo(jnp.float32).eps)
  return _scale(size, align_corners), (size - 1) / 2, tolerance


def pixel_pitch(size: int, *, align_corners: bool = False) -> float:
  """The distance between the centres of two pixels, normalised.

  Args:
    size: pixels along that axis.
    align_corners: the rule, see the head of this module.

  Returns:
    2 / size, or 2 / (size - 1) under `align_corners`; 2 for a size of 1.
  """
  return 1 / (_scale(size, align_corners) or 0.5)


def normalised_to_pixel(
  coordinate: Float[ArrayLike, "*n"],
  size: SupportsIndex,
  *,
  align_corners: bool = False,
) -> Float[jax.Array, "*n"]:
  """Converts normalised coordinates along one axis to pixels.

  A result within rounding error (`size` times the dtype's epsilon) of an
  integer is that integer exactly, with its derivative unchanged. So the
  identity returns the image itself, and the gradient at a lattice point is the
  forward difference whichever way the coordinate was rounded.

  Args:
    coordinate: any shape, -1 to 1 within the image.
    size: pixels along that axis, an int or a symbolic size of `jax.export`.
    align_corners: the rule, see the head of this module.

  Returns:
    Pixel coordinates, 0 at the centre of the first pixel and size - 1 at that
    of the last; float64 if `coordinate` is, otherwise float32.

  Raises:
    TypeError: if `coordinate` is not floating.
    ValueError: if `size` is not a positive int.

  Example:
    >>> import jax.numpy as jnp
    >>> normalised_to_pixel(jnp.array([-1., 0., 1.]), 4)
    Array([-0.5,  1.5,  3.5], dtype=float32)
    >>> normalised_to_pixel(jnp.array([-1., 0., 1.]), 4, align_corners=True)
    Array([0. , 1.5, 3. ], dtype=float32)
  """
  coordinate = as_coordinates("coordinate", coordinate)
  size = check_size(size)
  if align_corners and size == 1:  # all but NaN is there, infinity too
    return jnp.where(jnp.isnan(coordinate), coordinate, 0)
  scale = _scale(size, align_corners)
  pixel = coordinate * scale + (size - 1) / 2
  integer = jax.lax.stop_gradient(jnp.round(pixel))
  fixed = jax.lax.stop_gradient(pixel)
  near = jnp.abs(fixed - integer) <= size * jnp.finfo(pixel.dtype).eps
  return jnp.where(near, integer + (pixel - fixed), pixel)


def grid_to_pixels(
  grid: jax.Array, spatial: Sequence[SupportsIndex], *, align_corners: bool
) -> list[jax.Array]:
  """Converts a grid to pixel coordinates, one array for each axis.

  Args:
    grid: (*output, d) in (x, y, z) order, normalised.
    spatial: the image's size, d numbers of pixels.
    align_corners: the rule, see the head of this module.

  Returns:
    d arrays (*output) in the order of `spatial`.
  """
  return [
    normalised_to_pixel(grid[..., -1 - axis], size, align_corners=align_corners)
    for axis, size in enumerate(spatial)
  ]


def pixel_to_normalised(
  pixel: Float[ArrayLike, "*n"],
  size: SupportsIndex,
  *,
  align_corners: bool = False,
) -> Float[jax.Array, "*n"]:
  """Converts pixel coordinates along one axis to normalised ones.

  Args:
    pixel: any shape; 0 is the centre of the first pixel.
    size: pixels along that axis, an int or a symbolic size of `jax.export`.
    align_corners: the rule, see the head of this module.

  Returns:
    Normalised coordinates; 0 for an axis of size 1 under `align_corners=True`.

  Raises:
    TypeError: if `pixel` is not floating.
    ValueError: if `size` is not a positive int.

  Example:
    >>> import jax.numpy as jnp
    >>> pixel_to_normalised(jnp.array([-0.5, 3.5]), 4)
    Array([-1.,  1.], dtype=float32)
  """
  pixel = as_coordinates("pixel", pixel)
  size = check_size(size)
  if align_corners and size == 1:
    return jnp.zeros_like(pixel)
  return (pixel - (size - 1) / 2) / _scale(size, align_corners)


def grid_axes(
  output_size: Sequence[int],
  *,
  align_corners: bool = False,
  dtype: DTypeLike = np.float32,
) -> list[np.ndarray]:
  """The coordinates of a regular grid, axis by axis.

  Args:
    output_size: d ints.
    align_corners: the rule, see the head of this module.
    dtype: float32 or float64.

  Returns:
    d arrays, in the order of `output_size`.
  """
  axes = []
  for size in output_size:
    scale = _scale(size, align_corners)
    # In NumPy's float64, so that each coordinate is rounded once.
    centred = np.arange(size) - (size - 1) / 2
    axes.append((centred / scale if scale else centred).astype(dtype))
  return axes


def regular_grid(
  output_size: Iterable[SupportsIndex],
  *,
  align_corners: bool = False,
  dtype: DTypeLike = jnp.float32,
) -> Float[jax.Array, "*output d"]:
  """The pixel centres of an image: the paper's regular grid G.

  Args:
    output_size: (W,), (H, W) or (D, H, W).
    align_corners: the rule, see the head of this module.
    dtype: float32 or float64.

  Returns:
    Points (*output_size, d) in (x, y, z) order, normalised to [-1, 1].

  Raises:
    TypeError: if `dtype` is another one.
    ValueError: if `output_size` is not 1 to 3 positive ints.

  Example:
    >>> regular_grid((1, 2))
    Array([[[-0.5,  0. ],
            [ 0.5,  0. ]]], dtype=float32)
  """
  output_size = check_output_size(output_size)
  dtype = jnp.dtype(dtype)
  if dtype not in (jnp.float32, jnp.float64):
    raise TypeError(f"`dtype` must be float32 or float64; got {dtype.name}.")
  axes = grid_axes(output_size, align_corners=align_corners, dtype=dtype)
  if math.prod(output_size) > _MAX_CONSTANT:
    axes = map(jnp.asarray, axes)
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij")[::-1], axis=-1)
  grid = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1)
  with jax.ensure_compile_time_eval():
    return jnp.asarray(grid)


def transform_grid(
  transform: str | Transform,
  theta: Float[ArrayLike, " params"],
  output_size: Iterable[SupportsIndex],
  *,
  align_corners: bool = False,
) -> Float[jax.Array, "*output d"]:
  """Transforms the regular grid: T_theta(G), the paper's grid generator.

  The result is a pull (backward) warp: it says, for every output pixel, where
  in the input to look.

  Args:
    transform: a name in `stn.TRANSFORMS`, or a `Transform`.
    theta: its parameters, shape (P,). Batches are for `jax.vmap`.
    output_size: (W,), (H, W) or (D, H, W) of the output, which may be smaller
      or larger than the input.
    align_corners: the rule, see the head of this module.

  Returns:
    The grid (*output_size, d); float64 if `theta` is, otherwise float32.

  Raises:
    TypeError: if `theta` is not floating.
    ValueError: if the name is unknown, or theta or the size does not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> mirror = jnp.array([-1., 0., 0., 0., 1., 0.])
    >>> transform_grid("affine", mirror, (1, 2))
    Array([[[ 0.5,  0. ],
            [-0.5,  0. ]]], dtype=float32)
  """
  output_size = check_output_size(output_size)
  if not isinstance(transform, Transform):
    transform = get_transform(transform, ndim=len(output_size))
  theta = as_theta(theta, transform.num_params)
  points = regular_grid(
    output_size, align_corners=align_corners, dtype=theta.dtype
  )
  return transform.apply(theta, points)


def affine_grid(
  theta: Float[ArrayLike, "d d+1"],
  output_size: Iterable[SupportsIndex],
  *,
  align_corners: bool = False,
) -> Float[jax.Array, "*output d"]:
  """The affine grid of a matrix, as torch's function of this name.

  Args:
    theta: the matrix [A | t], shape (d, d + 1).
    output_size: d ints: (W,), (H, W) or (D, H, W).
    align_corners: the rule, see the head of this module.

  Returns:
    The grid (*output_size, d); float64 if `theta` is, otherwise float32.

  Raises:
    TypeError: if `theta` is not floating.
    ValueError: if `theta` is not (d, d + 1) for d axes of `output_size`.

  Example:
    >>> import jax.numpy as jnp
    >>> affine_grid(jnp.eye(2, 3), (1, 2))
    Array([[[-0.5,  0. ],
            [ 0.5,  0. ]]], dtype=float32)
  """
  output_size = check_output_size(output_size)
  theta = as_coordinates("theta", theta)
  d = len(output_size)
  check_shape(
    "theta",
    theta,
    f"({d}, {d + 1})",
    theta.shape == (d, d + 1),
    f" for an `output_size` of {d} axes",
  )
  points = regular_grid(
    output_size, align_corners=align_corners, dtype=theta.dtype
  )
  return apply_affine(theta.reshape(-1), points)


def rows_grid(
  rows: jax.Array, output_size: Sequence[int], *, align_corners: bool
) -> jax.Array:
  """The grids of matrices, for samplers: see `Transform.rows`.

  Args:
    rows: (*batch, d or d + 1, d + 1), float32 or float64.
    output_size: d ints.
    align_corners: the rule, see the head of this module.

  Returns:
    (*batch, *output_size, d).
  """
  points = regular_grid(
    output_size, align_corners=align_corners, dtype=rows.dtype
  )
  apply = functools.partial(apply_rows, points=points)
  for _ in rows.shape[:-2]:
    apply = jax.vmap(apply)
  return apply(rows)
