"""The sampler in plain JAX: one gather for every pixel of the support."""

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
from stn.sampling.kernels import Kernel
from stn.sampling.paddings import Padding, Size

# Coordinates beyond this are outside every image: it bounds the arithmetic of
# infinite and huge ones. A power of two, exact in float32.
FAR = 2.0**30


class Tap(NamedTuple):
  """One pixel of the support along one axis, for every sample."""

  index: jax.Array  # int32, inside the image
  weight: jax.Array
  inside: jax.Array | None  # False where there is no image; None: nowhere


def find_taps(
  pixel: jax.Array,
  size: Size,
  kernel: Kernel,
  padding: Padding,
  align_corners: bool,
) -> list[Tap]:
  """The pixels along one axis that take part in each sample."""
  pixel = jnp.clip(pixel, -FAR, FAR)
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
    index, inside = padding(base + offset, size, align_corners)
    # NaN has no integer: its weight is NaN, so any pixel will do.
    index = jnp.where(jnp.isnan(index), 0, index).astype(jnp.int32)
    taps.append(Tap(index, kernel.fn(distance), inside))
  if kernel.normalise:
    total = functools.reduce(operator.add, (tap.weight for tap in taps))
    taps = [tap._replace(weight=tap.weight / total) for tap in taps]
  return taps


def meet(
  taps: Sequence[Tap], sizes: Sequence[int | jax.Array]
) -> tuple[jax.Array, jax.Array | None]:
  """The pixel at which one tap of each axis meet.

  Args:
    taps: one of each axis, in the image's order.
    sizes: pixels along each, int32 where they are arrays.

  Returns:
    Its index in the flat image, and whether it is inside, as in `Tap`.
  """
  index = taps[0].index
  for tap, size in zip(taps[1:], sizes[1:], strict=True):
    index = index * size + tap.index
  masks = [tap.inside for tap in taps if tap.inside is not None]
  return index, functools.reduce(operator.and_, masks) if masks else None


def sample(
  image: jax.Array,
  pixels: Sequence[jax.Array],
  kernel: Kernel,
  padding: Padding,
  align_corners: bool,
  fill: jax.Array,
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
    fill: (C,), the value where `padding` says that there is no image.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32.
  """
  *spatial, channels = image.shape
  flat = image.reshape(math.prod(spatial), channels)
  return sample_flat(
    flat, spatial, pixels, kernel, padding, align_corners, fill
  )


def sample_flat(
  flat: jax.Array,
  spatial: Sequence[Size],
  pixels: Sequence[jax.Array],
  kernel: Kernel,
  padding: Padding,
  align_corners: bool,
  fill: jax.Array,
  start: int | jax.Array = 0,
) -> jax.Array:
  """Samples an image that is part of a list of pixels.

  Args:
    flat: pixels (P, C), row by row.
    spatial: the size of the image, ints, or for an image that differs from
      sample to sample arrays (*output) in the dtype of the pixels.
    pixels: see `sample`, and the other arguments too.
    kernel: see there.
    padding: see there.
    align_corners: see there.
    fill: see there.
    start: where in `flat` the image begins, an int or int32 (*output).

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32.
  """
  dtype = full_dtype(flat, *pixels)
  fill = fill.astype(dtype)
  sizes = [
    size.astype(jnp.int32) if isinstance(size, jax.Array) else size
    for size in spatial
  ]
  *outer_axes, inner = [
    find_taps(pixel, size, kernel, padding, align_corners)
    for pixel, size in zip(pixels, spatial, strict=True)
  ]

  def row(outer: Sequence[Tap]) -> jax.Array:
    """The sum over the taps of the last axis, for one tap of each other."""
    total = jnp.zeros((), dtype)
    for tap in inner:
      taps = (*outer, tap)
      index, inside = meet(taps, sizes)
      value = flat.at[start + index].get(mode="promise_in_bounds").astype(dtype)
      if inside is not None:
        value = jnp.where(
          inside[..., None], value, jnp.broadcast_to(fill, value.shape)
        )
      total += tap.weight[..., None].astype(dtype) * value
    for tap in outer:
      total *= tap.weight[..., None].astype(dtype)
    return total

  if kernel.radius <= 1 or not outer_axes:
    rows = map(row, itertools.product(*outer_axes))
    return functools.reduce(operator.add, rows)
  return _sum_rows(row, outer_axes)


def _sum_rows(
  row: Callable[[Sequence[Tap]], jax.Array], axes: Sequence[Sequence[Tap]]
) -> jax.Array:
  """Sums `row` over every choice of one tap an axis, in a loop.

  Written out, a kernel of 6 taps an axis takes XLA minutes to compile in 3D.
  """
  stacked = [
    jax.tree.map(lambda *taps: jnp.stack(taps), *axis) for axis in axes
  ]
  choices = np.indices([len(axis) for axis in axes]).reshape(len(axes), -1).T

  def choose(choice: jax.Array | np.ndarray) -> list[Tap]:
    return [
      jax.tree.map(lambda tap, i=i: tap[i], axis)
      for i, axis in zip(choice, stacked, strict=True)
    ]

  return sum_in_a_loop(lambda choice: row(choose(choice)), choices)


def sum_in_a_loop(
  term: Callable[[jax.Array], jax.Array], choices: jax.Array | np.ndarray
) -> jax.Array:
  """The sum of `term(choice)` over the first axis of `choices`.

  One term after the other, and again in the backward pass: the memory is that
  of one term.
  """
  term = jax.checkpoint(term)

  def add(total, choice):
    return total + term(choice), None

  # The first term is the start, so that it is sharded as the others are.
  total, _ = jax.lax.scan(add, term(choices[0]), choices[1:])
  return total
