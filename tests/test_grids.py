import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import to_normalised
from derivatives import check_derivatives

import stn

SIZES = (1, 2, 3, 7, 28, 42, 224)
ALIGN = pytest.mark.parametrize("align_corners", [False, True])


def random_matrix(d, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, (d, d + 1)).astype(dtype)


# The regular grid.


@pytest.mark.parametrize("size", SIZES)
def test_edges_of_the_corner_pixels_are_at_one(size):
  points = np.asarray(stn.regular_grid((size,)))[:, 0]
  expected = (2 * np.arange(size) + 1) / size - 1
  np.testing.assert_array_equal(points, expected.astype(np.float32))


@pytest.mark.parametrize("size", SIZES[1:])
def test_centres_of_the_corner_pixels_are_at_one(size):
  points = np.asarray(stn.regular_grid((size,), align_corners=True))[:, 0]
  np.testing.assert_allclose(points, np.linspace(-1, 1, size), atol=1e-7)
  assert points[0] == -1
  assert points[-1] == 1


@ALIGN
def test_the_centre_of_an_axis_of_size_1_is_0(align_corners):
  grid = stn.regular_grid((1, 1, 1), align_corners=align_corners)
  np.testing.assert_array_equal(grid, np.zeros((1, 1, 1, 3)))


def test_x_runs_along_the_last_axis():
  grid = np.asarray(stn.regular_grid((2, 3, 4)))
  assert grid.shape == (2, 3, 4, 3)
  z, y, x = np.meshgrid(
    *(to_normalised(np.arange(n), n, False) for n in (2, 3, 4)), indexing="ij"
  )
  np.testing.assert_allclose(grid, np.stack([x, y, z], -1), atol=1e-7)


def test_the_regular_grid_takes_a_dtype(x64):
  assert stn.regular_grid((2, 3)).dtype == jnp.float32
  grid = stn.regular_grid((1, 3), dtype=jnp.float64)
  assert grid.dtype == jnp.float64
  np.testing.assert_allclose(grid[0, :, 0], [-2 / 3, 0, 2 / 3], atol=1e-16)


# Normalised <-> pixel.


@ALIGN
def test_normalised_ends_are_where_the_rule_says(align_corners):
  pixel = stn.normalised_to_pixel(
    jnp.array([-1.0, 0.0, 1.0]), 5, align_corners=align_corners
  )
  expected = [0, 2, 4] if align_corners else [-0.5, 2, 4.5]
  np.testing.assert_array_equal(pixel, expected)


@ALIGN
@pytest.mark.parametrize("size", [2, 7, 28])
def test_conversions_invert_each_other(size, align_corners):
  rng = np.random.default_rng(size)
  pixel = rng.uniform(-2, size + 2, 64).astype(np.float32)
  there = stn.pixel_to_normalised(pixel, size, align_corners=align_corners)
  np.testing.assert_allclose(
    there, to_normalised(pixel, size, align_corners), atol=1e-6
  )
  back = stn.normalised_to_pixel(there, size, align_corners=align_corners)
  np.testing.assert_allclose(back, pixel, atol=3e-7 * size)


def test_everything_is_at_the_only_pixel_of_an_aligned_axis():
  coordinate = jnp.array([-1.0, 0.3, jnp.inf, jnp.nan])
  pixel = stn.normalised_to_pixel(coordinate, 1, align_corners=True)
  np.testing.assert_array_equal(pixel, [0, 0, 0, np.nan])
  back = stn.pixel_to_normalised(jnp.array([0.0, 5.0]), 1, align_corners=True)
  np.testing.assert_array_equal(back, [0, 0])


@pytest.mark.optimised
@ALIGN
@pytest.mark.parametrize("size", SIZES)
def test_pixel_centres_are_whole_pixels(size, align_corners):
  grid = stn.regular_grid((size,), align_corners=align_corners)
  to_pixel = functools.partial(
    stn.normalised_to_pixel, size=size, align_corners=align_corners
  )
  for function in (to_pixel, jax.jit(to_pixel)):
    np.testing.assert_array_equal(function(grid[:, 0]), np.arange(size))


@ALIGN
def test_a_snapped_coordinate_keeps_its_derivative(align_corners):
  def pixel(x):
    return stn.normalised_to_pixel(x, 7, align_corners=align_corners)

  slope = jax.jit(jax.vmap(jax.grad(pixel)))
  curvature = jax.jit(jax.vmap(jax.grad(jax.grad(pixel))))
  # A few ulp from each centre, where the snap is at work.
  for ulp in (-2, 0, 2):
    x = stn.regular_grid((7,), align_corners=align_corners)[:, 0]
    x = x + jnp.float32(ulp * 2**-24)
    np.testing.assert_array_equal(pixel(x), np.arange(7))
    np.testing.assert_allclose(slope(x), 3.0 if align_corners else 3.5)
    assert not np.any(curvature(x))


