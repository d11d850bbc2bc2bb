"""Free-form deformations: displacements on a lattice, interpolated between.

Outside [-1, 1] a point is displaced as the nearest one on the border.
"""

import math
from collections.abc import Callable, Iterable
from typing import SupportsIndex

import jax
import jax.numpy as jnp

from stn.transforms.base import Transform
from stn.transforms.displacement import (
  displacement,
  lattice_points,
  lattice_size,
)


def _hat(x: jax.Array) -> jax.Array:
  """The linear B-spline: 1 at 0, and 0 from -1 and 1 on."""
  return jnp.maximum(1 - jnp.abs(x), 0)


def _cubic(x: jax.Array) -> jax.Array:
  """The cubic B-spline (Rueckert et al. 1999): 0 from -2 and 2 on."""
  x = jnp.abs(x)
  inner = 2 / 3 - x * x + x * x * x / 2
  return jnp.where(x < 1, inner, jnp.maximum(2 - x, 0) ** 3 / 6)


def _lattice(
  size: tuple[int, ...], spline: Callable[[jax.Array], jax.Array], border: int
) -> Transform:
  """Displacements of a lattice that has `border` points beyond each edge."""
  ndim = len(size)

  def splines(points):
    """Per axis, one for each of its lattice points: (N, d) -> (N, n)."""
    for axis, n in enumerate(size):
      x = jnp.clip(points[:, ndim - 1 - axis], -1, 1)
      position = (x + 1) * ((n - 1 - 2 * border) / 2) + border
      yield spline(position[:, None] - jnp.arange(n, dtype=points.dtype)[None])

  def basis(points):
    """Products of one spline per axis: points (N, d) -> (N, K)."""
    products = jnp.ones_like(points[:, :1])
    for each in splines(points):
      products = products[:, :, None] * each[:, None]
      products = products.reshape(len(points), math.prod(products.shape[1:]))
    return products

  def displace(points, weights):
    """basis(points) @ weights, summed over one axis after the other."""
    first, *others = splines(points)
    moved = jnp.matmul(first, weights.reshape(size[0], -1), precision="highest")
    for each in others:
      moved = moved.reshape(*each.shape, moved.shape[1] // each.shape[1])
      moved = (each[:, :, None] * moved).sum(1)
    return moved

  return displacement(basis, lattice_points(size, border), displace=displace)


def flow(
  ndim: int = 2, *, size: SupportsIndex | Iterable[SupportsIndex] = 8
) -> Transform:
  """A dense flow: displacements on a lattice, linear in each cell.

  The lattice goes from corner to corner of [-1, 1]. Its basis has a column for
  every lattice point, so it is meant to be coarser than the image.

  Args:
    ndim: dimensions of the space, 1, 2 or 3.
    size: lattice points along every axis, or along each in the image's order.

  Returns:
    The family; theta is the displacements (*size, d) row by row, in normalised
    coordinates, zeros the identity.

  Raises:
    ValueError: if `size` is less than 2 or not one int per axis.

  Example:
    >>> family = flow(ndim=1, size=3)
    >>> family.apply(jnp.array([0., 0.4, 0.]), jnp.array([[0.], [0.5]]))
    Array([[0.4],
           [0.7]], dtype=float32)
  """
  return _lattice(lattice_size("size", size, ndim, 2), _hat, border=0)


def bspline(
  ndim: int = 2,
  *,
  num_control_points: SupportsIndex | Iterable[SupportsIndex] = 6,
) -> Transform:
  """The cubic B-spline free-form deformation, twice smoothly differentiable.

  Of the n control points along each axis the first and the last are outside
  [-1, 1], the second at -1 and the last but one at 1, with n - 3 cells between.
  The spline does not pass through the displacements but smooths them; equal
  ones move all points equally.

  Args:
    ndim: dimensions of the space, 1, 2 or 3.
    num_control_points: along every axis, or along each in the image's order;
      those outside are counted.

  Returns:
    The family; theta is the displacements (*num_control_points, d) row by row,
    zeros the identity.

  Raises:
    ValueError: if there are fewer than 4 control points along any axis.

  Example:
    >>> family = bspline(ndim=1, num_control_points=5)
    >>> family.apply(jnp.array([0., 0., 0.75, 0., 0.]), jnp.zeros((1, 1)))
    Array([[0.5]], dtype=float32)

  References:
    D. Rueckert et al., Nonrigid Registration Using Free-Form Deformations:
    Application to Breast MR Images, IEEE Trans. Medical Imaging 1999, eq. 2.
  """
  size = lattice_size("num_control_points", num_control_points, ndim, 4)
  return _lattice(size, _cubic, border=1)
