import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PADDINGS, normalised_grid, random_image, smooth_grid

import stn
from stn.sampling import implementations
from stn.sampling.kernels import ALIASES

ALIGN = pytest.mark.parametrize("align_corners", [False, True])
# Every rule of coordinates, paddings and dtypes, for the two shortest kernels:
# what the wider ones add is in test_kernels.py.
METHOD = pytest.mark.parametrize("method", ["nearest", "linear"])
PADDING = pytest.mark.parametrize("padding_mode", PADDINGS)

# Hypothesis calls a function many times: compile it once.
STATIC = ("method", "padding_mode", "align_corners", "implementation")
sample = jax.jit(stn.grid_sample, static_argnames=STATIC)


def test_these_tests_cover_the_table_of_paddings():
  assert {*PADDINGS, "fill"} == set(stn.PADDINGS)


# The identity grid returns the very image.


def identity(image, method, align_corners):
  grid = stn.regular_grid(image.shape[:-1], align_corners=align_corners)
  return stn.grid_sample(
    image, grid, method=method, align_corners=align_corners
  )


@pytest.mark.optimised
@ALIGN
@METHOD
@pytest.mark.parametrize("size", [1, 2, 3, 7, 28, 42, 224])
def test_identity_is_bit_exact_under_jit(size, method, align_corners):
  image = random_image(size, size, 2)  # not square: test_warp.py
  grid = stn.regular_grid((size, size), align_corners=align_corners)
  warped = sample(image, grid, method=method, align_corners=align_corners)
  np.testing.assert_array_equal(warped, image)


@pytest.mark.optimised
@pytest.mark.parametrize("spatial", [(1, 42), (224, 3), (28, 2)], ids=str)
def test_identity_is_bit_exact_eagerly(spatial):
  image = random_image(*spatial, 2)
  for method in ("nearest", "linear"):
    for align_corners in (False, True):
      np.testing.assert_array_equal(
        identity(image, method, align_corners), image
      )


@pytest.mark.optimised
@ALIGN
@METHOD
@pytest.mark.parametrize("spatial", [(300,), (3, 1, 5)], ids=str)
def test_identity_is_bit_exact_on_lines_and_volumes(
  spatial, method, align_corners
):
  image = random_image(*spatial, 2)
  grid = stn.regular_grid(spatial, align_corners=align_corners)
  warped = sample(image, grid, method=method, align_corners=align_corners)
  np.testing.assert_array_equal(warped, image)


# Closed forms.


def test_linear_is_the_paper_s_equation_5():
  image = random_image(4, 5, 3)
  pixels = np.array([[1.25, 2.5], [0.0, 3.75], [2.5, 0.125]])
  rows, columns = np.arange(4)[:, None], np.arange(5)
  expected = [
    np.einsum(
      "hwc,hw->c",
      image,
      np.maximum(0, 1 - abs(y - rows)) * np.maximum(0, 1 - abs(x - columns)),
    )
    for y, x in pixels
  ]
  warped = sample(image, normalised_grid(pixels, False, (4, 5)))
  np.testing.assert_allclose(warped, expected, atol=1e-6)


@ALIGN
@METHOD
@PADDING
@pytest.mark.parametrize("spatial", [(3, 4), (2, 3, 4), (5,)], ids=str)
def test_outside_is_the_padded_image(
  spatial, padding_mode, method, align_corners
):
  """On the lattice, sampling far around an image is NumPy's `pad` of it."""
  image = random_image(*spatial, 2)
  margin = 9
  axes = [np.arange(-margin, size + margin) for size in spatial]
  pixels = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
  mode = {
    "zeros": "constant",
    "border": "edge",
    "reflection": "reflect" if align_corners else "symmetric",
    "wrap": "wrap",
  }[padding_mode]
  expected = np.pad(image, [(margin, margin)] * len(spatial) + [(0, 0)], mode)
  warped = sample(
    image,
    normalised_grid(pixels, align_corners, spatial),
    method=method,
    padding_mode=padding_mode,
    align_corners=align_corners,
  )
  np.testing.assert_allclose(warped, expected, atol=2e-5)


@pytest.mark.optimised
@METHOD
@PADDING
def test_an_aligned_axis_of_size_1_is_constant(padding_mode, method):
  image = random_image(1, 1, 2)
  grid = np.array([[0, 0], [-1, 1], [0.3, 9], [np.inf, -np.inf]], np.float32)
  warped = sample(
    image, grid, method=method, padding_mode=padding_mode, align_corners=True
  )
  np.testing.assert_array_equal(warped, np.broadcast_to(image[0], (4, 2)))


