"""What a family of transforms is."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import ArrayLike

from stn._checks import as_coordinates, check_shape


@dataclasses.dataclass(frozen=True, eq=False)
class Transform:
  """A family of transforms of points, indexed by its parameters theta.

  Attributes:
    identity: the theta that leaves every point where it is, float32 (P,), at
      which a spatial transformer starts.
    apply: the pure function `(theta, points) -> points`: theta (P,), points
      (..., d) in (x, y, z) order; it returns the source point of every target
      point, and for the identity returns the points bit for bit.
    matrix: for a family of projective maps, theta -> the homogeneous matrix
      (d + 1, d + 1) that acts as `apply` does; otherwise None.
    linear: whether `matrix(theta)` or, without one, `apply(theta, points)` is
      affine in theta. Then `theta_from_points` can fit it.
    rows: for a family whose `apply` is `apply_rows(rows(theta), points)`, so
      that a sampler may compute it point by point: theta -> the rows of the
      matrix that are not constant, (d, d + 1) of affine maps, (d + 1, d + 1)
      of projective ones; otherwise None.
    shift: where in theta the translation is, along x, y, z; () if nowhere.
    has_identity: False for a family in which no theta leaves all points where
      they are; its `identity` is only where to start.
    scaling: the direction in theta, (P,), along which the points of [-1, 1]
      scale; None if the family has no such transforms. See `scaled`.
    fit: for a family that is not linear and can be fitted, `(source, target) ->
      theta` of the smallest sum of squared distances, of points (n, d); not
      differentiated.
  """

  identity: np.ndarray
  apply: Callable[..., jax.Array]
  matrix: Callable[..., jax.Array] | None = None
  linear: bool = False
  rows: Callable[..., jax.Array] | None = None
  shift: tuple[int, ...] = ()
  has_identity: bool = True
  scaling: np.ndarray | None = None
  fit: Callable[..., jax.Array] | None = None

  @property
  def num_params(self) -> int:
    """How many numbers theta has: P."""
    return self.identity.size

  def scaled(self, scale: float) -> np.ndarray:
    """Theta that multiplies the points of [-1, 1] by a number.

    Args:
      scale: more than 0; with 0.5 the output is the middle half of the input,
        per axis.

    Returns:
      Theta (P,), float32.

    Raises:
      ValueError: if `scale` is not more than 0, or the family cannot scale.

    Example:
      >>> import stn
      >>> stn.get_transform("attention").scaled(0.5)
      array([0.5, 0. , 0. ], dtype=float32)
    """
    if not scale > 0:
      raise ValueError(f"`scale` must be more than 0; got {scale!r}.")
    if self.scaling is None:
      raise ValueError("The family has no transforms that scale all points.")
    return (self.identity + (scale - 1) * self.scaling).astype(np.float32)


def as_theta(theta: ArrayLike, num_params: int) -> jax.Array:
  """Theta as an array (P,), or an error."""
  theta = as_coordinates("theta", theta)
  check_shape("theta", theta, f"({num_params},)", theta.shape == (num_params,))
  return theta


def as_arguments(
  theta: ArrayLike, points: ArrayLike, num_params: int, ndim: int
) -> tuple[jax.Array, jax.Array]:
  """The arguments of `apply` as arrays of theta's dtype, or an error."""
  theta = as_theta(theta, num_params)
  points = as_coordinates("points", points).astype(theta.dtype)
  check_shape(
    "points",
    points,
    f"(..., {ndim})",
    points.ndim > 0 and points.shape[-1] == ndim,
    f" for a transform in {ndim} dimensions",
  )
  return theta, points
