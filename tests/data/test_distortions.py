import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import random_image

import stn
from stn.data import DISTORTIONS, distortions, get_distortion
from stn.data.distortions import CANVAS, similarity_theta

NAMES = pytest.mark.parametrize("name", DISTORTIONS)
SIZES = {"none": (28, 28, 1), "r": (28, 28, 1), "rts": (42, 42, 1)}


def keys(number, seed=0):
  return jax.random.split(jax.random.key(seed), number)


@functools.partial(jax.jit, static_argnames="name")
def distorted(name, keys, image):
  """One image, distorted by each key."""
  return jax.vmap(DISTORTIONS[name], in_axes=(0, None))(keys, image)


def blob(height=28, width=28, x=0.0, y=0.0, sigma=2.0):
  """A smooth spot, (x, y) pixels from the centre."""
  rows = np.arange(height)[:, None] - (height - 1) / 2 - y
  columns = np.arange(width) - (width - 1) / 2 - x
  spot = np.exp(-(rows**2 + columns**2) / (2 * sigma**2))
  return spot[..., None].astype(np.float32)


def mass_and_centre(images):
  """Of images (N, H, W, 1): the sum, and (x, y) from the centre."""
  images = np.asarray(images, np.float64)[..., 0]
  mass = images.sum(axis=(1, 2))
  height, width = images.shape[1:]
  x = (images.sum(axis=1) * (np.arange(width) - (width - 1) / 2)).sum(axis=1)
  y = (images.sum(axis=2) * (np.arange(height) - (height - 1) / 2)).sum(axis=1)
  return mass, x / mass, y / mass


# Every distortion.


def test_these_tests_cover_the_table():
  assert set(SIZES) == set(DISTORTIONS)


@NAMES
def test_pure_and_the_same_under_jit_and_vmap(name):
  image = jnp.asarray(np.abs(random_image(28, 28, 1)))
  distort = get_distortion(name)
  assert distort is DISTORTIONS[name]
  several = distorted(name, keys(3), image)
  assert several.shape == (3, *SIZES[name])
  assert several.dtype == jnp.float32
  np.testing.assert_array_equal(several, distorted(name, keys(3), image))
  for i in (2, 0):
    eager = distort(keys(3)[i], image)
    np.testing.assert_allclose(eager, several[i], atol=1e-5)
  differ = np.abs(several[0] - several[1]).max() > 0.1
  assert differ == (name != "none")


@NAMES
def test_black_stays_black_and_nothing_gets_brighter(name):
  image = np.ones((28, 28, 1), np.float32)
  images = distorted(name, keys(20), image)
  assert images.min() >= 0
  assert images.max() <= 1 + 1e-6
  assert not np.any(distorted(name, keys(20), 0 * image))


def test_none_is_the_very_image():
  image = jnp.asarray(random_image(5, 6, 3))
  assert get_distortion("none")(jax.random.key(0), image) is image


def test_an_unknown_name_lists_the_names():
  with pytest.raises(ValueError, match="`distortion` .*'none', 'r', 'rts'; go"):
    get_distortion("rotate")


# The closed forms of theta.


@jax.jit
def move(image, angle=0.0, scale=1.0, shift=(0.0, 0.0)):
  size = image.shape[:2]
  theta = similarity_theta(
    jnp.asarray(angle), jnp.asarray(scale), jnp.asarray(shift), size, size
  )
  return stn.spatial_transform(image, theta)


@pytest.mark.parametrize("quarters", [-1, 1, 2])
def test_a_quarter_turn_is_clockwise_and_exact(quarters):
  image = random_image(28, 28, 2)
  turned = move(image, angle=quarters * np.pi / 2)
  np.testing.assert_allclose(turned, np.rot90(image, -quarters), atol=1e-5)


def test_a_quarter_turn_does_not_shear_an_oblong_image():
  """Turned about the centre, in pixels: the part that stays inside is exact."""
  image = random_image(8, 12, 1)
  turned = move(image, angle=np.pi / 2)
  expected = np.rot90(image, -1)[2:10]  # 12 x 8, its central 8 rows
  np.testing.assert_allclose(turned[:, 2:10], expected, atol=1e-5)
  assert np.abs(turned[:, [0, 1, 10, 11]]).max() < 1e-4


@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, 2), (-4, 5)])
def test_a_shift_moves_the_content_right_and_down(x, y):
  image = random_image(9, 12, 1)
  padded = np.pad(image, [(9, 9), (12, 12), (0, 0)])
  expected = padded[9 - y : 18 - y, 12 - x : 24 - x]
  moved = move(image, shift=(float(x), float(y)))
  np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_scale_2_doubles_the_content():
  image = random_image(8, 12, 1)
  doubled = move(np.kron(image, np.ones((2, 2, 1), "f")), scale=0.5)
  # Half of a picture of 2x2 blocks: each pixel lies in the middle of a block.
  np.testing.assert_allclose(doubled[4:12, 6:18], image, atol=1e-5)
  mass, *_ = mass_and_centre(
    [move(blob(), scale=scale) for scale in (1.0, 2.0)]
  )
  np.testing.assert_allclose(mass[1] / mass[0], 4, rtol=1e-2)


