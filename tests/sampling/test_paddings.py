"""Fill and wrap; the rules that torch knows are in test_grid_sample.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import normalised_grid, random_image, smooth_grid

import stn

STATIC = ("method", "padding_mode", "align_corners")
sample = jax.jit(stn.grid_sample, static_argnames=STATIC)
KERNEL = pytest.mark.parametrize(
  "method", ["nearest", "linear", "cubic", "cubic_bspline"]
)
COLOUR = np.array([0.3, -2.0, 7.0], np.float32)


@KERNEL
def test_fill_is_zeros_about_another_level(method):
  image = random_image(4, 5, 3)
  grid = smooth_grid((4, 5), (60,), False)
  zeros = sample(image - COLOUR, grid, method=method)
  filled = sample(
    image, grid, method=method, padding_mode="fill", fill_value=COLOUR
  )
  np.testing.assert_allclose(filled, np.asarray(zeros) + COLOUR, atol=3e-6)


@KERNEL
def test_fill_leaves_the_inside_alone_and_is_exact_outside(method):
  image = random_image(4, 5, 3)
  options = {"padding_mode": "fill", "fill_value": COLOUR, "method": method}
  np.testing.assert_array_equal(
    sample(image, stn.regular_grid((4, 5)), **options), image
  )
  far = np.array([[30.0, 0.0], [np.inf, 0.1], [0.0, -1e9]], np.float32)
  np.testing.assert_allclose(
    sample(image, far, **options), np.tile(COLOUR, (3, 1)), rtol=1e-6
  )


def test_fill_takes_one_number_for_all_channels():
  image, far = random_image(4, 5, 3), jnp.full((1, 2), 9.0)
  options = {"padding_mode": "fill"}
  for value in (2, 2.0, np.float64(2), jnp.float32(2)):
    warped = sample(image, far, fill_value=value, **options)
    np.testing.assert_array_equal(warped, np.full((1, 3), 2.0))
  half = sample(image.astype(jnp.float16), far, fill_value=2, **options)
  assert half.dtype == jnp.float16


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_fill_has_a_gradient(method):
  """How much of each sample lies outside: one half on the edge, then all."""
  image = random_image(4, 5, 1)
  pixels = np.array([[1.5, -0.5], [1.5, -30.0], [1.5, 2.0]])
  grid = normalised_grid(pixels, False, (4, 5))
  jacobian = jax.jacobian(
    lambda value: sample(
      image, grid, padding_mode="fill", fill_value=value, method=method
    )
  )(0.0)
  np.testing.assert_allclose(jacobian[:, 0], [0.5, 1, 0], atol=2e-6)


@pytest.mark.parametrize("align_corners", [False, True])
@KERNEL
def test_wrap_has_the_period_of_the_image(method, align_corners):
  image = random_image(4, 5, 2)
  pixels = np.random.default_rng(0).uniform(0, 4, (20, 2))
  options = {
    "method": method,
    "padding_mode": "wrap",
    "align_corners": align_corners,
  }
  first, *others = (
    sample(
      image, normalised_grid(pixels + shift, align_corners, (4, 5)), **options
    )
    for shift in ([0, 0], [4, -5], [-8, 10])
  )
  for other in others:
    np.testing.assert_allclose(other, first, atol=3e-5)


@pytest.mark.parametrize(
  ("options", "match"),
  [
    ({"padding_mode": "fill"}, "`fill_value` belongs to .*None"),
    ({"fill_value": 1.0}, "`fill_value` belongs to .*zeros"),
    (
      {"padding_mode": "fill", "fill_value": np.zeros(2)},
      r"`fill_value` must have shape \(\) or \(3,\).*got \(2,\)",
    ),
  ],
)
def test_a_fill_value_that_does_not_fit(options, match):
  with pytest.raises(ValueError, match=match):
    stn.grid_sample(random_image(4, 5, 3), np.zeros((1, 2), "f4"), **options)


def test_a_module_and_a_warp_take_a_fill_value():
  warped = stn.spatial_transform(
    jnp.zeros((2, 2, 1)),
    jnp.array([1.0, 0.0, 9.0, 0.0, 1.0, 0.0]),
    padding_mode="fill",
    fill_value=0.5,
  )
  np.testing.assert_array_equal(warped, np.full((2, 2, 1), 0.5))