def test_nearest_takes_the_even_pixel_of_two():
  image = jnp.arange(6.0)[:, None]
  pixels = np.array([[0.5], [1.5], [2.5], [3.5]])
  grid = normalised_grid(pixels, True, (6,))
  nearest = sample(image, grid, method="nearest", align_corners=True)
  np.testing.assert_array_equal(nearest[:, 0], [0, 2, 2, 4])


@pytest.mark.parametrize("output", [(), (5,), (2, 3), (2, 1, 2, 2), (0,)])
def test_the_grid_may_have_any_shape(output):
  image = random_image(4, 5, 3)
  grid = smooth_grid((4, 5), output, False)
  warped = sample(image, grid)
  assert warped.shape == (*output, 3)
  flat = sample(image, grid.reshape(-1, 2))
  np.testing.assert_allclose(warped.reshape(-1, 3), flat, atol=1e-6)


def test_an_image_may_have_no_channels():
  assert sample(jnp.zeros((4, 5, 0)), jnp.zeros((3, 2))).shape == (3, 0)


# Dtypes.


@pytest.mark.optimised
@METHOD
@pytest.mark.parametrize(
  ("dtype", "expected"),
  [
    (jnp.float32, jnp.float32),
    (jnp.bfloat16, jnp.bfloat16),
    (jnp.float16, jnp.float16),
    (jnp.uint8, jnp.float32),
    (jnp.int32, jnp.float32),
    (jnp.bool_, jnp.float32),
  ],
  ids=lambda dtype: jnp.dtype(dtype).name,
)
def test_dtypes(dtype, expected, method):
  """Interpolated in float32; coordinates are, whatever the image is."""
  image = jnp.asarray(random_image(3, 300, 1) * 4 > 0, dtype) + jnp.asarray(
    random_image(3, 300, 1, seed=1) > 0, dtype
  )
  grid = smooth_grid((3, 300), (50,), False)
  warped = sample(image, grid, method=method)
  assert warped.dtype == expected
  wide = sample(image.astype(jnp.float32), grid, method=method)
  np.testing.assert_array_equal(warped, wide.astype(expected))
  same = sample(image, stn.regular_grid((3, 300)), method=method)
  np.testing.assert_array_equal(same, image.astype(expected))


@pytest.mark.optimised
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_half_precision_grid_is_only_converted(dtype):
  image = random_image(4, 5, 2)
  grid = jnp.asarray(smooth_grid((4, 5), (9,), False), dtype)
  warped = sample(image, grid)
  assert warped.dtype == jnp.float32
  np.testing.assert_array_equal(warped, sample(image, grid.astype(jnp.float32)))


@pytest.mark.optimised
def test_float64(x64):
  image, third = random_image(4, 5, 2, dtype=np.float64), np.array([[1 / 3, 0]])
  value = sample(image, third)
  assert value.dtype == jnp.float64
  x = (1 / 3) * 2.5 + 2 - 2
  expected = (1 - x) * image[1:3, 2] + x * image[1:3, 3]
  np.testing.assert_allclose(value[0], expected.mean(0), rtol=1e-14)
  # Each of the two keeps its own precision.
  narrow = image.astype(np.float32)
  assert sample(narrow, third).dtype == jnp.float32
  wide = sample(image, third.astype(np.float32))
  assert wide.dtype == jnp.float64
  assert sample(image > 0, third).dtype == jnp.float32
  np.testing.assert_array_equal(sample(image, stn.regular_grid((4, 5))), image)


# NaN, infinite and huge.

FAR = np.array([np.inf, 3e38, 1e30, 1e9, 1e5], np.float32)


@pytest.mark.optimised
@METHOD
@PADDING
@pytest.mark.parametrize("spatial", [(5,), (4, 5), (3, 4, 5)], ids=str)
def test_a_nan_coordinate_gives_nan(spatial, padding_mode, method):
  d = len(spatial)
  grid = np.zeros((d + 3, d), np.float32)
  grid[:d][np.eye(d, dtype=bool)] = np.nan  # each axis alone
  grid[d] = np.nan
  grid[d + 1] = np.inf
  grid[d + 1, 0] = np.nan
  image = random_image(*spatial, 2)
  warped = sample(image, grid, method=method, padding_mode=padding_mode)
  assert np.all(np.isnan(warped[:-1]))
  assert np.all(np.isfinite(warped[-1]))  # and no other sample


