"""Slopes other than the sampler's own, for grids that have far to go.

The derivative of linear interpolation depends on the neighbouring pixels alone:
where the image is off by more than a pixel or two it says little, and outside
the image it is zero. A rule replaces it by another slope. The value, and the
derivative with respect to the image, stay the same.

A rule is a function `sample, image, pixels -> slopes` and a row of `GRADIENTS`:
`sample(image, pixels, side=None)` is the sampler, which averages over squares
if given a side; `pixels` are d arrays (*output), and the slopes d arrays
(*output, C), the derivative of each value with respect to each pixel
coordinate.
"""

import dataclasses
import functools
import operator
import statistics
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from stn.sampling.interpolation import Interpolation

GradientRule = Callable[
  [Callable[..., jax.Array], jax.Array, Sequence[jax.Array]],
  Sequence[jax.Array],
]


def _exact(sample, image, pixels):
  """The sampler's own slopes."""
  slopes = []
  for axis in range(len(pixels)):
    steps = [
      (jnp.ones_like if a == axis else jnp.zeros_like)(pixel)
      for a, pixel in enumerate(pixels)
    ]
    slopes.append(
      jax.jvp(lambda *p: sample(image, p), tuple(pixels), tuple(steps))[1]
    )
  return slopes


@functools.cache
def linearised_gradient(
  *, num_samples: int = 8, sigma: int | float = 1.0
) -> GradientRule:
  """Linearised multi-sampling: the slope of a plane fitted around each point.

  The plane is a least-squares fit to samples that are normally distributed
  around the point (on a fixed, symmetric pattern: no random numbers). Its slope
  is exact for linear images and depends on all that the samples reach: the
  basin of attraction of an alignment grows with `sigma`. The backward pass
  costs `num_samples` forward passes.

  Args:
    num_samples: samples around each point, an even number greater than twice
      the number of the image's spatial axes.
    sigma: their standard deviation along each axis, in pixels of the image.

  Returns:
    The rule, for `gradient`. The same arguments return the same rule, so that
    `jax.jit` compiles once for each.

  Raises:
    ValueError: if `num_samples` is not even and positive, or `sigma` is not
      positive.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from stn import grid_sample
    >>> image = jnp.zeros((9, 1)).at[6:].set(1.)  # a step, 2 pixels away
    >>> def value(x, **options):
    ...   return grid_sample(image, x[None], **options)[0]
    >>> wide = linearised_gradient(sigma=3.0)
    >>> [bool(jax.grad(value)(jnp.array(0.), **options) > 0)
    ...  for options in ({}, {"gradient": wide})]
    [False, True]

  References:
    Jiang, Sun, Tagliasacchi, Trulls, Yi (2019), [Linearized multi-sampling for
    differentiable image transformation](https://arxiv.org/abs/1901.07124)
  """
  if num_samples < 2 or num_samples % 2:
    raise ValueError(
      f"`num_samples` must be even and positive; got {num_samples!r}."
    )
  if not sigma > 0:
    raise ValueError(f"`sigma` must be positive; got {sigma!r}.")

  def linearised(sample, image, pixels):
    d = len(pixels)
    if num_samples <= 2 * d:
      raise ValueError(
        f"`num_samples` must be more than {2 * d} for an image of {d} spatial "
        f"axes; got {num_samples!r}."
      )
    offsets = sigma * _normal_points(num_samples, d)
    fit = jnp.asarray(np.linalg.pinv(offsets), pixels[0].dtype)
    offsets = jnp.asarray(offsets, pixels[0].dtype)
    values = jax.vmap(
      lambda offset: sample(
        image, [p + o for p, o in zip(pixels, offset, strict=True)]
      )
    )(offsets)
    return [
      jnp.tensordot(row.astype(values.dtype), values, axes=1) for row in fit
    ]

  return linearised


