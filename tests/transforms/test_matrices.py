import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import check_derivatives

import stn

DIMS = pytest.mark.parametrize("d", [2, 3])
NAMES = (
  "affine",
  "attention",
  "projective",
  "rigid",
  "rotation",
  "similarity",
  "translation",
)
EACH = pytest.mark.parametrize("name", NAMES)


def nearby(name, d, seed=0, size=0.2):
  identity = stn.get_transform(name, ndim=d).identity
  change = np.random.default_rng(seed).uniform(-size, size, len(identity))
  return identity + change.astype(np.float32)


def some_points(d):
  return np.random.default_rng(9).uniform(-1, 1, (6, d)).astype(np.float32)


def apply(name, theta, points):
  family = stn.get_transform(name, ndim=points.shape[-1])
  return np.asarray(family.apply(theta, points))


def test_these_families_have_matrices():
  have = {n for n in stn.TRANSFORMS if stn.get_transform(n).matrix is not None}
  assert have == set(NAMES)


@EACH
@DIMS
def test_the_identity_is_the_unit_matrix(name, d):
  identity = stn.get_transform(name, ndim=d).identity
  matrix = stn.to_matrix(name, identity, ndim=d)
  np.testing.assert_array_equal(matrix, np.eye(d + 1))


@EACH
@DIMS
def test_theta_converts_upwards(name, d):
  theta, points = nearby(name, d), some_points(d)
  target = "projective" if name == "projective" else "affine"
  upper = stn.from_matrix(target, stn.to_matrix(name, theta, ndim=d))
  np.testing.assert_allclose(
    apply(target, upper, points), apply(name, theta, points), atol=1e-6
  )


@pytest.mark.parametrize("name", ["affine", "projective"])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_theta_there_and_back(name, d):
  theta = nearby(name, d)
  matrix = stn.to_matrix(name, theta, ndim=d)
  for scaled in (matrix, -2 * matrix):
    np.testing.assert_array_equal(stn.from_matrix(name, scaled), theta)


@pytest.mark.parametrize("first", ["attention", "projective", "rotation"])
@pytest.mark.parametrize("second", ["projective", "affine"])
@DIMS
def test_compose_is_first_then_second(first, second, d):
  one, two = nearby(first, d), nearby(second, d, seed=1)
  points = some_points(d)
  both = stn.compose(
    stn.to_matrix(first, one, ndim=d), stn.to_matrix(second, two, ndim=d)
  )
  np.testing.assert_allclose(
    apply("projective", stn.from_matrix("projective", both), points),
    apply(second, two, apply(first, one, points)),
    rtol=2e-4,
    atol=1e-5,
  )


@EACH
@DIMS
def test_the_inverse_undoes(name, d):
  theta, points = nearby(name, d), some_points(d)
  inverse = stn.invert(stn.to_matrix(name, theta, ndim=d))
  back = apply(
    "projective",
    stn.from_matrix("projective", inverse),
    apply(name, theta, points),
  )
  np.testing.assert_allclose(back, points, atol=1e-5)


def test_a_transform_is_as_good_as_its_name():
  family, theta = stn.get_transform("rigid", ndim=3), nearby("rigid", 3)
  np.testing.assert_array_equal(
    stn.to_matrix(family, theta), stn.to_matrix("rigid", theta, ndim=3)
  )


def test_jit_vmap_and_gradients(x64):
  def f(theta):
    matrix = stn.to_matrix("similarity", theta)
    product = stn.compose(matrix, stn.invert(matrix + 0.1 * matrix.T))
    return stn.from_matrix("projective", product)

  thetas = np.stack([nearby("similarity", 2, seed) for seed in range(3)])
  thetas = thetas.astype(np.float64)
  batch = jax.jit(jax.vmap(f))(thetas)
  assert batch.dtype == jnp.float64
  for got, theta in zip(batch, thetas, strict=True):
    np.testing.assert_allclose(got, f(theta), atol=1e-10)
  check_derivatives(f, thetas[0])


# Bad arguments.


def test_a_spline_has_no_matrix(own_errors):
  with pytest.raises(ValueError, match="`transform` must have matrices; got"):
    stn.to_matrix("tps", jnp.zeros(32))


def test_theta_must_fit_the_family(own_errors):
  with pytest.raises(ValueError, match=r"`theta` must have shape \(3,\); got"):
    stn.to_matrix("attention", jnp.zeros(4))


def test_theta_is_read_off_two_families_only(own_errors):
  with pytest.raises(
    ValueError, match="`name` must be one of 'affine', 'projective'; got 'tps'"
  ):
    stn.from_matrix("tps", jnp.eye(3))


@pytest.mark.parametrize("shape", [(6,), (2, 3), (5, 5)])
def test_matrices_are_square(own_errors, shape):
  with pytest.raises(ValueError, match=r"`matrix` must have shape \(d \+ 1, d"):
    stn.invert(jnp.zeros(shape))


def test_matrices_are_of_one_size(own_errors):
  with pytest.raises(ValueError, match=r"`second` must have shape \(3, 3\)"):
    stn.compose(jnp.eye(3), jnp.eye(4))


def test_matrices_are_floating(own_errors):
  with pytest.raises(TypeError, match="`matrix` must have a floating dtype"):
    stn.invert(jnp.eye(3, dtype=jnp.int32))
