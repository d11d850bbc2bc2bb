"""The log-polar family: rotations and scales of the input are shifts."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import check_derivatives

import stn

SIZE = (48, 40)  # angles, radii
FAMILY = stn.get_transform("log_polar", min_radius=0.1, max_radius=0.9)


def blob(points):
  """A smooth image of no symmetry, as a function of points (..., 2)."""
  x, y = points[..., 0], points[..., 1]
  return jnp.exp(-8 * ((x - 0.3) ** 2 + 3 * (y + 0.1) ** 2)) + 0.3 * x


def look(image, theta=(0.0, 0.0)):
  """The log-polar map of an image that is a function."""
  grid = stn.transform_grid(FAMILY, jnp.array(theta), SIZE)
  return image(grid)


def turned(angle, scale, centre=(0.0, 0.0)):
  """The image, turned and enlarged about a centre."""
  c = jnp.array(centre)[None, None]
  cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
  back = jnp.array([[cos, sin], [-sin, cos]])
  return lambda points: blob(
    jnp.matmul(points - c, back.T, precision="highest")
  )


@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.2, -0.3)])
@pytest.mark.parametrize("steps", [1, 7, -12])
def test_a_rotation_about_the_centre_is_a_shift_of_the_rows(steps, centre):
  still = look(turned(0.0, 1.0, centre), centre)
  moved = look(turned(2 * math.pi * steps / SIZE[0], 1.0, centre), centre)
  np.testing.assert_allclose(moved, jnp.roll(still, steps, axis=0), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_scale_about_the_centre_is_a_shift_of_the_columns(steps):
  growth = math.log(0.9 / 0.1) / SIZE[1]  # of a column
  still = look(blob)
  moved = look(turned(0.0, math.exp(steps * growth)))
  np.testing.assert_allclose(moved[:, steps:], still[:, :-steps], atol=1e-5)


def test_radii_go_from_the_smallest_to_the_largest():
  points = jnp.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
  moved = FAMILY.apply(jnp.zeros(2), points)
  expected = [[0.1, 0], [math.sqrt(0.1 * 0.9), 0], [0.9, 0]]
  np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_theta_moves_every_point():
  points = stn.regular_grid(SIZE)
  theta = jnp.array([0.25, -0.5])
  still = FAMILY.apply(jnp.zeros(2), points)
  np.testing.assert_allclose(
    FAMILY.apply(theta, points) - still,
    jnp.broadcast_to(theta, points.shape),
    atol=1e-6,
  )


def test_the_padding_wrap_joins_the_last_row_and_the_first():
  """A sample half a row above the first is the mean of both."""
  warped = look(blob)[..., None]
  grid = jnp.array([[0.0, -1.0]])
  joined = stn.grid_sample(warped, grid, padding_mode="wrap")
  middle = (warped[:, 19:21].mean(axis=1)[jnp.array([0, -1])]).mean()
  np.testing.assert_allclose(joined[0, 0], middle, atol=1e-6)


def test_gradients(x64):
  points = np.random.default_rng(0).uniform(-1, 1, (4, 2))
  check_derivatives(FAMILY.apply, np.array([0.1, -0.2]), points, forward=True)


@pytest.mark.parametrize("ndim", [1, 3])
def test_it_is_of_the_plane(ndim, own_errors):
  with pytest.raises(ValueError, match=f"`ndim` must be 2 .*got {ndim}"):
    stn.get_transform("log_polar", ndim=ndim)


@pytest.mark.parametrize("radii", [(0.0, 1.0), (0.5, 0.5), (0.9, 0.1)])
def test_radii_rise(radii):
  with pytest.raises(
    ValueError, match="`min_radius` must be positive and less"
  ):
    stn.get_transform("log_polar", min_radius=radii[0], max_radius=radii[1])
