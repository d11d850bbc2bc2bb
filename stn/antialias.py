"""Anti-aliasing: how much of the image an output pixel stands for.

A grid alone does not say: both ways need the transform that made it.
"""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from stn._checks import as_coordinates, full_dtype
from stn.grids import pixel_pitch, regular_grid
from stn.sampling import grid_sample, sample_rows
from stn.sampling.gather import sum_in_a_loop
from stn.transforms import Transform
from stn.transforms.base import as_theta

# Numbers that all samples of an image may have, to be in memory at a time.
_MAX_SAMPLES = 2**22


def check_antialias(antialias: Any) -> int:
  """Returns the samples per axis in an output pixel; 1 for None and "mip".

  Raises:
    ValueError: if `antialias` is neither of these nor a positive int.
  """
  if antialias is None or antialias == "mip":
    return 1
  try:
    count = 0 if isinstance(antialias, str) else operator.index(antialias)
  except TypeError:
    count = 0
  if count < 1:
    raise ValueError(
      '`antialias` must be None, "mip" or a positive int (samples per axis); '
      f"got {antialias!r}."
    )
  return count


def pixel_footprint(
  transform: Transform,
  theta: ArrayLike,
  output_size: Sequence[int],
  image_size: Sequence[int],
  *,
  align_corners: bool,
) -> jax.Array:
  """The side of the square, in pixels of the image, that a pixel stands for.

  Its second moments are the mean of those of the pixel's parallelogram: the
  mean square of the columns of the Jacobian.

  Args:
    transform: from output to input coordinates.
    theta: its parameters, (P,).
    output_size: d ints.
    image_size: d ints.
    align_corners: the coordinate rule.

  Returns:
    (*output_size), at least 1.
  """
  d = len(output_size)
  theta = as_coordinates("theta", theta)
  points = regular_grid(
    output_size, align_corners=align_corners, dtype=theta.dtype
  )
  pitch = [
    np.array([pixel_pitch(n, align_corners=align_corners) for n in size[::-1]])
    for size in (output_size, image_size)
  ]

  def column(axis):
    direction = jnp.asarray(pitch[0] * (np.arange(d) == axis), points.dtype)
    step = jnp.broadcast_to(direction, points.shape)
    _, moved = jax.jvp(lambda p: transform.apply(theta, p), (points,), (step,))
    return moved / jnp.broadcast_to(
      jnp.asarray(pitch[1], points.dtype), points.shape
    )

  square = sum((column(axis) ** 2).sum(-1) for axis in range(d)) / d
  return jnp.sqrt(jnp.where(square > 1, square, 1))


def _mean_of_blocks(
  image: jax.Array, output_size: Sequence[int], count: int
) -> jax.Array:
  """The mean over blocks of `count` pixels per axis: (*output_size, C)."""
  blocks = itertools.chain(*((n, count) for n in output_size))
  total = image.astype(full_dtype(image)).reshape(*blocks, image.shape[-1])
  for axis in reversed(range(len(output_size))):
    # Not `sum`, whose loop is 2 to 3 times slower on a CPU.
    total = functools.reduce(
      operator.add,
      (
        jax.lax.index_in_dim(total, i, 2 * axis + 1, keepdims=False)
        for i in range(count)
      ),
    )
  return (total / count ** len(output_size)).astype(image.dtype)


def supersample(
  image: jax.Array,
  transform: Transform,
  theta: ArrayLike,
  output_size: Sequence[int],
  count: int,
  *,
  align_corners: bool,
  **options: Any,
) -> jax.Array:
  """The mean of `count` samples per axis within each output pixel.

  For families of matrices in one pass, where the samples take little memory.
  Otherwise one sample of each pixel after another: no grid or image of all is
  ever in memory.

  Args:
    image: (*spatial, C).
    transform: from output to input coordinates.
    theta: its parameters, (P,).
    output_size: d ints.
    count: samples per axis.
    align_corners: the coordinate rule.
    **options: of `grid_sample`.

  Returns:
    (*output_size, C), of the image's dtype.
  """
  theta = as_theta(theta, transform.num_params)
  rule = {"align_corners": align_corners}
  pitch = [pixel_pitch(n, **rule) for n in output_size]
  samples = tuple(count * n for n in output_size)
  if (
    transform.rows is not None
    and math.prod(samples) * image.shape[-1] <= _MAX_SAMPLES
  ):
    # They are a regular grid, whose ends are not those of the centres.
    scale = [
      p / count / pixel_pitch(n, **rule)
      for p, n in zip(pitch, samples, strict=True)
    ]
    rows = transform.rows(theta)
    rows *= np.broadcast_to(
      np.array([*scale[::-1], 1], theta.dtype), rows.shape
    )
    warped = sample_rows(image, rows, samples, **rule, **options)
    return _mean_of_blocks(warped, output_size, count)
  centres = regular_grid(output_size, dtype=theta.dtype, **rule)
  within = (np.arange(count) + 0.5) / count - 0.5
  offsets = np.array(list(itertools.product(within, repeat=len(pitch)))) * pitch
  offsets = jnp.asarray(offsets[:, ::-1], theta.dtype)

  def sample(offset):
    points = centres + jnp.broadcast_to(offset, centres.shape)
    grid = transform.apply(theta, points)
    return grid_sample(image, grid, **rule, **options).astype(full_dtype(image))

  total = sum_in_a_loop(sample, offsets)
  return (total / len(offsets)).astype(image.dtype)
