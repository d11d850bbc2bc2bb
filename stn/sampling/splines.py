"""Interpolation by splines: the filter that goes before a B-spline kernel.

A B-spline is a weighted mean of its neighbours: sampled from the pixels it
would blur them. Sampled from the right coefficients it passes through every
pixel. They are the image filtered along each axis by z**|k|, z the kernel's
pole, which falls below rounding within a few pixels, so the filter is a finite
one: no recursion, one fused loop on any backend, and exact to rounding.

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
from stn.sampling.kernels import KERNELS, Kernel
from stn.sampling.paddings import PERIODIC, Padding, extend


def _length(pole: float, dtype: jnp.dtype) -> int:
  """Neighbours on one side, until z**length is below the dtype's rounding."""
  return math.ceil(math.log(jnp.finfo(dtype).eps / 2) / math.log(-pole))


def _filter(image, axis, pole, length):
  """Filters along an axis, which gets shorter by `length` at both ends."""
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
  image: jax.Array,
  poles: Sequence[float],
  padding: Padding,
  align_corners: bool,
  fill: jax.Array,
) -> tuple[jax.Array, int]:
  """The spline coefficients of the padded image.

  Args:
    image: (*spatial, C), float32 or float64.
    poles: of the kernel.
    padding: what lies outside.
    align_corners: where `padding` reflects.
    fill: (C,), what lies outside under "zeros" and "fill".

  Returns:
    The coefficients, and by how many they go beyond the image at every side:
    the spline through an image that ends does not end with it. 0 for paddings
    that repeat the image, whose coefficients repeat alike.
  """
  lengths = [_length(pole, image.dtype) for pole in poles]
  margin = 0 if padding in PERIODIC else sum(lengths)
  for axis in range(image.ndim - 1):
    width = margin + sum(lengths)
    image = extend(image, axis, (width, width), padding, align_corners, fill)
    for pole, length in zip(poles, lengths, strict=True):
      image = _filter(image, axis, pole, length)
  return image, margin


def sample(
  sample_kernel: Callable[..., jax.Array],
  image: jax.Array,
  pixels: Sequence[jax.Array],
  kernel: Kernel,
  padding: Padding,
  align_corners: bool,
  fill: jax.Array,
) -> jax.Array:
  """Samples an image by a kernel with poles.

  At lattice points the value is the pixel's, bit by bit, and the derivatives
  are those of the spline.

  Args:
    sample_kernel: the implementation: a function with the arguments that
      follow, which knows nothing of poles.
    image: as in `xla.sample`, and the other arguments too.
    pixels: see there.
    kernel: see there.
    padding: see there.
    align_corners: see there.
    fill: see there.

  Returns:
    (*output, C), as `xla.sample`.
  """
  options = (padding, align_corners, fill)
  image = image.astype(full_dtype(image))
  spline, margin = coefficients(image, kernel.poles, *options)
  warped = sample_kernel(
    spline,
    [pixel + margin for pixel in pixels],
    dataclasses.replace(kernel, poles=()),
    *options,
  )
  fixed = jax.lax.stop_gradient
  exact = sample_kernel(
    fixed(image), [fixed(p) for p in pixels], KERNELS["nearest"], *options
  )
  on_lattice = functools.reduce(
    operator.and_, (pixel == jnp.round(pixel) for pixel in pixels)
  )
  return jnp.where(
    on_lattice[..., None], exact + (warped - fixed(warped)), warped
  )
