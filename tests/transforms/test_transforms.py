"""What every family of `stn.TRANSFORMS` promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import families

import stn
import stn.transforms


def start_of(family, points):
  """Where the points are at the family's `identity`."""
  if family.has_identity:
    return points
  return family.apply(family.identity.astype(points.dtype), points)


@pytest.mark.parametrize("name", stn.TRANSFORMS)
class TestEveryFamily:
  @pytest.mark.parametrize("jit", [False, True])
  @pytest.mark.parametrize("align_corners", [False, True])
  def test_identity_returns_the_points(self, name, align_corners, jit):
    family = stn.get_transform(name)
    apply = jax.jit(family.apply) if jit else family.apply
    points = stn.regular_grid((7, 11), align_corners=align_corners)
    moved = apply(family.identity, points)
    same = np.array_equal(moved, points)
    assert same == family.has_identity

  def test_identity_is_flat_float32(self, name):
    identity = stn.get_transform(name).identity
    assert isinstance(identity, np.ndarray)
    assert identity.dtype == np.float32
    assert identity.shape == (stn.get_transform(name).num_params,)

  @pytest.mark.parametrize("shape", [(2,), (5, 2), (2, 3, 4, 2), (0, 2)])
  def test_points_may_be_any_number(self, name, shape):
    family = stn.get_transform(name)
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, shape).astype(np.float32)
    theta = family.identity + np.float32(0.1)
    apply = jax.jit(family.apply)
    moved = apply(theta, points)
    assert moved.shape == shape
    one_by_one = [apply(theta, p) for p in points.reshape(-1, 2)]
    np.testing.assert_allclose(
      moved.reshape(-1, 2), np.reshape(one_by_one, (-1, 2)), atol=1e-6
    )

  @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
  def test_points_stay_float32_for_a_half_precision_theta(self, name, dtype):
    family = stn.get_transform(name)
    points = stn.regular_grid((300,))
    points = jnp.concatenate([points, points], -1)
    moved = jax.jit(family.apply)(jnp.asarray(family.identity, dtype), points)
    assert moved.dtype == jnp.float32
    expected = start_of(family, points)
    np.testing.assert_allclose(moved, expected, rtol=1e-6)

  def test_float64_theta_keeps_float64(self, name, x64):
    family = stn.get_transform(name)
    theta = jnp.asarray(family.identity, jnp.float64)
    points = jnp.full((1, 2), 1 / 3, jnp.float64)
    moved = family.apply(theta, points)
    assert moved.dtype == jnp.float64
    expected = start_of(family, points)
    np.testing.assert_allclose(moved, expected, rtol=1e-12)


# Those that cannot scale; see also the options below.
RIGID = {"log_polar", "rigid", "rotation", "translation"}
SCALING = [
  (name, {}, d) for d in (1, 2, 3) for name in families(d) if name not in RIGID
] + [
  ("tps", {"targets": True}, 2),
  ("tps", {"ridge": 0.1, "num_control_points": (3, 4)}, 2),
  ("bspline", {"num_control_points": (4, 7)}, 2),
  ("flow", {"size": (2, 5)}, 2),
]


@pytest.mark.parametrize(("name", "options", "ndim"), SCALING)
def test_theta_of_a_scale_multiplies_the_points(name, options, ndim):
  family = stn.get_transform(name, ndim=ndim, **options)
  points = np.random.default_rng(0).uniform(-1, 1, (20, ndim)).astype("f4")
  apply = jax.jit(family.apply)
  for scale in (0.6, 1.7):
    theta = family.scaled(scale)
    assert theta.dtype == np.float32
    np.testing.assert_allclose(apply(theta, points), scale * points, atol=2e-5)
  np.testing.assert_array_equal(family.scaled(1.0), family.identity)


@pytest.mark.parametrize("name", sorted(RIGID))
def test_a_family_that_cannot_scale_says_so(name):
  with pytest.raises(ValueError, match="no transforms that scale"):
    stn.get_transform(name).scaled(0.5)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_is_more_than_0(scale):
  with pytest.raises(ValueError, match="`scale` must be more than 0; got"):
    stn.get_transform("affine").scaled(scale)


def test_an_unknown_family_is_named_with_a_hint(own_errors):
  with pytest.raises(
    ValueError, match=r"`transform` must be one of .*got 'affin'.*'affine'\?"
  ):
    stn.get_transform("affin")


@pytest.mark.parametrize("name", [None, 3])
def test_a_name_must_be_a_string(own_errors, name):
  with pytest.raises(ValueError, match="`transform` must be one of"):
    stn.get_transform(name)


@pytest.mark.parametrize("ndim", [0, 4, "2"])
def test_the_number_of_dimensions_is_1_2_or_3(own_errors, ndim):
  with pytest.raises(ValueError, match=r"`ndim` must be 1, 2 or 3; got "):
    stn.get_transform("affine", ndim=ndim)
