"""The sampler in plain JAX: one gather for every pixel of the support."""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from stn.sampling.kernels import Kernel
from stn.sampling.paddings import Padding

# Coordinates beyond this are outside every image: it bounds the arithmetic of
# infinite and huge ones. A power of two, exact in float32.
_FAR = 2.0**30


class _Tap(NamedTuple):
  """One pixel of the support along one axis, for every sample."""

  index: jax.Array  # int32, inside the image
  weight: jax.Array
  inside: jax.Array | None  # False where there is no image; None: nowhere


def _taps(
  pixel: jax.Array,
  size: int,
  kernel: Kernel,
  padding: Padding,
  align_corners: bool,
) -> list[_Tap]:
  """The pixels along one axis that take part in each sample."""
  pixel = jnp.clip(pixel, -_FAR, _FAR)
  if kernel.radius == 0:
    base, offsets = jnp.round(pixel), [0]
  else:
    base = jnp.floor(pixel)
    offsets = range(1 - kernel.radius, kernel.radius + 1)
  base = jax.lax.stop_gradient(base)
  fraction = pixel - base
  taps = []
  for offset in offsets:
    distance = fraction - offset if offset <= 0 else offset - fraction
    index, inside = padding(base + offset, size, align_corners)
    # NaN has no integer: its weight is NaN, so any pixel will do.
    index = jnp.where(jnp.isnan(index), 0, index).astype(jnp.int32)
    taps.append(_Tap(index, kernel.fn(distance), inside))
  return taps


def sample(
  image: jax.Array,
  pixels: Sequence[jax.Array],
  kernel: Kernel,
  padding: Padding,
  align_corners: bool,
) -> jax.Array:
  """Samples an image at pixel coordinates (paper, eq. 3).

  A gather from a flat (pixels, channels) view fuses with the weighted sum on
  every XLA backend. Values outside are replaced, not multiplied by 0: an
  infinite pixel at the edge does not leak out of the image.

  Args:
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), one for each spatial axis in the image's order,
      float32 or float64.
    kernel: the interpolation.
    padding: what lies outside.
    align_corners: where `padding` reflects.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32.
  """
  *spatial, channels = image.shape
  flat = image.reshape(math.prod(spatial), channels)
  wide = jnp.float64 in (image.dtype, pixels[0].dtype)
  dtype = jnp.dtype(jnp.float64 if wide else jnp.float32)
  axes = [
    _taps(pixel, size, kernel, padding, align_corners)
    for pixel, size in zip(pixels, spatial, strict=True)
  ]
  total = jnp.zeros((), dtype)
  for taps in itertools.product(*axes):
    index = functools.reduce(
      lambda i, axis: i * axis[1] + axis[0].index,
      zip(taps[1:], spatial[1:], strict=True),
      taps[0].index,
    )
    value = flat.at[index].get(mode="promise_in_bounds").astype(dtype)
    masks = [tap.inside for tap in taps if tap.inside is not None]
    if masks:
      inside = functools.reduce(operator.and_, masks)
      value = jnp.where(inside[..., None], value, 0)
    weight = math.prod((tap.weight for tap in taps[1:]), start=taps[0].weight)
    total += weight[..., None].astype(dtype) * value
  return total
