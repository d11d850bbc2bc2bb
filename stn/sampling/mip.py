"""Mip pyramids: the mean over an area of any size in two lookups.

Point samples of a minified image miss most of its pixels. A pyramid holds the
image and its means over 2 x 2, 4 x 4, ... pixels; a sample that stands for a
larger area reads a coarser level.

Which level: level l is a box of side 2**l, sampled linearly. Of a square of
side s, a linear sample misses the second moment of s**2 - 1 pixels. The two
nearest levels are mixed so that the second moments agree, which on real images
is 5 to 7 dB closer to the mean over the square than the usual log2(s).

References:
  Williams (1983), [Pyramidal
  parametrics](https://doi.org/10.1145/964967.801126)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from stn._checks import full_dtype
from stn.sampling.gather import sample_flat
from stn.sampling.interpolation import Interpolation


def _halve(image, interpolation):
  """Means over 2 pixels along every axis; an odd one gets a padded pixel."""
  for axis in range(image.ndim - 1):
    if image.shape[axis] % 2:
      image = interpolation.extend(image, axis, (0, 1))
    first, second = (
      jax.lax.slice_in_dim(image, start, None, stride=2, axis=axis)
      for start in (0, 1)
    )
    image = (first + second) / 2
  return image


def pyramid(image: jax.Array, interpolation: Interpolation) -> list[jax.Array]:
  """The image and its means over 2, 4, ... pixels per axis, down to one pixel.

  Args:
    image: (*spatial, C), float32 or float64.
    interpolation: its padding pads odd sizes.

  Returns:
    Images of half the size each time, rounded up.
  """
  levels = [image]
  while max(levels[-1].shape[:-1]) > 1:
    levels.append(_halve(levels[-1], interpolation))
  return levels


def sample(
  image: jax.Array,
  pixels: Sequence[jax.Array],
  footprint: jax.Array,
  interpolation: Interpolation,
) -> jax.Array:
  """Samples the mean over a square (a cube) around each point, linearly.

  Args:
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), as in `gather.sample`.
    footprint: (*output), the side of the square in pixels; 1 or less, or NaN,
      is a point.
    interpolation: of the linear kernel.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32. Where
    the footprint is a point, this is `gather.sample` bit for bit.
  """
  image = image.astype(full_dtype(image))
  levels = pyramid(image, interpolation)
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

  def sample_level(level: jax.Array) -> jax.Array:
    scale = scales[level]
    return sample_flat(
      flat,
      [jnp.asarray(sizes, dtype)[level] for sizes in spatial.T],
      [pixel * scale + (scale - 1) / 2 for pixel in pixels],
      interpolation,
      jnp.asarray(starts)[level],
    )

  coarse = share[..., None].astype(flat.dtype)
  return sample_level(lower) * (1 - coarse) + sample_level(upper) * coarse
