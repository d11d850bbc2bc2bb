"""Runs in one program: each as if it were alone."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from stn.training import (
  CheckpointStore,
  Experiment,
  Interrupted,
  NonFiniteError,
  parts,
  population_run,
  train_and_evaluate,
  train_population,
)
from stn.training.population import Population
from stn.training.population_record import PopulationRecord
from stn.training.population_run import plan_starts
from stn.training.sharding import make_mesh, make_run_mesh

NAMES = ("a", "b", "c")


def _vary(config, **fields):
  other = config.copy_and_resolve_references()
  with other.unlocked():
    options = fields.pop("options", {})
    other.update_from_flattened_dict(fields)
    other.data.distortion_options.update(options)
  return other


def _three(config, **fields):
  """Runs that differ in seed, learning rate and the distortion's strength."""
  return [
    _vary(
      config,
      **{"seed": i, "optim.learning_rate": 0.003 * (i + 1), **fields},
      options={"angle": 30.0 * (i + 1)},
    )
    for i in range(3)
  ]


def _lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def _state(config, workdir, step=12):
  like = Experiment.build(config).state_shape()
  with CheckpointStore(workdir / "checkpoints", read_only=True) as store:
    return jax.device_get(store.restore(step, like))


def _states(configs, folder):
  return [_state(c, folder / n) for c, n in zip(configs, NAMES, strict=True)]


def _train(configs, folder):
  return train_population(configs, [folder / n for n in NAMES[: len(configs)]])


def _equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def _close(a, b, rtol=1e-3, atol=1e-5):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
  )


pytestmark = pytest.mark.long  # each trains several runs, in several ways


@pytest.fixture(scope="module")
def kept():
  """What is trained once for the module."""
  return {}


@pytest.fixture
def together(config, kept, tmp_path_factory):
  """Three runs in one program: folder, rows, states."""
  if "together" not in kept:
    folder, configs = tmp_path_factory.mktemp("together"), _three(config)
    rows = _train(configs, folder)
    kept["together"] = folder, rows, _states(configs, folder)
  return kept["together"]


@pytest.fixture
def alone(config, kept, tmp_path_factory):
  """The same, one after the other."""
  if "alone" not in kept:
    folder, configs = tmp_path_factory.mktemp("alone"), _three(config)
    rows = [
      train_and_evaluate(c, folder / name)
      for c, name in zip(configs, NAMES, strict=True)
    ]
    kept["alone"] = folder, rows, _states(configs, folder)
  return kept["alone"]


def _interrupt(configs, folder, step, monkeypatch):
  report = PopulationRecord.train

  def stop(self, at, metrics):
    report(self, at, metrics)
    if at == step:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(PopulationRecord, "train", stop)
    with pytest.raises(Interrupted, match=f"SIGTERM after step {step}"):
      _train(configs, folder)


# As alone.


def test_every_run_is_what_it_is_alone(together, alone):
  _close(together[2], alone[2])
  for row, expected in zip(together[1], alone[1], strict=True):
    assert row["value"] == expected["value"]
    assert row["step"] == expected["step"]  # the best on validation
    assert row["config"] == expected["config"]
    assert (row["population"], expected["population"]) == (3, 1)
  assert len({row["loss"] for row in together[1]}) == 3


def test_every_run_leaves_the_files_and_numbers_that_it_leaves_alone(
  together, alone
):
  for name, row in zip(NAMES, together[1], strict=True):
    ours, theirs = together[0] / name, alone[0] / name
    assert {p.name for p in ours.iterdir()} == {
      p.name for p in theirs.iterdir()
    }
    assert json.loads((ours / "result.json").read_text()) == row
    lines, expected = _lines(ours), _lines(theirs)
    assert [(x["step"], x["kind"]) for x in lines] == [
      (x["step"], x["kind"]) for x in expected
    ]
    for one, other in zip(lines, expected, strict=True):
      assert one.keys() == other.keys()
      for key in ("loss", "error", "grad_norm"):
        if key in one:
          np.testing.assert_allclose(one[key], other[key], 1e-3, err_msg=key)
    checkpoints = [
      sorted(p.name for p in (w / "checkpoints").iterdir())
      for w in (ours, theirs)
    ]
    assert checkpoints[0] == checkpoints[1]