@pytest.mark.optimised
@ALIGN
@METHOD
@PADDING
def test_far_coordinates_are_outside(padding_mode, method, align_corners):
  image = random_image(4, 5, 2)
  y, x = 1, 3
  centre = normalised_grid(np.array([y, x]), align_corners, (4, 5))
  grid = np.tile(centre, (4 * len(FAR), 1))
  for i, (axis, sign) in enumerate(((0, 1), (0, -1), (1, 1), (1, -1))):
    grid[i * len(FAR) : (i + 1) * len(FAR), axis] = sign * FAR
  options = {
    "method": method,
    "padding_mode": padding_mode,
    "align_corners": align_corners,
  }
  warped = np.asarray(sample(image, grid, **options))
  warped = warped.reshape(4, len(FAR), 2)
  lines = np.stack([image[y, -1], image[y, 0], image[-1, x], image[0, x]])
  if padding_mode == "zeros":
    assert not np.any(warped)
  elif padding_mode == "border":
    np.testing.assert_allclose(warped, np.repeat(lines[:, None], len(FAR), 1))
  else:  # where in the mirror image is beyond float32: any value in its line
    for i, line in enumerate((image[y], image[y], image[:, x], image[:, x])):
      assert np.all(warped[i] >= line.min(0) - 1e-6)
      assert np.all(warped[i] <= line.max(0) + 1e-6)


@pytest.mark.optimised
@METHOD
@PADDING
def test_far_coordinates_have_finite_gradients(padding_mode, method):
  grid = np.zeros((2 * len(FAR), 2), np.float32)
  grid[: len(FAR), 0], grid[len(FAR) :, 1] = FAR, -FAR
  total = jax.jit(
    jax.grad(
      lambda image, grid: stn.grid_sample(
        image, grid, method=method, padding_mode=padding_mode
      ).sum(),
      argnums=(0, 1),
    )
  )
  to_image, to_grid = total(random_image(4, 5, 2), grid)
  assert np.all(np.isfinite(to_image))
  assert np.all(np.isfinite(to_grid))
  # How far out is far does not matter along that axis.
  if padding_mode in ("zeros", "border"):
    assert not np.any(to_grid[: len(FAR), 0])
    assert not np.any(to_grid[len(FAR) :, 1])


@pytest.mark.optimised
@METHOD
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinite_edge_pixels_do_not_leak_out(method, value):
  image = np.full((4, 4, 1), value, np.float32)
  grid = np.array([[-3, 0], [0, 3.3], [9, 9], [1e9, 0], [-np.inf, 0]], "f4")
  # Eagerly, too: XLA may make a product with a mask the `where` it should be.
  for function in (sample, stn.grid_sample):
    assert not np.any(function(image, grid, method=method))
  # Inside, zero weights beyond the edge leave it as it is.
  corner = sample(image, normalised_grid(np.array([[3, 3]]), False, (4, 4)))
  np.testing.assert_array_equal(corner, [[value]])


# One function, however it is called.


@METHOD
@PADDING
def test_jit_and_vmap_are_eager(padding_mode, method):
  f = functools.partial(
    stn.grid_sample, method=method, padding_mode=padding_mode
  )
  images = random_image(3, 4, 5, 2)
  grids = np.stack([smooth_grid((4, 5), (6,), False, i) for i in range(3)])
  eager = [f(*pair) for pair in zip(images, grids, strict=True)]
  close = functools.partial(np.testing.assert_allclose, rtol=0, atol=3e-6)
  close(jax.jit(f)(images[0], grids[0]), eager[0])
  close(jax.jit(jax.vmap(f))(images, grids), eager)


@pytest.mark.parametrize("shared", ["image", "grid"])
def test_vmap_over_one_argument_alone(shared):
  images = random_image(3, 4, 5, 2)
  grids = np.stack([smooth_grid((4, 5), (6,), False, i) for i in range(3)])
  if shared == "image":
    warped = jax.jit(jax.vmap(stn.grid_sample, (None, 0)))(images[0], grids)
    expected = [sample(images[0], grid) for grid in grids]
  else:
    warped = jax.jit(jax.vmap(stn.grid_sample, (0, None)))(images, grids[0])
    expected = [sample(image, grids[0]) for image in images]
  np.testing.assert_allclose(warped, expected, atol=3e-6)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases(alias, name):
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)
  np.testing.assert_array_equal(
    sample(image, grid, method=alias), sample(image, grid, method=name)
  )


def test_a_user_s_implementation_is_called(monkeypatch):
  def nothing(image, pixels, interpolation):
    assert interpolation.kernel == stn.KERNELS["linear"]
    return jnp.zeros((*pixels[0].shape, image.shape[-1]))

  monkeypatch.setitem(stn.IMPLEMENTATIONS, "nothing", nothing)
  warped = stn.grid_sample(
    jnp.ones((2, 2, 1)), jnp.zeros((1, 2)), implementation="nothing"
  )
  np.testing.assert_array_equal(warped, 0)


