import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import check_derivatives

import stn

LINEAR = {
  "affine": {},
  "attention": {},
  "log_polar": {},
  "translation": {},
  "projective": {},
  "tps": {"num_control_points": 3},
  "flow": {"size": 3},
  "bspline": {"num_control_points": 4},
}
EACH = pytest.mark.parametrize("name", LINEAR)


def uniform(*shape, seed=0, size=1.0, dtype=np.float64):
  return np.random.default_rng(seed).uniform(-size, size, shape).astype(dtype)


@functools.cache
def compiled(name, d, ridge):
  """The family, and the fit with the slope of its error, in one program."""
  family = stn.get_transform(name, ndim=d, **LINEAR[name])

  def error(theta, source, target):
    """Least for the fit; projective distances are times their denominators."""
    distance = family.apply(theta, source) - target
    if name == "projective":
      distance *= 1 + (source * theta[None, -d:]).sum(-1, keepdims=True)
    change = theta - jnp.asarray(family.identity, theta.dtype)
    return (distance**2).sum() + ridge * (change**2).sum()

  @jax.jit
  def fit_and_slope(source, target):
    theta = stn.theta_from_points(family, source, target, ridge=ridge)
    if d != 2:  # the slope is looked at in the plane
      return theta, None
    return theta, jax.grad(error)(theta, source, target)

  return family, fit_and_slope


def fit(transform, source, target, **options):
  """Compiled."""
  call = functools.partial(stn.theta_from_points, transform, **options)
  return jax.jit(call)(source, target)


def nearby(family, **options):
  return family.identity + uniform(family.num_params, size=0.2, **options)


def test_the_table_says_which_are_linear():
  assert {n for n in stn.TRANSFORMS if stn.get_transform(n).linear} == {*LINEAR}


@pytest.mark.parametrize(
  ("name", "d"),
  [(n, d) for n in LINEAR for d in (1, 2, 3) if d == 2 or n != "log_polar"],
)
def test_exact_pairs_give_the_exact_theta(name, d, x64):
  family, run = compiled(name, d, 0.0)
  theta, source = nearby(family), uniform(100, d, seed=1)
  target = family.apply(theta, source)
  fitted, _ = run(source, target)
  np.testing.assert_allclose(fitted, theta, atol=1e-8)


@EACH
def test_float32_is_enough(name):
  family = stn.get_transform(name, **LINEAR[name])
  theta = nearby(family, seed=2).astype(np.float32)
  source = uniform(60, 2, seed=3, dtype=np.float32)
  target = family.apply(theta, source)
  fitted = fit(family, source, target)
  assert fitted.dtype == jnp.float32
  np.testing.assert_allclose(family.apply(fitted, source), target, atol=2e-5)


def test_four_corners_determine_a_homography():
  source = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], np.float32)
  target = source + uniform(4, 2, size=0.3, dtype=np.float32)
  theta = fit("projective", source, target)
  moved = stn.get_transform("projective").apply(theta, source)
  np.testing.assert_allclose(moved, target, atol=1e-5)


def test_affine_is_least_squares(x64):
  source, target = uniform(20, 2), uniform(20, 2, seed=1)
  design = np.append(source, np.ones((20, 1)), 1)
  expected = np.linalg.lstsq(design, target, rcond=None)[0].T.ravel()
  fitted = fit("affine", source, target)
  np.testing.assert_allclose(fitted, expected, atol=1e-10)


@EACH
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_error_is_least_for_noisy_pairs(name, ridge, x64):
  family, run = compiled(name, 2, ridge)
  source = uniform(100, 2, seed=1)
  target = family.apply(nearby(family), source) + uniform(100, 2, size=0.1)
  _, slope = run(source, target)
  np.testing.assert_allclose(slope, 0, atol=1e-8)


def test_a_ridge_allows_for_few_pairs():
  source = np.zeros((1, 2), np.float32)
  theta = fit("tps", source, source + 0.1, ridge=1e-4)
  moved = stn.get_transform("tps").apply(theta, source)
  np.testing.assert_allclose(moved, source + 0.1, atol=1e-3)


def test_points_in_one_place_do_not_determine_a_map():
  theta = fit("affine", POINTS, POINTS + 1)
  assert not np.isfinite(theta).all()


@pytest.mark.parametrize("name", ["affine", "projective", "tps"])
def test_gradients(name, x64):
  """Symmetric points too: a singular value twice is no matter to QR."""
  family = stn.get_transform(name, **LINEAR[name])
  axis = np.linspace(-1, 1, 3)
  source = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
  target = source + uniform(9, 2, size=0.1)
  fit = functools.partial(stn.theta_from_points, family)
  order = 1 if name == "tps" else 2  # its kernel has no third derivative
  noise = 0.01 * uniform(9, 2, seed=5)
  check_derivatives(fit, source + noise, target, order=order)
  gradients = jax.grad(lambda *pairs: fit(*pairs).sum(), (0, 1))
  for gradient in jax.jit(gradients)(source, target):
    assert np.isfinite(gradient).all()


