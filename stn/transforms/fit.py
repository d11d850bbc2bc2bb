"""Theta from pairs of points."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from stn._checks import as_coordinates, check_shape
from stn.transforms.base import Transform
from stn.transforms.families import get_transform


def theta_from_points(
  transform: str | Transform,
  source: Float[ArrayLike, "n d"],
  target: Float[ArrayLike, "n d"],
  *,
  ridge: float = 0.0,
) -> Float[jax.Array, " params"]:
  """Fits theta to pairs of points: `apply(theta, source)` is near `target`.

  As transforms go from the output to the input image, `source` is points of the
  output, and `target` where in the input to look for them.

  Minimises the sum of squared distances. For the families that are linear in
  theta (affine, attention, translation, tps, flow, bspline, log_polar) by a QR
  decomposition. For the projective family each distance is weighted by the
  point's denominator (the direct linear transform, with the last element of the
  matrix 1): exact pairs give the exact theta. For those with a rotation
  (rotation, rigid, similarity) by a singular value decomposition.
  Differentiable in both arguments; for those with a rotation once.

  Args:
    transform: a name in `stn.TRANSFORMS`, or a `Transform`.
    source: points (n, d).
    target: points (n, d).
    ridge: weight of the squared distance of theta from the identity, added to
      the sum. If positive, the pairs need not determine theta. For families
      that are linear in theta.

  Returns:
    Theta (P,); float64 if an argument is, otherwise float32. Where the pairs do
    not determine it, it is not finite or arbitrarily large.

  Raises:
    TypeError: if an argument is not floating.
    ValueError: if the family cannot be fitted, the shapes do not fit, or there
      are too few pairs.

  Example:
    >>> source = jnp.array([[-1., 0.], [0., 1.], [1., 0.]])
    >>> theta_from_points("attention", source, source / 2).round(4) + 0
    Array([0.5, 0. , 0. ], dtype=float32)

  References:
    R. Hartley and A. Zisserman, Multiple View Geometry, section 4.1.
    S. Umeyama, https://doi.org/10.1109/34.88573, for rotations.
  """
  source = as_coordinates("source", source)
  target = as_coordinates("target", target)
  dtype = jnp.promote_types(source.dtype, target.dtype)
  source, target = source.astype(dtype), target.astype(dtype)
  check_shape(
    "source",
    source,
    "(n, d)",
    source.ndim == 2 and source.shape[1] in (1, 2, 3),
    ", d in {1, 2, 3}",
  )
  check_shape("target", target, str(source.shape), target.shape == source.shape)
  n, d = source.shape
  family = transform
  if not isinstance(family, Transform):
    family = get_transform(family, ndim=d)
  if not family.linear and family.fit is None:
    raise ValueError(
      "`transform` must be linear in theta, or a rotation, rigid or a "
      f"similarity; got {transform!r}."
    )
  if not ridge >= 0:
    raise ValueError(f"`ridge` must be 0 or more; got {ridge!r}.")
  if ridge and not family.linear:
    raise ValueError(
      f"`ridge` must be 0 for {transform!r}, which is not linear in theta; got "
      f"{ridge!r}."
    )
  least = math.ceil(family.num_params / d)
  if not family.linear:  # a line of points, about which all may turn
    least = max(least, d - 1 + bool(family.shift))
  if not ridge and n < least:
    otherwise = ", or `ridge` be positive" if family.linear else ""
    raise ValueError(
      f"`source` must have at least {least} points for {family.num_params} "
      f"parameters{otherwise}; got {n}."
    )
  if family.fit is not None:
    return _polished(family, family.fit(source, target), source, target)

  def residual(theta: jax.Array) -> jax.Array:
    """Affine in theta, so that one step from anywhere reaches the minimum."""
    if family.matrix is None:
      return (family.apply(theta, source) - target).reshape(-1)
    points = jnp.concatenate([source, jnp.ones((n, 1), dtype)], axis=1)
    image = jnp.matmul(points, family.matrix(theta).T, precision="highest")
    return (image[:, :d] - image[:, d:] * target).reshape(-1)

  identity = jnp.asarray(family.identity, dtype)
  slope, rest = jax.jacfwd(residual)(identity), residual(identity)
  if ridge:
    pull = math.sqrt(ridge) * jnp.eye(family.num_params, dtype=dtype)
    slope = jnp.concatenate([slope, pull])
    rest = jnp.concatenate([rest, jnp.zeros(family.num_params, dtype)])
  q, r = jnp.linalg.qr(slope)
  rest = jnp.matmul(q.T, rest, precision="highest")
  return identity - jax.scipy.linalg.solve_triangular(r, rest)


def _polished(
  family: Transform, theta: jax.Array, source: jax.Array, target: jax.Array
) -> jax.Array:
  """A step of Newton from the minimum: differentiated, it moves as that does.

  The decomposition that found theta has no derivative where singular values are
  equal, as those of a square's corners are.
  """

  def cost(theta):
    return ((family.apply(theta, source) - target) ** 2).sum()

  theta = jax.lax.stop_gradient(theta)
  return theta - jnp.linalg.solve(
    jax.hessian(cost)(theta), jax.grad(cost)(theta)
  )
