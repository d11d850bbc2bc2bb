import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from stn.metrics import (
  divide_groups,
  mean_interval,
  rate_interval,
  sum_examples,
  sum_groups,
  summarise,
)

RNG = np.random.default_rng(0)
VALUES = {
  "loss": jnp.asarray(RNG.normal(size=40), jnp.float32),
  "error": jnp.asarray(RNG.random(40) < 0.3),
}
GROUPS = jnp.asarray(RNG.integers(0, 4, 40))


def take(values, places):
  return {name: value[places] for name, value in values.items()}


def test_sums_by_hand():
  sums = sum_examples(VALUES)
  assert sums["count"] == 40
  assert sums["error"] == np.sum(VALUES["error"])
  np.testing.assert_allclose(sums["loss"], np.sum(VALUES["loss"]), rtol=1e-5)
  assert {value.dtype for value in sums.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("cuts", [[13], [1, 2, 39], [5, 5, 20]], ids=str)
def test_sums_over_split_batches_are_those_of_the_whole(cuts):
  whole = sum_examples(VALUES)
  parts = [
    sum_examples(take(VALUES, places))
    for places in np.split(np.arange(40), cuts)
    if len(places)
  ]
  for name, value in whole.items():
    np.testing.assert_allclose(sum(p[name] for p in parts), value, rtol=1e-5)


@pytest.mark.parametrize("filling", [1e30, np.inf, np.nan])
def test_masked_examples_do_not_count(filling):
  mask = np.arange(40) % 3 > 0
  filled = {"loss": jnp.where(mask, VALUES["loss"], filling)}
  masked = sum_examples(filled, jnp.asarray(mask))
  expected = sum_examples({"loss": VALUES["loss"][mask]})
  for name, value in expected.items():
    np.testing.assert_allclose(masked[name], value, rtol=1e-6, err_msg=name)
  groups = sum_groups(filled["loss"], GROUPS, 4, jnp.asarray(mask))
  expected = sum_groups(VALUES["loss"][mask], GROUPS[mask], 4)
  for name, value in expected.items():
    np.testing.assert_allclose(groups[name], value, rtol=1e-5, err_msg=name)


def test_a_value_that_is_nan_is_seen():
  values = {"loss": VALUES["loss"].at[2].set(jnp.nan)}
  assert np.isnan(sum_examples(values)["loss"])


def test_nan_stays_in_its_group():
  values = jnp.array([1.0, jnp.nan, 0.0, 1.0])
  sums = sum_groups(values, jnp.array([0, 0, 1, 2]), 4)
  first, *others = divide_groups(sums)
  assert np.isnan(first)
  assert others == [0.0, 1.0, None]


def test_groups_by_hand():
  means = divide_groups(sum_groups(VALUES["error"], GROUPS, 5))
  for group in range(4):
    members = np.asarray(GROUPS) == group
    expected = np.mean(np.asarray(VALUES["error"])[members])
    assert means[group] == pytest.approx(expected)
  assert means[4] is None  # no example of it


@pytest.mark.parametrize(
  ("events", "count"),
  [(0, 1), (1, 1), (0, 500), (500, 500), (3, 10), (120, 10_000), (1, 60_000)],
)
def test_the_interval_of_a_rate_is_wilson_s(events, count):
  expected = scipy.stats.binomtest(events, count).proportion_ci(method="wilson")
  low, high = rate_interval(events, count)
  np.testing.assert_allclose((low, high), expected, rtol=1e-6, atol=1e-12)
  assert 0 <= low <= events / count <= high <= 1


def test_the_interval_of_a_mean_is_the_normal_one():
  values = np.asarray(VALUES["loss"], np.float64)
  expected = scipy.stats.norm.interval(
    0.95, values.mean(), scipy.stats.sem(values)
  )
  got = mean_interval(values.sum(), (values**2).sum(), len(values))
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_interval_of_a_single_number_is_that_number():
  assert mean_interval(3.0, 9.0, 1) == (3.0, 3.0)


def test_a_summary_divides_and_is_ready_for_json():
  sums = sum_examples({**VALUES, "loss_square": VALUES["loss"] ** 2})
  summary = summarise(sums, ["loss", "error"], ["error"])
  assert summary["samples"] == 40
  assert summary["error"] == pytest.approx(np.mean(VALUES["error"]))
  assert summary["error_ci95"] == list(
    rate_interval(float(sums["error"]), 40.0)
  )
  low, high = summary["loss_ci95"]
  assert low < summary["loss"] < high
  assert json.loads(json.dumps(summary, allow_nan=False)) == summary
