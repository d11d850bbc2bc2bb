"""The affine family: any linear map and a translation."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from stn._checks import as_coordinates, check_shape
from stn.transforms.base import Transform
from stn.transforms.rows import apply_rows, to_square


def apply_affine(
  theta: Float[ArrayLike, " params"], points: Float[ArrayLike, "*n d"]
) -> Float[jax.Array, "*n d"]:
  """Applies an affine transform to points.

  The source point of a target point p is A p + t, where `theta` is the matrix
  [A | t] row by row (paper, eq. 1).

  Args:
    theta: parameters, shape (d * (d + 1),).
    points: shape (..., d), d in {1, 2, 3}, in (x, y, z) order, normalised to
      [-1, 1].

  Returns:
    The source points, of the shape of `points`; float64 if `theta` is,
    otherwise float32.

  Raises:
    TypeError: if an argument is not floating.
    ValueError: if the shapes do not match.

  Example:
    >>> import jax.numpy as jnp
    >>> shift_right = jnp.array([1., 0., .5, 0., 1., 0.])
    >>> apply_affine(shift_right, jnp.zeros((1, 2)))
    Array([[0.5, 0. ]], dtype=float32)
  """
  theta = as_coordinates("theta", theta)
  points = as_coordinates("points", points).astype(theta.dtype)
  d = points.shape[-1] if points.ndim else 0
  check_shape("points", points, "(..., d)", d in (1, 2, 3), ", d in {1, 2, 3}")
  check_shape(
    "theta",
    theta,
    f"({d * (d + 1)},)",
    theta.shape == (d * (d + 1),),
    f" for points of {d} coordinates",
  )
  return apply_rows(theta.reshape(d, d + 1), points)


def affine(ndim: int = 2) -> Transform:
  """The affine family in `ndim` dimensions: 2, 6 or 12 parameters.

  Args:
    ndim: dimensions of the space, 1, 2 or 3.

  Returns:
    The family; its theta is the matrix [A | t] row by row.

  Example:
    >>> affine(ndim=3).num_params
    12
  """
  shape = (ndim, ndim + 1)

  def rows(theta):
    return jnp.reshape(theta, shape)

  identity = np.eye(*shape, dtype=np.float32).reshape(-1)
  return Transform(
    identity=identity,
    apply=apply_affine,
    matrix=lambda theta: to_square(rows(theta)),
    linear=True,
    rows=rows,
    shift=tuple(range(ndim, ndim * (ndim + 1), ndim + 1)),
    scaling=identity,
  )
