"""The sampler as matrix products: no gather, and no scatter in its gradients.

Every pixel is weighed for every sample, most of them by 0. That is much more
arithmetic than a gather: it pays on small feature maps where a matrix unit does
it (TPUs), and it is deterministic on GPUs, where a scatter may not be.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from stn._checks import full_dtype
from stn.sampling import xla
from stn.sampling.kernels import Kernel
from stn.sampling.paddings import Padding


def _sum(terms: list[jax.Array]) -> jax.Array:
  return functools.reduce(operator.add, terms)


def _product(factors: list[jax.Array]) -> jax.Array:
  return functools.reduce(operator.mul, factors)


def sample(
  image: jax.Array,
  pixels: Sequence[jax.Array],
  kernel: Kernel,
  padding: Padding,
  align_corners: bool,
  fill: jax.Array,
) -> jax.Array:
  """Samples an image at pixel coordinates (paper, eq. 3).

  The paper's sum over all pixels, as it stands: an infinite or NaN pixel
  spoils every sample. Memory is that of (*output, size) for every axis and of
  (*output, *spatial[:-1], C).

  Args:
    image: see `xla.sample`, and the other arguments too.
    pixels: see there.
    kernel: see there.
    padding: see there.
    align_corners: see there.
    fill: see there.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32.
  """
  dtype = full_dtype(image, *pixels)
  shape, channels = pixels[0].shape, image.shape[-1]
  weights, totals = [], []
  for pixel, size in zip(pixels, image.shape, strict=False):
    taps = xla.find_taps(pixel.ravel(), size, kernel, padding, align_corners)
    totals.append(_sum([tap.weight for tap in taps]).astype(dtype))
    weights.append(_sum([_weigh(tap, size) for tap in taps]).astype(dtype))

  # Along the last axis by a product of matrices, (P, W) by (W, ...), then
  # along the others point by point: (P, H, ..., C) to (P, ..., C).
  rows = jnp.moveaxis(image, -2, 0).astype(dtype)
  values = jnp.tensordot(weights[-1], rows, 1, precision="highest")
  for weight in weights[:-1]:
    lead = (*weight.shape, *(1,) * (values.ndim - 2))
    values = (weight.reshape(lead) * values).sum(axis=1)
  outside = _product(totals) - _product([w.sum(axis=1) for w in weights])
  values += outside[:, None] * fill.astype(dtype)[None]
  return values.reshape(*shape, channels)


def _weigh(tap: xla.Tap, size: int) -> jax.Array:
  """One tap's weight for each pixel of its axis: (P, size)."""
  weight = tap.weight
  if tap.inside is not None:
    weight = jnp.where(tap.inside, weight, 0)
  here = tap.index[:, None] == jnp.arange(size, dtype=tap.index.dtype)[None]
  return jnp.where(here, weight[:, None], 0)
