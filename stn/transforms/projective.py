"""The projective family: homographies."""

import jax.numpy as jnp
import numpy as np

from stn.transforms.base import Transform, as_arguments
from stn.transforms.rows import apply_rows


def projective(ndim: int = 2) -> Transform:
  """The projective family in `ndim` dimensions: 3, 8 or 15 parameters.

  The source point of a target point p is (A p + t) / w with w = h p + 1, where
  theta is the matrix [[A, t], [h, 1]] row by row, without the last 1.

  The horizon is where w is 0; points beyond it, with w < 0, are behind the
  camera, and dividing by w would show them upside down. So a point with
  w <= 1e-3 (1 at the centre of the image) is mapped to the point with all
  coordinates 1e4, whatever theta is: the padding "zeros" gives 0 with a
  gradient of 0; the others repeat one pixel. NaN stays NaN.

  Args:
    ndim: dimensions of the space, 1, 2 or 3.

  Returns:
    The family.

  Example:
    >>> import jax.numpy as jnp
    >>> theta = jnp.array([1., 0., 0., 0., 1., 0., 1., 0.])  # w = x + 1
    >>> projective().apply(theta, jnp.array([[1., 1.], [-1., 1.]]))
    Array([[5.e-01, 5.e-01],
           [1.e+04, 1.e+04]], dtype=float32)
  """
  size = ndim + 1
  identity = np.eye(size, dtype=np.float32).reshape(-1)[:-1]

  def matrix(theta):
    last = jnp.ones(1, theta.dtype)
    return jnp.concatenate([theta, last]).reshape(size, size)

  def apply(theta, points):
    theta, points = as_arguments(theta, points, identity.size, ndim)
    return apply_rows(matrix(theta), points)

  return Transform(
    identity=identity,
    apply=apply,
    matrix=matrix,
    linear=True,
    rows=matrix,
    shift=tuple(range(ndim, ndim * size, size)),
    scaling=identity,
  )
