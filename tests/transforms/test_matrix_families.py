"""Families of scale, rotation and translation, and the projective one."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import check_derivatives
from scipy.spatial.transform import Rotation

import stn
from stn.transforms import (
  attention,
  projective,
  rigid,
  rotation,
  similarity,
  translation,
)

DIMS = pytest.mark.parametrize("d", [1, 2, 3])
ROTATIONS = (rotation, rigid, similarity)


def some_points(d, *shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, (*shape, d)).astype(np.float32)


def families():
  for make in (translation, attention, projective, *ROTATIONS):
    for d in (1, 2, 3):
      if d > 1 or make not in ROTATIONS:
        yield pytest.param(make(ndim=d), d, id=f"{make.__name__}-{d}")


EACH = pytest.mark.parametrize(("family", "d"), list(families()))


def nearby(family, size=0.3, dtype=np.float32, seed=0):
  """A theta away from the identity and from every kink."""
  rng = np.random.default_rng(seed)
  change = rng.uniform(-size, size, family.num_params)
  return (family.identity + change).astype(dtype)


# Closed forms.


@DIMS
def test_a_translation_of_a_fixed_scale_is_attention_at_that_scale(d):
  family = translation(ndim=d, scale=0.25)
  points = some_points(d, 7)
  shift = jnp.arange(1.0, d + 1, dtype="float32")
  other = jnp.concatenate([jnp.full(1, 0.25, "float32"), shift])
  np.testing.assert_array_equal(
    family.apply(shift, points), attention(ndim=d).apply(other, points)
  )
  assert family.num_params == d
  assert not family.has_identity
  assert translation(ndim=d).has_identity


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_fixed_scale_is_positive(scale):
  with pytest.raises(ValueError, match="`scale` must be positive; got"):
    translation(scale=scale)


@DIMS
def test_translation(d):
  theta = np.arange(1, d + 1, dtype=np.float32)
  points = some_points(d, 3, 4)
  moved = translation(ndim=d).apply(theta, points)
  np.testing.assert_allclose(moved, points + theta, rtol=1e-6)


@DIMS
def test_attention_looks_at_a_box(d):
  theta = np.array([0.5, 0.1, -0.2, 0.3][: d + 1], np.float32)
  points = some_points(d, 5)
  moved = attention(ndim=d).apply(theta, points)
  np.testing.assert_allclose(moved, 0.5 * points + theta[1:], atol=1e-6)


def test_a_positive_angle_turns_x_to_y():
  angle = np.array([np.pi / 2], np.float32)
  moved = rotation().apply(angle, np.eye(2, dtype=np.float32))
  np.testing.assert_allclose(moved, [[0, 1], [-1, 0]], atol=1e-6)


def test_a_positive_angle_turns_the_content_anticlockwise():
  image = jnp.arange(9.0).reshape(3, 3, 1)
  turned = stn.spatial_transform(
    image, jnp.array([jnp.pi / 2]), transform="rotation"
  )
  np.testing.assert_allclose(turned, jnp.rot90(image), atol=1e-5)


@pytest.mark.parametrize("length", [0, 1e-6, 1e-3, 0.5, 0.999, 1.001, 3, 9])
def test_rotation_vectors_against_scipy(length, x64):
  axis = np.array([1, -2, 3]) / np.sqrt(14)
  points = some_points(3, 5).astype(np.float64)
  np.testing.assert_allclose(
    rotation(ndim=3).apply(length * axis, points),
    Rotation.from_rotvec(length * axis).apply(points),
    atol=1e-15,
  )


@pytest.mark.parametrize("d", [2, 3])
def test_similarity_rotates_and_scales_then_moves(d):
  theta = nearby(similarity(ndim=d))
  points = some_points(d, 5)
  turned = np.asarray(rotation(ndim=d).apply(theta[1:-d], points))
  expected = theta[0] * turned + theta[-d:]
  np.testing.assert_allclose(
    similarity(ndim=d).apply(theta, points), expected, atol=1e-6
  )
  np.testing.assert_allclose(
    rigid(ndim=d).apply(theta[1:], points), turned + theta[-d:], atol=1e-6
  )


@hypothesis.given(st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6))
def test_rigid_motions_keep_distances(theta):
  points = some_points(3, 6)
  moved = np.asarray(MOVE(np.array(theta, np.float32), points))
  np.testing.assert_allclose(
    np.linalg.norm(moved - moved[:1], axis=1),
    np.linalg.norm(points - points[:1], axis=1),
    atol=1e-5,
  )


MOVE = jax.jit(rigid(ndim=3).apply)


@DIMS
def test_projective_divides(d):
  theta = nearby(projective(ndim=d))
  points = some_points(d, 5)
  matrix = np.append(theta, 1).reshape(d + 1, d + 1)
  expected = np.append(points, np.ones((5, 1)), 1) @ matrix.T
  np.testing.assert_allclose(
    projective(ndim=d).apply(theta, points),
    expected[:, :d] / expected[:, d:],
    rtol=1e-4,
  )


def test_projective_maps_four_corners_anywhere():
  """Unit square to a given quadrilateral: Heckbert's closed form, w = 1 - y/2.

  The far side, y = 1, is looked at twice as wide.
  """
  theta = np.array([1, 0, 0, 0, 1, 0, 0, -0.5], np.float32)
  corners = np.array([[-1, 0], [1, 0], [-1, 1], [1, 1]], np.float32)
  np.testing.assert_array_equal(
    projective().apply(theta, corners), [[-1, 0], [1, 0], [-2, 2], [2, 2]]
  )


# The horizon of the projective family.

TILTED = np.array([1, 0, 0, 0, 1, 0, 2, 0], np.float32)  # w = 2 x + 1


def test_what_is_behind_the_camera_is_outside():
  image = np.ones((8, 8, 1), np.float32)
  points = np.asarray(stn.regular_grid((8, 8)))
  behind = 2 * points[..., 0] + 1 <= 0
  assert 0 < behind.sum() < behind.size
  warped = stn.spatial_transform(image, TILTED, transform="projective")
  np.testing.assert_array_equal(warped[behind], 0)
  grid = stn.transform_grid("projective", TILTED, (8, 8))
  np.testing.assert_array_equal(grid[behind], 1e4)
  assert np.abs(grid[~behind]).max() < 10


@pytest.mark.parametrize("x", [-0.5, -0.6, -1.0, -0.4999])
def test_the_gradient_is_zero_there(x):
  image = np.random.default_rng(0).uniform(size=(6, 6, 1)).astype(np.float32)
  family = projective()

  def look(theta, point):
    return stn.grid_sample(image, family.apply(theta, point)).sum()

  point = jnp.array([x, 0.1])
  for derivative in (
    *jax.jit(jax.grad(look, (0, 1)))(TILTED, point),
    jax.jit(jax.hessian(look))(TILTED, point),
  ):
    np.testing.assert_array_equal(derivative, 0)


def test_nan_is_not_hidden_by_the_horizon():
  theta = projective().identity.copy()
  theta[6] = np.nan
  assert np.isnan(projective().apply(theta, some_points(2, 3))).all()


# Every one of them.


@EACH
def test_the_matrix_acts_as_apply_does(family, d):
  theta, points = nearby(family), some_points(d, 7)
  matrix = np.asarray(family.matrix(theta))
  image = np.append(points, np.ones((7, 1)), 1) @ matrix.T
  np.testing.assert_allclose(
    family.apply(theta, points), image[:, :d] / image[:, d:], rtol=2e-4
  )


@EACH
def test_gradients(family, d, x64):
  theta = nearby(family, dtype=np.float64)
  points = some_points(d, 2).astype(np.float64)
  check_derivatives(family.apply, theta, points)


@pytest.mark.parametrize("angle", [0, 1e-9, 1e-3])
def test_gradients_of_rotations_near_none(angle, x64):
  family = similarity(ndim=3)
  theta = family.identity.astype(np.float64)
  theta[2] = angle
  points = some_points(3, 2).astype(np.float64)
  check_derivatives(family.apply, theta, points)


@EACH
def test_vmap_is_a_loop(family, d):
  thetas = np.stack([nearby(family, seed=seed) for seed in range(3)])
  points = some_points(d, 4)
  moved = jax.jit(jax.vmap(family.apply, (0, None)))(thetas, points)
  for got, theta in zip(moved, thetas, strict=True):
    np.testing.assert_allclose(got, family.apply(theta, points), rtol=1e-4)


# Bad arguments.


@pytest.mark.parametrize("name", ["rotation", "rigid", "similarity"])
def test_a_line_has_no_rotation(own_errors, name):
  with pytest.raises(
    ValueError, match="`ndim` must be 2 or 3 for a rotation; got 1"
  ):
    stn.get_transform(name, ndim=1)


@EACH
def test_theta_must_fit_the_family(own_errors, family, d):
  with pytest.raises(
    ValueError, match=rf"`theta` must have shape \({family.num_params},\); got"
  ):
    family.apply(jnp.zeros(family.num_params + 1), jnp.zeros((5, d)))


@EACH
def test_points_must_fit_the_family(own_errors, family, d):
  with pytest.raises(
    ValueError,
    match=rf"`points` must have shape \(..., {d}\) for a transform in {d} dim",
  ):
    family.apply(family.identity, jnp.zeros((5, d % 3 + 1)))


def test_arguments_must_be_floating(own_errors):
  with pytest.raises(TypeError, match="`theta` must have a floating dtype"):
    attention().apply(jnp.zeros(3, jnp.int32), jnp.zeros((5, 2)))
  with pytest.raises(TypeError, match="`points` must have a floating dtype"):
    attention().apply(jnp.zeros(3), jnp.zeros((5, 2), jnp.int32))


def test_unknown_options_are_named(own_errors):
  with pytest.raises(
    TypeError, match="'attention' takes the options ndim; got `dims`"
  ):
    stn.get_transform("attention", dims=3)
