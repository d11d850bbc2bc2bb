"""Grid and sampler in one call."""

from collections.abc import Iterable
from typing import SupportsIndex

import jax
from jaxtyping import ArrayLike, Float, Shaped

from stn._checks import as_image
from stn.grids import transform_grid
from stn.sampling import Kernel, grid_sample
from stn.transforms import Transform


def spatial_transform(
  image: Shaped[ArrayLike, "*spatial channels"],
  theta: Float[ArrayLike, " params"],
  *,
  transform: str | Transform = "affine",
  output_size: Iterable[SupportsIndex] | None = None,
  method: str | Kernel = "linear",
  padding_mode: str = "zeros",
  align_corners: bool = False,
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
    align_corners: the coordinate rule, see `stn.grids`.
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
  """
  image = as_image(image)
  size = image.shape[:-1] if output_size is None else output_size
  grid = transform_grid(transform, theta, size, align_corners=align_corners)
  return grid_sample(
    image,
    grid,
    method=method,
    padding_mode=padding_mode,
    align_corners=align_corners,
    implementation=implementation,
  )
