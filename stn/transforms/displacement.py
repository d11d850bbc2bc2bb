"""What the families that displace control points have in common.

Theta holds a displacement of every control point, (K, d) row by row: dx, dy, dz
of the first, then of the second. Control points on a regular lattice are in the
order of an image's pixels: x changes fastest. The displacement of any other
point is a linear function of these, so zeros are the identity, exactly.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from stn.transforms.base import Transform, as_arguments


def displacement(
  basis: Callable[[jax.Array | np.ndarray], jax.Array | np.ndarray],
  centres: np.ndarray,
  coefficients: np.ndarray | None = None,
  displace: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Transform:
  """The family p -> p + basis(p) C theta.

  The basis depends on the points alone: under a `vmap` over theta it is
  computed once for the whole batch.

  Args:
    basis: points (N, d) -> (N, M). Points that are constant when the program is
      traced come as a NumPy array: what is computed from it in NumPy costs the
      program nothing.
    centres: control points (K, d). Displacements in proportion to them must
      displace all points so, as those of a spline do that reproduces lines.
    coefficients: C (M, K); None if M = K and C is the identity matrix.
    displace: what computes basis(points) @ weights, weights (M, d), of points
      that are not constant, faster than so: without the basis in memory, which
      for a batch is far larger than any cache.

  Returns:
    The family; theta has K d numbers.
  """
  num_points, ndim = centres.shape
  identity = np.zeros(num_points * ndim, np.float32)

  def apply(theta, points):
    given = points
    theta, points = as_arguments(theta, points, identity.size, ndim)
    weights = theta.reshape(num_points, ndim)
    if coefficients is not None:
      c = jnp.asarray(coefficients, theta.dtype)
      weights = jnp.matmul(c, weights, precision="highest")
    flat = points.reshape(-1, ndim)
    if displace is not None and isinstance(given, Tracer):
      moved = displace(flat, weights)
    else:
      if not isinstance(given, Tracer):
        flat = np.asarray(given, points.dtype).reshape(-1, ndim)
      values = jnp.asarray(basis(flat))
      moved = jnp.matmul(values, weights, precision="highest")
    return points + moved.reshape(points.shape)

  return Transform(
    identity=identity,
    apply=apply,
    linear=True,
    scaling=centres.reshape(-1).astype(np.float32),
  )


def lattice_points(size: Sequence[int], border: int = 0) -> np.ndarray:
  """Points of a regular lattice over [-1, 1], (K, d), x changes fastest.

  Args:
    size: points along each axis, in the image's order.
    border: of these, how many are beyond each end.
  """
  ends = [1 + 2 * border / (n - 1 - 2 * border) for n in size]
  axes = [np.linspace(-e, e, n) for e, n in zip(ends, size, strict=True)]
  points = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1)
  return points.reshape(-1, len(size))


def lattice_size(
  name: str,
  size: SupportsIndex | Iterable[SupportsIndex],
  ndim: int,
  least: int,
) -> tuple[int, ...]:
  """One number per axis, in the image's order; a single one serves all."""
  error = (
    f"`{name}` must be an int, or {ndim} ints, of at least {least}; "
    f"got {size!r}."
  )
  each = size if isinstance(size, Iterable) else (size,) * ndim
  try:
    sizes = tuple(map(operator.index, each))
  except TypeError:
    raise TypeError(error) from None
  if len(sizes) != ndim or min(sizes) < least:
    raise ValueError(error)
  return sizes
