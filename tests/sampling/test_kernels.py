"""The kernels beyond linear: what they promise, and against other codes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage
from cases import normalised_grid, random_image, smooth_grid
from derivatives import check_derivatives

import stn

WIDE = [name for name in stn.KERNELS if name not in ("nearest", "linear")]
SPLINES = [name for name in WIDE if stn.KERNELS[name].poles]
STATIC = ("method", "padding_mode", "align_corners")

sample = jax.jit(stn.grid_sample, static_argnames=STATIC)
each = pytest.mark.parametrize("method", WIDE)


# The weights.


@pytest.mark.parametrize("name", sorted({*stn.KERNELS} - {*SPLINES}))
def test_weights_at_whole_distances_are_0_and_1_exactly(name):
  kernel = stn.KERNELS[name]
  distance = jnp.arange(math.floor(kernel.radius) + 1.0)
  np.testing.assert_array_equal(kernel.fn(distance), distance == 0)


@pytest.mark.parametrize(
  "name", [name for name in stn.KERNELS if not stn.KERNELS[name].normalise]
)
def test_weights_sum_to_1(name, x64):
  kernel = stn.KERNELS[name]
  fraction = np.linspace(-0.499, 0.499, 101)
  pixels = np.arange(-3, 4)[:, None]
  distance = abs(fraction - pixels)
  weights = np.asarray(kernel.fn(jnp.asarray(distance)))
  weights = np.where(distance <= kernel.radius, weights, 0)
  np.testing.assert_allclose(weights.sum(0), 1, rtol=0, atol=1e-14)


def test_closed_forms(x64):
  d = np.linspace(0, 3, 61)
  fns = {
    name: np.asarray(kernel.fn(jnp.asarray(d)))
    for name, kernel in stn.KERNELS.items()
  }
  np.testing.assert_allclose(
    fns["lanczos3"], np.sinc(d) * np.sinc(d / 3), atol=1e-14
  )
  keys = np.where(
    d <= 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
  )
  np.testing.assert_allclose(fns["cubic"], keys, atol=1e-14)
  for name, degree in (("quadratic_bspline", 2), ("cubic_bspline", 3)):
    inside = d <= (degree + 1) / 2
    spline = scipy.interpolate.BSpline.basis_element(
      np.arange(degree + 2) - (degree + 1) / 2
    )
    np.testing.assert_allclose(
      fns[name][inside], spline(d[inside]), atol=1e-14, err_msg=name
    )


def test_lanczos_is_smooth_at_0(x64):
  fn = stn.KERNELS["lanczos3"].fn
  second = jax.jit(jax.grad(jax.grad(fn)))
  expected = -(math.pi**2) / 3 * (1 + 1 / 9)
  for d in (0.0, 1e-9, 0.019, 0.021):
    assert float(second(jnp.array(d))) == pytest.approx(expected, rel=5e-3)
  below, above = fn(jnp.array([0.02 - 1e-12, 0.02]))
  assert float(below) == pytest.approx(float(above), abs=1e-13)


@pytest.mark.parametrize("a", [-0.5, -0.75, -0.6, -1 / 3])
def test_cubic_kernels_interpolate_whatever_the_slope(a):
  kernel = stn.cubic_kernel(a)
  np.testing.assert_array_equal(
    jax.jit(kernel.fn)(jnp.arange(3.0)), [1.0, 0.0, 0.0]
  )
  assert float(jax.grad(kernel.fn)(jnp.array(1.0))) == pytest.approx(a)
  assert stn.cubic_kernel(a) is kernel  # or jit would compile it again


@pytest.mark.parametrize("radius", [0, -1, 0.75])
def test_a_radius_is_half_a_count_of_pixels(radius):
  with pytest.raises(ValueError, match=r"`radius` must be .* got"):
    stn.Kernel(radius, lambda d: d)


@pytest.mark.parametrize("pole", [-1.0, 0.0, 0.5])
def test_poles_are_between_minus_1_and_0(pole):
  with pytest.raises(ValueError, match=r"`poles` must lie .* got"):
    stn.Kernel(2, lambda d: d, poles=(pole,))


# What they all do.


@each
def test_a_constant_image_stays_constant(method):
  image = np.full((4, 5, 1), 0.7, np.float32)
  grid = smooth_grid((4, 5), (50,), False)
  for padding_mode in ("border", "wrap"):
    warped = sample(image, grid, method=method, padding_mode=padding_mode)
    np.testing.assert_allclose(warped, 0.7, rtol=1e-5)


@each
def test_what_is_no_number_or_far_away(method):
  image = random_image(4, 5, 2)
  far = [1e9, -1e9, np.inf, -np.inf]
  grid = np.array([[np.nan, 0], [0, np.nan], *([x, 0.1] for x in far)], "f4")
  warped = sample(image, grid, method=method)
  assert np.isnan(warped[:2]).all()
  assert not np.any(warped[2:])
  total = jax.grad(
    lambda grid: sample(image, grid, method=method, padding_mode="border").sum()
  )
  np.testing.assert_allclose(total(grid[2:])[:, 0], 0, atol=1e-4)
  assert np.isfinite(total(grid[2:])).all()


@each
def test_vmap_is_a_loop(method):
  images = random_image(2, 4, 5, 2)
  grids = np.stack([smooth_grid((4, 5), (6,), False, i) for i in range(2)])
  f = functools.partial(sample, method=method)
  np.testing.assert_allclose(
    jax.vmap(f)(images, grids),
    [f(*pair) for pair in zip(images, grids, strict=True)],
    atol=3e-6,
  )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.uint8])
@each
def test_dtypes(method, dtype):
  image = jnp.asarray(random_image(4, 5, 2) * 3 + 4, dtype)
  grid = smooth_grid((4, 5), (6,), False)
  warped = sample(image, grid, method=method)
  assert warped.dtype == (jnp.float32 if dtype == jnp.uint8 else dtype)
  wide = sample(image.astype(jnp.float32), grid, method=method)
  np.testing.assert_allclose(warped.astype(jnp.float32), wide, rtol=1e-2)


@pytest.mark.parametrize(
  ("method", "order", "forward"),
  [
    ("cubic", 2, True),
    ("lanczos3", 1, False),
    ("quadratic_bspline", 1, True),
    ("cubic_bspline", 1, True),
  ],
)
@pytest.mark.long
def test_gradients(x64, method, order, forward):
  image = random_image(3, 4, 1, dtype=np.float64)
  grid = smooth_grid((3, 4), (3,), False, dtype=np.float64)
  f = functools.partial(stn.grid_sample, method=method, padding_mode="border")
  check_derivatives(f, image, grid, order=order, step=1e-5, forward=forward)


@pytest.mark.long
def test_gradients_of_volumes(x64):
  image = random_image(2, 3, 2, 1, dtype=np.float64)
  grid = smooth_grid((2, 3, 2), (2,), False, dtype=np.float64)
  f = functools.partial(stn.grid_sample, method="cubic_bspline")
  check_derivatives(f, image, grid, order=1, step=1e-5)


@each
def test_gradients_at_lattice_points_are_those_next_to_them(x64, method):
  """They are smooth: no choice of a side is to be seen."""
  image = random_image(6, 7, 1, dtype=np.float64)
  pixels = np.array([[2.0, 3.0], [0.0, 0.0], [5.0, 6.0], [3.0, 1.0]])

  @jax.jit
  def gradients(pixels):
    return jax.grad(
      lambda image, grid: (stn.grid_sample(image, grid, method=method)).sum(),
      argnums=(0, 1),
    )(image, pixels)

  at = gradients(normalised_grid(pixels, False, (6, 7), np.float64))
  nearby = gradients(normalised_grid(pixels + 1e-7, False, (6, 7), np.float64))
  for a, b in zip(at, nearby, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


# Against others.


SCIPY = [
  ("zeros", False, "grid-constant"),
  ("border", False, "nearest"),
  ("reflection", False, "reflect"),
  ("reflection", True, "mirror"),
  ("wrap", False, "grid-wrap"),
]


@pytest.mark.parametrize(("padding_mode", "align_corners", "mode"), SCIPY)
@pytest.mark.parametrize("spatial", [(30,), (24, 25)], ids=str)
def test_scipy_s_splines(x64, spatial, padding_mode, align_corners, mode):
  """Inside and outside; SciPy cuts its own filters off at 12 pixels."""
  image = random_image(*spatial, 1, dtype=np.float64)
  rng = np.random.default_rng(0)
  pixels = np.stack([rng.uniform(-n, 2 * n, 200) for n in spatial], -1)
  grid = normalised_grid(pixels, align_corners, spatial, np.float64)
  for order, method in ((2, "quadratic_bspline"), (3, "cubic_bspline")):
    warped = sample(
      image,
      grid,
      method=method,
      padding_mode=padding_mode,
      align_corners=align_corners,
    )
    expected = scipy.ndimage.map_coordinates(
      image[..., 0], pixels.T, order=order, mode=mode
    )
    np.testing.assert_allclose(warped[:, 0], expected, atol=2e-7)


@pytest.mark.parametrize("mode", ["mirror", "grid-wrap"])
def test_scipy_s_splines_in_volumes(x64, mode):
  image = random_image(3, 4, 2, 1, dtype=np.float64)
  rng = np.random.default_rng(0)
  pixels = np.stack([rng.uniform(-n, 2 * n, 50) for n in (3, 4, 2)], -1)
  warped = sample(
    image,
    normalised_grid(pixels, True, (3, 4, 2), np.float64),
    method="cubic_bspline",
    padding_mode="reflection" if mode == "mirror" else "wrap",
    align_corners=True,
  )
  expected = scipy.ndimage.map_coordinates(image[..., 0], pixels.T, mode=mode)
  np.testing.assert_allclose(warped[:, 0], expected, atol=1e-13)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_torch_s_bicubic(x64, padding_mode, align_corners):
  """Values and both gradients; torch has a = -0.75."""
  torch = pytest.importorskip("torch")
  image = random_image(5, 6, 2, dtype=np.float64)
  grid = smooth_grid((5, 6), (40,), align_corners, dtype=np.float64)
  options = {"padding_mode": padding_mode, "align_corners": align_corners}
  f = functools.partial(sample, method=stn.cubic_kernel(-0.75), **options)
  ours, pull = jax.vjp(f, image, grid)

  t_image = torch.from_numpy(image).requires_grad_()
  t_grid = torch.from_numpy(grid).requires_grad_()
  theirs = torch.nn.functional.grid_sample(
    t_image.moveaxis(-1, 0)[None], t_grid[None, None], "bicubic", **options
  )[0, :, 0].T
  theirs.sum().backward()
  results = (ours, *pull(jnp.ones_like(ours)))
  for a, b in zip(results, (theirs, t_image.grad, t_grid.grad), strict=True):
    np.testing.assert_allclose(a, b.detach().numpy(), atol=1e-11)


@pytest.mark.parametrize("method", ["cubic", "lanczos3"])
def test_jax_s_resize(method):
  """Away from the edges, where `jax.image` drops what lies outside."""
  image = random_image(12, 13, 2)
  size = (24, 39)
  expected = jax.image.resize(image, (*size, 2), method, antialias=False)
  warped = sample(image, stn.regular_grid(size), method=method)
  inside = (slice(6, -6), slice(9, -9))
  np.testing.assert_allclose(warped[inside], expected[inside], atol=2e-6)


# The prefilter.


@pytest.mark.parametrize("method", SPLINES)
def test_without_the_prefilter_a_spline_blurs(method):
  image = random_image(8, 9, 1)
  kernel = stn.KERNELS[method]
  blurs = stn.Kernel(kernel.radius, kernel.fn)
  grid = stn.regular_grid((8, 9))
  assert abs(sample(image, grid, method=blurs) - image).max() > 0.1


def test_a_kernel_of_one_s_own_with_two_poles(x64):
  """The B-spline of degree 5, of which SciPy knows the poles."""

  def quintic(d):
    inner = 66 + d**2 * (-60 + d**2 * (30 - 10 * d))
    middle = 51 + d * (75 + d * (-210 + d * (150 + d * (-45 + 5 * d))))
    outer = (3 - d) ** 5
    return jnp.where(d < 1, inner, jnp.where(d < 2, middle, outer)) / 120

  poles = (
    math.sqrt(135 / 2 - math.sqrt(17745 / 4)) + math.sqrt(105 / 4) - 13 / 2,
    math.sqrt(135 / 2 + math.sqrt(17745 / 4)) - math.sqrt(105 / 4) - 13 / 2,
  )
  image = random_image(20, 21, 1, dtype=np.float64)
  pixels = np.random.default_rng(0).uniform(-5, 25, (50, 2))
  warped = sample(
    image,
    normalised_grid(pixels, True, (20, 21), np.float64),
    method=stn.Kernel(3, quintic, poles=poles),
    padding_mode="reflection",
    align_corners=True,
  )
  expected = scipy.ndimage.map_coordinates(
    image[..., 0], pixels.T, order=5, mode="mirror"
  )
  np.testing.assert_allclose(warped[:, 0], expected, atol=1e-12)
