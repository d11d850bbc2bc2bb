"""Families of scale, rotation and translation: p -> s R p + t.

Theta holds what a family has of them, in this order: the scale s, the rotation,
the translation t. Points are rotated and scaled about the centre of the image,
then moved. As in the whole package the map goes from output to input: a scale
of 0.5 looks at the middle half, so the content grows.

Coordinates are normalised, [-1, 1] along every axis. A rotation is rigid in
these; in pixels it is rigid only if the image has equal sides.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.spatial.transform import Rotation

from stn.transforms.base import Transform, as_arguments
from stn.transforms.rows import apply_rows, to_square

# sin(r) / r as a series in r^2, to float64's precision for r < 1.
_SINC = [(-1) ** k / math.factorial(2 * k + 1) for k in range(10)]


def _sinc(square: jax.Array) -> jax.Array:
  """sin(r) / r as a function of r^2, which is smooth where r is not: at 0."""
  near = square < 1
  # Each branch gets arguments of its own, or a NaN in one would reach the
  # gradient through the other.
  small = jnp.where(near, square, 0)
  series = functools.reduce(lambda sum_, c: sum_ * small + c, _SINC[::-1])
  r = jnp.sqrt(jnp.where(near, 1, square))
  return jnp.where(near, series, jnp.sin(r) / r)


def rotation_matrix(angles: jax.Array, ndim: int) -> jax.Array:
  """The matrix R of a rotation.

  Args:
    angles: none (no rotation); one, from the x to the y axis; or in 3D the
      rotation vector w, whose direction is the axis and whose length the angle
      (right-handed in (x, y, z)).
    ndim: dimensions of the space.

  Returns:
    R (ndim, ndim), exactly the identity matrix for zeros. In 3D by Rodrigues'
    formula, I + sin(r) / r K + (1 - cos(r)) / r^2 K^2 with K p = w x p and
    r = |w|, in a form that is smooth at w = 0.
  """
  if not angles.size:
    return jnp.eye(ndim, dtype=angles.dtype)
  if ndim == 2:
    cos, sin = jnp.cos(angles[0]), jnp.sin(angles[0])
    return jnp.array([[cos, -sin], [sin, cos]])
  x, y, z = angles
  zero = jnp.zeros_like(x)
  k = jnp.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]])
  square = x * x + y * y + z * z
  versine = _sinc(square / 4) ** 2 / 2  # (1 - cos(r)) / r^2
  # K^2 = w w^T - r^2 I.
  k2 = jnp.outer(angles, angles) - square * jnp.eye(3, dtype=angles.dtype)
  return jnp.eye(3, dtype=angles.dtype) + _sinc(square) * k + versine * k2


def _angles(matrix: jax.Array) -> jax.Array:
  """The inverse of `rotation_matrix`."""
  if len(matrix) == 2:
    return jnp.arctan2(matrix[1, :1], matrix[0, :1])
  return Rotation.from_matrix(matrix).as_rotvec()


def _fit(
  source: jax.Array, target: jax.Array, *, scale: bool, translation: bool
) -> jax.Array:
  """Theta of the least squares (Umeyama, https://doi.org/10.1109/34.88573)."""
  product = functools.partial(jnp.matmul, precision="highest")
  zero = jnp.zeros((1, source.shape[1]), source.dtype)
  centre = source.mean(axis=0, keepdims=True) if translation else zero
  moved = target.mean(axis=0, keepdims=True) if translation else zero
  source, target = source - centre, target - moved
  u, stretch, v = jnp.linalg.svd(product(target.T, source))
  # The nearest rotation, also where the nearest such matrix is a reflection.
  sign = jnp.ones_like(stretch).at[-1].set(jnp.linalg.det(product(u, v)))
  linear = product(u * sign[None], v)
  theta = [_angles(linear)]
  if scale:
    factor = (stretch * sign).sum() / (source**2).sum()
    theta, linear = [factor[None], *theta], factor * linear
  if translation:
    theta.append((moved - product(centre, linear.T))[0])
  return jnp.concatenate(theta)


def _family(
  ndim: int,
  *,
  scale: bool = False,
  rotation: bool = False,
  translation: bool = False,
  fixed_scale: float = 1.0,
) -> Transform:
  """The family with the given ones of scale, rotation and translation."""
  if rotation and ndim not in (2, 3):
    raise ValueError(f"`ndim` must be 2 or 3 for a rotation; got {ndim!r}.")
  num_angles = (1 if ndim == 2 else 3) if rotation else 0
  ends = (int(scale), scale + num_angles)
  identity = np.zeros(ends[1] + ndim * translation, np.float32)
  identity[: ends[0]] = 1

  def rows(theta):
    factor, angles, shift = jnp.split(theta, ends)
    linear = rotation_matrix(angles, ndim)
    linear = factor[0] * linear if scale else fixed_scale * linear
    shift = shift if translation else jnp.zeros(ndim, theta.dtype)
    return jnp.concatenate([linear, shift[:, None]], axis=1)

  def apply(theta, points):
    theta, points = as_arguments(theta, points, identity.size, ndim)
    return apply_rows(rows(theta), points)

  return Transform(
    identity=identity,
    apply=apply,
    matrix=lambda theta: to_square(rows(theta)),
    rows=rows,
    linear=not rotation,
    shift=tuple(range(ends[1], identity.size)),
    has_identity=fixed_scale == 1,
    scaling=identity if scale else None,
    fit=functools.partial(_fit, scale=scale, translation=translation)
    if rotation
    else None,
  )


def translation(ndim: int = 2, scale: float = 1.0) -> Transform:
  """Translations, p -> s p + t with a fixed scale s: `ndim` parameters.

  Args:
    ndim: dimensions of the space, 1, 2 or 3.
    scale: s, which theta does not hold. The output shows a box of s times the
      input's sides: 0.5 is the paper's attention to parts (section 4.3).

  Returns:
    The family; theta is tx, ty, tz, as many as there are dimensions. With
    another scale than 1 no theta leaves all points where they are; it starts in
    the middle.

  Raises:
    ValueError: if `scale` is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> translation().apply(jnp.array([0.5, 0.]), jnp.zeros((1, 2)))
    Array([[0.5, 0. ]], dtype=float32)
  """
  if not scale > 0:
    raise ValueError(f"`scale` must be positive; got {scale!r}.")
  return _family(ndim, translation=True, fixed_scale=scale)


def rotation(ndim: int = 2) -> Transform:
  """Rotations about the centre, p -> R p: 1 or 3 parameters.

  Args:
    ndim: dimensions of the space, 2 or 3.

  Returns:
    The family. In 2D theta is the angle in radians, from the x to the y axis:
    y points down, so sampling points turn clockwise on the screen, and the
    content anticlockwise. In 3D it is the rotation vector: axis times angle.

  Raises:
    ValueError: if `ndim` is 1.

  Example:
    >>> import jax.numpy as jnp
    >>> quarter = jnp.array([0., 0., jnp.pi / 2])
    >>> rotation(ndim=3).apply(quarter, jnp.array([1., -1., 3.])).round(5)
    Array([1., 1., 3.], dtype=float32)
  """
  return _family(ndim, rotation=True)


def attention(ndim: int = 2) -> Transform:
  """The paper's attention (eq. 2), p -> s p + t: 1 + `ndim` parameters.

  Args:
    ndim: dimensions of the space, 1, 2 or 3.

  Returns:
    The family; theta is s, tx, ty, tz. The output shows a box of the input with
    centre t and s times its sides.

  Example:
    >>> attention().identity
    array([1., 0., 0.], dtype=float32)
  """
  return _family(ndim, scale=True, translation=True)


def rigid(ndim: int = 2) -> Transform:
  """Rigid motions, p -> R p + t: 3 or 6 parameters.

  Args:
    ndim: dimensions of the space, 2 or 3.

  Returns:
    The family; theta is the rotation (as in `rotation`), then tx, ty, tz.

  Raises:
    ValueError: if `ndim` is 1.

  Example:
    >>> rigid(ndim=3).num_params
    6
  """
  return _family(ndim, rotation=True, translation=True)


def similarity(ndim: int = 2) -> Transform:
  """Similarities, p -> s R p + t: 4 or 7 parameters.

  Args:
    ndim: dimensions of the space, 2 or 3.

  Returns:
    The family; theta is s, the rotation (as in `rotation`), then tx, ty, tz.

  Raises:
    ValueError: if `ndim` is 1.

  Example:
    >>> similarity().identity
    array([1., 0., 0., 0.], dtype=float32)
  """
  return _family(ndim, scale=True, rotation=True, translation=True)
