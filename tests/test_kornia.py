"""Homographies and thin plate splines against kornia, of the extra `bench`."""

import jax
import numpy as np
import pytest
from cases import random_image

import stn

pytestmark = [
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
  pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def kornia():
  pytest.importorskip("torch")
  return pytest.importorskip("kornia")


def to_torch(array, channels=False):
  """A batch of one; of an image, channels first."""
  import torch

  tensor = torch.from_numpy(np.array(array))
  return (tensor.movedim(-1, 0) if channels else tensor)[None]


def homography(seed=0):
  change = np.random.default_rng(seed).uniform(-0.2, 0.2, 8)
  theta = stn.get_transform("projective").identity + change
  return theta.astype(np.float32)


def warp(image, theta, transform, output_size, align_corners):
  f = jax.jit(
    lambda image, theta: stn.spatial_transform(
      image,
      theta,
      transform=transform,
      output_size=output_size,
      align_corners=align_corners,
    )
  )
  return f(image, theta)


def test_homographies_of_normalised_points(kornia):
  """With `align_corners=True`: before 0.9 its grid knew no other rule."""
  image, theta = random_image(6, 7, 2), homography()
  theirs = kornia.geometry.transform.homography_warp(
    to_torch(image, channels=True),
    to_torch(stn.to_matrix("projective", theta)),
    (5, 4),
    mode="bilinear",
    padding_mode="zeros",
    align_corners=True,
  )
  ours = warp(image, theta, "projective", (5, 4), align_corners=True)
  np.testing.assert_allclose(ours, theirs[0].movedim(0, -1), atol=1e-5)


def test_homographies_of_pixels(kornia):
  """Its matrix goes from input to output pixels: ours the other way."""
  size, image, theta = (6, 7), random_image(6, 7, 2), homography(1)
  normalise = np.array(
    [[2 / (size[1] - 1), 0, -1], [0, 2 / (size[0] - 1), -1], [0, 0, 1]]
  )
  matrix = np.asarray(stn.to_matrix("projective", theta), np.float64)
  pixels = np.linalg.inv(np.linalg.inv(normalise) @ matrix @ normalise)
  theirs = kornia.geometry.transform.warp_perspective(
    to_torch(image, channels=True),
    to_torch(pixels.astype(np.float32)),
    size,
    align_corners=True,
  )
  ours = warp(image, theta, "projective", size, align_corners=True)
  np.testing.assert_allclose(ours, theirs[0].movedim(0, -1), atol=1e-4)


@pytest.mark.parametrize("affine", [False, True])
def test_thin_plate_splines(kornia, affine):
  """Both take the same points to the same places, and are affine if these are.

  Between they differ: its kernels stand on the targets, ours on the sources, as
  Bookstein's and SciPy's (tests/transforms/test_displacements.py).
  """
  rng = np.random.default_rng(0)
  axis = np.linspace(-1, 1, 3, dtype=np.float32)
  centres = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
  moves = rng.uniform(-0.3, 0.3, centres.shape).astype(np.float32)
  points = centres
  if affine:
    moves = centres @ moves[:2] + moves[2]
    points = rng.uniform(-1.2, 1.2, (20, 2)).astype(np.float32)
  targets = to_torch(centres + moves)
  transform = kornia.geometry.transform
  theirs = transform.warp_points_tps(
    to_torch(points),
    targets,
    *transform.get_tps_transform(to_torch(centres), targets),
  )
  family = stn.get_transform("tps", control_points=centres)
  ours = jax.jit(family.apply)(moves.reshape(-1), points)
  np.testing.assert_allclose(ours, theirs[0], atol=1e-4)
