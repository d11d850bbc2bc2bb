"""The four operations of the linear sampler, in plain JAX, for one example.

`rules.py` says what each is for. XLA runs these definitions, and derivatives of
second order are taken of them.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from stn._checks import full_dtype
from stn.grids import grid_to_pixels, rows_grid
from stn.sampling import gather
from stn.sampling.interpolation import Interpolation
from stn.sampling.kernels import KERNELS
from stn.sampling.linear.batching import Options

# More channels than this are summed by a product with ones, which vectorises
# on CPUs where a reduction over the last axis does not; fewer one by one.
_UNROLLED_CHANNELS = 4


def _interpolation(options: Options, channels: int) -> Interpolation:
  return Interpolation(
    KERNELS["linear"],
    options.padding,
    options.align_corners,
    jnp.zeros((channels,)),  # never visible: "fill" is not supported
  )


def _to_pixels(options, spatial, grid):
  if options.output_size is not None:
    grid = rows_grid(
      grid, options.output_size, align_corners=options.align_corners
    )
  if not options.normalised:
    return [grid[..., -1 - axis] for axis in range(len(spatial))]
  return grid_to_pixels(grid, spatial, align_corners=options.align_corners)


def sample(options, image, grid):
  """The warped image, (*points, C), of the image's dtype."""
  *spatial, channels = image.shape
  pixels = _to_pixels(options, spatial, grid)
  warped = gather.sample(image, pixels, _interpolation(options, channels))
  return warped.astype(image.dtype)


def grid_jvp(options, image, grid, tangent):
  """The tangent of `sample` for a tangent of the grid."""
  f = functools.partial(sample, options, image)
  return jax.jvp(f, (grid,), (tangent,))[1]


class _Corner(NamedTuple):
  """One pixel of the support, for every sample."""

  bits: tuple[int, ...]  # which of the two taps along each axis it is of
  weights: list[jax.Array]  # along each axis
  index: jax.Array  # in the flat image
  inside: jax.Array | None  # False where there is no image; None: all inside


def _corners(
  interpolation: Interpolation,
  spatial: Sequence[int],
  pixels: Sequence[jax.Array],
) -> Iterator[_Corner]:
  axes = [
    gather.find_taps(pixel, size, interpolation)
    for pixel, size in zip(pixels, spatial, strict=True)
  ]
  for bits in itertools.product((0, 1), repeat=len(axes)):
    taps = [taps[i] for taps, i in zip(axes, bits, strict=True)]
    index, inside = gather.flat_index(taps, spatial)
    yield _Corner(bits, [tap.weight for tap in taps], index, inside)


def _mask(inside, values):
  return values if inside is None else jnp.where(inside[..., None], values, 0)


def _sum_channels(array):
  channels = array.shape[-1]
  if channels > _UNROLLED_CHANNELS:
    return array @ jnp.ones((channels,), array.dtype)
  zero = jnp.zeros(array.shape[:-1], array.dtype)
  return sum((array[..., c] for c in range(channels)), start=zero)


def grid_vjp(options, image, ct, grid):
  """The cotangent of the grid for one of `sample`: transposes `grid_jvp`."""
  dtype = full_dtype(image, grid)
  *spatial, channels = image.shape
  flat = image.reshape(math.prod(spatial), channels)
  pixels, to_grid = jax.vjp(
    functools.partial(_to_pixels, options, spatial), grid
  )
  totals = [jnp.zeros(pixel.shape, dtype) for pixel in pixels]
  interpolation = _interpolation(options, channels)
  for corner in _corners(interpolation, spatial, pixels):
    value = flat.at[corner.index].get(mode="promise_in_bounds")
    value = _mask(corner.inside, value).astype(dtype)
    dot = _sum_channels(value * ct.astype(dtype))
    for axis, bit in enumerate(corner.bits):
      slope = math.prod(
        (
          weight.astype(dtype)
          for other, weight in enumerate(corner.weights)
          if other != axis
        ),
        start=dot,
      )
      totals[axis] += slope if bit else -slope
  # Where `sample` clips a coordinate, its derivative is 0. NaN stays NaN.
  moved = [
    jnp.where(
      jnp.abs(pixel) >= gather.FAR, 0, total.astype(pixel.dtype) + 0 * pixel
    )
    for pixel, total in zip(pixels, totals, strict=True)
  ]
  return to_grid(moved)[0]


def image_vjp(options, ct, grid, *, spatial, dtype):
  """The cotangent of the image for one of `sample`: its transpose."""
  channels = ct.shape[-1]
  flat = jnp.zeros((math.prod(spatial), channels), dtype)
  pixels = _to_pixels(options, spatial, grid)
  interpolation = _interpolation(options, channels)
  for corner in _corners(interpolation, spatial, pixels):
    weight = math.prod(corner.weights[1:], start=corner.weights[0])
    part = weight[..., None].astype(dtype) * ct.astype(dtype)
    flat = flat.at[corner.index].add(
      _mask(corner.inside, part), mode="promise_in_bounds"
    )
  return flat.reshape(*spatial, channels)
