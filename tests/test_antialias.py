"""`spatial_transform(antialias=)`: means over what a pixel stands for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image
from derivatives import check_derivatives

import stn

STATIC = ("transform", "output_size", "padding_mode", "align_corners")
warp = jax.jit(
  stn.spatial_transform, static_argnames=(*STATIC, "antialias", "method")
)
IDENTITY = np.eye(2, 3, dtype=np.float32).ravel()


def rotation(angle, scale):
  c, s = np.cos(angle) * scale, np.sin(angle) * scale
  return np.array([c, -s, 0, s, c, 0], np.float32)


# The mip pyramid.


@pytest.mark.optimised
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
  "theta",
  [IDENTITY, rotation(0.7, 1.0), rotation(0.3, 0.5), IDENTITY * -1],
  ids=["identity", "turned", "magnified", "upside down"],
)
def test_mip_does_not_change_what_is_not_minified(theta, align_corners):
  image = random_image(7, 7, 2)
  options = {"align_corners": align_corners}
  plain = warp(image, theta, **options)
  mip = warp(image, theta, antialias="mip", **options)
  np.testing.assert_allclose(mip, plain, atol=1e-6)
  if theta is IDENTITY:
    np.testing.assert_array_equal(mip, image)


@pytest.mark.parametrize("spatial", [(8,), (7, 8), (5, 6, 7)], ids=str)
@pytest.mark.parametrize("padding_mode", ["border", "reflection", "wrap"])
def test_mip_keeps_a_constant_image(spatial, padding_mode):
  d = len(spatial)
  theta = np.eye(d, d + 1, dtype=np.float32).ravel() * 2.6
  warped = warp(
    np.full((*spatial, 1), 0.7, np.float32),
    theta,
    padding_mode=padding_mode,
    antialias="mip",
  )
  np.testing.assert_allclose(warped, 0.7, rtol=1e-6)


def test_mip_of_everything_is_the_mean():
  image = random_image(16, 16, 3)
  warped = warp(
    image, IDENTITY, output_size=(1, 1), padding_mode="border", antialias="mip"
  )
  # A sample of side 16: between the levels of 8 and 16 pixels.
  np.testing.assert_allclose(warped[0, 0], image.mean((0, 1)), atol=0.05)


def test_mip_counts_what_lies_outside():
  """Ever smaller, an image of ones is its share of the pixel."""
  image, far = np.ones((8, 8, 1), np.float32), IDENTITY * 64
  for mode, outside in (("zeros", 0.0), ("fill", 1.0)):
    fill = {"fill_value": outside} if mode == "fill" else {}
    warped = warp(
      image,
      far,
      output_size=(1, 1),
      padding_mode=mode,
      antialias="mip",
      **fill,
    )
    np.testing.assert_allclose(warped, 1.0, atol=1e-6)
  lost = warp(image, far, output_size=(4, 4), antialias="mip")
  assert lost.max() < 1e-6  # samples 128 pixels off centre


def photograph():
  cbook = pytest.importorskip("matplotlib.cbook")
  image_module = pytest.importorskip("PIL.Image")
  with cbook.get_sample_data("grace_hopper.jpg") as file:
    image = np.asarray(image_module.open(file))[100:356, 100:356]
  return image.astype(np.float32) / 255


@pytest.mark.parametrize(
  ("times", "mip_gain", "twice_gain"), [(2, 4, 10), (4, 7, 12), (8, 9, 9)]
)
def test_gain_on_a_photograph(times, mip_gain, twice_gain):
  """In dB over plain linear, by a 16 x 16 supersampled reference."""
  image, theta = photograph(), rotation(0.3, 0.7)
  side = round(256 * 0.7 / times)
  options = {"output_size": (side, side), "padding_mode": "border"}
  reference = warp(image, theta, antialias=16, **options)

  def psnr(antialias):
    warped = warp(image, theta, antialias=antialias, **options)
    return -10 * np.log10(np.mean((warped - reference) ** 2))

  assert psnr("mip") > psnr(None) + mip_gain
  assert psnr(2) > psnr(None) + twice_gain


@pytest.mark.parametrize(
  ("name", "antialias"),
  [*((name, "mip") for name in stn.TRANSFORMS), ("projective", 2), ("tps", 2)],
)
def test_every_family_is_anti_aliased(name, antialias):
  family = stn.get_transform(name)
  theta = family.identity + 0.02 * np.random.default_rng(0).normal(
    size=family.num_params
  ).astype(np.float32)

  @jax.jit
  def value_and_gradient(theta):
    def total(theta):
      warped = stn.spatial_transform(
        random_image(12, 12, 1),
        theta,
        transform=family,
        output_size=(4, 4),
        antialias=antialias,
      )
      return (warped**2).sum(), warped

    return jax.grad(total, has_aux=True)(theta)

  gradient, warped = value_and_gradient(theta)
  assert warped.shape == (4, 4, 1)
  assert np.isfinite(warped).all()
  assert np.isfinite(gradient).all()
  assert np.any(gradient)


def test_gradients_to_image_and_theta(x64):
  """Also by the size of the footprint, between two levels."""
  image = random_image(9, 8, 1, dtype=np.float64)
  theta = np.array([1.31, 0.23, 0.11, -0.17, 1.27, -0.29])
  f = functools.partial(
    stn.spatial_transform, output_size=(2, 3), antialias="mip"
  )
  check_derivatives(f, image, theta, order=1, step=1e-6, forward=True)


@pytest.mark.parametrize("antialias", ["mip", 3])
def test_vmap_is_a_loop(antialias):
  images = random_image(2, 12, 11, 2)
  thetas = np.stack([rotation(0.2, 1.1), rotation(-0.4, 0.8)])
  f = functools.partial(warp, output_size=(4, 4), antialias=antialias)
  np.testing.assert_allclose(
    jax.vmap(f)(images, thetas),
    [f(*pair) for pair in zip(images, thetas, strict=True)],
    atol=3e-6,
  )


@pytest.mark.long
def test_no_number_of_theta_breaks_it():
  image = random_image(8, 8, 1)
  nan = warp(image, IDENTITY * np.nan, antialias="mip")
  assert np.isnan(nan).all()
  for scale in (0.0, 1e-30, 1e9, 1e30):
    warped = warp(image, IDENTITY * np.float32(scale), antialias="mip")
    assert np.isfinite(warped).all(), scale
  horizon = np.array([1, 0, 0, 0, 1, 0, 0, 1.0], np.float32)
  f = functools.partial(warp, image, transform="projective", antialias="mip")
  assert np.isfinite(f(horizon)).all()
  assert np.isfinite(jax.grad(lambda t: f(t).sum())(horizon)).all()


# Samples within a pixel.


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_samples_are_the_mean_of_a_finer_grid(count, align_corners):
  image, theta = random_image(9, 10, 2), rotation(0.4, 0.9)
  options = {"align_corners": align_corners, "padding_mode": "border"}
  warped = warp(image, theta, output_size=(3, 4), antialias=count, **options)
  # By the definition, in NumPy.
  axes = []
  for size in (3, 4):
    pixel = np.arange(size * count) / count + (1 / count - 1) / 2
    last = size - 1 if align_corners else size
    start = 0 if align_corners else 0.5
    axes.append(2 * (pixel + start) / last - 1)
  y, x = np.meshgrid(*axes, indexing="ij")
  points = np.stack([x, y, np.ones_like(x)], -1) @ theta.reshape(2, 3).T
  fine = stn.grid_sample(image, points.astype(np.float32), **options)
  expected = np.asarray(fine).reshape(3, count, 4, count, 2).mean((1, 3))
  np.testing.assert_allclose(warped, expected, atol=2e-5)


@pytest.mark.long
def test_samples_in_one_pass_or_one_after_another(monkeypatch):
  image, theta = random_image(9, 10, 2), rotation(0.4, 0.9)
  ct = random_image(3, 4, 2, seed=1)

  def value_and_gradients():
    f = functools.partial(
      stn.spatial_transform, output_size=(3, 4), antialias=2
    )
    value, pull = jax.vjp(f, image, theta)
    return value, *pull(ct)

  in_one_pass = value_and_gradients()
  monkeypatch.setattr(stn.antialias, "_MAX_SAMPLES", 0)
  for a, b in zip(in_one_pass, value_and_gradients(), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


def test_samples_take_every_kernel_and_dtype():
  image = jnp.asarray(random_image(8, 8, 1), jnp.bfloat16)
  warped = warp(image, IDENTITY, method="cubic_bspline", antialias=2)
  assert warped.dtype == jnp.bfloat16


# What does not go.


@pytest.mark.parametrize("antialias", [0, -1, 1.5, "trilinear"])
def test_what_antialias_must_be(own_errors, antialias):
  with pytest.raises(ValueError, match="`antialias` must be None, .* got"):
    stn.spatial_transform(random_image(4, 4, 1), IDENTITY, antialias=antialias)


def test_mip_is_linear():
  with pytest.raises(ValueError, match="`footprint` .* linear kernel"):
    stn.spatial_transform(
      random_image(4, 4, 1), IDENTITY, antialias="mip", method="cubic"
    )


@pytest.mark.long
def test_a_footprint_for_each_point(own_errors):
  image, grid = random_image(4, 4, 1), stn.regular_grid((2, 3))
  with pytest.raises(ValueError, match=r"`footprint` must have shape \(2, 3\)"):
    stn.grid_sample(image, grid, footprint=jnp.ones((3, 2)))
  with pytest.raises(TypeError, match="`footprint` must have a floating dtype"):
    stn.grid_sample(image, grid, footprint=np.ones((2, 3), np.int32))
  points = stn.grid_sample(image, grid, footprint=jnp.full((2, 3), jnp.nan))
  plain = stn.grid_sample(image, grid, implementation="gather")
  np.testing.assert_array_equal(points, plain)
