"""Laws that hold for any image, grid and transform.

Each law is compiled once and tried on many drawn arrays.
"""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from cases import families, smooth_grid

import stn

# Room for points whose longest kernel stays inside.
SIZE = (12, 13)

METHOD = pytest.mark.parametrize("method", stn.KERNELS)
INVERTIBLE = [
  (name, ndim)
  for ndim in (2, 3)
  for name in families(ndim)
  if stn.get_transform(name, ndim=ndim).matrix is not None
]


def arrays(*shape, low=-1.0, high=1.0):
  elements = st.floats(low, high, width=32, allow_subnormal=False)
  return hnp.arrays(np.float32, shape, elements=elements)


IMAGES = arrays(*SIZE, 2)
POINTS = arrays(6, 2, low=-1.5, high=1.5)


@functools.cache
def jitted(method="linear", padding_mode="zeros", align_corners=False):
  """The sampler, one program for each set of options."""
  options = {"fill_value": 0.5} if padding_mode == "fill" else {}
  return jax.jit(
    functools.partial(
      stn.grid_sample,
      method=method,
      padding_mode=padding_mode,
      align_corners=align_corners,
      **options,
    )
  )


# Sums.


@METHOD
@hypothesis.given(
  value=st.floats(-100, 100, width=32),
  grid=arrays(6, 2, low=-3.0, high=3.0),
  padding_mode=st.sampled_from(["border", "reflection"]),
)
def test_a_constant_image_stays_constant(method, value, grid, padding_mode):
  """The weights of a sample sum to 1: a partition of unity."""
  image = np.full((*SIZE, 2), value, np.float32)
  warped = jitted(method, padding_mode)(image, grid)
  np.testing.assert_allclose(warped, value, rtol=1e-5, atol=1e-6)


@METHOD
@hypothesis.given(
  value=st.floats(-100, 100, width=32), grid=arrays(6, 2, low=-0.25, high=0.25)
)
def test_what_lies_outside_is_no_matter_well_inside(method, value, grid):
  image = np.full((*SIZE, 2), value, np.float32)
  warped = jitted(method, "zeros")(image, grid)
  # A B-spline's coefficients hear of the edge, 4 pixels away.
  tolerance = 2e-2 if "bspline" in method else 1e-5
  np.testing.assert_allclose(warped, value, rtol=tolerance, atol=1e-6)


@METHOD
@hypothesis.given(one=IMAGES, two=IMAGES, grid=POINTS)
def test_sampling_is_linear_in_the_image(method, one, two, grid):
  f = jitted(method)
  np.testing.assert_allclose(
    f(one - 2 * two, grid), f(one, grid) - 2 * f(two, grid), atol=3e-5
  )


@pytest.mark.parametrize("padding_mode", stn.PADDINGS)
@hypothesis.given(image=IMAGES, grid=POINTS, align_corners=st.booleans())
def test_linear_stays_within_the_range(
  padding_mode, image, grid, align_corners
):
  """Of the image, and of the value outside."""
  warped = np.asarray(
    jitted("linear", padding_mode, align_corners)(image, grid)
  )
  outside = {"zeros": [0.0], "fill": [0.5]}.get(padding_mode, [])
  assert warped.min() >= min([image.min(), *outside]) - 1e-5
  assert warped.max() <= max([image.max(), *outside]) + 1e-5


# Symmetries.


@pytest.mark.parametrize(
  ("method", "padding_mode"),
  [(method, "zeros") for method in stn.KERNELS if method != "linear"]
  + [("linear", padding_mode) for padding_mode in stn.PADDINGS],
)
@hypothesis.settings(max_examples=20)
@hypothesis.given(
  image=IMAGES, seed=st.integers(0, 2**32 - 1), align_corners=st.booleans()
)
def test_flips_and_transposes_commute_with_sampling(
  method, padding_mode, image, seed, align_corners
):
  """Away from integers and halves, where kernels and paddings jump."""
  grid = smooth_grid(SIZE, (6,), align_corners, seed)
  f = jitted(method, padding_mode, align_corners)
  warped = f(image, grid)
  close = functools.partial(np.testing.assert_allclose, atol=1e-4)
  x_flip, y_flip = np.array([[-1, 1], [1, -1]], np.float32)
  close(f(image[:, ::-1], grid * x_flip), warped)
  close(f(image[::-1], grid * y_flip), warped)
  close(f(image.swapaxes(0, 1), grid[:, ::-1]), warped)


