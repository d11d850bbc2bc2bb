"""Interpolation by splines: the filter that precedes a B-spline kernel.

A B-spline kernel applied to the pixels themselves would blur them. Applied to
the right coefficients it passes through every pixel. The coefficients are the
image filtered along each axis by z**|k|, with z the kernel's pole. That falls
below rounding error within a few pixels, so the filter is finite: no recursion,
one fused loop on any backend, exact to rounding.

References:
  [Splines: a perfect fit for signal and image
  processing](https://doi.org/10.1109/79.799930) and, for the ends, [Theory and
  practice of image B-spline interpolation](https://doi.org/10.5201/ipol.2018.221)
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from stn._checks import full_dtype
from stn.sampling.interpolation import Interpolation
from stn.sampling.kernels import KERNELS
from stn.sampling.paddings import PERIODIC


def _length(pole: float, dtype: jnp.dtype) -> int:
  """Neighbours on one side until z**length is below the dtype's rounding."""
  return math.ceil(math.log(jnp.finfo(dtype).eps / 2) / math.log(-pole))


def _filter(image, axis, pole, length):
  """Filters along one axis, which loses `length` pixels at both ends."""
  size = image.shape[axis] - 2 * length
  powers = [pole**k for k in range(length + 1)]
  gain = 1 / (2 * sum(powers) - 1)

  def shifted(k):
    return jax.lax.slice_in_dim(image, length + k, length + k + size, axis=axis)

  neighbours = (
    (shifted(-k) + shifted(k)) * (powers[k] * gain)
    for k in range(1, length + 1)
  )
  return functools.reduce(operator.add, neighbours, shifted(0) * gain)


def coefficients(
  image: jax.Array, interpolation: Interpolation
) -> tuple[jax.Array, int]:
  """The spline coefficients of the padded image.

  Args:
    image: (*spatial, C), float32 or float64.
    interpolation: its kernel has the poles, its padding what lies outside.

  Returns:
    The coefficients, and the number of pixels by which they extend beyond the
    image on every side: the spline through an image does not end where the
    image does. 0 for paddings that repeat the image, whose coefficients repeat
    in the same way.
  """
  poles, padding = interpolation.kernel.poles, interpolation.padding
  lengths = [_length(pole, image.dtype) for pole in poles]
  margin = 0 if padding in PERIODIC else sum(lengths)
  for axis in range(image.ndim - 1):
    width = margin + sum(lengths)
    image = interpolation.extend(image, axis, (width, width))
    for pole, length in zip(poles, lengths, strict=True):
      image = _filter(image, axis, pole, length)
  return image, margin


def sample(
  sample_kernel: Callable[..., jax.Array],
  image: jax.Array,
  pixels: Sequence[jax.Array],
  interpolation: Interpolation,
) -> jax.Array:
  """Samples an image by a kernel with poles.

  At lattice points the value is the pixel's, bit for bit, and the derivatives
  are those of the spline.

  Args:
    sample_kernel: the implementation: a function of the arguments that follow,
      which ignores poles.
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), as in `gather.sample`.
    interpolation: of a kernel with poles.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32.
  """
  image = image.astype(full_dtype(image))
  spline, margin = coefficients(image, interpolation)
  warped = sample_kernel(
    spline,
    [pixel + margin for pixel in pixels],
    dataclasses.replace(
      interpolation,
      kernel=dataclasses.replace(interpolation.kernel, poles=()),
    ),
  )
  fixed = jax.lax.stop_gradient
  exact = sample_kernel(
    fixed(image),
    [fixed(p) for p in pixels],
    dataclasses.replace(interpolation, kernel=KERNELS["nearest"]),
  )
  on_lattice = functools.reduce(
    operator.and_, (pixel == jnp.round(pixel) for pixel in pixels)
  )
  return jnp.where(
    on_lattice[..., None], exact + (warped - fixed(warped)), warped
  )
