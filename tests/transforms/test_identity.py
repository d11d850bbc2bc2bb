"""Identity theta, same size, zeros padding: the image itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import families, random_image

import stn

# Every size on every axis, next to another one.
SIZES = (1, 2, 3, 7, 28, 42, 224)
SHAPES = {
  1: [(n,) for n in SIZES],
  2: [(n, n) for n in SIZES[:5]]
  + [(1, 2), (3, 1), (2, 7), (28, 3), (7, 42), (42, 224), (224, 5)],
  3: [(1, 2, 7), (7, 1, 2), (3, 7, 1), (2, 28, 3), (42, 3, 28)]
  + [(2, 42, 1), (28, 1, 42), (1, 3, 224), (224, 2, 1), (1, 224, 2)],
}
FAMILIES = [(name, ndim) for ndim in (1, 2, 3) for name in families(ndim)]
EACH = pytest.mark.parametrize(("name", "ndim"), FAMILIES)
ALIGN = pytest.mark.parametrize("align_corners", [False, True])


def regular_points(ndim, align_corners):
  """The points of the regular grids of all sizes, (N, ndim)."""
  grids = [
    stn.regular_grid(shape, align_corners=align_corners).reshape(-1, ndim)
    for shape in SHAPES[ndim]
  ]
  return np.concatenate(grids)


# Bit for bit, in two halves: a family gives the regular grid at any size, and
# the regular grid gives the image by any kernel. Then both in one program,
# where the compiler is free to fuse them.


@pytest.mark.optimised
@EACH
def test_the_points_are_the_same_bit_for_bit(name, ndim):
  """Those of grids of every size, and some outside of the image."""
  rng = np.random.default_rng(ndim)
  outside = rng.uniform(-3, 3, (50, ndim)).astype(np.float32)
  grids = [regular_points(ndim, align) for align in (False, True)]
  points = np.concatenate([*grids, outside])
  family = stn.get_transform(name, ndim=ndim)
  moved = jax.jit(family.apply)(family.identity, points)
  np.testing.assert_array_equal(moved, points)


@pytest.mark.optimised
@ALIGN
@pytest.mark.parametrize("method", ["nearest", "linear"])
@pytest.mark.parametrize("ndim", SHAPES)
def test_a_regular_grid_returns_the_image(ndim, method, align_corners):
  options = {"align_corners": align_corners}

  @jax.jit  # one program for all sizes
  def sample_all(images, grids):
    return [
      stn.grid_sample(image, grid, method=method, **options)
      for image, grid in zip(images, grids, strict=True)
    ]

  images = [random_image(*shape, 2) for shape in SHAPES[ndim]]
  grids = [stn.regular_grid(shape, **options) for shape in SHAPES[ndim]]
  for warped, image in zip(sample_all(images, grids), images, strict=True):
    np.testing.assert_array_equal(warped, image)


@pytest.mark.optimised
@EACH
def test_the_image_is_the_same_bit_for_bit(name, ndim):
  image = random_image(*(7, 3, 28)[:ndim], 2)

  @jax.jit
  def warp(image, theta):
    return [
      stn.spatial_transform(
        image, theta, transform=name, align_corners=align_corners
      )
      for align_corners in (False, True)
    ]

  identity = stn.get_transform(name, ndim=ndim).identity
  for warped in warp(image, identity):
    np.testing.assert_array_equal(warped, image)


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
    return sum(g.sum() for g in gradients), gradients

  run = jax.jit(jax.grad(directional, (0, 1), has_aux=True))
  second, first = run(jnp.asarray(family.identity), points)
  for derivative in (*first, *second):
    assert np.isfinite(derivative).all()
  assert np.any(first[0])
