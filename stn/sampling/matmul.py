"""The sampler as matrix products: no gather, and no scatter in its gradients.

Every pixel is weighed for every sample, most of them by 0. That is far more
arithmetic than a gather needs: it pays off on small feature maps where a matrix
unit does it (TPUs), and it is deterministic on GPUs, where a scatter need not
be.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from stn._checks import full_dtype
from stn.sampling.gather import Tap, find_taps
from stn.sampling.interpolation import Interpolation


def _sum(terms: list[jax.Array]) -> jax.Array:
  return functools.reduce(operator.add, terms)


def _product(factors: list[jax.Array]) -> jax.Array:
  return functools.reduce(operator.mul, factors)


def sample(
  image: jax.Array, pixels: Sequence[jax.Array], interpolation: Interpolation
) -> jax.Array:
  """Samples an image at pixel coordinates (paper, eq. 3).

  The paper's sum over all pixels as written, so an infinite or NaN pixel
  reaches every sample. Memory is that of (*output, size) for every axis and of
  (*output, *spatial[:-1], C).

  Args:
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), as in `gather.sample`.
    interpolation: kernel, padding and fill value.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32.
  """
  dtype = full_dtype(image, *pixels)
  shape, channels = pixels[0].shape, image.shape[-1]
  weights, totals = [], []
  for pixel, size in zip(pixels, image.shape, strict=False):
    taps = find_taps(pixel.ravel(), size, interpolation)
    totals.append(_sum([tap.weight for tap in taps]).astype(dtype))
    weights.append(_sum([_weigh(tap, size) for tap in taps]).astype(dtype))

  # Along the last axis a matrix product, (P, W) by (W, ...); then along the
  # others a weighted sum for each point: (P, H, ..., C) to (P, ..., C).
  rows = jnp.moveaxis(image, -2, 0).astype(dtype)
  values = jnp.tensordot(weights[-1], rows, 1, precision="highest")
  for weight in weights[:-1]:
    lead = (*weight.shape, *(1,) * (values.ndim - 2))
    values = (weight.reshape(lead) * values).sum(axis=1)
  outside = _product(totals) - _product([w.sum(axis=1) for w in weights])
  values += outside[:, None] * interpolation.fill.astype(dtype)[None]
  return values.reshape(*shape, channels)


def _weigh(tap: Tap, size: int) -> jax.Array:
  """One tap's weight for each pixel of its axis: (P, size)."""
  weight = tap.weight
  if tap.inside is not None:
    weight = jnp.where(tap.inside, weight, 0)
  here = tap.index[:, None] == jnp.arange(size, dtype=tap.index.dtype)[None]
  return jnp.where(here, weight[:, None], 0)
