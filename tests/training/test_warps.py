"""What is measured of a transformer, its penalties, and when it warns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stn
from stn.models import Warp
from stn.training.penalty import make_penalty
from stn.training.warps import (
  Watch,
  problem,
  warp_statistics,
  warp_sums,
)

SIZE = (8, 10)
IDENTITY = stn.get_transform("affine").identity


def make_warp(thetas, size=SIZE):
  """Affine warps of one transformer, theta (N, 6)."""
  thetas = jnp.asarray(thetas, jnp.float32)
  grid = jax.vmap(lambda t: stn.transform_grid("affine", t, size))(thetas)
  image = jnp.zeros((len(thetas), *SIZE, 1))
  start = jnp.broadcast_to(IDENTITY, thetas.shape)[:, None]
  return Warp(thetas[:, None], grid[:, None], image, image[:, None], start)


def statistics(thetas, mask=None):
  mask = jnp.ones(len(thetas), bool) if mask is None else jnp.asarray(mask)
  sums = jax.jit(warp_sums)(make_warp(thetas), mask)
  sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
  return warp_statistics(sums, float(mask.sum()))


def scaled(x, y=None, right=0.0, down=0.0):
  return [x, 0.0, right, 0.0, x if y is None else y, down]


def test_the_identity_is_all_inside_and_still():
  found = statistics([scaled(1.0)] * 3)
  assert found["outside"] == [0.0]
  np.testing.assert_allclose(found["area"], 1, rtol=0.05)  # of few samples
  np.testing.assert_allclose(found["spread"], 0, atol=1e-4)


def test_the_area_is_that_of_the_determinant():
  one = statistics([scaled(1.0)])["area"][0]
  np.testing.assert_allclose(
    statistics([scaled(0.5, 0.25)])["area"][0] / one, 0.125, rtol=1e-5
  )


def test_a_row_of_pixels_has_no_area_and_has_not_collapsed():
  warp = make_warp([scaled(0.5), scaled(0.6)], (1, 8))
  sums = jax.jit(warp_sums)(warp, jnp.ones(2, bool))
  found = warp_statistics(jax.tree.map(np.asarray, sums), 2.0)
  assert found["area"] == [1.0]
  assert problem(found) is None


@pytest.mark.parametrize(("right", "share"), [(2.0, 1.0), (1.0, 0.5)])
def test_the_share_of_samples_outside(right, share):
  found = statistics([scaled(1.0, right=right)])
  np.testing.assert_allclose(found["outside"], [share])


def test_the_spread_is_in_pixels_of_the_input():
  """Two pixels to the right, or to the left: of 10 in [-1, 1]."""
  found = statistics([scaled(1.0, right=0.4), scaled(1.0, right=-0.4)])
  # Deviations along x and y are 2 and 0: their root mean square.
  np.testing.assert_allclose(found["spread"], np.sqrt(2), rtol=1e-5)


def test_masked_examples_do_not_count():
  thetas = [scaled(0.5), scaled(0.6), scaled(9.0, right=3.0)]
  some = statistics(thetas, [True, True, False])
  expected = statistics(thetas[:2])
  for name, value in expected.items():
    np.testing.assert_allclose(some[name], value, rtol=1e-5, err_msg=name)


# What is wrong.


@pytest.mark.parametrize(
  ("thetas", "expected"),
  [
    ([scaled(0.9, right=0.2), scaled(0.7)], None),
    ([scaled(1.0)] * 4, "does not move"),
    ([scaled(1.0, right=9.0), scaled(1.0, right=8.0)], "100 % of its samples"),
    ([scaled(0.05, right=0.1), scaled(0.06)], "it looks at 0.00"),
    ([scaled(0.05, 9.0), scaled(0.04, 9.0)], "of its samples are outside"),
  ],
)
def test_a_problem_is_named(thetas, expected):
  found = problem(statistics(thetas))
  assert (found is None) == (expected is None), found
  if expected:
    assert expected in found


def test_one_of_several_transformers_is_enough():
  fine = {"outside": 0.1, "area": 0.5, "spread": 3.0}
  both = {name: [value, value] for name, value in fine.items()}
  assert problem(both) is None
  assert "collapsed" in problem({**both, "area": [0.5, 0.001]})


def test_it_warns_once_of_each_and_not_at_the_start():
  still = {"outside": [0.0], "area": [1.0], "spread": [0.0]}
  watch = Watch(100)
  assert watch.see(0, {"a": still}) == []
  assert watch.see(19, {"a": still}) == []
  [warning] = watch.see(20, {"a": still})
  assert "at step 20 the spatial transformer 'a' does not move" in warning
  assert "Try another optim.localisation_lr" in warning
  [other] = watch.see(40, {"a": still, "b": still})
  assert "'b'" in other


def test_a_training_says_so(config, tmp_path, capsys):
  """With a localisation network that never learns, in a line of its own."""
  from stn.training import train_and_evaluate

  with config.unlocked():
    config.optim.localisation_lr = 0.0
  train_and_evaluate(config, tmp_path / "run")
  lines = [x for x in capsys.readouterr().out.splitlines() if "Warning" in x]
  assert len(lines) == 1
  assert "does not move: its warps differ by 0.00 pixels" in lines[0]


# Penalties.


@pytest.mark.long
def test_a_penalty_of_samples_outside_leads_back_from_anywhere():
  def total(right):
    warps = {"st": make_warp([scaled(1.0, right=right)])}
    return make_penalty({"outside": 2.0, "theta": 0.0})(warps)[0]

  assert total(0.0) == 0
  np.testing.assert_allclose(total(10.0), 2 * 9.0, rtol=1e-5)
  for right, sign in ((10.0, 1.0), (-10.0, -1.0), (0.0, 0.0)):
    np.testing.assert_allclose(
      jax.grad(total)(right), 2 * sign, rtol=1e-5, atol=1e-6
    )


def test_a_penalty_of_theta_is_from_its_start():
  penalty = make_penalty({"outside": 0.0, "theta": 3.0})
  values = penalty({"st": make_warp([scaled(1.0), scaled(1.0, right=0.6)])})
  np.testing.assert_allclose(values, [0, 3 * 0.36 / 6], rtol=1e-5)


def test_penalties_of_transformers_add_up():
  warp = make_warp([scaled(2.0)])
  penalty = make_penalty({"outside": 1.0, "theta": 1.0})
  np.testing.assert_allclose(
    penalty({"a": warp, "b": warp}), 2 * penalty({"a": warp}), rtol=1e-6
  )


def test_a_negative_weight_is_named(config):
  from stn.training import Experiment

  with config.unlocked():
    config.penalty.outside = -1.0
  with pytest.raises(ValueError, match=r"`penalty.outside` must be 0 or more"):
    Experiment.build(config)


@pytest.mark.long
def test_a_training_with_penalties_reports_them_and_stays_nearer(config):
  """The same run, whose theta is held back."""
  from stn.training import Experiment

  distances = []
  for weight in (0.0, 100.0):
    with config.unlocked():
      config.penalty.theta = weight
      config.optim.localisation_lr = 1.0
    experiment = Experiment.build(config)
    state, calls = experiment.init_state(), [(step, 1) for step in range(6)]
    for batch in experiment.train_batches(calls):
      state, measured = experiment.train_step(1)(
        state, batch, experiment.train_key
      )
    assert ("penalty" in measured["sums"]) == (weight > 0)
    head = state.params["transformer"]["localisation_head"]["bias"]
    distances.append(float(np.abs(head - IDENTITY).max()))
  assert distances[1] < 0.5 * distances[0]
