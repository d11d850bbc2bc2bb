import pathlib

import numpy as np
import pytest

from configs import common
from stn.data import ArraySource, evaluation_batches, train_batch
from stn.data.compositions import Clutter, Pairs, compose

RNG = np.random.default_rng(0)


def source(size=12, seed=0):
  """Each image is filled with its own number."""
  images = np.arange(size, dtype=np.uint8) + 100 * seed
  images = np.broadcast_to(images[:, None, None, None], (size, 8, 8, 1))
  labels = np.arange(size, dtype=np.int32) % 10
  return ArraySource({"image": images.copy(), "label": labels}, 10)


def test_a_pair_is_two_images_and_the_sum_of_their_labels():
  pairs = Pairs(source(), source())
  batch = train_batch(pairs, 0, 0, 12)
  assert batch["image"].shape == (12, 8, 8, 2)
  first, second = batch["image"][:, 0, 0].T
  digits = np.stack([first % 10, second % 10], axis=1)
  np.testing.assert_array_equal(batch["digits"], digits)
  np.testing.assert_array_equal(batch["label"], digits.sum(axis=1))
  assert pairs.num_classes == 19
  assert len(set(second.tolist())) > 4  # partners are drawn


def test_clutter_is_cut_out_of_other_images():
  others = ArraySource(
    {
      "image": RNG.integers(0, 256, (5, 8, 9, 1), np.uint8),
      "label": np.zeros(5, np.int32),
    },
    1,
  )
  cluttered = Clutter(source(), others, number=30, size=3)
  patches = train_batch(cluttered, 0, 0, 4)["clutter"]
  assert patches.shape == (4, 30, 3, 3, 1)
  windows = np.lib.stride_tricks.sliding_window_view(
    others.arrays["image"], (3, 3), (1, 2)
  )
  there = {window.tobytes() for window in windows.reshape(-1, 9)}
  found = {patch.tobytes() for patch in patches.reshape(-1, 9)}
  assert found <= there
  assert len(found) > 60  # of 210


@pytest.mark.parametrize(
  "composed",
  [Pairs(source(), source()), Clutter(source(), source(5), 4, 2)],
  ids=["pairs", "clutter"],
)
class TestEvery:
  def test_spec_is_what_is_read(self, composed):
    batch = train_batch(composed, 0, 3, 5)
    assert batch.keys() == composed.spec.keys()
    for name, field in composed.spec.items():
      assert batch[name].shape == (5, *field.shape)
      assert batch[name].dtype == field.dtype

  def test_rows_of_processes_make_up_the_global_batch(self, composed):
    whole = train_batch(composed, 0, 1, 6)
    parts = [train_batch(composed, 0, 1, 6, slice(i, i + 3)) for i in (0, 3)]
    for name, value in whole.items():
      together = np.concatenate([part[name] for part in parts])
      np.testing.assert_array_equal(together, value)

  def test_an_example_is_drawn_afresh_in_training(self, composed):
    seen = [train_batch(composed, 0, step, 12) for step in (0, 1)]
    name = "clutter" if "clutter" in seen[0] else "digits"
    assert (seen[0][name] != seen[1][name]).any()

  def test_a_test_example_depends_on_seed_and_place_alone(self, composed):
    def read(batch_size, seed=0):
      batches = list(evaluation_batches(composed, batch_size, seed))
      return {
        name: np.concatenate([b[name] for b in batches])[:12]
        for name in composed.spec
      }

    one, other = read(4), read(5)
    for name, value in one.items():
      np.testing.assert_array_equal(value, other[name])
    name = "clutter" if "clutter" in one else "digits"
    assert (one[name] != read(4, seed=1)[name]).any()

  def test_taking_some_keeps_the_others(self, composed):
    taken = composed.take(np.array([3, 1]))
    assert len(taken) == len(taken.labels) == 2
    assert taken.spec == composed.spec


def test_patches_must_fit_into_the_images():
  with pytest.raises(ValueError, match="`size` of 1 to 8; got .*size=9"):
    Clutter(source(), source(), 4, 9)


@pytest.mark.parametrize(
  ("name", "options", "match"),
  [
    ("clutters", {}, "`data.composition` must be .*Did you mean 'clutter'"),
    ("clutter", {"nmber": 3}, "option of data.composition.*'number'"),
  ],
)
def test_a_wrong_name_says_what_is_right(name, options, match):
  config = common.get_base().data
  config.composition = name
  config.composition_options.update(options)
  with pytest.raises(ValueError, match=match):
    compose(source(), config, source)


def test_clutter_of_a_test_set_is_of_training_images():
  config = common.get_base().data
  config.composition = "clutter"
  config.composition_options.update({"number": 2, "size": 2})
  test = compose(source(), config, lambda: source(seed=1))
  patches = train_batch(test, 0, 0, 6)["clutter"]
  assert patches.min() >= 100


def test_pairs_of_a_test_set_are_of_test_images():
  config = common.get_base().data
  config.composition = "pairs"
  test = compose(source(seed=1), config, lambda: source())
  assert train_batch(test, 0, 0, 6)["image"].min() >= 100


def others(source, others):
  """A composition, by module:attribute, that is the other examples."""
  del source
  return others


def test_a_composition_of_one_s_own_gets_training_images(monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
  config = common.get_base().data
  config.composition = "test_compositions:others"
  train = source(seed=1)
  assert compose(source(), config, lambda: train) is train


def test_pairs_are_of_grey_images():
  images = np.zeros((2, 4, 4, 3), np.uint8)
  rgb = ArraySource({"image": images, "label": np.arange(2)}, 2)
  with pytest.raises(ValueError, match=r"one channel; got images \(4, 4, 3\)"):
    Pairs(rgb, rgb)
