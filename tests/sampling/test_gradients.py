"""The derivatives of the sampler: at kinks, and away from them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PADDINGS, normalised_grid, random_image, smooth_grid
from derivatives import check_derivatives

import stn

ALIGN = pytest.mark.parametrize("align_corners", [False, True])
METHOD = pytest.mark.parametrize("method", ["linear", "nearest"])
PADDING = pytest.mark.parametrize("padding_mode", PADDINGS)


def pad(image, margin, padding_mode, align_corners):
  """What an image is, `margin` pixels beyond its edges on every side."""
  mode = {
    "zeros": "constant",
    "border": "edge",
    "reflection": "reflect" if align_corners else "symmetric",
    "wrap": "wrap",
  }[padding_mode]
  widths = [(margin, margin)] * (image.ndim - 1) + [(0, 0)]
  return np.pad(image, widths, mode)


# At the kinks.


@ALIGN
@PADDING
@pytest.mark.parametrize("forward_mode", [False, True])
def test_at_a_lattice_point_the_grid_gradient_is_the_forward_difference(
  padding_mode, align_corners, forward_mode
):
  """At every integer pixel inside, at the seams and outside."""
  height, width, margin = 4, 5, 6
  image = random_image(height, width, 1)
  y, x = np.mgrid[-margin : height + margin, -margin : width + margin]
  grid = normalised_grid(np.stack([y, x], -1), align_corners, (height, width))
  f = functools.partial(
    stn.grid_sample,
    image,
    padding_mode=padding_mode,
    align_corners=align_corners,
  )
  if forward_mode:  # one tangent for each coordinate
    tangents = [np.broadcast_to(e, grid.shape) for e in np.eye(2, dtype="f4")]
    jvp = jax.jit(lambda tangent: jax.jvp(f, (grid,), (tangent,))[1])
    gradient = np.concatenate([jvp(tangent) for tangent in tangents], -1)
  else:
    gradient = jax.jit(jax.grad(lambda grid: f(grid).sum()))(grid)

  v = pad(image, margin + 1, padding_mode, align_corners)[1:, 1:, 0]
  scale = [n - 1 if align_corners else n for n in (width, height)]
  along_x = (v[:-1, 1:] - v[:-1, :-1]) * scale[0] / 2
  along_y = (v[1:, :-1] - v[:-1, :-1]) * scale[1] / 2
  np.testing.assert_allclose(
    gradient, np.stack([along_x, along_y], -1), atol=3e-5
  )


@ALIGN
@pytest.mark.parametrize("size", [2, 7, 28])
def test_the_identity_grid_has_the_forward_difference(size, align_corners):
  """What an ST learns from at its start, whichever way theta was rounded."""
  image = random_image(size, size, 1)

  def total(theta):
    # A theta next to the identity moves pixels by less than the snap.
    return stn.spatial_transform(
      image, theta, padding_mode="border", align_corners=align_corners
    ).sum()

  identity = stn.get_transform("affine").identity
  v = pad(image, 1, "border", align_corners)[1:, 1:, 0].astype(np.float64)
  scale = (size - 1 if align_corners else size) / 2
  dx, dy = v[:-1, 1:] - v[:-1, :-1], v[1:, :-1] - v[:-1, :-1]
  points = np.asarray(
    stn.regular_grid((size, size), align_corners=align_corners), np.float64
  )
  points = np.concatenate([points, np.ones((size, size, 1))], -1)
  expected = scale * np.concatenate(
    [np.einsum("hw,hwp->p", d, points) for d in (dx, dy)]
  )
  gradient = jax.jit(jax.grad(total))
  for change in (0, 2**-24, -(2**-24)):
    theta = identity * np.float32(1 + change)
    np.testing.assert_allclose(
      gradient(theta), expected, atol=1e-5 * size * size
    )


@PADDING
def test_nearest_has_no_grid_gradient(padding_mode):
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (9,), False)

  def total(image, grid):
    return stn.grid_sample(
      image, grid, method="nearest", padding_mode=padding_mode
    ).sum()

  to_image, to_grid = jax.jit(jax.grad(total, (0, 1)))(image, grid)
  assert not np.any(to_grid)
  # Each sample inside gives its one pixel its whole cotangent.
  y, x = np.round(
    [
      np.asarray(stn.normalised_to_pixel(grid[:, 1 - i], n))
      for i, n in enumerate((4, 5))
    ]
  )
  inside = (y >= 0) & (y < 4) & (x >= 0) & (x < 5)
  assert 0 < inside.sum() < 9
  if padding_mode == "zeros":
    expected = np.zeros((4, 5, 2))
    np.add.at(expected, (y[inside].astype(int), x[inside].astype(int)), 1)
    np.testing.assert_array_equal(to_image, expected)
  else:
    assert to_image.sum() == 9 * 2


def test_a_nan_coordinate_spoils_its_own_gradient_alone():
  grid = smooth_grid((4, 5), (3,), False)
  grid[1] = np.nan
  image = random_image(4, 5, 2)
  total = jax.jit(jax.grad(lambda g: stn.grid_sample(image, g).sum()))
  gradient = total(grid)
  np.testing.assert_array_equal(
    np.isfinite(gradient).all(-1), [True, False, True]
  )


# Away from the kinks.


@pytest.mark.parametrize(
  ("method", "padding_mode", "align_corners", "order"),
  [
    ("linear", "zeros", False, 2),
    ("linear", "border", False, 1),
    ("linear", "reflection", True, 1),
    ("nearest", "reflection", False, 1),
  ],
)
def test_gradients_to_image_and_grid(
  x64, method, padding_mode, align_corners, order
):
  image = random_image(3, 4, 2, dtype=np.float64)
  grid = smooth_grid((3, 4), (5,), align_corners, dtype=np.float64)
  f = functools.partial(
    stn.grid_sample,
    method=method,
    padding_mode=padding_mode,
    align_corners=align_corners,
  )
  check_derivatives(f, image, grid, order=order, step=1e-5, forward=True)


@pytest.mark.parametrize(("spatial", "order"), [((5,), 2), ((2, 3, 2), 1)])
def test_gradients_of_lines_and_volumes(x64, spatial, order):
  image = random_image(*spatial, 2, dtype=np.float64)
  grid = smooth_grid(spatial, (4,), False, dtype=np.float64)
  f = functools.partial(stn.grid_sample, padding_mode="reflection")
  check_derivatives(f, image, grid, order=order, step=1e-5, forward=True)


def test_gradients_to_theta(x64):
  image = random_image(4, 5, 2, dtype=np.float64)
  theta = np.array([1.31, 0.23, 0.11, -0.17, 0.87, -0.29])
  f = functools.partial(stn.spatial_transform, output_size=(2, 3))
  grid = stn.transform_grid("affine", theta, (2, 3))
  for axis, size in enumerate((5, 4)):  # no kink near, or the test is wrong
    pixel = np.asarray(stn.normalised_to_pixel(grid[..., axis], size))
    assert np.min(abs(pixel - np.round(pixel))) > 1e-3
  check_derivatives(f, image, theta, order=2, step=1e-5, forward=True)


@METHOD
@PADDING
def test_the_image_gradient_is_the_adjoint(padding_mode, method):
  """<sample(image), ct> = <image, vjp(ct)>: the sampler is linear in it."""
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (9,), False)
  ct = random_image(9, 2, seed=1)
  f = functools.partial(
    stn.grid_sample, grid=grid, method=method, padding_mode=padding_mode
  )
  warped, pull = jax.vjp(jax.jit(f), image)
  np.testing.assert_allclose(
    np.vdot(warped, ct), np.vdot(image, pull(ct)[0]), rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_gradients_keep_the_dtype_of_what_they_are_of(dtype):
  image = jnp.asarray(random_image(4, 5, 2), dtype)
  grid = smooth_grid((4, 5), (9,), False)

  def total(image, grid):
    return stn.grid_sample(image, grid).astype(jnp.float32).sum()

  gradients = jax.jit(jax.grad(total, (0, 1)))
  to_image, to_grid = gradients(image, grid)
  assert to_image.dtype == dtype
  assert to_grid.dtype == jnp.float32
  wide = gradients(image.astype(jnp.float32), grid)
  np.testing.assert_allclose(
    to_image.astype(jnp.float32), wide[0], rtol=1e-2, atol=1e-2
  )
  np.testing.assert_allclose(to_grid, wide[1], atol=1e-4)
