"""Matrices by their rows: what the families of matrices share."""

import jax
import jax.numpy as jnp

# A point whose denominator is at most HORIZON has no source point in the image:
# all its coordinates are FAR, which is outside of any image.
HORIZON, FAR = 1e-3, 1e4


def apply_rows(rows: jax.Array, points: jax.Array) -> jax.Array:
  """Applies the rows of a matrix, see `Transform.rows`, to points.

  The sums are written out axis by axis: a matrix product would round to
  bfloat16 or TF32 on accelerators, and the identity would no longer return the
  points themselves.

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
  d = points.shape[-1]
  sources = [
    sum((row[j] * points[..., j] for j in range(d)), row[d]) for row in rows
  ]
  if len(sources) > d:
    *sources, w = sources
    beyond = w <= HORIZON
    w = jnp.where(beyond, 1, w)
    sources = [jnp.where(beyond, FAR, source / w) for source in sources]
  return jnp.stack(sources, axis=-1)


def to_square(rows: jax.Array) -> jax.Array:
  """[A | t], (d, d + 1), as a homogeneous matrix (d + 1, d + 1)."""
  d = len(rows)
  return jnp.concatenate([rows, jnp.eye(1, d + 1, d, dtype=rows.dtype)])