def _normal_points(count: int, d: int) -> np.ndarray:
  """A symmetric, evenly spread normal sample, (count, d): Halton's points."""
  quantile = statistics.NormalDist().inv_cdf
  half = [
    [quantile(_radical_inverse(i, base)) for base in (2, 3, 5)[:d]]
    for i in range(1, count // 2 + 1)
  ]
  points = np.array([*half, *(-np.array(half))])
  # Standard deviations of exactly 1, also of the few points of a small sample.
  return points / np.sqrt((points**2).mean(0))


def _radical_inverse(i: int, base: int) -> float:
  """Van der Corput's sequence: evenly spread numbers in (0, 1)."""
  value, scale = 0.0, 1 / base
  while i:
    i, digit = divmod(i, base)
    value += digit * scale
    scale /= base
  return value


def multiscale(sample, image, pixels):
  """The exact slope inside the image; outside, that of the blurred image.

  The blur is as wide as the point is far away, so that some of the image
  reaches the point; beyond a quarter of the image's size the slope is the one
  at a quarter. A grid that has left the image is led back from any distance,
  provided that the image's mean differs from what is outside: for the paddings
  "zeros" and "fill".

  Args:
    sample: the sampler.
    image: (*spatial, C).
    pixels: d arrays (*output).

  Returns:
    Slopes, d arrays (*output, C).
  """
  near, distances = [], []
  for pixel, size in zip(pixels, image.shape, strict=False):
    reach = size / 4
    pixel = jnp.clip(pixel, -reach, size - 1 + reach)
    beyond = jnp.maximum(-pixel, pixel - (size - 1))
    near.append(pixel)
    distances.append(beyond)
  distance = functools.reduce(jnp.maximum, distances)
  # A level's last pixel reaches half its side beyond the image.
  side = jax.lax.stop_gradient(1 + 4 * distance)
  blurred = functools.partial(sample, side=side)
  outside = (distance > 0)[..., None]
  return [
    jnp.where(outside, far, exact)
    for far, exact in zip(
      _exact(blurred, image, near), _exact(sample, image, pixels), strict=True
    )
  ]


GRADIENTS: dict[str, GradientRule | None] = {
  "exact": None,
  "linearised": linearised_gradient(),
  "multiscale": multiscale,
}


def sample(
  rule: GradientRule,
  sample_values: Callable[..., jax.Array],
  image: jax.Array,
  pixels: Sequence[jax.Array],
  interpolation: Interpolation,
) -> jax.Array:
  """Samples an image, with the slopes of a rule.

  Args:
    rule: a row of `GRADIENTS`.
    sample_values: the sampler,
      `image, pixels, interpolation, side=None -> values`.
    image: (*spatial, C).
    pixels: d arrays (*output).
    interpolation: kernel, padding and fill value.

  Returns:
    (*output, C). Derivatives beyond the first are those of the rule.
  """

  @jax.custom_jvp
  def warp(image, pixels, interpolation):
    return sample_values(image, pixels, interpolation)

  def warp_jvp(primals, tangents):
    image, pixels, interpolation = primals
    values = warp(image, pixels, interpolation)
    terms = []
    image_step, pixel_steps, interpolation_step = tangents
    fill, fill_step = interpolation.fill, interpolation_step.fill
    if not (_is_zero(image_step) and _is_zero(fill_step)):
      steps = [
        jnp.zeros_like(primal) if _is_zero(step) else step
        for primal, step in ((image, image_step), (fill, fill_step))
      ]

      def of_image_and_fill(image, fill):
        return sample_values(
          image, pixels, dataclasses.replace(interpolation, fill=fill)
        )

      terms.append(jax.jvp(of_image_and_fill, (image, fill), tuple(steps))[1])
    if not all(map(_is_zero, pixel_steps)):

      def interpolated(image, pixels, side=None):
        return sample_values(image, pixels, interpolation, side)

      slopes = rule(interpolated, image, pixels)
      for slope, step in zip(slopes, pixel_steps, strict=True):
        if not _is_zero(step):
          terms.append(slope * step[..., None].astype(slope.dtype))
    return values, functools.reduce(operator.add, terms).astype(values.dtype)

  warp.defjvp(warp_jvp, symbolic_zeros=True)
  return warp(image, list(pixels), interpolation)


def _is_zero(tangent: object) -> bool:
  return type(tangent) is SymbolicZero