def test_finished_runs_return_their_rows_and_change_nothing(config, together):
  folder, rows, _ = together
  before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
  assert _train(_three(config), folder) == rows
  assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def _steps_of(trained, state, calls):
  """Takes steps; the state and what the last call measured."""
  batches = trained.train_batches(calls)
  for (_, count), batch in zip(calls, batches, strict=True):
    state, measured = trained.train_step(count)(state, batch, trained.train_key)
  return jax.device_get((state, measured))


def _check_steps(configs, calls):
  """Steps of a population are those of its runs alone."""
  population = Population.build(Experiment.build(configs[0]), configs)
  state, measured = _steps_of(population, population.init_state(), calls)
  for i, config in enumerate(configs):
    experiment = Experiment.build(config)
    expected = _steps_of(experiment, experiment.init_state(), calls)
    _close(population.split((state, measured))[i], expected)


@pytest.mark.slow
def test_batch_statistics_dropout_and_records_are_those_of_each_run(
  streamed_config,
):
  configs = [_vary(streamed_config, seed=seed) for seed in (3, 5)]
  _check_steps(configs, [(0, 1), (1, 1)])


@pytest.mark.slow
def test_several_steps_in_a_call_are_those_of_each_run(config):
  config = _vary(config, **{"optim.warmup": 0.0})
  configs = [
    _vary(
      config,
      **{
        "optim.learning_rate": rate,
        "optim.weight_decay": rate,
        "optim.localisation_lr": 2 * rate,
      },
    )
    for rate in (0.0, 0.05)  # a larger one makes much of rounding
  ]
  _check_steps(configs, [(0, 3)])


def test_dropout_is_drawn_for_the_parts_of_a_run_alone(config, monkeypatch):
  monkeypatch.setattr(parts, "num_parts", lambda *_: 2)
  config = _vary(config, **{"model.name": "fcn", "model.dropout": 0.5})
  _check_steps([_vary(config, seed=seed) for seed in range(2)], [(0, 1)])


