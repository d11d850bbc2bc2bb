import collections
import itertools

import numpy as np
import pytest

from stn.data import (
  ArraySource,
  batch_indices,
  evaluation_batches,
  train_batch,
  train_batch_of_each,
)


def dataset(size):
  images = np.arange(size * 4, dtype=np.uint8).reshape(size, 2, 2, 1)
  labels = np.arange(size, dtype=np.int32) % 3
  return ArraySource({"image": images, "label": labels}, 3)


def stream(seed, steps, batch_size, size):
  parts = [batch_indices(seed, step, batch_size, size) for step in range(steps)]
  return np.concatenate(parts)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 25], ids=str)
def test_every_epoch_is_a_permutation_and_batches_run_over_its_end(batch_size):
  size, epochs = 10, 6
  steps = -(-epochs * size // batch_size)
  indices = stream(0, steps, batch_size, size)
  assert indices.shape == (steps * batch_size,)
  parts = indices[: epochs * size].reshape(epochs, size)
  np.testing.assert_array_equal(np.sort(parts), [np.arange(size)] * epochs)
  assert len({tuple(part) for part in parts}) == epochs


def test_the_stream_does_not_depend_on_the_batch_size():
  np.testing.assert_array_equal(stream(3, 12, 5, 16), stream(3, 2, 30, 16))


def test_a_batch_is_a_function_of_seed_and_step_alone():
  """Not of the batches drawn before: a restarted run goes on as it was."""
  forwards = {step: batch_indices(1, step, 6, 8) for step in range(20)}
  for step in (19, 3, 0, 11, 3):
    batch_indices(2, step, 5, 8)
    np.testing.assert_array_equal(batch_indices(1, step, 6, 8), forwards[step])


def test_the_stream_is_the_same_on_every_machine_and_version():
  assert stream(0, 2, 5, 8).tolist() == [5, 0, 6, 1, 7, 2, 4, 3, 2, 0]


def test_seeds_differ():
  streams = [tuple(stream(seed, 1, 50, 50)) for seed in range(5)]
  assert len(set(streams)) == 5


def test_epochs_of_one_seed_are_not_those_of_the_next():
  """As they would be, were a generator seeded by seed + epoch."""
  epochs = collections.Counter(
    tuple(stream(seed, 4, 50, 50)[50 * epoch :][:50])
    for seed, epoch in itertools.product(range(4), range(4))
  )
  assert set(epochs.values()) == {1}


def test_order_is_uniform():
  """Where the first example lands in 2,000 epochs of 4."""
  epochs = stream(0, 2000, 4, 4).reshape(2000, 4)
  counts = np.bincount(epochs.argmin(axis=1), minlength=4)
  assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 3 / 16)


def test_rows_of_processes_make_up_the_global_batch():
  data = dataset(10)
  indices = batch_indices(0, 1, 6, 10)
  whole = train_batch(data, 0, 1, 6)
  for name, array in data.arrays.items():
    np.testing.assert_array_equal(whole[name], array[indices])
  assert (whole["image"].dtype, whole["label"].dtype) == (np.uint8, np.int32)
  parts = [
    train_batch(data, 0, 1, 6, slice(start, start + 2)) for start in (0, 2, 4)
  ]
  for name, value in whole.items():
    together = np.concatenate([part[name] for part in parts])
    np.testing.assert_array_equal(together, value)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 10, 16])
def test_evaluation_goes_once_through_the_split(batch_size):
  data = dataset(10)
  batches = list(evaluation_batches(data, batch_size, 0))
  assert len(batches) == -(-10 // batch_size)
  for batch in batches:
    shapes = {name: value.shape for name, value in batch.items()}
    assert shapes == {
      "image": (batch_size, 2, 2, 1),
      "label": (batch_size,),
      "index": (batch_size,),
      "mask": (batch_size,),
    }
    assert (batch["index"].dtype, batch["mask"].dtype) == (np.int32, np.bool_)
  whole = {
    name: np.concatenate([batch[name] for batch in batches])
    for name in batches[0]
  }
  mask = whole["mask"]
  np.testing.assert_array_equal(whole["index"][mask], np.arange(10))
  np.testing.assert_array_equal(whole["image"][mask], data.arrays["image"])
  np.testing.assert_array_equal(whole["label"][mask], data.labels)


def test_evaluation_rows_of_processes_make_up_the_global_batches():
  data = dataset(5)
  whole = list(evaluation_batches(data, 4, 0))
  parts = [
    list(evaluation_batches(data, 4, 0, slice(i, i + 2))) for i in (0, 2)
  ]
  for first, second, batch in zip(*parts, whole, strict=True):
    for name, value in batch.items():
      together = np.concatenate([first[name], second[name]])
      np.testing.assert_array_equal(together, value)


class Keys(ArraySource):
  """Returns the keys it is given."""

  def read(self, indices, keys):
    return {"keys": keys}


def test_without_redraw_an_example_has_one_key():
  keys_only = Keys({"label": np.zeros(10, np.int32)}, 1)

  def keys_of(seed, redraw):
    """Of every example, in two epochs."""
    batches = [
      train_batch(keys_only, seed, i, 5, redraw=redraw) for i in range(4)
    ]
    order = [batch_indices(seed, i, 5, 10) for i in range(4)]
    keys = np.concatenate([batch["keys"] for batch in batches])
    index = np.concatenate(order)
    if not redraw:
      given = np.concatenate([batch["index"] for batch in batches])
      np.testing.assert_array_equal(given, index)
      assert given.dtype == np.int32
    keys = [keys[index == i] for i in range(10)]
    return np.array(keys)  # (10, 2, 2)

  once = keys_of(0, False)
  np.testing.assert_array_equal(once[:, 0], once[:, 1])
  assert len(np.unique(once[:, 0], axis=0)) == 10
  assert (once != keys_of(1, False)).any()
  fresh = keys_of(0, True)
  assert (fresh[:, 0] != fresh[:, 1]).any(axis=1).all()


@pytest.mark.parametrize("redraw", [True, False])
def test_the_batches_of_several_runs_are_those_of_each(redraw):
  data, seeds = dataset(10), (3, 1, 3)
  for step in range(4):  # over the end of an epoch
    together = train_batch_of_each(data, seeds, step, 4, redraw)
    for i, seed in enumerate(seeds):
      alone = train_batch(data, seed, step, 4, redraw=redraw)
      assert together.keys() == alone.keys()
      for name, field in alone.items():
        np.testing.assert_array_equal(together[name][i], field)
