import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from stn.metrics import (
  classification_sums,
  cross_entropy,
  error_interval,
  summarise,
)

CLASSES = 5
sums_of = jax.jit(classification_sums)


def batch(size, seed=0):
  """Logits and labels; about half the answers are right."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, CLASSES, size).astype(np.int32)
  logits = rng.normal(size=(size, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
  return jnp.asarray(logits, jnp.float32), jnp.asarray(labels)


def test_cross_entropy_is_the_negative_log_softmax():
  logits, labels = batch(20)
  log_softmax = scipy.special.log_softmax(np.asarray(logits, float), axis=1)
  expected = -log_softmax[np.arange(20), labels]
  np.testing.assert_allclose(
    cross_entropy(logits, labels), expected, rtol=1e-5, atol=1e-6
  )


def test_cross_entropy_of_huge_logits_is_finite():
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
  losses = cross_entropy(logits, jnp.array([0, 1]))
  np.testing.assert_allclose(losses, [0, 2e4])


def test_sums_by_hand():
  logits, labels = batch(40)
  answers = np.argmax(logits, axis=1)
  assert 5 < np.sum(answers != labels) < 35
  right = answers == labels
  sums = sums_of(logits, labels)
  assert all(value.dtype == jnp.float32 for value in sums.values())
  assert sums["count"] == 40
  assert sums["errors"] == 40 - right.sum()
  expected = [np.sum(labels == c) for c in range(CLASSES)]
  np.testing.assert_array_equal(sums["class_count"], expected)
  expected = [np.sum(right & (labels == c)) for c in range(CLASSES)]
  np.testing.assert_array_equal(sums["class_correct"], expected)
  expected = np.sum(cross_entropy(logits, labels))
  np.testing.assert_allclose(sums["loss"], expected, rtol=1e-6)


@pytest.mark.parametrize("cuts", [[13], [1, 2, 39], [5, 5, 20]], ids=str)
def test_sums_over_split_batches_are_those_of_the_whole(cuts):
  logits, labels = batch(40)
  whole = sums_of(logits, labels)
  parts = [
    sums_of(*part)
    for part in zip(
      jnp.split(logits, cuts), jnp.split(labels, cuts), strict=True
    )
  ]
  for name, value in whole.items():
    total = sum(part[name] for part in parts)
    np.testing.assert_allclose(total, value, rtol=1e-6)


@pytest.mark.parametrize("filling", [0.0, 1e30, np.inf, -np.inf, np.nan])
def test_masked_examples_do_not_count(filling):
  logits, labels = batch(12)
  mask = np.arange(12) % 3 > 0
  filled = jnp.where(mask[:, None], logits, filling)
  # Eagerly: XLA makes a choice of a product with a mask, and hides its NaN.
  masked = classification_sums(filled, labels, jnp.asarray(mask))
  expected = sums_of(logits[mask], labels[mask])
  for name, value in expected.items():
    np.testing.assert_allclose(masked[name], value, rtol=1e-6, err_msg=name)


def test_a_mask_of_all_is_no_mask():
  logits, labels = batch(9)
  masked = sums_of(logits, labels, jnp.ones(9, bool))
  for name, value in sums_of(logits, labels).items():
    np.testing.assert_array_equal(masked[name], value)


def test_a_loss_that_is_nan_is_seen():
  logits, labels = batch(4)
  sums = sums_of(logits.at[2].set(jnp.nan), labels)
  assert np.isnan(sums["loss"])


@pytest.mark.parametrize(
  ("errors", "count"),
  [(0, 1), (1, 1), (0, 500), (500, 500), (3, 10), (120, 10_000), (1, 60_000)],
)
def test_interval_is_wilson_s(errors, count):
  expected = scipy.stats.binomtest(errors, count).proportion_ci(method="wilson")
  low, high = error_interval(errors, count)
  np.testing.assert_allclose((low, high), expected, rtol=1e-6, atol=1e-12)
  assert 0 <= low <= errors / count <= high <= 1


def test_summary_by_hand():
  summary = summarise(
    {
      "loss": np.float32(10),
      "errors": np.float32(2),
      "count": np.float32(8),
      "class_count": np.array([4, 0, 4], np.float32),
      "class_correct": np.array([4, 0, 2], np.float32),
    }
  )
  assert summary == {
    "error": 0.25,
    "error_ci95": list(error_interval(2, 8)),
    "loss": 1.25,
    "per_class_accuracy": [1.0, None, 0.5],  # no example of the second
    "samples": 8,
  }
  assert isinstance(summary["samples"], int)


def test_summary_is_ready_for_json():
  summary = summarise(sums_of(*batch(10)))
  assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_accuracy_of_classes_weighs_to_the_error():
  logits, labels = batch(50)
  summary = summarise(sums_of(logits, labels))
  share = np.bincount(labels, minlength=CLASSES) / 50
  accuracy = np.dot(summary["per_class_accuracy"], share)
  np.testing.assert_allclose(1 - accuracy, summary["error"], rtol=1e-6)