def test_turn_then_move():
  """The centre of the content goes where the shift says, at any angle."""
  moved = move(blob(), angle=1.0, scale=0.8, shift=(4.0, -3.0))
  _, x, y = mass_and_centre(moved[None])
  np.testing.assert_allclose([x[0], y[0]], [4, -3], atol=1e-2)
  moved = move(blob(x=5.0), angle=np.pi / 2, shift=(0.0, 2.0))
  _, x, y = mass_and_centre(moved[None])
  np.testing.assert_allclose([x[0], y[0]], [0, 7], atol=1e-2)


def test_a_larger_canvas_adds_a_frame():
  image = random_image(8, 10, 1)
  theta = similarity_theta(0.0, 1.0, jnp.zeros(2), (8, 10), (12, 16))
  framed = jax.jit(stn.spatial_transform, static_argnames="output_size")(
    image, theta, output_size=(12, 16)
  )
  expected = np.pad(image, [(2, 2), (3, 3), (0, 0)])
  np.testing.assert_allclose(framed, expected, atol=1e-5)


# What is drawn.


def is_uniform(values, low, high, error=0.0):
  """In [low, high] but for `error`, up to its ends, like a uniform draw."""
  values = np.asarray(values)
  assert values.min() >= low - error
  assert values.max() <= high + error
  margin = (high - low) / 100 + error
  assert values.min() < low + margin
  assert values.max() > high - margin
  return scipy.stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3


def drawn_by(monkeypatch, name, number=2000, size=(28, 28)):
  """What `similarity_theta` is asked for: angle, scale and shift by key."""

  def draw(key):
    asked = {}

    def spy(angle, scale, shift, *sizes):
      asked.update(angle=angle, scale=scale, shift=shift)
      return similarity_theta(angle, scale, shift, *sizes)

    monkeypatch.setattr(distortions, "similarity_theta", spy)
    DISTORTIONS[name](key, jnp.zeros((*size, 1)))
    return asked

  return jax.jit(jax.vmap(draw))(keys(number))


def test_r_turns_by_90_degrees_either_way(monkeypatch):
  drawn = drawn_by(monkeypatch, "r")
  assert is_uniform(np.degrees(drawn["angle"]), -90, 90, 1e-4)
  assert np.all(drawn["scale"] == 1)
  assert not np.any(drawn["shift"])


def test_rts_draws_what_the_paper_says(monkeypatch):
  drawn = drawn_by(monkeypatch, "rts")
  assert is_uniform(np.degrees(drawn["angle"]), -45, 45, 1e-4)
  assert is_uniform(drawn["scale"], 0.7, 1.2)
  assert is_uniform(drawn["shift"][:, 0], -7, 7)
  assert is_uniform(drawn["shift"][:, 1], -7, 7)
  columns = [drawn["angle"], drawn["scale"], *drawn["shift"].T]
  correlation = np.corrcoef(np.stack(columns)) - np.eye(4)
  assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_rts_gives_an_oblong_image_the_room_there_is(monkeypatch):
  drawn = drawn_by(monkeypatch, "rts", size=(20, 40))
  assert is_uniform(drawn["shift"][:, 0], -1, 1)
  assert is_uniform(drawn["shift"][:, 1], -11, 11)


def test_r_turns_what_is_seen():
  """A spot right of the centre goes round from the top to the bottom."""
  images = distorted("r", keys(500), blob(x=8.0))
  mass, x, y = mass_and_centre(images)
  np.testing.assert_allclose(np.hypot(x, y), 8, atol=0.05)
  np.testing.assert_allclose(mass, mass.mean(), rtol=0.02)
  assert is_uniform(np.degrees(np.arctan2(y, x)), -90, 90, 0.5)


def test_rts_moves_and_scales_what_is_seen():
  images = distorted("rts", keys(500), blob())
  assert images.shape[1:3] == CANVAS == (42, 42)
  mass, x, y = mass_and_centre(images)
  assert is_uniform(x, -7, 7, 0.02)
  assert is_uniform(y, -7, 7, 0.02)
  scale = np.sqrt(mass / blob().sum())
  assert is_uniform(scale, 0.7, 1.2, 0.01)


def test_rts_turns_what_is_seen():
  """Two spots on a line: its angle, from the second moments."""
  images = distorted("rts", keys(500), blob(x=6.0) + blob(x=-6.0))
  angles = []
  _, centre_x, centre_y = mass_and_centre(images)
  for image, x, y in zip(images[..., 0], centre_x, centre_y, strict=True):
    dy, dx = np.meshgrid(*[np.arange(42) - 20.5] * 2, indexing="ij")
    dx, dy = dx - x, dy - y
    image = np.asarray(image, np.float64)
    xx, yy, xy = ((image * m).sum() for m in (dx * dx, dy * dy, dx * dy))
    angles.append(np.degrees(np.arctan2(2 * xy, xx - yy) / 2))
  assert is_uniform(angles, -45, 45, 0.5)
