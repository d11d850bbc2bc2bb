"""Grid and sampler in one call, and anti-aliasing, which needs both."""

import itertools
import operator
from collections.abc import Iterable
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Shaped

from stn._checks import (
  as_coordinates,
  as_image,
  check_output_size,
  full_dtype,
)
from stn.grids import pixel_pitch, regular_grid, transform_grid
from stn.sampling import GradientRule, Kernel, grid_sample
from stn.sampling.xla import sum_in_a_loop
from stn.transforms import Transform, get_transform


def spatial_transform(
  image: Shaped[ArrayLike, "*spatial channels"],
  theta: Float[ArrayLike, " params"],
  *,
  transform: str | Transform = "affine",
  output_size: Iterable[SupportsIndex] | None = None,
  method: str | Kernel = "linear",
  padding_mode: str = "zeros",
  fill_value: ArrayLike | None = None,
  align_corners: bool = False,
  antialias: int | str | None = None,
  gradient: str | GradientRule = "exact",
  implementation: str | None = None,
) -> Float[jax.Array, "*output channels"]:
  """Warps an image by a transform: `transform_grid`, then `grid_sample`.

  Args:
    image: one image (*spatial, C), with 1, 2 or 3 spatial axes.
    theta: parameters of the transform, (P,), from output to input coordinates.
    transform: a name in `stn.TRANSFORMS`, or a `Transform`.
    output_size: spatial size of the result; None keeps the image's.
    method: the interpolation, see `grid_sample`.
    padding_mode: what lies outside, see `grid_sample`.
    fill_value: of `padding_mode="fill"`, see `grid_sample`.
    align_corners: the coordinate rule, see `stn.grids`.
    antialias: what to do where the transform shrinks the image, so that a
      sample stands for many of its pixels. None: nothing. "mip": the mean over
      a square as large as the Jacobian of the grid says, from a mip pyramid,
      at the price of two look-ups and reading the image once; it needs the
      linear kernel, and leaves alone what is not shrunken. An int n: the mean
      over n samples an axis within each output pixel, at n**d times the price;
      nearly exact for shrinking up to 2 n times, and always a slight blur.
    gradient: the derivative of the sampler, see `grid_sample`.
    implementation: see `grid_sample`.

  Returns:
    The warped image (*output_size, C), of the image's dtype (float32 for bool
    and integers).

  Raises:
    TypeError: if `theta` is not floating, or `image` is complex.
    ValueError: if shapes do not fit or a name is unknown.

  Example:
    >>> import jax.numpy as jnp
    >>> image = jnp.array([[[0.], [1.]], [[2.], [3.]]])  # 2 x 2, 1 channel
    >>> mirror = jnp.array([-1., 0., 0., 0., 1., 0.])
    >>> spatial_transform(image, mirror)[..., 0]
    Array([[1., 0.],
           [3., 2.]], dtype=float32)
    >>> identity = jnp.array([1., 0., 0., 0., 1., 0.])
    >>> spatial_transform(image, identity, output_size=(1, 1), antialias=2)
    Array([[[1.5]]], dtype=float32)
  """
  image = as_image(image)
  if output_size is None:
    output_size = image.shape[:-1]
  output_size = check_output_size(output_size, image.ndim - 1)
  count = _check_antialias(antialias)
  if not isinstance(transform, Transform):
    transform = get_transform(transform, ndim=image.ndim - 1)
  rules = {"align_corners": align_corners}
  options = {
    "method": method,
    "padding_mode": padding_mode,
    "fill_value": fill_value,
    "gradient": gradient,
    "implementation": implementation,
    **rules,
  }
  if count > 1:
    return _supersample(image, transform, theta, output_size, count, options)
  if antialias == "mip":
    options["footprint"] = _footprint(
      transform, theta, output_size, image.shape[:-1], **rules
    )
  grid = transform_grid(transform, theta, output_size, **rules)
  return grid_sample(image, grid, **options)


def _check_antialias(antialias: int | str | None) -> int:
  """Samples an axis."""
  if antialias is None or antialias == "mip":
    return 1
  try:
    count = 0 if isinstance(antialias, str) else operator.index(antialias)
  except TypeError:
    count = 0
  if count < 1:
    raise ValueError(
      '`antialias` must be None, "mip" or a positive int (samples an axis); '
      f"got {antialias!r}."
    )
  return count


def _footprint(transform, theta, output_size, image_size, *, align_corners):
  """The side of the square, in pixels of the image, that a pixel stands for.

  Its second moments are the mean of those of the pixel's parallelogram: the
  mean square of the columns of the Jacobian.
  """
  d = len(output_size)
  theta = as_coordinates("theta", theta)
  points = regular_grid(
    output_size, align_corners=align_corners, dtype=theta.dtype
  )
  pitch = [
    np.array([pixel_pitch(n, align_corners=align_corners) for n in size[::-1]])
    for size in (output_size, image_size)
  ]

  def column(axis):
    direction = jnp.asarray(pitch[0] * (np.arange(d) == axis), points.dtype)
    step = jnp.broadcast_to(direction, points.shape)
    _, moved = jax.jvp(lambda p: transform.apply(theta, p), (points,), (step,))
    return moved / jnp.broadcast_to(
      jnp.asarray(pitch[1], points.dtype), points.shape
    )

  square = sum((column(axis) ** 2).sum(-1) for axis in range(d)) / d
  return jnp.sqrt(jnp.where(square > 1, square, 1))


def _supersample(image, transform, theta, output_size, count, options):
  """The mean of `count` samples an axis within each output pixel.

  One after the other: no grid or image of all samples is ever in memory.
  """
  theta = as_coordinates("theta", theta)
  rule = {"align_corners": options["align_corners"]}
  centres = regular_grid(output_size, dtype=theta.dtype, **rule)
  pitch = [pixel_pitch(n, **rule) for n in output_size]
  within = (np.arange(count) + 0.5) / count - 0.5
  offsets = np.array(list(itertools.product(within, repeat=len(pitch)))) * pitch
  offsets = jnp.asarray(offsets[:, ::-1], theta.dtype)

  def sample(offset):
    points = centres + jnp.broadcast_to(offset, centres.shape)
    warped = grid_sample(image, transform.apply(theta, points), **options)
    return warped.astype(full_dtype(image))

  total = sum_in_a_loop(sample, offsets)
  return (total / len(offsets)).astype(image.dtype)