def test_only_rounding_errors_are_snapped(x64):
  for dtype, offset in ((np.float32, 1e-5), (np.float64, 1e-13)):
    x = np.asarray(to_normalised(3 + offset, 8, False), dtype)
    pixel = stn.normalised_to_pixel(x, 8)
    assert pixel.dtype == dtype
    np.testing.assert_allclose(pixel - 3, offset, rtol=0.2)


@ALIGN
def test_nan_and_infinity_stay(align_corners):
  ends = jnp.array([jnp.nan, jnp.inf, -jnp.inf])
  pixel = stn.normalised_to_pixel(ends, 4, align_corners=align_corners)
  np.testing.assert_array_equal(pixel, ends)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_coordinates_are_float32(dtype):
  half = jnp.full((2,), 0.5, dtype)
  matrix = jnp.eye(2, 3, dtype=dtype)
  assert stn.normalised_to_pixel(half, 4).dtype == jnp.float32
  assert stn.pixel_to_normalised(half, 4).dtype == jnp.float32
  assert stn.affine_grid(matrix, (2, 2)).dtype == jnp.float32
  assert (
    stn.transform_grid("affine", matrix.ravel(), (2, 2)).dtype == jnp.float32
  )


def test_coordinates_are_float64_if_given_so(x64):
  half, matrix = jnp.full((2,), 0.5), jnp.eye(2, 3)
  assert half.dtype == jnp.float64
  assert stn.normalised_to_pixel(half, 4).dtype == jnp.float64
  assert stn.pixel_to_normalised(half, 4).dtype == jnp.float64
  grid = stn.affine_grid(matrix, (3, 3))
  assert grid.dtype == jnp.float64
  np.testing.assert_allclose(grid[0, 0], [-2 / 3, -2 / 3], rtol=1e-15)


# Transformed grids.


@ALIGN
@pytest.mark.parametrize("output_size", [(5,), (4, 5), (3, 4, 5), (1, 6)])
def test_affine_grid_is_a_matrix_product(output_size, align_corners):
  d = len(output_size)
  theta = random_matrix(d)
  points = stn.regular_grid(output_size, align_corners=align_corners)
  expected = np.asarray(points) @ theta[:, :d].T + theta[:, d]
  grid = stn.affine_grid(theta, output_size, align_corners=align_corners)
  np.testing.assert_allclose(grid, expected, atol=1e-6)
  same = stn.transform_grid(
    "affine", theta.ravel(), output_size, align_corners=align_corners
  )
  np.testing.assert_array_equal(same, grid)


@pytest.mark.filterwarnings("ignore:Since version 1.3.0")
@ALIGN
@pytest.mark.parametrize("output_size", [(4, 5), (3, 4, 5), (1, 1), (2, 1, 3)])
def test_affine_grid_is_torchs(output_size, align_corners):
  torch = pytest.importorskip("torch")
  theta = random_matrix(len(output_size))
  expected = torch.nn.functional.affine_grid(
    torch.from_numpy(theta)[None],
    [1, 1, *output_size],
    align_corners=align_corners,
  )
  grid = stn.affine_grid(theta, output_size, align_corners=align_corners)
  np.testing.assert_allclose(grid, expected[0].numpy(), atol=1e-6)


def test_the_warp_pulls():
  """The grid says where in the input to look: half the size is a zoom in."""
  theta = jnp.array([0.5, 0, 0.25, 0, 0.5, 0])
  grid = stn.transform_grid("affine", theta, (5, 5), align_corners=True)
  np.testing.assert_allclose(grid[0, 0], [-0.25, -0.5], atol=1e-7)
  np.testing.assert_allclose(grid[-1, -1], [0.75, 0.5], atol=1e-7)


@pytest.mark.optimised
@ALIGN
@pytest.mark.parametrize("jit", [False, True])
def test_identity_returns_the_regular_grid(align_corners, jit):
  def make(theta):
    return stn.transform_grid(
      "affine", theta, (7, 11), align_corners=align_corners
    )

  grid = (jax.jit(make) if jit else make)(stn.get_transform("affine").identity)
  regular = stn.regular_grid((7, 11), align_corners=align_corners)
  np.testing.assert_array_equal(grid, regular)


def test_a_transform_is_as_good_as_its_name():
  theta = random_matrix(3).ravel()
  family = stn.get_transform("affine", ndim=3)
  np.testing.assert_array_equal(
    stn.transform_grid(family, theta, (2, 3, 4)),
    stn.transform_grid("affine", theta, (2, 3, 4)),
  )


