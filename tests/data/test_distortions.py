import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import random_image

import stn
from stn.data import DISTORTIONS, distortions, get_distortion, on_image
from stn.data.distortions import place, similarity_theta
from stn.data.scenes import paste, rotation_matrix

NAMES = pytest.mark.parametrize("name", DISTORTIONS)
# The size of what each makes of a digit; a volume is made small here.
SIZES = {
  "none": (28, 28, 1),
  "r": (28, 28, 1),
  "rts": (42, 42, 1),
  "p": (28, 28, 1),
  "e": (28, 28, 1),
  "t": (60, 60, 1),
  "jitter": (28, 28, 1),
  "jitter_light": (28, 28, 1),
  "tc": (60, 60, 1),
  "rot": (28, 28, 1),
  "cluttered": (40, 40, 1),
  "sim2mnist": (96, 96, 1),
  "addition": (42, 42, 1),
  "located": (84, 84, 1),
  "volume": (12, 12, 12, 1),
}
OPTIONS = {"volume": {"size": 12}}
CLUTTERED = ("tc", "cluttered", "sim2mnist")


def example_of(image, name, bright=0.0):
  """With patches, for those that paste them."""
  clutter = {"clutter": jnp.full((3, 4, 4, 1), bright)}
  return {"image": jnp.asarray(image)} | (clutter if name in CLUTTERED else {})


def keys(number, seed=0):
  return jax.random.split(jax.random.key(seed), number)


@functools.partial(jax.jit, static_argnames="name")
def distorted(name, keys, image):
  """One image, distorted by each key."""
  distort = get_distortion(name, **OPTIONS.get(name, {}))
  example = example_of(image, name)
  return jax.vmap(lambda key: distort(key, example)["image"])(keys)


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
  distort = get_distortion(name, **OPTIONS.get(name, {}))
  several = distorted(name, keys(3), image)
  assert several.shape == (3, *SIZES[name])
  assert several.dtype == jnp.float32
  np.testing.assert_array_equal(several, distorted(name, keys(3), image))
  for i in (2, 0):
    eager = distort(keys(3)[i], example_of(image, name))["image"]
    np.testing.assert_allclose(eager, several[i], atol=1e-5)
  differ = np.abs(several[0] - several[1]).max() > 0.1
  assert differ == (name != "none")


@NAMES
def test_black_stays_black_and_nothing_gets_brighter(name):
  image = np.ones((28, 28, 1), np.float32)
  images = distorted(name, keys(20), image)
  assert images.min() >= (1 - 1e-6 if name == "jitter" else 0)  # no border
  assert images.max() <= 1 + 1e-6
  assert not np.any(distorted(name, keys(20), 0 * image))


def test_none_is_the_very_image():
  image = jnp.asarray(random_image(5, 6, 3))
  example = {"image": image, "label": 3}
  assert get_distortion("none")(jax.random.key(0), example)["image"] is image


def test_an_unknown_name_lists_the_names():
  with pytest.raises(ValueError, match="`data.distortion` .*'none', 'p', 'r'"):
    get_distortion("rotate")


def test_an_unknown_option_lists_the_options():
  with pytest.raises(ValueError, match="'angle', 'canvas', 'scale'; got 'rot"):
    get_distortion("rts", rotation=3)


def brighter(key, example, *, factor=2.0):
  """A distortion of one's own, by module:attribute."""
  return {**example, "image": factor * example["image"]}