def test_vmap_is_a_loop():
  source, target = uniform(2, 3, 6, 2, dtype=np.float32)
  fit = jax.jit(functools.partial(stn.theta_from_points, "affine"))
  for got, s, t in zip(
    jax.vmap(fit)(source, target), source, target, strict=True
  ):
    np.testing.assert_allclose(got, fit(s, t), atol=1e-4)


# Families with a rotation.

ROTATIONS = [
  (n, d) for n in ("rotation", "rigid", "similarity") for d in (2, 3)
]
each_rotation = pytest.mark.parametrize(("name", "d"), ROTATIONS)


def test_the_table_says_which_have_a_fit():
  fitted = {n for n in stn.TRANSFORMS if stn.get_transform(n).fit}
  assert fitted == {name for name, _ in ROTATIONS}


@each_rotation
@pytest.mark.parametrize("seed", range(3))
def test_exact_pairs_give_the_exact_motion(name, d, seed, x64):
  family = stn.get_transform(name, ndim=d)
  least = d - 1 + bool(family.shift)
  theta = family.identity + uniform(family.num_params, seed=seed) / 1.1
  source = uniform(least, d, seed=10 + seed)
  fitted = fit(family, source, family.apply(theta, source))
  np.testing.assert_allclose(fitted, theta, atol=1e-8)


@each_rotation
def test_the_error_is_least_for_noisy_pairs_of_a_motion(name, d, x64):
  family = stn.get_transform(name, ndim=d)
  source = uniform(20, d, seed=1)
  target = family.apply(nearby(family), source) + uniform(20, d, size=0.3)

  @jax.jit
  def slope(theta):
    return jax.grad(
      lambda theta: ((family.apply(theta, source) - target) ** 2).sum()
    )(theta)

  np.testing.assert_allclose(slope(fit(family, source, target)), 0, atol=1e-8)


@each_rotation
def test_a_reflection_is_not_what_is_found(name, d, x64):
  """Mirrored points: the nearest rotation, not the mirror."""
  family = stn.get_transform(name, ndim=d)
  source = uniform(20, d, seed=1) * np.array([3.0, 2.0, 1.0])[:d]
  mirrored = source * np.array([1.0, 1.0, -1.0])[-d:]
  theta = fit(family, source, mirrored)
  assert np.linalg.det(family.matrix(theta)) > 0


def test_a_similarity_in_float32():
  """An eye to an eye, the mouth to the mouth: 30 degrees, half the size."""
  family = stn.get_transform("similarity")
  theta = np.array([0.5, np.pi / 6, 0.1, -0.2], np.float32)
  source = uniform(5, 2, dtype=np.float32)
  fitted = fit("similarity", source, family.apply(theta, source))
  assert fitted.dtype == jnp.float32
  np.testing.assert_allclose(fitted, theta, atol=1e-6)


@each_rotation
def test_the_gradient_of_a_motion(name, d, x64):
  """Of the corners of a cube: their singular values are all equal."""
  family = stn.get_transform(name, ndim=d)
  corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * d), -1).reshape(-1, d)
  target = np.asarray(family.apply(nearby(family), corners))
  run = functools.partial(stn.theta_from_points, family)
  check_derivatives(run, corners, target, order=1)


def test_a_chain_with_a_rotation_has_no_fit(own_errors):
  family = stn.chain(*map(stn.get_transform, ("rotation", "attention")))
  with pytest.raises(ValueError, match="`transform` must be linear in theta, "):
    stn.theta_from_points(family, POINTS, POINTS)


def test_a_motion_has_no_ridge_and_needs_pairs(own_errors):
  with pytest.raises(ValueError, match="`ridge` must be 0 for 'rigid', which"):
    stn.theta_from_points("rigid", POINTS, POINTS, ridge=0.1)
  with pytest.raises(ValueError, match="at least 2 points for 4 parameters; g"):
    stn.theta_from_points("similarity", POINTS[:1], POINTS[:1])
  space = np.zeros((2, 3), np.float32)
  with pytest.raises(ValueError, match="at least 3 points for 6 parameters; g"):
    stn.theta_from_points("rigid", space, space)


# Bad arguments.

POINTS = np.zeros((4, 2), np.float32)


def test_there_are_enough_pairs(own_errors):
  with pytest.raises(
    ValueError, match="`source` must have at least 3 points for 6 parameters"
  ):
    stn.theta_from_points("affine", POINTS[:2], POINTS[:2])


@pytest.mark.parametrize("shape", [(2,), (4, 4), (1, 4, 2)])
def test_points_have_a_shape(own_errors, shape):
  with pytest.raises(ValueError, match=r"`source` must have shape \(n, d\)"):
    stn.theta_from_points("affine", jnp.zeros(shape), jnp.zeros(shape))


def test_points_are_pairs(own_errors):
  with pytest.raises(ValueError, match=r"`target` must have shape \(4, 2\)"):
    stn.theta_from_points("affine", POINTS, POINTS[:3])


def test_the_ridge_is_not_negative(own_errors):
  with pytest.raises(ValueError, match="`ridge` must be 0 or more; got -1"):
    stn.theta_from_points("affine", POINTS, POINTS, ridge=-1.0)


def test_points_are_floating(own_errors):
  with pytest.raises(TypeError, match="`source` must have a floating dtype"):
    stn.theta_from_points("affine", POINTS.astype(np.int32), POINTS)
