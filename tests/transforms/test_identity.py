"""Identity theta, same size, zeros padding: the very image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image

import stn

SIZES = {
  1: [(1,), (2,), (7,), (28,)],
  2: [(1, 1), (2, 2), (7, 12), (28, 28)],
  3: [(1, 2, 7), (28, 28, 28)],
}
FAMILIES = [
  (name, ndim)
  for name in stn.TRANSFORMS
  for ndim in (1, 2, 3)
  if ndim > 1 or name not in ("rotation", "rigid", "similarity")
]
EACH = pytest.mark.parametrize(("name", "ndim"), FAMILIES)


@pytest.mark.parametrize("align_corners", [False, True])
@EACH
def test_the_image_is_the_same_bit_by_bit(name, ndim, align_corners):
  images = [random_image(*size, 2) for size in SIZES[ndim]]
  warp = functools.partial(
    stn.spatial_transform, transform=name, align_corners=align_corners
  )

  @jax.jit  # one program for all sizes
  def warp_all(images, theta):
    return [warp(image, theta) for image in images]

  identity = stn.get_transform(name, ndim=ndim).identity
  for warped, image in zip(warp_all(images, identity), images, strict=True):
    np.testing.assert_array_equal(warped, image)


@EACH
def test_points_outside_the_image_stay_too(name, ndim):
  rng = np.random.default_rng(ndim)
  points = rng.uniform(-3, 3, (50, ndim)).astype(np.float32)
  family = stn.get_transform(name, ndim=ndim)
  moved = jax.jit(family.apply)(family.identity, points)
  np.testing.assert_array_equal(moved, points)


@EACH
def test_derivatives_of_first_and_second_order_are_finite_there(name, ndim):
  """On a grid that holds the centre, the corners and all control points."""
  family = stn.get_transform(name, ndim=ndim)
  axis = jnp.linspace(-1, 1, 7)
  points = jnp.stack(jnp.meshgrid(*[axis] * ndim), -1)

  def loss(theta, points):
    moved = family.apply(theta, points)
    return (moved**3 + moved * jnp.roll(points, 1, axis=-1)).sum()

  def directional(theta, points):
    gradients = jax.grad(loss, (0, 1))(theta, points)
    return sum(g.sum() for g in gradients)

  theta = jnp.asarray(family.identity)
  first = jax.jit(jax.grad(loss, (0, 1)))(theta, points)
  second = jax.jit(jax.grad(directional, (0, 1)))(theta, points)
  for derivative in (*first, *second):
    assert np.isfinite(derivative).all()
  assert np.any(first[0])
