"""`spatial_transform`: grid and sampler in one call."""

from collections.abc import Iterable
from typing import SupportsIndex

import jax
from jaxtyping import ArrayLike, Float, Shaped

from stn import antialias as antialiasing
from stn._checks import as_image, check_output_size
from stn.grids import transform_grid
from stn.sampling import GradientRule, Kernel, grid_sample, sample_rows
from stn.transforms import Transform, get_transform
from stn.transforms.base import as_theta


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

  For families of matrices and the linear kernel it is one operation on CPUs
  (`stn.sampling.sample_rows`): no grid is in memory.

  Args:
    image: one image (*spatial, C), with 1, 2 or 3 spatial axes.
    theta: parameters of the transform, (P,), from output to input coordinates.
    transform: a name in `stn.TRANSFORMS`, or a `Transform`.
    output_size: spatial size of the result; None keeps the image's.
    method: the interpolation, see `grid_sample`.
    padding_mode: what lies outside, see `grid_sample`.
    fill_value: of `padding_mode="fill"`, see `grid_sample`.
    align_corners: the coordinate rule, see `stn.grids`.
    antialias: what to do where the transform minifies the image, so that a
      sample stands for many of its pixels. None: nothing. "mip": the mean over
      a square, as large as the Jacobian of the grid says, from a mip pyramid,
      at the cost of two lookups and of reading the image once; it needs the
      linear kernel, and does not change what is not minified. An int n: the
      mean over n samples per axis within each output pixel, at n**d times the
      cost; nearly exact for minification up to 2 n times, and always a slight
      blur.
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
  count = antialiasing.check_antialias(antialias)
  if not isinstance(transform, Transform):
    transform = get_transform(transform, ndim=image.ndim - 1)
  options = {
    "method": method,
    "padding_mode": padding_mode,
    "fill_value": fill_value,
    "align_corners": align_corners,
    "gradient": gradient,
    "implementation": implementation,
  }
  if count > 1:
    return antialiasing.supersample(
      image, transform, theta, output_size, count, **options
    )
  if antialias == "mip":
    options["footprint"] = antialiasing.pixel_footprint(
      transform,
      theta,
      output_size,
      image.shape[:-1],
      align_corners=align_corners,
    )
  elif transform.rows is not None:
    rows = transform.rows(as_theta(theta, transform.num_params))
    return sample_rows(image, rows, output_size, **options)
  grid = transform_grid(
    transform, theta, output_size, align_corners=align_corners
  )
  return grid_sample(image, grid, **options)
