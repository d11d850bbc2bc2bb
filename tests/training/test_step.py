"""The train step: devices, several steps a call, what it measures."""

import jax
import numpy as np
import pytest

from stn.training import Experiment, parts
from stn.training.sharding import make_mesh, process_rows


def _run(config, calls):
  """Trains; `calls` are the numbers of steps of each call."""
  experiment = Experiment.build(config)
  state, losses = experiment.init_state(), []
  firsts = np.cumsum([0, *calls[:-1]]).tolist()
  plan = list(zip(firsts, calls, strict=True))
  for (_, n), batch in zip(plan, experiment.train_batches(plan), strict=True):
    state, measured = experiment.train_step(n)(
      state, batch, experiment.train_key
    )
    losses.append(float(measured["sums"]["loss"]))
  return jax.device_get(state), losses, measured


def _record_parts(monkeypatch, num_bytes):
  """Sets what a part writes at least, and returns what is then decided."""
  decided, num_parts = set(), parts.num_parts

  def recorded(*args):
    decided.add(num_parts(*args))
    return num_parts(*args)

  monkeypatch.setattr(parts, "_CPU_BYTES", num_bytes)
  monkeypatch.setattr(parts, "num_parts", recorded)
  return decided


def _first_batch(experiment):
  [batch] = experiment.train_batches([(0, 1)])
  return batch


@pytest.fixture(scope="module")
def one_device():
  """The loss curve of one device, kept for the module."""
  return {}


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_loss_curve_does_not_depend_on_the_number_of_devices(
  config, one_device, devices
):
  with config.unlocked():
    config.num_devices = devices
  state, losses, _ = _run(config, [1] * 6)
  expected = one_device.setdefault("curve", losses)
  np.testing.assert_allclose(losses, expected, rtol=2e-5)
  expected = one_device.setdefault("params", state.params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    state.params,
    expected,
  )


@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.long
def test_a_distortion_is_drawn_once_or_at_every_step(config, redraw):
  """Nothing is learned, and every batch is the whole set."""
  with config.unlocked():
    config.data.redraw = redraw
    config.data.distortion = "r"
    config.optim.learning_rate = 0.0
    config.data.batch_size = len(
      Experiment.build(config).reader.source("train")
    )
  _, losses, _ = _run(config, [1] * 3)
  spread = np.ptp(losses) / np.mean(losses)
  assert spread > 1e-4 if redraw else spread < 1e-6


def test_a_distortion_of_training_keeps_the_size(config):
  with config.unlocked():
    config.data.train_distortion = "rts"
  match = "`data.train_distortion` must leave .* got 'rts', with .*42, 42"
  with pytest.raises(ValueError, match=match):
    Experiment.build(config)


@pytest.mark.long
def test_batch_statistics_are_of_the_global_batch(streamed_config):
  """With dropout, and records read by threads, on 1, 2 and 4 devices."""
  states = []
  for devices in (1, 2, 4):
    with streamed_config.unlocked():
      streamed_config.num_devices = devices
    state, losses, _ = _run(streamed_config, [1] * 3)
    states.append((state.params, state.model_state, np.array(losses)))
  for other in states[1:]:
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
      other,
      states[0],
    )


@pytest.mark.long
def test_several_steps_in_a_call_are_the_same_steps(config):
  apart, losses, last = _run(config, [1] * 4)
  together, sums, measured = _run(config, [4])
  np.testing.assert_allclose(sum(losses), sums[0], rtol=1e-5)
  assert int(together.step) == 4
  np.testing.assert_allclose(
    measured["norms"]["grad_norm"], last["norms"]["grad_norm"], rtol=1e-4
  )
  assert float(measured["sums"]["count"]) == 4 * config.data.batch_size
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    apart.params,
    together.params,
  )


@pytest.mark.long
def test_a_batch_in_parts_is_the_same_step(config, monkeypatch):
  with config.unlocked():
    config.num_devices = 4
  state, losses, measured = _run(config, [1] * 2)
  decided = _record_parts(monkeypatch, 1)
  parts_state, parts_losses, parts_measured = _run(config, [1] * 2)
  assert decided == {2}
  np.testing.assert_allclose(parts_losses, losses, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3),
    parts_measured,
    measured,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    parts_state.params,
    state.params,
  )


def test_training_moves_the_localisation_net_and_lowers_the_loss(config):
  with config.unlocked():
    config.optim.update({"learning_rate": 0.02, "schedule": "constant"})
  experiment = Experiment.build(config)
  before = jax.device_get(experiment.init_state().params)
  state, losses, _ = _run(config, [1] * 30)
  assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:3])
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, state.params)
  assert all(jax.tree.leaves(moved["transformer"]["localisation_head"]))


def test_the_state_is_donated(config):
  experiment = Experiment.build(config)
  state = experiment.init_state()
  experiment.train_step(1)(
    state, _first_batch(experiment), experiment.train_key
  )
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


@pytest.mark.long
def test_the_first_step_that_is_not_finite_is_named(config):
  with config.unlocked():
    config.optim.update(
      {"learning_rate": 1e30, "warmup": 0.0, "clip_norm": 0.0}
    )
  *_, alone = _run(config, [1])
  assert int(alone["bad_step"]) == -1
  *_, measured = _run(config, [6])
  assert 1 <= int(measured["bad_step"]) < 6


@pytest.mark.long
@pytest.mark.parametrize("parts", [1, 2])
def test_a_compiled_step_gathers_no_images(config, monkeypatch, parts):
  decided = _record_parts(monkeypatch, 1 if parts == 2 else 10**9)
  with config.unlocked():
    config.num_devices = 4
  experiment = Experiment.build(config)
  text = (
    experiment.train_step(1)
    .lower(
      experiment.init_state(),
      _first_batch(experiment),
      experiment.train_key,
    )
    .compile()
    .as_text()
  )
  assert "all-reduce" in text
  assert "all-gather" not in text
  assert decided == {parts}


def test_bfloat16_keeps_parameters_and_theta_in_float32(config):
  with config.unlocked():
    config.model.dtype = "bfloat16"
  state, losses, _ = _run(config, [1] * 2)
  assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {
    "float32"
  }
  assert np.isfinite(losses).all()


def test_the_batch_must_be_divisible_by_the_devices(config):
  with config.unlocked():
    config.num_devices = 4
    config.data.batch_size = 6
  with pytest.raises(ValueError, match=r"\(=6\).*divisible.*devices \(=4\)"):
    Experiment.build(config)


def test_there_must_be_as_many_devices_as_asked_for():
  with pytest.raises(ValueError, match="`num_devices` must be 1 to .*; got 99"):
    make_mesh(99)


def test_one_process_holds_all_rows():
  assert process_rows(make_mesh(4), 12) == slice(0, 12)
