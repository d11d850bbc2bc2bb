"""The sampler in plain JAX: one gather for each pixel of the support."""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stn._checks import full_dtype
from stn.sampling.interpolation import Interpolation
from stn.sampling.paddings import Size

# Coordinates are clipped to this, which is outside every image, so that
# infinite and huge ones stay harmless. A power of two, exact in float32.
FAR = 2.0**30


class Tap(NamedTuple):
  """One pixel of the support along one axis, for every sample."""

  index: jax.Array  # int32, inside the image
  weight: jax.Array
  inside: jax.Array | None  # False where there is no image; None: all inside


def find_taps(
  pixel: jax.Array, size: Size, interpolation: Interpolation
) -> list[Tap]:
  """The pixels along one axis that each sample is computed from."""
  kernel = interpolation.kernel
  # Not `jnp.clip`, which multiplies slopes by 0: 0 times NaN is NaN. And of a
  # NaN, which it moves by 0, the slope is NaN, too.
  lost = jnp.isnan(pixel)
  nan = jnp.where(lost, pixel, 0)
  pixel = jnp.where(pixel >= FAR, FAR, jnp.where(pixel <= -FAR, -FAR, pixel))
  pixel = jnp.where(lost, nan * nan, pixel)
  count = round(2 * kernel.radius)
  first = -((count - 1) // 2)
  base = jnp.round(pixel) if count % 2 else jnp.floor(pixel)
  base = jax.lax.stop_gradient(base)
  fraction = pixel - base
  taps = []
  for offset in range(first, first + count):
    distance = fraction - offset if offset <= 0 else offset - fraction
    if offset == 0 and count % 2:  # the nearest pixel may be on either side
      distance = jnp.where(fraction < 0, -fraction, fraction)
    index, inside = interpolation.resolve(base + offset, size)
    # NaN converts to no index; its weight is NaN, so any pixel will do.
    index = jnp.where(jnp.isnan(index), 0, index).astype(jnp.int32)
    taps.append(Tap(index, kernel.fn(distance), inside))
  if kernel.normalise:
    total = functools.reduce(operator.add, (tap.weight for tap in taps))
    taps = [tap._replace(weight=tap.weight / total) for tap in taps]
  return taps


def flat_index(
  taps: Sequence[Tap], sizes: Sequence[int | jax.Array]
) -> tuple[jax.Array, jax.Array | None]:
  """The pixel that one tap along each axis selects.

  Args:
    taps: one for each axis, in the image's order.
    sizes: pixels along each axis, int32 where they are arrays.

  Returns:
    Its index in the flat image, and whether it is inside, as in `Tap`.
  """
  index = taps[0].index
  for tap, size in zip(taps[1:], sizes[1:], strict=True):
    index = index * size + tap.index
  masks = [tap.inside for tap in taps if tap.inside is not None]
  return index, functools.reduce(operator.and_, masks) if masks else None


def sample(
  image: jax.Array, pixels: Sequence[jax.Array], interpolation: Interpolation
) -> jax.Array:
  """Samples an image at pixel coordinates (paper, eq. 3).

  A gather from a flat (pixels, channels) view fuses with the weighted sum on
  every XLA backend. Values outside are replaced, not multiplied by 0: an
  infinite pixel at the edge does not leak out of the image.

  Args:
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), one for each spatial axis in the image's order,
      float32 or float64; 0 is the centre of the first pixel.
    interpolation: kernel, padding and fill value.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32.
  """
  *spatial, channels = image.shape
  flat = image.reshape(math.prod(spatial), channels)
  return sample_flat(flat, spatial, pixels, interpolation)


def sample_flat(
  flat: jax.Array,
  spatial: Sequence[Size],
  pixels: Sequence[jax.Array],
  interpolation: Interpolation,
  start: int | jax.Array = 0,
) -> jax.Array:
  """Samples an image that is part of a list of pixels.

  Args:
    flat: pixels (P, C), row by row.
    spatial: the size of the image: ints, or for an image that differs from
      sample to sample arrays (*output) in the dtype of the pixels.
    pixels: d arrays (*output), as in `sample`.
    interpolation: kernel, padding and fill value.
    start: where in `flat` the image begins, an int or int32 (*output).

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32.
  """
  dtype = full_dtype(flat, *pixels)
  fill = interpolation.fill.astype(dtype)
  sizes = [
    size.astype(jnp.int32) if isinstance(size, jax.Array) else size
    for size in spatial
  ]
  *outer_axes, inner = [
    find_taps(pixel, size, interpolation)
    for pixel, size in zip(pixels, spatial, strict=True)
  ]

  def row(outer: Sequence[Tap]) -> jax.Array:
    """The sum over the taps of the last axis, for one tap of each other."""
    total = jnp.zeros((), dtype)
    for tap in inner:
      taps = (*outer, tap)
      index, inside = flat_index(taps, sizes)
      value = flat.at[start + index].get(mode="promise_in_bounds").astype(dtype)
      if inside is not None:
        value = jnp.where(
          inside[..., None], value, jnp.broadcast_to(fill, value.shape)
        )
      total += tap.weight[..., None].astype(dtype) * value
    for tap in outer:
      total *= tap.weight[..., None].astype(dtype)
    return total

  if interpolation.kernel.radius <= 1 or not outer_axes:
    rows = map(row, itertools.product(*outer_axes))
    return functools.reduce(operator.add, rows)
  return _sum_rows(row, outer_axes)


def _sum_rows(
  row: Callable[[Sequence[Tap]], jax.Array], axes: Sequence[Sequence[Tap]]
) -> jax.Array:
  """Sums `row` over every choice of one tap per axis, in a loop.

  Unrolled, a kernel of 6 taps per axis takes XLA minutes to compile in 3D.
  """
  stacked = [
    jax.tree.map(lambda *taps: jnp.stack(taps), *axis) for axis in axes
  ]
  choices = np.indices([len(axis) for axis in axes]).reshape(len(axes), -1).T

  def select_taps(choice: jax.Array | np.ndarray) -> list[Tap]:
    return [
      jax.tree.map(lambda tap, i=i: tap[i], axis)
      for i, axis in zip(choice, stacked, strict=True)
    ]

  return sum_in_a_loop(lambda choice: row(select_taps(choice)), choices)


def sum_in_a_loop(
  term: Callable[[jax.Array], jax.Array], choices: jax.Array | np.ndarray
) -> jax.Array:
  """The sum of `term(choice)` over the first axis of `choices`.

  Terms are computed one after another, in the backward pass too, so the memory
  is that of one term.
  """
  term = jax.checkpoint(term)

  def add(total, choice):
    return total + term(choice), None

  # The first term starts the sum, so that the carry is sharded as the terms.
  total, _ = jax.lax.scan(add, term(choices[0]), choices[1:])
  return total
