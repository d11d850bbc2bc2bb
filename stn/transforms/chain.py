"""Families one after another, as one family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from stn._checks import as_coordinates, check_shape
from stn.transforms.base import Transform, as_theta
from stn.transforms.rows import apply_rows, to_square


def _product(inner: jax.Array, outer: jax.Array) -> jax.Array:
  """The rows of the matrix that acts as `inner`, then as `outer`."""
  if len(inner) < inner.shape[1]:
    inner = to_square(inner)
  elif len(outer) < len(inner):
    outer = to_square(outer)
  return jnp.matmul(outer, inner, precision="highest")


def chain(*families: Transform) -> Transform:
  """Several transforms, one after another, as one family.

  Points go through the first, what it returns through the second, and so on.
  Where all are families of matrices, so is the chain: the matrices are
  multiplied, points are mapped once, and only the product has a horizon.

  Args:
    *families: one or more `Transform`s, of the same number of dimensions.

  Returns:
    The family; its theta is those of `families`, concatenated.

  Raises:
    ValueError: if there are no families.
    TypeError: if one of them is none, but a name.

  Example:
    >>> import jax.numpy as jnp
    >>> import stn
    >>> zoom, move = (
    ...   stn.get_transform(name) for name in ("attention", "translation")
    ... )
    >>> theta = jnp.array([0.5, 0.0, 0.0, 1.0, 0.0])
    >>> chain(zoom, move).apply(theta, jnp.array([1.0, 1.0]))
    Array([1.5, 0.5], dtype=float32)
  """
  if not families:
    raise ValueError("`families` must be one or more; got none.")
  for family in families:
    if not isinstance(family, Transform):
      raise TypeError(
        "`families` must be of `stn.Transform`, see `stn.get_transform`; got "
        f"{family!r}."
      )
  ends = np.cumsum([family.num_params for family in families]).tolist()
  total, last = ends[-1], families[-1]

  def product(forms):
    """The product of matrices, as a function of theta; None if one has none."""

    def multiply(theta):
      parts = zip(forms, jnp.split(theta, ends[:-1]), strict=True)
      return functools.reduce(_product, (form(part) for form, part in parts))

    return None if None in forms else multiply

  rows = product([family.rows for family in families])

  def apply(theta, points):
    theta = as_theta(theta, total)
    if rows is None:
      parts = jnp.split(theta, ends[:-1])
      for family, part in zip(families, parts, strict=True):
        points = family.apply(part, points)
      return points
    matrix = rows(theta)
    d = matrix.shape[1] - 1
    points = as_coordinates("points", points).astype(theta.dtype)
    fits = points.ndim > 0 and points.shape[-1] == d
    check_shape("points", points, f"(..., {d})", fits)
    return apply_rows(matrix, points)

  has_identity = all(family.has_identity for family in families)
  before = total - last.num_params
  scaling = None
  if has_identity and last.scaling is not None:
    scaling = np.concatenate([np.zeros(before, np.float32), last.scaling])
  return Transform(
    identity=np.concatenate([family.identity for family in families]),
    apply=apply,
    matrix=product([family.matrix for family in families]),
    rows=rows,
    shift=tuple(before + i for i in last.shift),
    has_identity=has_identity,
    scaling=scaling,
  )