@pytest.mark.parametrize("name", stn.IMPLEMENTATIONS)
def test_every_implementation_gives_the_default_s_values(name):
  if implementations()[name]:
    pytest.skip(implementations()[name])
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)
  np.testing.assert_allclose(
    sample(image, grid, implementation=name), sample(image, grid), atol=1e-6
  )


@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_a_user_s_kernel(padding_mode):
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (6,), False)
  # C++ rounds in another order, and has no kernels of the user's.
  options = {"padding_mode": padding_mode, "implementation": "xla"}
  tent = stn.Kernel(radius=1, fn=lambda distance: 1 - distance)
  np.testing.assert_array_equal(
    sample(image, grid, method=tent, **options), sample(image, grid, **options)
  )


def test_a_kernel_of_radius_2_weighs_its_four_pixels():
  def fn(distance):
    assert distance.dtype == jnp.float32
    return 3 - distance  # at distance 2, too: no cut-off is expected of it

  image = random_image(6, 1)
  pixels = np.array([[2.25], [3.0], [0.5]])
  warped = sample(
    image,
    normalised_grid(pixels, False, (6,)),
    method=stn.Kernel(radius=2, fn=fn),
  )
  v = np.concatenate([np.zeros(1), image[:, 0]])  # one pixel of padding
  expected = [
    1.75 * v[2] + 2.75 * v[3] + 2.25 * v[4] + 1.25 * v[5],
    2 * v[3] + 3 * v[4] + 2 * v[5] + 1 * v[6],
    1.5 * v[0] + 2.5 * v[1] + 2.5 * v[2] + 1.5 * v[3],
  ]
  np.testing.assert_allclose(warped[:, 0], expected, atol=5e-6)


# Bad arguments.

IMAGE, GRID = np.zeros((4, 5, 3), np.float32), np.zeros((6, 2), np.float32)


@pytest.mark.parametrize("shape", [(3,), (), (2, 3, 4, 5, 1)])
def test_the_image_has_1_to_3_spatial_axes(own_errors, shape):
  with pytest.raises(
    ValueError, match=r"`image` must have shape \(\*spatial, C\), 1 to 3"
  ):
    stn.grid_sample(jnp.zeros(shape), GRID)


@pytest.mark.parametrize("shape", [(6, 3), (6, 1), (2, 6), ()])
def test_the_grid_s_last_axis_fits_the_image(own_errors, shape):
  with pytest.raises(
    ValueError, match=r"`grid` must have shape \(\*output, 2\) for an image"
  ):
    stn.grid_sample(IMAGE, jnp.zeros(shape))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64])
def test_the_grid_is_floating(own_errors, dtype):
  with pytest.raises(TypeError, match="`grid` must have a floating dtype; got"):
    stn.grid_sample(IMAGE, jnp.zeros((6, 2), dtype))


def test_the_image_is_real(own_errors):
  with pytest.raises(TypeError, match="`image` must be real; got complex64"):
    stn.grid_sample(IMAGE.astype(np.complex64), GRID)


def test_the_image_has_pixels(own_errors):
  with pytest.raises(ValueError, match=r"at least one .* axes \(0, 5\)"):
    stn.grid_sample(IMAGE[:0], GRID)


def test_pixels_are_counted_in_int32(own_errors):
  image = jax.ShapeDtypeStruct((2**16, 2**15, 1), jnp.float32)
  with pytest.raises(ValueError, match=r"fewer than 2\*\*31 pixels"):
    jax.eval_shape(lambda image: stn.grid_sample(image, GRID), image)


@pytest.mark.parametrize(
  ("argument", "value", "hint"),
  [
    ("method", "linaer", "linear"),
    ("method", "Nearest", "nearest"),
    ("padding_mode", "zero", "zeros"),
    ("padding_mode", "reflect", "reflection"),
    ("implementation", "xlaa", "xla"),
  ],
)
def test_an_unknown_name_is_listed_with_a_hint(
  own_errors, argument, value, hint
):
  with pytest.raises(
    ValueError,
    match=rf"`{argument}` must be one of .*; got '{value}'\. .*'{hint}'\?",
  ):
    stn.grid_sample(IMAGE, GRID, **{argument: value})


@pytest.mark.parametrize("argument", ["method", "padding_mode"])
@pytest.mark.parametrize("value", [None, 1])
def test_a_name_is_a_string(own_errors, argument, value):
  with pytest.raises(ValueError, match=f"`{argument}` must be one of"):
    stn.grid_sample(IMAGE, GRID, **{argument: value})
