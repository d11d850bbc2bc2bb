"""The sampler as matrix products, against the one of gathers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PADDINGS, random_image, smooth_grid

import stn


def value_and_gradients(image, grid, ct, **options):
  f = functools.partial(stn.grid_sample, **options)
  value, pull = jax.vjp(f, image, grid)
  return value, *pull(ct)


def compare(spatial, **options):
  image = random_image(*spatial, 3)
  align_corners = options.get("align_corners", False)
  grid = smooth_grid(spatial, (4, 5), align_corners)
  ct = random_image(4, 5, 3, seed=1)
  matmul, gather = (
    jax.jit(
      functools.partial(value_and_gradients, implementation=name, **options)
    )(image, grid, ct)
    for name in ("matmul", "gather")
  )
  for ours, theirs in zip(matmul, gather, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_every_padding(padding_mode, align_corners):
  compare((5, 6), padding_mode=padding_mode, align_corners=align_corners)


@pytest.mark.parametrize("method", stn.KERNELS)
def test_every_kernel(method):
  compare((5, 6), method=method)


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_the_value_of_what_is_outside(method):
  compare((5, 6), method=method, padding_mode="fill", fill_value=0.5)


@pytest.mark.parametrize("spatial", [(5,), (3, 4, 5), (1, 3)], ids=str)
def test_every_number_of_axes(spatial):
  compare(spatial)


def test_a_nan_coordinate_gives_nan_and_far_ones_are_outside():
  grid = jnp.array([[jnp.nan, 0.0], [jnp.inf, 0.0], [0.0, -1e30]])
  image = jnp.ones((4, 5, 2))
  warped = stn.grid_sample(image, grid, implementation="matmul")
  assert np.isnan(warped[0]).all()
  np.testing.assert_array_equal(warped[1:], 0)


def test_many_grids_on_many_images():
  images = random_image(3, 4, 5, 2)
  grids = smooth_grid((4, 5), (3, 6), False)
  matmul, gather = (
    jax.vmap(functools.partial(stn.grid_sample, implementation=name))(
      images, grids
    )
    for name in ("matmul", "gather")
  )
  np.testing.assert_allclose(matmul, gather, atol=1e-5)


def lowered(implementation, platform):
  """The program for another machine: value and both gradients."""
  f = functools.partial(value_and_gradients, implementation=implementation)
  args = random_image(4, 5, 3), smooth_grid((4, 5), (6,), False)
  traced = jax.jit(f).trace(*args, random_image(6, 3))
  return traced.lower(lowering_platforms=(platform,)).as_text()


def test_no_gather_and_no_scatter_for_a_tpu():
  assert "scatter" in lowered("xla", "tpu")
  text = lowered("matmul", "tpu")
  assert "dot_general" in text
  assert "gather" not in text
  assert "scatter" not in text