def test_a_users_transform_is_applied():
  family = stn.Transform(
    identity=np.zeros(1, np.float32), apply=lambda theta, p: p + theta[0]
  )
  grid = stn.transform_grid(family, jnp.array([0.5]), (2, 2))
  np.testing.assert_array_equal(grid, stn.regular_grid((2, 2)) + 0.5)


def test_vmap_is_a_loop():
  thetas = np.stack([random_matrix(2, seed) for seed in range(3)])
  batched = jax.vmap(lambda t: stn.affine_grid(t, (3, 4)))(thetas)
  for grid, theta in zip(batched, thetas, strict=True):
    np.testing.assert_allclose(grid, stn.affine_grid(theta, (3, 4)), atol=1e-7)


def test_sizes_may_be_numpys(own_errors):
  size = (np.int64(2), np.int32(3))
  np.testing.assert_array_equal(
    stn.regular_grid(size), stn.regular_grid([2, 3])
  )


@ALIGN
def test_gradient_with_respect_to_theta(x64, align_corners):
  """Of each coordinate: the point itself and 1 for its row, else 0."""

  def make(theta):
    return stn.affine_grid(theta, (2, 3), align_corners=align_corners)

  theta = random_matrix(2, dtype=np.float64)
  points = stn.regular_grid((2, 3), align_corners=align_corners, dtype="f8")
  expected = np.zeros((2, 3, 2, 2, 3))
  for row in range(2):
    expected[:, :, row, row, :2] = points
    expected[:, :, row, row, 2] = 1
  for jacobian in (jax.jacrev, jax.jacfwd):
    np.testing.assert_allclose(
      jax.jit(jacobian(make))(theta), expected, atol=1e-15
    )
  check_derivatives(make, theta, order=2, forward=True)


# Bad arguments.

GRID_MAKERS = {
  "regular_grid": stn.regular_grid,
  "affine_grid": lambda size: stn.affine_grid(jnp.eye(2, 3), size),
  "transform_grid": lambda size: stn.transform_grid(
    "affine", jnp.zeros(6), size
  ),
}


@pytest.mark.parametrize("make", GRID_MAKERS.values(), ids=GRID_MAKERS)
@pytest.mark.parametrize(
  ("size", "error"),
  [
    ((2, 0), ValueError),
    ((-1, 2), ValueError),
    ((), ValueError),
    ((2, 2, 2, 2), ValueError),
    ((2.0, 2), TypeError),
    (4, TypeError),
    ("ab", TypeError),
  ],
  ids=str,
)
def test_a_bad_output_size_is_named(own_errors, make, size, error):
  with pytest.raises(error, match=r"`output_size` must be 1, 2 or 3 positive"):
    make(size)


@pytest.mark.parametrize("shape", [(6,), (3, 3), (2, 2), (1, 2, 3), (3, 4)])
def test_affine_grid_says_the_shape_of_theta(own_errors, shape):
  with pytest.raises(
    ValueError, match=r"`theta` must have shape \(2, 3\) for .* 2 axes; got \("
  ):
    stn.affine_grid(jnp.zeros(shape), (4, 4))


@pytest.mark.parametrize("shape", [(2, 3), (5,), (1, 6), ()])
def test_transform_grid_says_the_shape_of_theta(own_errors, shape):
  with pytest.raises(
    ValueError, match=r"`theta` must have shape \(6,\); got \("
  ):
    stn.transform_grid("affine", jnp.zeros(shape), (4, 4))


@pytest.mark.parametrize(
  ("name", "call"),
  [
    ("theta", lambda a: stn.affine_grid(a.reshape(2, 3), (2, 2))),
    ("theta", lambda a: stn.transform_grid("affine", a, (2, 2))),
    ("coordinate", lambda a: stn.normalised_to_pixel(a, 4)),
    ("pixel", lambda a: stn.pixel_to_normalised(a, 4)),
  ],
)
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_])
def test_coordinates_must_be_floating(own_errors, name, call, dtype):
  match = f"`{name}` must have a floating dtype; got {jnp.dtype(dtype).name}"
  with pytest.raises(TypeError, match=match):
    call(jnp.zeros(6, dtype))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bfloat16])
def test_the_regular_grid_is_float32_or_float64(own_errors, dtype):
  with pytest.raises(TypeError, match="`dtype` must be float32 or float64"):
    stn.regular_grid((2, 2), dtype=dtype)


def test_an_unknown_transform_is_named_with_a_hint(own_errors):
  with pytest.raises(
    ValueError, match=r"`transform` must be one of .*'affine'.*mean 'affine'\?"
  ):
    stn.transform_grid("afine", jnp.zeros(6), (2, 2))


def test_a_transform_of_another_dimension_is_refused(own_errors):
  with pytest.raises(ValueError, match=r"theta.*for points of 3 coordinates"):
    stn.transform_grid(stn.get_transform("affine"), jnp.zeros(6), (2, 2, 2))
