"""The thin plate spline, and its counterparts in 1D and 3D."""

import dataclasses
from collections.abc import Iterable
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from stn.transforms.base import Transform, as_theta
from stn.transforms.displacement import (
  displacement,
  lattice_points,
  lattice_size,
)

# Up to so many control points are written out in the program: more take long to
# compile, and run no faster.
_MAX_WRITTEN_OUT = 25


def _radial(square, d, xp):
  """The radial term of a squared distance in d dimensions.

  It is the fundamental solution of the biharmonic equation, up to a factor:
  |r|^3 on a line, r^2 log(r) in the plane, -r in space. The derivatives of
  first and second order are finite at r = 0, where the argument of the root or
  logarithm is replaced before its derivative is taken.
  """
  positive = square > 0
  safe = xp.where(positive, square, 1)
  if d == 2:
    return square * xp.log(safe) / 2
  r = xp.where(positive, xp.sqrt(safe), 0)
  return square * r if d == 1 else -r


def _terms(points, centres, xp):
  """Radial terms, 1, and coordinates, each (N,), of points (N, d)."""
  axes = list(points.T)
  for centre in centres:
    square = sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True))
    yield _radial(square, len(axes), xp)
  yield xp.ones_like(axes[0])
  yield from axes


def _basis(points, centres, xp):
  """The terms as a matrix: (N, d), (K, d) -> (N, K + 1 + d)."""
  return xp.stack(list(_terms(points, centres, xp)), 1)


def _displacement(points, centres, weights):
  """`_basis(points, centres) @ weights`, term after term."""
  terms = list(_terms(points, centres, jnp))
  moved = [
    sum(term * weight for term, weight in zip(terms, column, strict=True))
    for column in weights.T
  ]
  return jnp.stack(moved, 1)


def _coefficients(centres: np.ndarray, ridge: float) -> np.ndarray:
  """The matrix from displacements of the centres to weights of the basis.

  It solves, once and in float64, the system of Bookstein (1989), eq. 1: the
  spline takes the displacements at the centres, and its radial part is
  orthogonal to affine functions.
  """
  k, d = centres.shape
  top = _basis(centres, centres, np)
  top[:, :k] += ridge * np.eye(k)
  bottom = np.concatenate([top[:, k:].T, np.zeros((d + 1, d + 1))], axis=1)
  system = np.concatenate([top, bottom])
  solution, _, rank, _ = np.linalg.lstsq(system, np.eye(k + d + 1, k))
  if rank < len(system) and not ridge:
    flat = {1: "one place", 2: "one line", 3: "one plane"}[d]
    raise ValueError(
      "`control_points` must be distinct and not all in "
      f"{flat}, or `ridge` positive; got {k} points."
    )
  return solution


def tps(
  ndim: int = 2,
  *,
  num_control_points: SupportsIndex | Iterable[SupportsIndex] = 4,
  control_points: ArrayLike | None = None,
  ridge: float = 0.0,
  targets: bool = False,
) -> Transform:
  """The thin plate spline: d parameters for each of K control points.

  Control point c_k is mapped to c_k + theta_k, and all other points follow with
  least bending energy. The paper's spline is the default: 16 control points,
  on a regular 4 x 4 lattice from corner to corner, 32 parameters.

  Args:
    ndim: dimensions of the space, 1, 2 or 3.
    num_control_points: of a regular lattice over [-1, 1], along every axis, or
      along each in the image's order (rows, then columns).
    control_points: (K, ndim) in (x, y, z) order, in place of the lattice.
    ridge: 0 interpolates the displacements; a positive one smooths them, and
      allows control points that coincide or lie on a line.
    targets: theta is where the control points are mapped to, c_k + theta_k
      above, rather than their displacements.

  Returns:
    The family; theta is the displacements (K, d) row by row, zeros the
    identity; or the targets, the control points the identity. Outside of the
    control points the spline tends to affine.

  Raises:
    ValueError: if the control points do not determine a spline, or an option is
      out of range.

  Example:
    >>> corners = jnp.array([[-1., -1.], [1., -1.], [-1., 1.], [1., 1.]])
    >>> family = tps(control_points=corners)
    >>> theta = jnp.zeros((4, 2)).at[3].set(0.5).reshape(-1)
    >>> family.apply(theta, jnp.array([[1., 1.], [1., -1.], [0., 0.]])).round(4)
    Array([[ 1.5  ,  1.5  ],
           [ 1.   , -1.   ],
           [ 0.125,  0.125]], dtype=float32)

  References:
    F. L. Bookstein, Principal Warps: Thin-Plate Splines and the Decomposition
    of Deformations, PAMI 1989.
  """
  if not ridge >= 0:
    raise ValueError(f"`ridge` must be 0 or more; got {ridge!r}.")
  if control_points is None:
    size = lattice_size("num_control_points", num_control_points, ndim, 2)
    centres = lattice_points(size)
  else:
    centres = np.asarray(control_points, np.float64)
    if centres.ndim != 2 or centres.shape[1] != ndim or not len(centres):
      raise ValueError(
        f"`control_points` must have shape (K, {ndim}); got {centres.shape}."
      )

  def basis(points: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    if isinstance(points, np.ndarray):
      return _basis(points.astype(np.float64), centres, np).astype(points.dtype)
    return _basis(points, jnp.asarray(centres, points.dtype), jnp)

  def displace(points: jax.Array, weights: jax.Array) -> jax.Array:
    return _displacement(points, centres.astype(points.dtype), weights)

  family = displacement(
    basis,
    centres,
    _coefficients(centres, ridge),
    displace if len(centres) <= _MAX_WRITTEN_OUT else None,
  )
  if not targets:
    return family
  identity = centres.reshape(-1).astype(np.float32)

  def apply(theta, points):
    theta = as_theta(theta, identity.size)
    return family.apply(theta - identity.astype(theta.dtype), points)

  return dataclasses.replace(family, identity=identity, apply=apply)
