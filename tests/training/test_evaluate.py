import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn import metrics
from stn.data import DISTORTIONS, Dataset, evaluation_batches, get_distortion
from stn.evaluate import draw_test_images, evaluate, make_eval_step

SIZE = 23
KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
draw = jax.jit(draw_test_images, static_argnames="distort")
DATA = Dataset(
  RNG.integers(0, 256, (SIZE, 28, 28, 1), dtype=np.uint8),
  RNG.integers(0, 3, SIZE, dtype=np.int32),
  3,
)
PARAMS = jnp.asarray(RNG.normal(size=(28 * 28, 15)) / 28, jnp.float32)


def apply(params, images):
  """A linear model: 3 logits, and theta of 2 transformers of 6 parameters."""
  outputs = images.reshape(len(images), -1) @ params
  return outputs[:, :3], {"theta": 3 + outputs[:, 3:].reshape(-1, 2, 6)}


def batches(size):
  for batch in evaluation_batches(DATA, size):
    yield jax.tree.map(jnp.asarray, batch)


@pytest.fixture(scope="module")
def results():
  """By batch size, on a rotated test set."""
  step = jax.jit(make_eval_step(apply, get_distortion("r"), KEY))
  return {n: evaluate(step, PARAMS, batches(n)) for n in (SIZE, 1, 8, 40)}


@pytest.fixture(scope="module")
def whole():
  """Logits and theta of all examples at once."""
  images = draw(
    KEY, jnp.asarray(DATA.images), jnp.arange(SIZE), get_distortion("r")
  )
  logits, aux = apply(PARAMS, images)
  return logits, np.asarray(aux["theta"], np.float64)


@pytest.mark.parametrize("batch_size", [1, 8, 40])
def test_the_result_does_not_depend_on_the_batch_size(results, batch_size):
  """8 leaves a partial last batch, 40 fills up the only one."""
  one, other = results[SIZE], results[batch_size]
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for name in ("error", "error_ci95", "samples", "per_class_accuracy"):
    assert other[name] == one[name]
  np.testing.assert_allclose(other["loss"], one["loss"], rtol=1e-5)
  for name, value in one["theta"].items():
    np.testing.assert_allclose(other["theta"][name], value, rtol=1e-4)


def test_metrics_are_those_of_all_examples(results, whole):
  logits, _ = whole
  sums = metrics.classification_sums(logits, jnp.asarray(DATA.labels))
  expected = metrics.summarise(sums)
  assert 0 < expected["error"] < 1
  for batch_size in (8, SIZE):
    result = results[batch_size]
    assert result["samples"] == SIZE
    assert result["error"] == expected["error"]
    np.testing.assert_allclose(result["loss"], expected["loss"], rtol=1e-5)


def test_theta_statistics_are_numpy_s(results, whole):
  _, theta = whole
  expected = {
    "mean": theta.mean(axis=0),
    "std": theta.std(axis=0),
    "min": theta.min(axis=0),
    "max": theta.max(axis=0),
  }
  assert results[8]["theta"].keys() == expected.keys()
  for name, value in expected.items():
    assert value.shape == (2, 6)
    np.testing.assert_allclose(
      results[8]["theta"][name], value, rtol=1e-4, err_msg=name
    )


def test_results_are_ready_for_json(results):
  for result in results.values():
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_no_transformer_no_theta():
  step = make_eval_step(
    lambda params, images: (apply(params, images)[0], {}),
    get_distortion("none"),
    KEY,
  )
  result = evaluate(jax.jit(step), PARAMS, batches(SIZE))
  assert "theta" not in result


def test_the_std_of_a_constant_theta_is_zero_not_nan():
  def constant(params, images):
    logits, aux = apply(params, images)
    return logits, {"theta": jnp.full_like(aux["theta"], 0.1)}

  step = make_eval_step(constant, get_distortion("none"), KEY)
  result = evaluate(jax.jit(step), PARAMS, batches(8))
  np.testing.assert_allclose(result["theta"]["std"], 0, atol=1e-4)
  np.testing.assert_allclose(result["theta"]["mean"], 0.1, rtol=1e-6)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_test_image_depends_on_the_key_and_its_place_alone(name):
  """Not on who else is in the batch."""

  def take(key, places):
    images = jnp.asarray(DATA.images[places])
    return draw(key, images, jnp.asarray(places), DISTORTIONS[name])

  together = take(KEY, np.arange(8))
  places = np.array([6, 2, 2])
  apart = take(KEY, places)
  np.testing.assert_allclose(apart, together[places], atol=1e-6)
  np.testing.assert_array_equal(take(KEY, np.arange(8)), together)
  other = take(jax.random.key(6), np.arange(8))
  if name == "none":
    expected = DATA.images[:8] / np.float32(255)
    np.testing.assert_allclose(together, expected, rtol=1e-6)
    np.testing.assert_array_equal(other, together)
  else:
    assert np.abs(other - together).mean(axis=(1, 2, 3)).min() > 0.01


def test_places_get_draws_of_their_own():
  image = jnp.asarray(DATA.images[:1])
  images = draw(
    KEY, jnp.tile(image, (4, 1, 1, 1)), jnp.arange(4), get_distortion("r")
  )
  assert np.abs(images[1:] - images[:1]).mean(axis=(1, 2, 3)).min() > 0.01
