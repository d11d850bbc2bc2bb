"""Against other implementations: torch, `map_coordinates`, `jax.image`."""

import functools

import jax
import jax.numpy as jnp
import jax.scipy.ndimage
import numpy as np
import pytest
from cases import random_image, smooth_grid

import stn

ALIGN = pytest.mark.parametrize("align_corners", [False, True])
METHOD = pytest.mark.parametrize("method", ["linear", "nearest"])
TORCH_PADDING = pytest.mark.parametrize(
  "padding_mode", ["zeros", "border", "reflection"]
)


@functools.partial(jax.jit, static_argnames=("options",))
def value_and_gradients(image, grid, ct, options):
  f = functools.partial(stn.grid_sample, **dict(options))
  value, pull = jax.vjp(f, image, grid)
  return value, *pull(ct)


def torch_value_and_gradients(image, grid, ct, method, **options):
  torch = pytest.importorskip("torch")
  image, grid, ct = (torch.from_numpy(np.array(a)) for a in (image, grid, ct))
  d = grid.shape[-1]
  grid = grid.reshape(*(1,) * (d - 1), -1, d).requires_grad_()
  image = image.requires_grad_()
  value = torch.nn.functional.grid_sample(
    image.moveaxis(-1, 0)[None],
    grid[None],
    mode={"linear": "bilinear"}.get(method, method),
    **options,
  )
  value = value[0].reshape(image.shape[-1], -1).T
  value.backward(ct)
  return (
    value.detach().numpy(),
    image.grad.numpy(),
    grid.grad.numpy().reshape(-1, d),
  )


def compare_to_torch(spatial, dtype, value_tolerance, gradient_tolerance, **kw):
  image = random_image(*spatial, 3, dtype=dtype)
  grid = smooth_grid(spatial, (64,), kw["align_corners"], dtype=dtype)
  ct = random_image(64, 3, seed=1, dtype=dtype)
  ours = value_and_gradients(image, grid, ct, tuple(kw.items()))
  theirs = torch_value_and_gradients(image, grid, ct, **kw)
  tolerances = (value_tolerance, gradient_tolerance, gradient_tolerance)
  for a, b, tolerance in zip(ours, theirs, tolerances, strict=True):
    assert a.dtype == b.dtype == dtype
    scale = max(1.0, np.abs(b).max())
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@ALIGN
@METHOD
@TORCH_PADDING
def test_torch(padding_mode, method, align_corners):
  """Values and both gradients, inside the image and around it."""
  compare_to_torch(
    (5, 6),
    np.float32,
    3e-6,  # coordinates of 10 pixels are rounded to 1e-6
    1e-5,
    method=method,
    padding_mode=padding_mode,
    align_corners=align_corners,
  )


@ALIGN
@METHOD
@TORCH_PADDING
def test_torch_on_volumes_in_float64(x64, padding_mode, method, align_corners):
  compare_to_torch(
    (2, 3, 4),
    np.float64,
    1e-12,
    1e-12,
    method=method,
    padding_mode=padding_mode,
    align_corners=align_corners,
  )


def far_grid(d, values):
  """Each value along each axis, the others near the middle."""
  grid = np.full((d, len(values), d), 0.1, np.float32)
  for axis in range(d):
    grid[axis, :, axis] = values
  return grid.reshape(-1, d)


@ALIGN
@METHOD
@pytest.mark.parametrize("spatial", [(5, 6), (2, 3, 4)], ids=str)
def test_torch_far_outside(spatial, method, align_corners):
  """Huge and infinite coordinates: outside for "zeros", the edge for "border".

  Torch gives NaN for some infinite ones, as infinity times a weight of 0; with
  "reflection" its arithmetic has no digits left. There our own rule is tested.
  """
  values = [1e9, -1e9, np.inf, -np.inf, 3e38, -3e38, 40.3, -17.7]
  grid = far_grid(len(spatial), values)
  huge = np.clip(grid, -1e9, 1e9)
  image, ct = random_image(*spatial, 3), random_image(len(grid), 3, seed=1)
  options = {"method": method, "align_corners": align_corners}
  for padding_mode in ("zeros", "border"):
    kw = {**options, "padding_mode": padding_mode}
    ours, *_ = value_and_gradients(image, grid, ct, tuple(kw.items()))
    theirs, *_ = torch_value_and_gradients(image, huge, ct, **kw)
    np.testing.assert_allclose(ours, theirs, atol=3e-6)
    theirs, *_ = torch_value_and_gradients(image, grid, ct, **kw)
    defined = np.isfinite(theirs)
    assert defined[np.isin(grid, values[:2]).any(-1)].all()
    np.testing.assert_allclose(ours[defined], theirs[defined], atol=3e-6)
  kw = {**options, "padding_mode": "reflection"}
  ours, *gradients = value_and_gradients(image, grid, ct, tuple(kw.items()))
  assert np.all(np.isfinite(ours))
  assert np.min(image) <= np.min(ours) <= np.max(ours) <= np.max(image)
  assert all(np.isfinite(gradient).all() for gradient in gradients)


