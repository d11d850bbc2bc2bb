import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image

from configs import common
from stn.data import make_prepare, normalise
from stn.data.processing import global_contrast, local_contrast, to_float

KEY = jax.random.key(0)


def prepared(image, **fields):
  config = common.get_base().data
  config.update(fields)
  return make_prepare(config)(KEY, {"image": jnp.asarray(image)})["image"]


def test_bytes_become_floats_of_the_unit_interval():
  image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
  floats = to_float(jnp.asarray(image))
  assert floats.dtype == jnp.float32
  np.testing.assert_allclose(floats, image / 255.0, rtol=1e-6)
  assert (floats.min(), floats.max()) == (0, 1)
  assert to_float(floats) is floats


def test_bytes_that_are_no_images_stay_as_they_are():
  config = common.get_base().data
  example = {
    "image": jnp.full((4, 4, 1), 255, jnp.uint8),
    "clutter": jnp.full((2, 3, 3, 1), 255, jnp.uint8),
    "label": jnp.uint8(7),
    "target": jnp.array([70, 255], jnp.uint8),
  }
  made = make_prepare(config)(KEY, example)
  assert (made["image"].max(), made["clutter"].max()) == (1, 1)
  assert (made["label"], made["target"].tolist()) == (7, [70, 255])


def test_an_image_is_normalised_after_it_is_distorted():
  """What lies outside is black, not the mean."""
  image = np.full((28, 28, 1), 255, np.uint8)
  canvas = prepared(image, distortion="t", mean=(0.5,), std=(0.25,))
  assert set(np.unique(canvas.round(3))) >= {-2.0, 2.0}
  assert canvas.min() == -2


def test_mean_and_std_are_per_channel():
  image = random_image(4, 5, 3)
  mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)
  np.testing.assert_allclose(
    normalise(jnp.asarray(image), mean, std),
    (image - np.array(mean)) / np.array(std),
    rtol=1e-5,
    atol=1e-6,
  )


def test_as_many_numbers_as_channels():
  with pytest.raises(
    ValueError, match=r"`data.std` .* 1 or 3 .*got \(1.0, 2.0\)"
  ):
    normalise(jnp.zeros((2, 2, 3)), (), (1.0, 2.0))


def test_global_contrast_standardises_each_image():
  image = jnp.asarray(random_image(9, 8, 2)) * 3 + 5
  out = np.asarray(prepared(image, contrast="global"))
  np.testing.assert_allclose([out.mean(), out.std()], [0, 1], atol=1e-4)


def test_local_contrast_by_hand():
  image = jnp.asarray(random_image(7, 8, 2))
  out = local_contrast(image, size=3)
  padded = np.pad(image, [(1, 1), (1, 1), (0, 0)], constant_values=np.nan)
  windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))
  mean = np.nanmean(windows, axis=(-2, -1))
  std = np.maximum(np.nanstd(windows, axis=(-2, -1)), 0.05)
  np.testing.assert_allclose(out, (image - mean) / std, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("contrast", [global_contrast, local_contrast])
def test_one_grey_has_no_contrast(contrast):
  np.testing.assert_allclose(contrast(jnp.full((9, 9, 1), 0.7)), 0, atol=1e-4)


@pytest.mark.parametrize(
  ("fields", "match"),
  [
    ({"contrast": "lokal"}, "`data.contrast` must be .*Did you mean 'local'"),
    ({"distortion": "rst"}, "`data.distortion` must be one of"),
    (
      {"distortion": "rts", "distortion_options": {"angel": 3}},
      "`option of data.distortion` must be one of 'angle'.*got 'angel'",
    ),
  ],
)
def test_a_wrong_name_says_what_is_right(fields, match):
  with pytest.raises(ValueError, match=match):
    prepared(np.zeros((28, 28, 1), np.uint8), **fields)


def test_a_distortion_of_training_is_in_training_alone():
  config = common.get_base().data
  image = jnp.asarray(random_image(8, 8, 1))
  config.train_distortion = "jitter"
  config.train_distortion_options.angle = 30.0
  seen = {
    train: make_prepare(config, train=train)(KEY, {"image": image})["image"]
    for train in (True, False)
  }
  np.testing.assert_array_equal(seen[False], image)
  assert np.abs(seen[True] - image).max() > 0.01
  config.train_distortion = "jiter"
  make_prepare(config)
  with pytest.raises(
    ValueError, match="`data.train_distortion` must .*'jitter'"
  ):
    make_prepare(config, train=True)
