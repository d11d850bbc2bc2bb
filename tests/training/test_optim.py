"""Optimisers and schedules by config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common, mnist
from stn import models
from stn.training import optim

PARAMS = {
  "localisation": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
  "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
}
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def _update(grads, **fields):
  config = common.get_base().optim
  config.update(
    {"schedule": "constant", "weight_decay": 0.0, "clip_norm": 0.0} | fields
  )
  optimizer = optim.make_optimizer(config, 10)
  return optimizer.update(grads, optimizer.init(PARAMS), PARAMS)[0]


def test_the_paper_s_schedule_divides_by_ten_every_50_000_steps():
  config = mnist.get_config("recipe=paper")
  schedule = optim.make_schedule(config.optim, config.num_steps)
  steps = [0, 49_999, 50_001, 99_999, 100_001, 149_999]
  rates = [float(schedule(step)) for step in steps]
  np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4], 1e-5)


def test_cosine_warms_up_then_decays_to_zero():
  config = common.get_base().optim
  schedule = optim.make_schedule(config, 1000)
  peak = round(config.warmup * 1000)
  assert float(schedule(0)) == 0
  np.testing.assert_allclose(schedule(peak), config.learning_rate, rtol=1e-6)
  assert float(schedule(peak // 2)) < config.learning_rate
  np.testing.assert_allclose(schedule(1000), 0, atol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 3, 10])
def test_the_peak_is_reached_however_long_the_warm_up(num_steps):
  config = common.get_base().optim
  config.warmup = 0.95
  schedule = optim.make_schedule(config, num_steps)
  rates = [float(schedule(step)) for step in range(num_steps)]
  np.testing.assert_allclose(max(rates), config.learning_rate, rtol=1e-6)


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warm_up_is_a_share_of_the_steps(warmup):
  config = common.get_base().optim
  config.warmup = warmup
  with pytest.raises(ValueError, match=rf"`optim.warmup` must.*got {warmup}"):
    optim.make_schedule(config, 10)


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_localisation_learns_by_its_own_multiplier(name):
  plain = _update(ONES, name=name, localisation_lr=1.0)
  slow = _update(ONES, name=name, localisation_lr=0.1)
  np.testing.assert_allclose(
    slow["localisation"]["kernel"],
    0.1 * plain["localisation"]["kernel"],
    rtol=1e-6,
  )
  np.testing.assert_array_equal(slow["head"]["kernel"], plain["head"]["kernel"])


def test_the_multiplier_rises_in_a_warm_up():
  config = common.get_base().optim
  config.update({"name": "sgd", "schedule": "constant", "learning_rate": 1.0})
  config.update({"weight_decay": 0.0, "clip_norm": 0.0})
  config.update({"localisation_lr": 0.5, "localisation_warmup": 0.3})
  optimizer = optim.make_optimizer(config, 10)
  state, rates = optimizer.init(PARAMS), []
  for _ in range(5):
    updates, state = optimizer.update(ONES, state, PARAMS)
    rates.append(-updates["localisation"]["bias"][0])
    np.testing.assert_array_equal(updates["head"]["bias"], -1)
  np.testing.assert_allclose(rates, [0.125, 0.25, 0.375, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize(("name", "rises"), [("sgd", True), ("adamw", False)])
def test_with_sgd_localisation_starts_slowly_by_default(name, rises):
  config = common.get_base().optim
  config.update({"name": name, "schedule": "constant", "clip_norm": 0.0})
  assert config.localisation_warmup is None
  default = optim.make_optimizer(config, 10)
  config.localisation_warmup = 0.4 if rises else 0.0
  said = optim.make_optimizer(config, 10)
  states = default.init(PARAMS), said.init(PARAMS)
  (first, _), (second, _) = (
    optimizer.update(ONES, state, PARAMS)
    for optimizer, state in zip((default, said), states, strict=True)
  )
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_multiplier_reaches_every_parameter_of_a_model_s_localisation():
  network = models.to_network(models.create_model("st_cnn", (10,)))
  params, _ = jax.eval_shape(
    network.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1))
  )
  marks = models.is_localisation(params)
  assert all(jax.tree.leaves(marks["transformer"]))
  assert not any(jax.tree.leaves(marks["classifier"]))


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_only_kernels_are_decayed(name):
  zeros = jax.tree.map(jnp.zeros_like, ONES)
  updates = _update(zeros, name=name, weight_decay=0.5, localisation_lr=1.0)
  assert (updates["head"]["kernel"] < 0).all()
  assert not updates["head"]["bias"].any()


def _norm(tree):
  return np.sqrt(sum((u**2).sum() for u in jax.tree.leaves(tree)))


def test_the_norms_of_localisation_and_of_the_rest_are_limited_each():
  fields = {"name": "sgd", "learning_rate": 1.0, "localisation_lr": 1.0}
  fields["localisation_warmup"] = 0.0
  grads = ONES | {"localisation": jax.tree.map(lambda x: 9 * x, PARAMS["head"])}
  updates = _update(grads, clip_norm=0.5, **fields)
  for part in ("localisation", "head"):
    np.testing.assert_allclose(_norm(updates[part]), 0.5, rtol=1e-6)
  # The head's gradient, of norm 2.4, is left alone whatever the other's.
  updates = _update(grads, clip_norm=3.0, **fields)
  np.testing.assert_allclose(_norm(updates["localisation"]), 3.0, rtol=1e-6)
  np.testing.assert_array_equal(updates["head"]["bias"], -ONES["head"]["bias"])


def test_momentum_accumulates():
  config = common.get_base().optim
  config.update({"name": "sgd", "schedule": "constant", "momentum": 0.9})
  config.update({"weight_decay": 0.0, "clip_norm": 0.0, "learning_rate": 1.0})
  config.localisation_lr = 1.0
  optimizer = optim.make_optimizer(config, 10)
  state = optimizer.init(PARAMS)
  _, state = optimizer.update(ONES, state, PARAMS)
  updates, _ = optimizer.update(ONES, state, PARAMS)
  np.testing.assert_allclose(updates["head"]["bias"], -1.9, rtol=1e-6)


def test_unknown_names_list_what_exists():
  with pytest.raises(ValueError, match="optim.name.*'adamw', 'sgd'.*'adamv'"):
    _update(ONES, name="adamv")
  with pytest.raises(
    ValueError, match=r"optim.schedule.*Did you mean 'cosine'"
  ):
    _update(ONES, name="sgd", schedule="cosin")


def test_the_state_does_not_depend_on_the_numbers():
  """Thus a checkpoint does not, and runs of a population have the same."""
  config = common.get_base().optim
  structures = set()
  for rate, decay in ((1.0, 0.0), (0.1, 0.5)):
    config.update({"localisation_lr": rate, "weight_decay": decay})
    state = optim.make_optimizer(config, 10).init(PARAMS)
    structures.add(str(jax.tree.structure(state)))
  assert len(structures) == 1