def test_one_run_is_trained_as_alone(config, tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr(
    population_run,
    "train_and_evaluate",
    lambda *call: calls.append(call) or {"seed": 0},
  )
  assert _train([config], tmp_path) == [{"seed": 0}]
  assert calls == [(config, tmp_path / "a")]


@pytest.mark.slow
def test_pictures_are_drawn_for_each_run(config, tmp_path):
  pytest.importorskip("matplotlib")
  fields = {"num_pictures": 2, "num_steps": 2, "log_every": 2}
  configs = _three(config, **fields)[:2]
  _train(configs, tmp_path)
  for name in NAMES[:2]:
    pictures = sorted((tmp_path / name / "pictures").iterdir())
    assert [p.name for p in pictures] == [
      f"step_{step:07d}.png" for step in (0, 2)
    ]
    assert (tmp_path / name / "pictures.gif").exists()
  a, b = (tmp_path / name / "pictures" / pictures[1].name for name in NAMES[:2])
  assert a.read_bytes() != b.read_bytes()


# Devices.


@pytest.mark.parametrize(
  ("devices", "runs", "used", "slots"),
  [(1, 3, 1, 3), (4, 8, 4, 8), (4, 3, 3, 3), (4, 5, 3, 6), (4, 7, 4, 8)],
)
def test_devices_hold_equally_many_runs(devices, runs, used, slots):
  mesh, num_slots = make_run_mesh(make_mesh(devices), runs)
  assert (mesh.size, num_slots) == (used, slots)


def test_runs_on_several_devices_are_those_on_one(config, kept, together):
  configs = _three(_vary(config, num_devices=2))  # and one slot is a repetition
  population = Population.build(Experiment.build(configs[0]), configs)
  assert len(population.slots) == 4
  calls = [(step, 1) for step in range(12)]
  state, _ = _steps_of(population, population.init_state(), calls)
  _close(population.split(state), together[2])


def test_no_device_waits_for_another(config):
  configs = _three(_vary(config, num_devices=4))
  population = Population.build(Experiment.build(configs[0]), configs)
  state = population.init_state()
  [batch] = population.train_batches([(0, 1)])
  step = jax.jit(population.train_step(1))
  text = step.lower(state, batch, population.train_key).compile().as_text()
  for word in ("all-reduce", "all-gather", "all-to-all", "collective"):
    assert word not in text
  assert population.mesh.size == 3


# Stop and go on.


def test_an_interrupted_population_continues_to_the_very_same_end(
  config, together, tmp_path, monkeypatch
):
  configs = _three(config)
  _interrupt(configs, tmp_path, 4, monkeypatch)
  rows = _train(configs, tmp_path)
  _equal(_states(configs, tmp_path), together[2])
  assert [row["loss"] for row in rows] == [row["loss"] for row in together[1]]


@pytest.mark.slow
def test_after_a_kill_all_go_on_from_a_common_step(
  config, together, tmp_path, monkeypatch
):
  """Killed while it saved: a checkpoint is missing, and a new run's are all."""
  configs = _three(config)
  _interrupt(configs, tmp_path, 8, monkeypatch)
  shutil.rmtree(tmp_path / "a" / "checkpoints" / "8")
  _train(configs, tmp_path)
  _equal(_states(configs, tmp_path), together[2])
  for name in NAMES:
    lines, expected = _lines(tmp_path / name), _lines(together[0] / name)
    assert [(x["step"], x["kind"], x["loss"]) for x in lines] == [
      (x["step"], x["kind"], x["loss"]) for x in expected
    ]


@pytest.mark.slow
def test_a_run_goes_on_alone_or_with_others(
  config, alone, tmp_path, monkeypatch
):
  """And one that has no step in common with the others is apart."""
  configs = _three(config)
  _interrupt(configs[:2], tmp_path, 4, monkeypatch)
  train_and_evaluate(configs[0], tmp_path / "a")
  rows = _train(configs, tmp_path)
  _close(_states(configs, tmp_path), alone[2])
  assert [row["population"] for row in rows] == [1, 2, 2]


@pytest.mark.parametrize(
  ("steps", "starts"),
  [
    ([[4, 6], [4, 6]], [(6, [0, 1])]),
    ([[4, 6], [4]], [(4, [0, 1])]),
    ([[], [0]], [(0, [0, 1])]),
    ([[2], [4, 6], [4, 6]], [(6, [1, 2]), (2, [0])]),
    ([[2, 8], [2, 9]], [(8, [0]), (9, [1])]),  # 3 steps, not 8
  ],
)
def test_programs_start_where_it_takes_the_fewest_steps(steps, starts):
  found = plan_starts(dict(enumerate(steps)), 10)
  assert sorted(found) == sorted(starts)


# A run that is not finite.


def test_a_run_that_is_not_finite_is_frozen_and_changes_no_other(
  config, together, tmp_path, capsys
):
  configs = _three(config)
  with configs[1].unlocked():
    configs[1].optim.learning_rate = 1e30
    configs[1].checkpoint_every = 0
  first, error, last = _train(configs, tmp_path)
  assert isinstance(error, NonFiniteError)
  assert 1 <= error.step < 6
  assert "last good checkpoint is that of step 0" in str(error)
  lines = capsys.readouterr().out.splitlines()
  assert sum("not finite at step" in line for line in lines) == 1
  assert lines[0].startswith("step 0/12  validation 3 runs  loss ")
  assert lines[1].startswith("step 1/12  3 runs  loss ")
  assert lines[1].endswith(" images/s")
  assert " %)" in lines[1]
  assert sum(line.startswith("step 12/12  2 of 3 runs") for line in lines) == 1
  assert not (tmp_path / "b" / "result.json").exists()
  state = _state(configs[1], tmp_path / "b", 0)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
  steps = [x["step"] for x in _lines(tmp_path / "b")]
  assert max(steps) < error.step
  for i, row in ((0, first), (2, last)):
    _equal(_state(configs[i], tmp_path / NAMES[i]), together[2][i])
    assert row["loss"] == together[1][i]["loss"]


def test_it_is_frozen_at_the_same_step_of_a_call(config):
  config = _vary(config, **{"optim.warmup": 0.0, "optim.clip_norm": 0.0})
  rates = {"optim.learning_rate": 1e30}
  configs = [config, _vary(config, **rates)]
  population = Population.build(Experiment.build(config), configs)
  one, measured = _steps_of(
    population, population.init_state(), [(i, 1) for i in range(6)]
  )
  many, merged = _steps_of(population, population.init_state(), [(0, 6)])
  good, bad = population.split(measured["bad_step"])
  assert good == -1
  assert 1 <= bad < 6
  _equal(merged["bad_step"], measured["bad_step"])
  _equal(one.step, np.array([6, bad]))
  _equal(many.step, one.step)
  finite = jax.tree.map(lambda x: np.isfinite(x).all(), one.params)
  assert all(jax.tree.leaves(finite))


def test_if_all_are_frozen_it_ends(config, tmp_path):
  rates = ({"optim.learning_rate": rate} for rate in (1e30, 2e30))
  errors = _train([_vary(config, **rate) for rate in rates], tmp_path)
  assert all(isinstance(error, NonFiniteError) for error in errors)


# What is refused.


@pytest.mark.parametrize(
  ("fields", "workdirs", "message"),
  [
    ({}, ["a"], "`workdirs` must be one for each .*; got 1 for 2"),
    ({}, ["a", "x/../a"], "`workdirs` must be different folders"),
    (
      {"model.name": "fcn"},
      ["a", "b"],
      "`configs` must be of one group, .*got 2 groups.* differ in model.name",
    ),
    ({"optim.momentum": 0.9}, ["a", "b"], "differ in optim.momentum, seed"),
    ({"data.distortion": "rr"}, ["a", "b"], "differ in data.distortion, seed"),
  ],
)
def test_what_cannot_train_together_is_refused(
  config, tmp_path, fields, workdirs, message
):
  (tmp_path / "x").mkdir()
  configs = [config, _vary(config, seed=1, **fields)]
  with pytest.raises(ValueError, match=message):
    train_population(configs, [tmp_path / name for name in workdirs])
  assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_bad_config_is_refused_before_anything_is_written(config, tmp_path):
  config = _vary(config, **{"model.transform": "afine"})
  with pytest.raises(ValueError, match="Did you mean 'affine'"):
    _train([config, _vary(config, seed=1)], tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_workdir_of_another_run_is_refused(config, together, tmp_path):
  configs = _three(config)
  with pytest.raises(ValueError, match="seed: there 1, here 0"):
    train_population(configs[:2], [together[0] / "b", tmp_path / "a"])
  assert not list(tmp_path.iterdir())


def test_several_processes_are_refused(config, tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(ValueError, match="one process.*got 2 processes"):
    _train([config, _vary(config, seed=1)], tmp_path)


@pytest.mark.slow
@pytest.mark.optimised
def test_eight_seeds_of_the_quickstart_are_eight_runs(tmp_path):
  """The network and digits that users train, to float tolerance.

  Few steps: from about the tenth on, rounding that moves one coordinate over a
  pixel's edge takes two runs apart, as it does on two machines.
  """
  from configs import quickstart

  config = quickstart.get_config()
  with config.unlocked():
    config.num_steps, config.log_every, config.eval_every = 5, 1, 5
    config.optim.warmup = 0.9
    config.num_pictures, config.num_devices = 0, 1
  configs = [_vary(config, seed=seed) for seed in range(8)]
  folders = [tmp_path / f"together_{seed}" for seed in range(8)]
  train_population(configs, folders)
  for seed, (own, folder) in enumerate(zip(configs, folders, strict=True)):
    alone = tmp_path / f"alone_{seed}"
    train_and_evaluate(own, alone)
    ours, theirs = _lines(folder), _lines(alone)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    losses = [[line["loss"] for line in lines] for lines in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    states = [_state(own, path, 5) for path in (folder, alone)]
    _close(*states, rtol=1e-4, atol=1e-5)