@METHOD
@hypothesis.given(image=arrays(*SIZE, 3), order=st.permutations(range(3)))
def test_channels_are_sampled_alike(method, image, order):
  grid = np.linspace(-1.4, 1.3, 12, dtype=np.float32).reshape(6, 2)
  f = jitted(method)
  warped = np.asarray(f(image, grid))
  np.testing.assert_allclose(
    f(image[..., order], grid), warped[..., order], atol=1e-6
  )


# Batches.


@METHOD
@hypothesis.settings(max_examples=10)
@hypothesis.given(images=arrays(3, *SIZE, 2), grids=arrays(3, 6, 2))
def test_a_batch_is_a_loop(method, images, grids):
  batched = _batched(method)(images, grids)
  for warped, image, grid in zip(batched, images, grids, strict=True):
    expected = jitted(method)(image, grid)
    np.testing.assert_allclose(warped, expected, atol=1e-5)


@functools.cache
def _batched(method):
  return jax.jit(jax.vmap(functools.partial(stn.grid_sample, method=method)))


# Inverses.


def smooth_image(ndim, size=24):
  """A few bumps within the middle of the image, (size, ..., 2)."""
  points = np.asarray(stn.regular_grid((size,) * ndim))
  bumps = [
    np.exp(-6 * ((points - shift) ** 2).sum(-1)) for shift in (0.15, -0.2)
  ]
  return np.stack(bumps, -1)


@pytest.mark.parametrize(("name", "ndim"), INVERTIBLE)
@hypothesis.settings(max_examples=10)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_a_warp_and_its_inverse_return_a_smooth_image(name, ndim, seed):
  image = smooth_image(ndim)
  family = stn.get_transform(name, ndim=ndim)
  change = np.random.default_rng(seed).uniform(-0.12, 0.12, family.num_params)
  theta = (family.identity + change).astype(np.float32)
  there, back, composed = _there_and_back(name, ndim)(image, theta)
  middle = (slice(6, -6),) * ndim
  np.testing.assert_allclose(back[middle], image[middle], atol=0.06)
  # And the two transforms, composed, are the identity.
  np.testing.assert_allclose(composed, np.eye(ndim + 1), atol=1e-5)
  moved = stn.transform_grid(family, theta, image.shape[:-1])
  if np.max(abs(moved - stn.regular_grid(image.shape[:-1]))) > 0.1:
    assert np.max(abs(there - image)) > 0.01  # there was something to undo


@functools.cache
def _there_and_back(name, ndim):
  @jax.jit
  def run(image, theta):
    matrix = stn.to_matrix(name, theta, ndim=ndim)
    inverse = stn.invert(matrix)
    undo = stn.from_matrix("projective", inverse)
    there = stn.spatial_transform(image, theta, transform=name)
    back = stn.spatial_transform(there, undo, transform="projective")
    return there, back, stn.compose(matrix, inverse)

  return run


@hypothesis.given(st.data())
def test_warps_compose_in_the_order_that_compose_says(data):
  """Two warps are one by the composed matrix: the last one's points first."""
  thetas = [data.draw(arrays(6, low=-0.125, high=0.125)) for _ in range(2)]
  image, identity = smooth_image(2), stn.get_transform("affine").identity
  one, two = (identity + theta for theta in thetas)
  twice, once = _twice_and_once(image, one, two)
  middle = np.s_[6:-6, 6:-6]
  np.testing.assert_allclose(twice[middle], once[middle], atol=0.06)


@jax.jit
def _twice_and_once(image, one, two):
  twice = stn.spatial_transform(stn.spatial_transform(image, one), two)
  both = stn.compose(stn.to_matrix("affine", two), stn.to_matrix("affine", one))
  once = stn.spatial_transform(image, stn.from_matrix("affine", both))
  return twice, once
