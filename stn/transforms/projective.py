"""The projective family: homographies."""

import jax
import jax.numpy as jnp
import numpy as np

from stn.transforms.affine import homogeneous_rows
from stn.transforms.base import Transform, as_arguments

# A point whose denominator is at most HORIZON has no source point in the image:
# all its coordinates are FAR, which is outside of any image.
HORIZON, FAR = 1e-3, 1e4


def apply_rows(rows: jax.Array, points: jax.Array) -> jax.Array:
  """Applies the rows of a matrix, see `Transform.rows`, to points.

  Args:
    rows: (d, d + 1), or (d + 1, d + 1), whose last is that of the denominators.
    points: (..., d), of the same dtype.

  Returns:
    The source points, of the shape of `points`.

  Example:
    >>> rows = jnp.array([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]])
    >>> apply_rows(rows, jnp.array([0.5, 0.5]))
    Array([1., 1.], dtype=float32)
  """
  sources = homogeneous_rows(rows, points)
  if len(sources) > points.shape[-1]:
    *sources, w = sources
    beyond = w <= HORIZON
    w = jnp.where(beyond, 1, w)
    sources = [jnp.where(beyond, FAR, source / w) for source in sources]
  return jnp.stack(sources, axis=-1)


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
  )
