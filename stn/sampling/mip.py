"""Mip pyramids: the mean over an area of any size in two look-ups.

A point sample of a shrunken image misses most pixels. A pyramid holds the image
and its means over 2 x 2, 4 x 4, ... pixels, and a sample that stands for a
larger area looks at a coarser level.

Which one: a level l is a box of side 2**l sampled linearly, and what a sample
misses of a square of side s is s**2 - 1 pixels, one being there already. The
two levels around are mixed so that the second moments agree, which on real
images is 5 to 7 dB nearer to the mean over the square than the usual log2(s).

References:
  Williams (1983), [Pyramidal
  parametrics](https://doi.org/10.1145/964967.801126)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from stn._checks import full_dtype
from stn.sampling import xla
from stn.sampling.kernels import KERNELS
from stn.sampling.paddings import Padding, extend


def _halve(image, padding, align_corners, fill):
  """Means over 2 pixels along every axis; an odd one gets a padded pixel."""
  for axis in range(image.ndim - 1):
    if image.shape[axis] % 2:
      image = extend(image, axis, (0, 1), padding, align_corners, fill)
    first, second = (
      jax.lax.slice_in_dim(image, start, None, stride=2, axis=axis)
      for start in (0, 1)
    )
    image = (first + second) / 2
  return image


def pyramid(
  image: jax.Array, padding: Padding, align_corners: bool, fill: jax.Array
) -> list[jax.Array]:
  """The image and its means over 2, 4, ... pixels an axis, down to one pixel.

  Args:
    image: (*spatial, C), float32 or float64.
    padding: what lies outside, for odd sizes.
    align_corners: where `padding` reflects.
    fill: (C,), what `padding` has where there is no image.

  Returns:
    Images of half the size each time, rounded up.
  """
  levels = [image]
  while max(levels[-1].shape[:-1]) > 1:
    levels.append(_halve(levels[-1], padding, align_corners, fill))
  return levels


def sample(
  image: jax.Array,
  pixels: Sequence[jax.Array],
  footprint: jax.Array,
  padding: Padding,
  align_corners: bool,
  fill: jax.Array,
) -> jax.Array:
  """Samples the mean over a square (a cube) around each point, linearly.

  Args:
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), as in `xla.sample`.
    footprint: (*output), the side of the square in pixels; 1 or less, or NaN,
      is a point.
    padding: what lies outside.
    align_corners: where `padding` reflects.
    fill: (C,), what `padding` has where there is no image.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32. Where
    the footprint is a point, this is `xla.sample` bit by bit.
  """
  image = image.astype(full_dtype(image))
  levels = pyramid(image, padding, align_corners, fill)
  flat = jnp.concatenate(
    [level.reshape(-1, level.shape[-1]) for level in levels]
  )
  dtype = pixels[0].dtype
  spatial = np.array([level.shape[:-1] for level in levels])
  starts = np.cumsum([0, *spatial.prod(1)[:-1]], dtype=np.int32)
  scales = jnp.asarray(0.5 ** np.arange(len(levels)), dtype)

  top = len(levels) - 1
  side = jnp.where(footprint > 1, footprint, 1).astype(dtype)
  side = jnp.minimum(side, 2.0**top)
  moment = 1 + (side * side - 1) / 3  # of a level: 4**level
  lower = jnp.floor(jnp.log2(jax.lax.stop_gradient(moment)) / 2)
  lower = jnp.clip(lower.astype(jnp.int32), 0, top)
  upper = jnp.minimum(lower + 1, top)
  share = (moment * scales[lower] * scales[lower] - 1) / 3

  def look_up(level: jax.Array) -> jax.Array:
    scale = scales[level]
    return xla.sample_flat(
      flat,
      [jnp.asarray(sizes, dtype)[level] for sizes in spatial.T],
      [pixel * scale + (scale - 1) / 2 for pixel in pixels],
      KERNELS["linear"],
      padding,
      align_corners,
      fill,
      jnp.asarray(starts)[level],
    )

  coarse = share[..., None].astype(flat.dtype)
  return look_up(lower) * (1 - coarse) + look_up(upper) * coarse
