"""Digits on photographs: where they are drawn, and what their labels say."""

import numpy as np
import PIL.Image
import pytest

from configs import common
from stn import tasks
from stn.data import (
  ArraySource,
  DataNotFoundError,
  Numbers,
  Parts,
  evaluation_batches,
  load_photographs,
  train_batch,
)
from stn.data.compositions import compose

GREY = 90
WIDTHS = np.arange(4, 14)  # of the ten digits, over a height of 16


def blocks(size=20):
  """Digit d is a white block of WIDTHS[d] x 16 pixels in 28x28."""
  labels = np.arange(size, dtype=np.int32) % 10
  images = np.zeros((size, 28, 28, 1), np.uint8)
  for image, label in zip(images, labels, strict=True):
    image[6:22, 3 : 3 + WIDTHS[label]] = 255
  return ArraySource({"image": images, "label": labels}, 10)


@pytest.fixture(scope="module")
def wall(tmp_path_factory):
  """A folder with one photograph, which is grey all over."""
  folder = tmp_path_factory.mktemp("photographs")
  PIL.Image.new("RGB", (100, 80), (GREY,) * 3).save(folder / "wall.png")
  return str(folder)


def seen(image):
  """Digits of the blocks in an image, from the left, and their heights."""
  drawn = (image != GREY).any(axis=-1)
  columns = np.flatnonzero(np.diff(drawn.any(axis=0), prepend=0, append=0))
  found = []
  for start, stop in columns.reshape(-1, 2):
    height = drawn[:, start:stop].any(axis=1).sum()
    widths = np.abs((stop - start) / height * 16 - WIDTHS)
    found.append((int(widths.argmin()), int(height)))
  return found


def test_the_class_of_parts_is_the_pair_from_the_left(wall):
  # Of heights that keep the widths apart, and a wide canvas.
  parts = Parts(blocks(), blocks(), (100, 200), (80, 96), wall)
  batch = train_batch(parts, 0, 0, 20)
  assert parts.num_classes == 100
  assert len(set(batch["label"].tolist())) > 10
  checked = 0
  for image, label in zip(batch["image"], batch["label"], strict=True):
    digits = seen(image)
    if len(digits) == 2:  # else they touch
      checked += 1
      assert digits[0][0] * 10 + digits[1][0] == label
      assert all(80 <= height <= 96 for _, height in digits)
  assert checked > 10


def test_a_number_is_read_from_the_left(wall):
  numbers = Numbers(
    blocks(), blocks(), (100, 500), (80, 96), wall, lengths=(2, 4), places=6
  )
  batch = train_batch(numbers, 0, 0, 20)
  assert numbers.num_classes == 11
  lengths = set()
  for image, label in zip(batch["image"], batch["label"], strict=True):
    digits = seen(image)
    lengths.add(len(digits))
    assert len({height for _, height in digits}) == 1
    wanted = [digit for digit, _ in digits] + [10] * (6 - len(digits))
    np.testing.assert_array_equal(label, wanted)
  assert lengths == {2, 3, 4}


def test_a_number_that_is_too_wide_is_made_smaller(wall):
  most = ArraySource(
    {name: array[9::10] for name, array in blocks().arrays.items()}, 10
  )  # the widest digit
  numbers = Numbers(most, most, (64, 64), (28, 28), wall, lengths=(5, 5))
  for image in train_batch(numbers, 0, 0, 20)["image"]:
    digits = seen(image)
    assert len(digits) == 5
    assert digits[0][1] < 20


def test_colours_stand_out_in_every_channel(wall):
  parts = Parts(blocks(), blocks(), folder=wall)
  for image in train_batch(parts, 0, 0, 20)["image"]:
    difference = np.abs(image.astype(int) - GREY).reshape(-1, 3)
    assert (difference.max(axis=0) >= 0.34 * 255).all()