def test_a_distortion_of_one_s_own(monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
  distort = get_distortion("test_distortions:brighter", factor=3.0)
  image = distort(jax.random.key(0), {"image": jnp.ones(2)})["image"]
  assert image.tolist() == [3.0, 3.0]


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
    DISTORTIONS[name](key, {"image": jnp.zeros((*size, 1))})
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
  assert images.shape[1:3] == (42, 42)
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


def test_rot_turns_by_any_angle(monkeypatch):
  drawn = drawn_by(monkeypatch, "rot")
  assert is_uniform(np.degrees(drawn["angle"]), -180, 180, 1e-3)


def test_t_is_placed_anywhere_in_60_by_60(monkeypatch):
  drawn = drawn_by(monkeypatch, "t")
  assert is_uniform(drawn["shift"][:, 0], -16, 16)
  assert np.all(drawn["scale"] == 1)
  assert not np.any(drawn["angle"])


def test_a_scaled_frame_is_kept_whole():
  """Larger images move less: none is cut off, and a small one moves more."""
  options = {"scale": (1.0, 4.0), "canvas": (40, 40), "keep_whole": True}

  @jax.jit
  @jax.vmap
  def draw(key):
    return place(key, jnp.ones((10, 10, 1)), **options)

  canvas, shift = draw(keys(500))
  side = np.sqrt(np.asarray(canvas, np.float64).sum(axis=(1, 2, 3)))
  reach = np.abs(shift).max(axis=1) + side / 2
  assert reach.max() < 20.5
  assert reach.max() > 19
  assert np.abs(shift).max() > 10


def test_p_moves_the_corners_by_a_variance_of_5_pixels():
  """The centre of four corners moves by half as much as each; none is lost."""
  images = distorted("p", keys(500), blob())
  mass, x, y = mass_and_centre(images)
  assert (mass > 0.1 * blob().sum()).all()
  assert 0.9 < np.std(x) < 2
  assert 0.9 < np.std(y) < 2
  assert 0.5 < np.median(np.sqrt(mass / blob().sum())) < 1.1


def test_e_moves_its_control_points_by_a_pixel_and_a_half():
  """The centre lies between control points: it moves less than they do."""
  _, x, y = mass_and_centre(distorted("e", keys(400), blob(sigma=1.0)))
  assert 0.4 < np.std(x) < 1.5
  assert 0.4 < np.std(y) < 1.5


@pytest.mark.parametrize("name", CLUTTERED)
def test_patches_are_pasted_whole_into_the_canvas(name):
  distort = get_distortion(name)
  example = example_of(np.zeros((28, 28, 1), np.float32), name, bright=1.0)
  scene = distort(jax.random.key(3), example)
  assert set(scene) == {"image"}  # the patches are gone
  assert 16 <= float(scene["image"].sum()) <= 3 * 16
  assert set(np.unique(scene["image"])) == {0.0, 1.0}


def test_of_overlapping_patches_the_brighter_is_seen():
  canvas = jnp.full((4, 4, 1), 0.5)
  patches = jnp.stack([jnp.full((4, 4, 1), 0.9), jnp.full((4, 4, 1), 0.2)])
  pasted = paste(jax.random.key(0), canvas, patches)
  np.testing.assert_allclose(pasted, 0.9)


def test_addition_distorts_each_channel_by_itself():
  distort = get_distortion("addition", scale=(1.0, 1.0), angle=0.0)
  image = jnp.asarray(np.concatenate([blob(), blob()], axis=-1))

  @jax.jit
  @jax.vmap
  def draw(key):
    return distort(key, {"image": image})["image"]

  images = draw(keys(50))
  assert images.shape == (50, 42, 42, 2)
  _, x0, y0 = mass_and_centre(images[..., :1])
  _, x1, y1 = mass_and_centre(images[..., 1:])
  assert np.abs(np.corrcoef(x0, x1)[0, 1]) < 0.5
  assert np.hypot(x0 - x1, y0 - y1).max() > 6


def test_the_box_is_where_the_frame_is():
  distort = get_distortion("located")
  ones = jnp.ones((28, 28, 1))
  scenes = jax.jit(jax.vmap(lambda key: distort(key, {"image": ones})))(keys(9))
  _, x, y = mass_and_centre(scenes["image"])
  boxes = np.asarray(scenes["box"]) * 42
  np.testing.assert_allclose(boxes[:, [0, 2]].mean(axis=1), x, atol=0.1)
  np.testing.assert_allclose(boxes[:, [1, 3]].mean(axis=1), y, atol=0.1)
  np.testing.assert_allclose(boxes[:, 2] - boxes[:, 0], 28, rtol=1e-5)
  assert np.abs(scenes["box"]).max() <= 1


def test_a_rotation_matrix_by_hand():
  quarter = np.pi / 2
  x, y, z = np.eye(3, dtype=np.float32)
  for angles, start, end in (
    ((quarter, 0.0, 0.0), y, z),
    ((0.0, quarter, 0.0), z, x),
    ((0.0, 0.0, quarter), x, y),
  ):
    matrix = rotation_matrix(jnp.array(angles))
    np.testing.assert_allclose(matrix @ start, end, atol=1e-6)


def test_a_volume_holds_a_slab_of_the_digit():
  """Not turned: along depth it is the digit, a third of its height thick."""
  distort = get_distortion("volume", size=30, extent=0.9, angle=0.0)
  example = {"image": jnp.ones((28, 28, 1))}
  volume = np.asarray(jax.jit(distort)(jax.random.key(0), example)["image"])
  assert volume.shape == (30, 30, 30, 1)
  inside = volume[..., 0] > 0.5
  depth, height, width = (
    np.ptp(np.flatnonzero(inside.any(axis=axes))) + 1
    for axes in ((1, 2), (0, 2), (0, 1))
  )
  assert height == pytest.approx(27, abs=1.5)
  assert width == pytest.approx(27, abs=1.5)
  assert depth == pytest.approx(27 / 3, abs=1.5)


def test_on_image_leaves_the_rest_alone():
  scene = on_image(lambda key, image: -image)
  example = {"image": jnp.ones(2), "label": 7}
  assert scene(jax.random.key(0), example)["label"] == 7


def test_jitter_stays_within_its_limits():
  """Closed form: a spot in the middle moves by at most `shift`."""
  spot = jnp.asarray(blob(40, 30))
  jittered = jax.jit(
    jax.vmap(lambda key: distortions.jitter(key, spot, shift=0.1))
  )(keys(200))
  mass, x, y = mass_and_centre(jittered)
  assert 2.6 < np.abs(x).max() < 3.1  # of 3 pixels
  assert 3.6 < np.abs(y).max() < 4.1  # of 4
  scale = np.sqrt(mass / mass.mean())
  assert 0.8 < scale.min() < 0.9 < 1.1 < scale.max() < 1.2


def test_a_shadow_has_a_straight_edge_and_a_depth_within_its_limits():
  """On white: one side as it was, the other darker by one factor."""
  white = jnp.ones((20, 30, 3))
  relight = functools.partial(distortions.relight, exposure=(1.0, 1.0))
  images = jax.vmap(lambda key: relight(key, white, shadow=0.6))(keys(200))
  images = np.asarray(images)
  np.testing.assert_array_equal(images[..., :1], images[..., 1:2])
  depth = 1 - images.min(axis=(1, 2, 3))
  assert 0 <= depth.min() < 0.05
  assert 0.55 < depth.max() < 0.6
  between = (images < 1) & (images > images.min(axis=(1, 2), keepdims=True))
  assert between.mean() < 0.1  # two levels, and the edge between them
  # Both sides of the middle are in the shade alike.
  assert np.abs(images.mean(axis=0) - images.mean()).max() < 0.1


def test_an_exposure_is_a_factor_and_clips():
  image = jnp.full((4, 5, 1), 0.5)
  relight = functools.partial(distortions.relight, shadow=0.0)
  images = jax.vmap(lambda key: relight(key, image, exposure=(0.25, 4.0)))(
    keys(400)
  )
  factors = 2 * np.asarray(images)
  assert (factors == factors[:, :1, :1]).all()
  factors = factors[:, 0, 0, 0]
  assert 0.25 <= factors.min() < 0.27
  assert factors.max() == 2  # clipped at 1
  assert np.mean(factors == 2) == pytest.approx(0.25, abs=0.07)  # log-uniform
  assert np.mean(factors < 1) == pytest.approx(0.5, abs=0.08)


def test_a_volume_is_as_thick_as_it_says():
  example = {"image": jnp.ones((28, 28, 1))}
  options = {"size": 90, "extent": 0.6, "angle": 0.0}
  for thickness in (0.25, 0.5):
    distort = get_distortion("volume", thickness=thickness, **options)
    volume = jax.jit(distort)(jax.random.key(0), example)["image"][..., 0] > 0.5
    depth, height = (
      int(np.asarray(volume).any(axis=axes).sum()) for axes in ((1, 2), (0, 2))
    )
    assert depth / height == pytest.approx(thickness, abs=0.04)


def test_clutter_has_to_be_there():
  example = {"image": jnp.ones((28, 28, 1))}
  with pytest.raises(ValueError, match="`data.composition=clutter`; the ex"):
    get_distortion("tc")(jax.random.key(0), example)


def test_an_option_of_each_channel_is_checked():
  example = {"image": jnp.ones((28, 28, 2))}
  distort = get_distortion("addition", angel=3)
  with pytest.raises(ValueError, match="Did you mean 'angle'"):
    distort(jax.random.key(0), example)
