"""What the linear sampler supports, and how `grid_sample` calls it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from stn._checks import full_dtype
from stn.sampling import gather, paddings
from stn.sampling.interpolation import Interpolation
from stn.sampling.kernels import KERNELS
from stn.sampling.linear.batching import Options
from stn.sampling.linear.native import match_varying_axes
from stn.sampling.linear.rules import sample_p

# The names in `stn.sampling.IMPLEMENTATIONS` that run here, and None.
IMPLEMENTATIONS = (None, "xla", "native")


def supports(interpolation: Interpolation) -> bool:
  """Whether a case runs here, rather than in `gather.sample`."""
  return (
    interpolation.kernel == KERNELS["linear"]
    and interpolation.padding is not paddings.fill
  )


def sample_grid(
  image: jax.Array,
  grid: jax.Array,
  interpolation: Interpolation,
  *,
  normalised: bool = True,
  output_size: tuple[int, ...] | None = None,
  implementation: str | None = None,
) -> jax.Array:
  """Samples an image at the points of a grid.

  Args:
    image: (*spatial, C), of a floating dtype.
    grid: (*output, d), (x, y, ...), float32 or float64; or the matrix of one,
      if `output_size` is given.
    interpolation: one that is supported. Its `align_corners` is the rule of
      normalised coordinates, too.
    normalised: whether the grid is in [-1, 1] or in pixels.
    output_size: None, or the size of the regular grid that `grid`, a matrix
      (see `Transform.rows`), is applied to: no grid is in memory in C++.
    implementation: "xla", "native", or None for the faster one. XLA runs what
      C++ does not support.

  Returns:
    (*output, C), of the image's dtype.
  """
  options = Options(
    interpolation.padding,
    interpolation.align_corners,
    normalised=normalised,
    output_size=output_size,
    implementation=implementation,
  )
  return sample_p.bind(*match_varying_axes(image, grid), options=options)


def sample(
  image: jax.Array,
  pixels: Sequence[jax.Array],
  interpolation: Interpolation,
  *,
  implementation: str | None = None,
) -> jax.Array:
  """Samples an image at pixel coordinates (paper, eq. 3).

  Args:
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), as in `gather.sample`, which runs what is not
      supported here.
    interpolation: kernel, padding and fill value.
    implementation: see `sample_grid`.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32; rounded
    to the image's dtype, which is what C++ writes.
  """
  if not supports(interpolation):
    return gather.sample(image, pixels, interpolation)
  grid = jnp.stack(pixels[::-1], axis=-1)
  warped = sample_grid(
    image,
    grid,
    interpolation,
    normalised=False,
    implementation=implementation,
  )
  return warped.astype(full_dtype(image, grid))
