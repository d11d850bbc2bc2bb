import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn.data import ArraySource, evaluation_batches, on_image
from stn.data.distortions import rotate
from stn.models import Warp
from stn.tasks import make_task
from stn.training.evaluate import (
  evaluate,
  make_eval_step,
  prepare_once,
)

SIZE = 23
KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
DATA = ArraySource(
  {
    "image": RNG.random((SIZE, 8, 8, 1), np.float32),
    "label": RNG.integers(0, 3, SIZE, dtype=np.int32),
  },
  3,
)
PARAMS = jnp.asarray(RNG.normal(size=(64, 15)) / 8, jnp.float32)
TASK = make_task("classification")
turn = on_image(rotate)


def apply(params, model_state, images, key, train):
  """A linear network: 3 logits, and theta of 2 transformers in parallel."""
  assert not train
  outputs = images.reshape(len(images), -1) @ params
  theta = 3 + outputs[:, 3:].reshape(-1, 2, 6)
  return outputs[:, :3], {"warps": {"first": warp_of(theta)}}, model_state


def warp_of(theta):
  """What a transformer of 4x4 pixels that looks at random places leaves."""
  n, k, _ = theta.shape
  grid = jax.random.normal(KEY, (n, k, 4, 4, 2))
  image = jnp.zeros((n, 8, 8, 1))
  return Warp(theta, grid, image, jnp.zeros((n, k, 4, 4, 1)), theta)


def batches(size):
  for batch in evaluation_batches(DATA, size, 0):
    yield jax.tree.map(jnp.asarray, batch)


def run(size, apply=apply, groups=3):
  step = jax.jit(make_eval_step(TASK, apply, turn, KEY, groups))
  return evaluate(step, PARAMS, {}, batches(size), TASK)


@pytest.fixture(scope="module")
def results():
  """By batch size, on a rotated test set."""
  return {n: run(n) for n in (SIZE, 1, 8, 40)}


@pytest.fixture(scope="module")
def whole():
  """Outputs and theta of all examples at once."""
  [batch] = batches(SIZE)
  prepared = jax.jit(lambda b: prepare_once(KEY, b, turn))(batch)
  outputs, aux, _ = apply(PARAMS, {}, prepared["image"], KEY, False)
  return outputs, np.asarray(aux["warps"]["first"].theta, np.float64)


@pytest.mark.long
@pytest.mark.parametrize("batch_size", [1, 8, 40])
def test_the_result_does_not_depend_on_the_batch_size(results, batch_size):
  """8 leaves a partial last batch, 40 fills up the only one."""
  one, other = results[SIZE], results[batch_size]
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for name in ("error", "error_ci95", "samples", "error_by_class"):
    assert other[name] == one[name]
  np.testing.assert_allclose(other["loss"], one["loss"], rtol=1e-5)
  for name, value in one["theta"]["first"].items():
    np.testing.assert_allclose(other["theta"]["first"][name], value, rtol=1e-4)


def test_metrics_are_those_of_all_examples(results, whole):
  outputs, _ = whole
  labels = DATA.labels
  wrong = np.argmax(outputs, axis=1) != labels
  assert 0 < wrong.mean() < 1
  losses = TASK.loss(outputs, {"label": jnp.asarray(labels)})
  for batch_size in (8, SIZE):
    result = results[batch_size]
    assert result["samples"] == SIZE
    assert result["error"] == wrong.mean()
    np.testing.assert_allclose(result["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(
      result["error_by_class"],
      [wrong[labels == label].mean() for label in range(3)],
      rtol=1e-6,
    )


def test_theta_statistics_are_numpy_s(results, whole):
  _, theta = whole
  expected = {
    "mean": theta.mean(axis=0),
    "std": theta.std(axis=0),
    "min": theta.min(axis=0),
    "max": theta.max(axis=0),
  }
  got = results[8]["theta"]["first"]
  assert got.keys() == expected.keys()
  for name, value in expected.items():
    assert value.shape == (2, 6)
    np.testing.assert_allclose(got[name], value, rtol=1e-4, err_msg=name)


def test_results_are_ready_for_json(results):
  for result in results.values():
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_what_is_not_there_is_not_reported():
  def plain(params, model_state, images, key, train):
    outputs, _, _ = apply(params, model_state, images, key, train)
    return outputs, {"warps": {}}, model_state

  result = run(SIZE, plain, groups=0)
  assert "theta" not in result
  assert "error_by_class" not in result


def test_the_std_of_a_constant_theta_is_zero_not_nan():
  def constant(params, model_state, images, key, train):
    theta = jnp.full((len(images), 1, 6), 0.1)
    warps = {"st": warp_of(theta)}
    return jnp.zeros((len(images), 3)), {"warps": warps}, model_state

  theta = run(8, constant)["theta"]["st"]
  np.testing.assert_allclose(theta["std"], 0, atol=1e-4)
  np.testing.assert_allclose(theta["mean"], 0.1, rtol=1e-6)


@pytest.mark.long
def test_a_test_example_depends_on_the_key_and_its_place_alone():
  """Not on who else is in the batch."""
  [batch] = batches(SIZE)

  def prepare(key, places):
    some = {name: value[places] for name, value in batch.items()}
    return prepare_once(key, some, turn)["image"]

  together = prepare(KEY, np.arange(8))
  places = np.array([6, 2, 2])
  np.testing.assert_allclose(prepare(KEY, places), together[places], atol=1e-6)
  other = prepare(jax.random.key(6), np.arange(8))
  assert np.abs(other - together).mean(axis=(1, 2, 3)).min() > 0.01


def test_places_get_draws_of_their_own():
  batch = {
    "image": jnp.tile(DATA.arrays["image"][:1], (4, 1, 1, 1)),
    "index": jnp.arange(4),
  }
  images = prepare_once(KEY, batch, turn)["image"]
  assert np.abs(images[1:] - images[:1]).mean(axis=(1, 2, 3)).min() > 0.01


def test_no_batches_are_refused():
  step = make_eval_step(TASK, apply, turn, KEY)
  with pytest.raises(ValueError, match="at least one batch; got none"):
    evaluate(step, PARAMS, {}, [], TASK)
