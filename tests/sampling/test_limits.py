"""The sampler at its limits: odd shapes, mixed dtypes, sizes of NumPy's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image, smooth_grid

import stn

METHOD = pytest.mark.parametrize("method", stn.KERNELS)


def options(padding_mode):
  fill = {"fill_value": 0.0} if padding_mode == "fill" else {}
  return {"padding_mode": padding_mode, **fill}


def value_and_gradients(image, grid, **options):
  """Of the sum, with respect to both."""

  def total(image, grid):
    value = stn.grid_sample(image, grid, **options)
    return value.astype(jnp.float32).sum(), value

  return jax.value_and_grad(total, (0, 1), has_aux=True)(image, grid)


# Nothing to sample, or nothing to sample at.


@METHOD
@pytest.mark.parametrize(
  ("channels", "output"), [(2, (0,)), (2, (3, 0)), (0, (3,)), (0, (0, 2))]
)
def test_empty_outputs_have_shapes_and_gradients(channels, output, method):
  image, grid = np.ones((4, 5, channels), "f"), np.zeros((*output, 2), "f")
  run = functools.partial(value_and_gradients, method=method)
  for padding_mode in stn.PADDINGS if method == "linear" else ["border"]:
    (_, value), gradients = jax.eval_shape(
      functools.partial(run, **options(padding_mode)), image, grid
    )
    assert value.shape == (*output, channels)
    assert [g.shape for g in gradients] == [image.shape, grid.shape]
  if method == "linear":
    (total, _), gradients = jax.jit(run)(image, grid)
    assert total == 0
    assert not any(map(np.any, gradients))


def test_an_empty_batch():
  images, thetas = jnp.zeros((0, 4, 5, 2)), jnp.zeros((0, 6))
  assert jax.vmap(stn.spatial_transform)(images, thetas).shape == (0, 4, 5, 2)


# Axes of size 1.


@METHOD
@pytest.mark.parametrize("align_corners", [False, True])
def test_along_an_axis_of_size_1_the_image_is_one_less_dimensional(
  method, align_corners
):
  """Where the coordinate is 0, the centre of the only pixel."""
  line, along = random_image(5, 2), smooth_grid((5,), (20,), align_corners)
  across = np.concatenate([along, np.zeros_like(along)], 1)

  @jax.jit
  def run(line, along, across):
    pairs = []
    for padding_mode in stn.PADDINGS if method == "linear" else ["border"]:
      sample = functools.partial(
        stn.grid_sample,
        method=method,
        align_corners=align_corners,
        **options(padding_mode),
      )
      expected = sample(line, along)
      pairs.append((expected, sample(line[None], across)))
      pairs.append((expected, sample(line[:, None], across[:, ::-1])))
    return pairs

  for expected, got in run(line, along, across):
    np.testing.assert_allclose(got, expected, atol=1e-5)


@METHOD
def test_a_single_pixel(method):
  """Half of it is looked at from its edge, its own padding beyond."""
  image = np.full((1, 1, 1), 2, np.float32)
  grid = np.array([[0, 0], [9, 9]], np.float32)

  @jax.jit  # one program for all paddings
  def sample_all(image, grid):
    return {
      name: stn.grid_sample(image, grid, method=method, **options(name))
      for name in stn.PADDINGS
    }

  for padding_mode, warped in sample_all(image, grid).items():
    outside = 0 if padding_mode in ("zeros", "fill") else 2
    np.testing.assert_allclose(warped[:, 0], [2, outside], atol=1e-4)


# Mixed dtypes: the grid keeps its precision, the result the image's.


DTYPES = pytest.mark.parametrize(
  ("image_dtype", "grid_dtype"),
  [
    ("bfloat16", "float64"),
    ("float16", "float64"),
    ("float32", "float64"),
    ("bfloat16", "bfloat16"),
    ("float64", "bfloat16"),
  ],
)


@pytest.mark.long
@DTYPES
def test_dtypes_of_image_and_grid_do_not_mix(x64, image_dtype, grid_dtype):
  image = jnp.asarray(random_image(4, 5, 2), image_dtype)
  grid = jnp.asarray(smooth_grid((4, 5), (6,), False), grid_dtype)
  for method in stn.KERNELS:
    (_, value), (to_image, to_grid) = jax.eval_shape(
      functools.partial(value_and_gradients, method=method), image, grid
    )
    assert value.dtype == to_image.dtype == image_dtype
    assert to_grid.dtype == grid_dtype


@DTYPES
def test_values_are_rounded_to_the_image_s_dtype_once(
  x64, image_dtype, grid_dtype
):
  image = jnp.asarray(random_image(4, 5, 2), image_dtype)
  grid = jnp.asarray(smooth_grid((4, 5), (6,), False), grid_dtype)
  sample = jax.jit(stn.grid_sample)
  exact = sample(image.astype(jnp.float64), grid.astype(jnp.float64))
  eps = float(max(jnp.finfo(image_dtype).eps, jnp.finfo(jnp.float32).eps))
  np.testing.assert_allclose(
    sample(image, grid).astype(jnp.float64), exact, atol=eps
  )


# Sizes that are NumPy's, and sizes that are none.


def test_sizes_may_be_numpys():
  """As from `np.array(image.shape)`; jaxtyping lets them pass, too."""
  image = random_image(4, 5, 2)
  theta = np.array([0.9, 0.1, 0.2, -0.3, 1.1, 0.0], np.float32)
  shape = np.array(image.shape)
  for size in (shape[:2], tuple(shape[:2]), list(shape[:2].astype(np.int32))):
    grid = stn.transform_grid("affine", theta, size)
    np.testing.assert_array_equal(
      grid, stn.affine_grid(theta.reshape(2, 3), size)
    )
    assert stn.regular_grid(size).shape == (4, 5, 2)
    warped = stn.spatial_transform(image, theta, output_size=size)
    np.testing.assert_allclose(warped, stn.grid_sample(image, grid), atol=1e-6)


def test_numpys_sizes_do_not_widen_coordinates(x64):
  for convert in (stn.normalised_to_pixel, stn.pixel_to_normalised):
    for align_corners in (False, True):
      pixel = convert(
        jnp.ones(2, "f"), np.int64(4), align_corners=align_corners
      )
      expected = convert(jnp.ones(2, "f"), 4, align_corners=align_corners)
      assert pixel.dtype == jnp.float32
      np.testing.assert_array_equal(pixel, expected)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [0, -1, 2.5, "4"])
@pytest.mark.parametrize(
  "convert", [stn.normalised_to_pixel, stn.pixel_to_normalised]
)
def test_a_size_is_a_positive_int(own_errors, convert, size, align_corners):
  with pytest.raises(ValueError, match="`size` must be a positive int; got"):
    convert(jnp.zeros(2), size, align_corners=align_corners)


# More samples than int32 can count.


def test_samples_are_not_counted_in_int32():
  """Pixels are. A program for 2**31 samples is made, whatever the memory."""
  image = jax.ShapeDtypeStruct((4, 5, 1), jnp.float32)
  grid = jax.ShapeDtypeStruct((2**16, 2**15, 2), jnp.float32)
  lowered = jax.jit(stn.grid_sample).lower(image, grid)
  assert lowered.out_info.shape == (2**16, 2**15, 1)
  images = jax.ShapeDtypeStruct((2**16, 2**8, 2**8, 1), jnp.float32)
  thetas = jax.ShapeDtypeStruct((2**16, 6), jnp.float32)
  warped = jax.eval_shape(jax.vmap(stn.spatial_transform), images, thetas)
  assert warped.shape == images.shape
