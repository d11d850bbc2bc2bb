import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import check_derivatives

from stn.transforms import affine, apply_affine, get_transform

apply = jax.jit(apply_affine)

DIMS = pytest.mark.parametrize("d", [1, 2, 3])


def floats(*shape):
  return hnp.arrays(
    np.float32, shape, elements=st.floats(-2, 2, width=32, allow_nan=False)
  )


@DIMS
def test_identity_returns_the_points(d):
  points = np.random.default_rng(d).uniform(-3, 3, (9, d)).astype(np.float32)
  for function in (apply_affine, jax.jit(apply_affine)):
    np.testing.assert_array_equal(
      function(affine(ndim=d).identity, points), points
    )


@DIMS
def test_parameters_are_the_matrix_row_by_row(d):
  assert affine(ndim=d).num_params == d * (d + 1)
  theta = np.arange(1, 1 + d * (d + 1), dtype=np.float32)
  points = np.random.default_rng(d).uniform(-1, 1, (5, d)).astype(np.float32)
  matrix = theta.reshape(d, d + 1)
  expected = points @ matrix[:, :d].T + matrix[:, d]
  np.testing.assert_allclose(apply_affine(theta, points), expected, rtol=1e-5)


def test_the_default_is_the_plane():
  assert affine().num_params == get_transform("affine").num_params == 6


@hypothesis.given(floats(6), floats(6), floats(3, 2))
def test_transforms_compose_as_matrices(first, second, points):
  square = [np.vstack([t.reshape(2, 3), [0, 0, 1]]) for t in (first, second)]
  product = (square[0] @ square[1])[:2].astype(np.float32).ravel()
  np.testing.assert_allclose(
    apply(first, apply(second, points)),
    apply(product, points),
    atol=2e-5,
  )


@hypothesis.given(floats(6), floats(3, 2), floats(3, 2), st.floats(0, 1))
def test_lines_stay_lines(theta, here, there, part):
  part = np.float32(part)
  between = part * here + (1 - part) * there
  np.testing.assert_allclose(
    apply(theta, between),
    part * apply(theta, here) + (1 - part) * apply(theta, there),
    atol=1e-5,
  )


@DIMS
def test_gradients(x64, d):
  rng = np.random.default_rng(d)
  theta, points = rng.normal(size=d * (d + 1)), rng.normal(size=(2, d))
  check_derivatives(apply_affine, theta, points, forward=True)


def test_vmap_over_theta_alone():
  thetas = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
  points = np.ones((2, 2), np.float32)
  moved = jax.vmap(apply_affine, (0, None))(thetas, points)
  for got, theta in zip(moved, thetas, strict=True):
    np.testing.assert_allclose(got, apply_affine(theta, points), atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (4, 0), ()])
def test_points_must_have_1_to_3_coordinates(own_errors, shape):
  with pytest.raises(ValueError, match=r"`points` must have shape \(..., d\)"):
    apply_affine(jnp.zeros(6), jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 3), (12,), (1, 6)])
def test_theta_must_fit_the_points(own_errors, shape):
  with pytest.raises(
    ValueError, match=r"`theta` must have shape \(6,\) for points of 2 coord"
  ):
    apply_affine(jnp.zeros(shape), jnp.zeros((5, 2)))


def test_arguments_must_be_floating(own_errors):
  with pytest.raises(TypeError, match="`theta` must have a floating dtype"):
    apply_affine(jnp.zeros(6, jnp.int32), jnp.zeros((5, 2)))
  with pytest.raises(TypeError, match="`points` must have a floating dtype"):
    apply_affine(jnp.zeros(6), jnp.zeros((5, 2), jnp.int32))
