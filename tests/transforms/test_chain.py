import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import check_derivatives

import stn

PAIRS = [
  ("affine", "affine"),
  ("attention", "projective"),
  ("projective", "rigid"),
  ("similarity", "tps"),
  ("bspline", "affine"),
]


def family(name, d=2):
  return stn.get_transform(name, ndim=d)


def nearby(chained, size=0.1):
  change = np.random.default_rng(0).uniform(-size, size, chained.num_params)
  return chained.identity + change.astype(np.float32)


def points(d=2):
  return np.random.default_rng(1).uniform(-0.9, 0.9, (6, d)).astype(np.float32)


@pytest.mark.parametrize("names", PAIRS)
def test_points_go_through_the_first_then_the_second(names):
  first, second = map(family, names)
  chained = stn.chain(first, second)
  theta = nearby(chained)
  between = first.apply(theta[: first.num_params], points())
  expected = second.apply(theta[first.num_params :], between)
  np.testing.assert_allclose(
    chained.apply(theta, points()), expected, atol=1e-6
  )


@pytest.mark.parametrize("d", [1, 3])
def test_three_in_other_dimensions(d):
  names = ("affine", "translation", "attention")
  families = [family(name, d) for name in names]
  chained = stn.chain(*families)
  theta, expected = nearby(chained), points(d)
  start = 0
  for each in families:
    expected = each.apply(theta[start : start + each.num_params], expected)
    start += each.num_params
  np.testing.assert_allclose(
    chained.apply(theta, points(d)), expected, atol=1e-6
  )


@pytest.mark.parametrize("names", PAIRS)
def test_the_identity_returns_the_points_bit_for_bit(names):
  chained = stn.chain(*map(family, names))
  np.testing.assert_array_equal(
    chained.apply(chained.identity, points()), points()
  )


def test_matrices_are_multiplied_as_compose_does():
  first, second = family("rigid"), family("projective")
  chained = stn.chain(first, second)
  theta = nearby(chained)
  expected = stn.compose(
    stn.to_matrix(first, theta[:3]), stn.to_matrix(second, theta[3:])
  )
  np.testing.assert_allclose(stn.to_matrix(chained, theta), expected, atol=1e-6)


def test_one_family_without_matrices_leaves_the_chain_without():
  chained = stn.chain(family("affine"), family("tps"))
  assert chained.matrix is None
  assert chained.rows is None


def test_only_the_product_has_a_horizon():
  """The second camera sees what is behind the first as the product does."""
  projective = family("projective")
  theta = jnp.array([1.0, 0, 0, 0, 1, 0, 1.2, 0])
  undo = stn.from_matrix(
    "projective", stn.invert(stn.to_matrix("projective", theta))
  )
  point = jnp.array([-0.95, 0.5])  # w = -0.14
  both = jnp.concatenate([theta, undo])
  np.testing.assert_allclose(
    stn.chain(projective, projective).apply(both, point), point, atol=1e-6
  )


@pytest.mark.parametrize("names", [("affine", "projective"), ("rigid", "tps")])
def test_an_image_is_warped_by_a_chain_as_by_its_grid(names):
  chained = stn.chain(*map(family, names))
  theta = nearby(chained)
  image = jax.random.uniform(jax.random.key(0), (7, 6, 2))
  warped = stn.spatial_transform(
    image, theta, transform=chained, output_size=(4, 5)
  )
  grid = stn.transform_grid(chained, theta, (4, 5))
  np.testing.assert_allclose(warped, stn.grid_sample(image, grid), atol=1e-5)


@pytest.mark.parametrize("names", [("affine", "projective"), ("rigid", "tps")])
def test_gradients(names):
  chained = stn.chain(*map(family, names))
  with jax.enable_x64():
    theta = nearby(chained).astype(np.float64)
    at = points().astype(np.float64)
    assert chained.apply(theta, at).dtype == jnp.float64
    check_derivatives(chained.apply, theta, at)


def test_the_last_one_says_where_the_translation_is_and_how_to_scale():
  chained = stn.chain(family("rotation"), family("affine"))
  moved = chained.identity.copy()
  moved[list(chained.shift)] += [0.1, -0.2]
  np.testing.assert_allclose(
    chained.apply(moved, points()), points() + [0.1, -0.2], atol=1e-6
  )
  np.testing.assert_allclose(
    chained.apply(chained.scaled(0.5), points()), points() / 2, atol=1e-6
  )


def test_a_chain_without_an_identity_says_so_and_does_not_scale():
  chained = stn.chain(family("log_polar"), family("affine"))
  assert not chained.has_identity
  with pytest.raises(ValueError, match="no transforms that scale"):
    chained.scaled(0.5)


def test_bad_arguments(own_errors):
  with pytest.raises(ValueError, match="`families` must be one or more"):
    stn.chain()
  with pytest.raises(TypeError, match="`families`.*got 'affine'"):
    stn.chain(family("affine"), "affine")
  chained = stn.chain(family("affine"), family("affine"))
  with pytest.raises(ValueError, match=r"`theta`.*\(12,\)"):
    chained.apply(np.ones(6, np.float32), points())
  with pytest.raises(ValueError, match=r"`points`.*\(\.\.\., 2\)"):
    chained.apply(chained.identity, np.ones((3, 3), np.float32))
  with pytest.raises(TypeError, match="`theta`"):
    chained.apply(np.ones(12, int), points())