@ALIGN
@METHOD
def test_torch_reflects_some_sizes_away(method, align_corners):
  """As far as its float32 coordinates tell pixels apart."""
  grid = far_grid(2, [40.3, -17.7, 101.3, -99.1])
  image, ct = random_image(5, 6, 3), random_image(len(grid), 3, seed=1)
  kw = {
    "method": method,
    "padding_mode": "reflection",
    "align_corners": align_corners,
  }
  ours, *_ = value_and_gradients(image, grid, ct, tuple(kw.items()))
  theirs, *_ = torch_value_and_gradients(image, grid, ct, **kw)
  np.testing.assert_allclose(ours, theirs, atol=2e-4)


# `map_coordinates` knows no normalised coordinates: give it ours in pixels.

MODES = {
  ("zeros", False): "constant",
  ("zeros", True): "constant",
  ("border", False): "nearest",
  ("border", True): "nearest",
  ("reflection", False): "reflect",
  ("reflection", True): "mirror",
}


@pytest.mark.parametrize(("padding_mode", "align_corners"), MODES)
@pytest.mark.parametrize(("method", "order"), [("nearest", 0), ("linear", 1)])
@pytest.mark.parametrize("spatial", [(5,), (4, 5)], ids=str)
def test_map_coordinates(
  x64, spatial, method, order, padding_mode, align_corners
):
  image = random_image(*spatial, 1, dtype=np.float64)
  grid = smooth_grid(spatial, (64,), align_corners, dtype=np.float64)
  pixels = [
    (grid[:, -1 - axis] + 1) / 2 * (size - 1)
    if align_corners
    else ((grid[:, -1 - axis] + 1) * size - 1) / 2
    for axis, size in enumerate(spatial)
  ]
  with jax.numpy_dtype_promotion("standard"):  # jax's own needs it
    expected = jax.scipy.ndimage.map_coordinates(
      jnp.asarray(image[..., 0]),
      pixels,
      order=order,
      mode=MODES[padding_mode, align_corners],
    )
  warped = jax.jit(
    functools.partial(
      stn.grid_sample,
      method=method,
      padding_mode=padding_mode,
      align_corners=align_corners,
    )
  )(image, grid)
  np.testing.assert_allclose(warped[:, 0], expected, rtol=0, atol=1e-13)


# The identity grid of another size resizes.


@pytest.mark.parametrize("output_size", [(9, 13), (2, 3), (7, 1)], ids=str)
def test_resize(output_size):
  image = random_image(4, 5, 2)
  expected = jax.image.resize(
    image, (*output_size, 2), "linear", antialias=False
  )
  grid = stn.regular_grid(output_size)
  warped = jax.jit(functools.partial(stn.grid_sample, padding_mode="border"))(
    image, grid
  )
  np.testing.assert_allclose(warped, expected, atol=2e-6)


@pytest.mark.parametrize("output_size", [(9, 13), (2, 3)], ids=str)
def test_resize_with_aligned_corners(output_size):
  image = random_image(4, 5, 2)
  # Pixel i of the input goes to i * scale: centres 0.5 must stay put.
  scale = (np.array(output_size) - 1) / (np.array(image.shape[:2]) - 1)
  with jax.numpy_rank_promotion("allow"):  # jax's own needs it
    expected = jax.image.scale_and_translate(
      image,
      (*output_size, 2),
      spatial_dims=(0, 1),
      scale=jnp.asarray(scale, jnp.float32),
      translation=jnp.asarray(0.5 - 0.5 * scale, jnp.float32),
      method="linear",
      antialias=False,
    )
  grid = stn.regular_grid(output_size, align_corners=True)
  warped = jax.jit(
    functools.partial(
      stn.grid_sample, padding_mode="border", align_corners=True
    )
  )(image, grid)
  np.testing.assert_allclose(warped, expected, atol=2e-6)