def test_backgrounds_are_crops_of_the_photographs():
  empty = blocks()
  empty.arrays["image"][:] = 0
  images = train_batch(Parts(empty, empty), 0, 0, 12)["image"]
  whole = [np.asarray(p).reshape(-1, 3) for p in load_photographs()]
  ranges = [(x.min(axis=0), x.max(axis=0)) for x in whole]
  for image in images:
    pixels = image.reshape(-1, 3)
    assert any(
      (low <= pixels).all() and (pixels <= high).all() for low, high in ranges
    )
    assert pixels.std() > 1
  assert (images[:-1] != images[1:]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("make", [Parts, Numbers])
class TestBoth:
  def test_spec_is_what_is_read(self, make):
    source = make(blocks(), blocks(), size=(40, 48))
    batch = train_batch(source, 0, 3, 5)
    assert batch.keys() == source.spec.keys()
    for name, field in source.spec.items():
      assert batch[name].shape == (5, *field.shape)
      assert batch[name].dtype == field.dtype
    assert batch["label"].max() < source.num_classes
    assert batch["image"].shape == (5, 40, 48, 3)

  def test_an_example_is_a_function_of_its_key(self, make):
    source = make(blocks(), blocks())
    whole = train_batch(source, 0, 1, 6)
    parts = [train_batch(source, 0, 1, 6, slice(i, i + 3)) for i in (0, 3)]
    for name, value in whole.items():
      together = np.concatenate([part[name] for part in parts])
      np.testing.assert_array_equal(together, value)
    other = train_batch(source, 0, 2, 6)
    assert (other["image"] != whole["image"]).any()

  def test_a_test_example_depends_on_seed_and_place_alone(self, make):
    source = make(blocks(), blocks())

    def read(batch_size, seed=0):
      batches = evaluation_batches(source, batch_size, seed)
      return np.concatenate([batch["image"] for batch in batches])[:20]

    np.testing.assert_array_equal(read(4), read(7))
    assert (read(4) != read(4, seed=1)).any()

  def test_taking_some_keeps_the_others(self, make):
    taken = make(blocks(), blocks()).take(np.array([3, 1]))
    assert len(taken) == len(taken.labels) == 2
    assert len(set(train_batch(taken, 0, 0, 40)["label"].ravel())) > 4

  @pytest.mark.parametrize(
    ("options", "match"),
    [
      ({"size": (64,)}, r"`size` must be \(H, W\).*got \(64,\)"),
      ({"height": (20, 10)}, r"`height` must be .*got \(20, 10\)"),
      ({"size": (16, 64)}, r"in \[1, 16\].*got \(16, 28\)"),
    ],
  )
  def test_a_wrong_size_says_what_is_right(self, make, options, match):
    with pytest.raises(ValueError, match=match):
      make(blocks(), blocks(), **options)

  def test_coloured_images_are_refused(self, make):
    images = np.zeros((3, 8, 8, 3), np.uint8)
    colours = ArraySource({"image": images, "label": np.arange(3)}, 10)
    with pytest.raises(ValueError, match=r"grey images .*got \(8, 8, 3\)"):
      make(colours, colours)


@pytest.mark.parametrize("lengths", [(0, 5), (3, 2), (1, 6), (2,)])
def test_lengths_must_fit_the_places(lengths):
  with pytest.raises(ValueError, match=r"`lengths` .* in \[1, 5\]"):
    Numbers(blocks(), blocks(), lengths=lengths)


def test_a_folder_without_photographs_is_an_error(tmp_path):
  with pytest.raises(DataNotFoundError, match=r"`folder` .*\*\.png"):
    load_photographs(str(tmp_path))


def test_by_config_and_for_the_tasks():
  config = common.get_base().data
  config.composition = "numbers"
  config.composition_options.update({"lengths": (1, 3), "places": 3})
  source = compose(blocks(), config, blocks)
  spec = tasks.Spec(source.spec, source.num_classes)
  assert tasks.make_task("sequence", blank=10).head(spec) == (3, 11)
  config.composition = "parts"
  config.composition_options = {}
  source = compose(blocks(), config, blocks)
  spec = tasks.Spec(source.spec, source.num_classes)
  assert tasks.make_task("classification").head(spec) == (100,)
