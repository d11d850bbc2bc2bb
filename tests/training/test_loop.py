"""The loop: what a run leaves, how it stops, how it goes on."""

import importlib.util
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from stn import data
from stn.training import (
  CheckpointStore,
  Experiment,
  Interrupted,
  NonFiniteError,
  evaluate_run,
  train_and_evaluate,
)
from stn.training.progress import Progress
from stn.training.signals import caught_signals


def _lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def _final_state(config, workdir):
  like = Experiment.build(config).init_state()
  with CheckpointStore(workdir / "checkpoints", read_only=True) as store:
    return jax.device_get(store.restore(config.num_steps, like))


@pytest.fixture(scope="module")
def finished():
  """A run left alone, once for the module: its workdir and final state."""
  return {}


@pytest.fixture
def reference(config, finished, tmp_path_factory):
  if not finished:
    finished["workdir"] = tmp_path_factory.mktemp("reference")
    finished["result"] = train_and_evaluate(config, finished["workdir"])
    finished["state"] = _final_state(config, finished["workdir"])
  return finished


def test_a_run_leaves_config_metrics_checkpoints_and_result(config, reference):
  workdir, result = reference["workdir"], reference["result"]
  names = {path.name for path in workdir.iterdir()}
  assert names == {
    ".lock",
    ".lock_holder",
    "checkpoints",
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "result.json",
    "tensorboard",
  }
  lines = _lines(workdir)
  kinds = [(line["step"], line["kind"]) for line in lines]
  assert [k for k in kinds if k[1] == "train"] == [
    (step, "train") for step in range(1, 13)
  ]
  assert [k for k in kinds if k[1] == "validation"] == [
    (step, "validation") for step in (0, 6, 12)
  ]
  assert kinds[-1][1] == "test"
  assert json.loads((workdir / "result.json").read_text()) == result
  assert result["samples"] == 20
  assert result["config"]["seed"] == 0
  assert result["params"] == sum(
    leaf.size for leaf in jax.tree.leaves(reference["state"].params)
  )


def test_the_test_error_is_that_of_the_best_on_validation(config, reference):
  lines = _lines(reference["workdir"])
  errors = {x["step"]: x["error"] for x in lines if x["kind"] == "validation"}
  assert errors[reference["result"]["step"]] == min(errors.values())


def test_tensorboard_holds_scalars(reference):
  from tensorboardX.proto import event_pb2

  [file] = (reference["workdir"] / "tensorboard").iterdir()
  data, tags = file.read_bytes(), set()
  while data:  # records: length, checksum, event, checksum
    length = int.from_bytes(data[:8], "little")
    event = event_pb2.Event.FromString(data[12 : 12 + length])
    tags |= {value.tag for value in event.summary.value}
    data = data[16 + length :]
  assert {"train/loss", "train/grad_norm", "validation/error"} <= tags


def test_a_finished_run_returns_its_result_and_changes_nothing(
  config, reference
):
  workdir = reference["workdir"]
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
  assert train_and_evaluate(config, workdir) == reference["result"]
  assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.long
def test_an_interrupted_run_continues_to_the_very_same_end(
  config, reference, tmp_path, monkeypatch, signum
):
  report = Progress.train

  def stop_at_4(self, step, metrics):
    report(self, step, metrics)
    if step == 4:
      os.kill(os.getpid(), signum)

  with monkeypatch.context() as patch:
    patch.setattr(Progress, "train", stop_at_4)
    with pytest.raises(Interrupted, match=f"{signum.name} after step 4"):
      train_and_evaluate(config, tmp_path)
  result = train_and_evaluate(config, tmp_path)
  jax.tree.map(
    np.testing.assert_array_equal,
    _final_state(config, tmp_path),
    reference["state"],
  )
  assert result["error"] == reference["result"]["error"]
  steps = [x["step"] for x in _lines(tmp_path) if x["kind"] == "train"]
  assert steps == list(range(1, 13))  # each once


@pytest.mark.long
def test_batch_statistics_dropout_and_records_continue_bit_for_bit(
  streamed_config, tmp_path, monkeypatch
):
  config = streamed_config
  train_and_evaluate(config, tmp_path / "alone")
  report = Progress.train

  def stop_at_4(self, step, metrics):
    report(self, step, metrics)
    if step == 4:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(Progress, "train", stop_at_4)
    with pytest.raises(Interrupted):
      train_and_evaluate(config, tmp_path / "stopped")
  train_and_evaluate(config, tmp_path / "stopped")
  alone, stopped = (
    _final_state(config, tmp_path / name) for name in ("alone", "stopped")
  )
  assert "batch_stats" in alone.model_state
  jax.tree.map(np.testing.assert_array_equal, alone, stopped)


@pytest.mark.long
def test_a_run_continues_on_another_number_of_devices(
  config, reference, tmp_path, monkeypatch
):
  report = Progress.train

  def stop_at_4(self, step, metrics):
    report(self, step, metrics)
    if step == 4:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(Progress, "train", stop_at_4)
    with pytest.raises(Interrupted):
      train_and_evaluate(config, tmp_path)
  with config.unlocked():
    config.num_devices = 4
  train_and_evaluate(config, tmp_path)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    _final_state(config, tmp_path).params,
    reference["state"].params,
  )


@pytest.mark.long
def test_a_loss_that_is_not_finite_stops_after_the_last_good_checkpoint(
  config, tmp_path
):
  with config.unlocked():
    config.optim.update({"learning_rate": 1e30, "clip_norm": 0.0})
    config.checkpoint_every = 1
  with pytest.raises(
    NonFiniteError, match=r"step \d+; the last good checkpoint is .* step \d+"
  ) as caught:
    train_and_evaluate(config, tmp_path)
  like = Experiment.build(config).init_state()
  with CheckpointStore(tmp_path / "checkpoints", read_only=True) as store:
    last = store.steps()[-1]
    state = store.restore(last, like)
  assert f"checkpoint is that of step {last}" in str(caught.value)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
  assert not (tmp_path / "result.json").exists()


def test_another_config_changes_nothing(config, reference):
  workdir = reference["workdir"]
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
  with config.unlocked():
    config.seed = 1
  with pytest.raises(ValueError, match="seed: there 0, here 1"):
    train_and_evaluate(config, workdir)
  assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("data.distortion", "rotate", "`data.distortion` must be one of .*'r', "),
    ("version", 1, "`version` of the config must be 5; got 1"),
    ("data.name", "tinny", "`data.name` .*tinny"),
    ("data.validation_size", 48, r"`data.validation_size` .*\[0, 48\).*got 48"),
    ("task.name", "classify", "`task.name` must be one of 'classification'"),
    ("model.name", "stcnn", "`model.name` .*Did you mean 'st_cnn'"),
    ("model.transform", "afine", "`transform` .*Did you mean 'affine'"),
    ("model.dtype", "float16", "`model.dtype` .*'bfloat16', 'float32'"),
    ("optim.name", "adam", "`optim.name` .*'adamw', 'sgd'"),
    ("log_every", 0, "`log_every` must be 1 or more; got 0"),
  ],
)
def test_a_bad_config_is_refused_before_anything_is_written(
  config, tmp_path, field, value, message
):
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError, match=message):
    train_and_evaluate(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_evaluating_a_run_agrees_with_its_result(config, reference):
  metrics = evaluate_run(reference["workdir"])
  assert metrics["step"] == reference["result"]["step"]
  assert 100 * metrics["error"] == pytest.approx(reference["result"]["error"])
  assert len(metrics["error_by_class"]) == 4
  assert np.shape(metrics["theta"]["transformer"]["mean"]) == (1, 6)
  json.dumps(metrics)


def test_evaluating_another_step_and_split(config, reference):
  lines = _lines(reference["workdir"])
  errors = {x["step"]: x["error"] for x in lines if x["kind"] == "validation"}
  metrics = evaluate_run(reference["workdir"], step=12, split="validation")
  assert metrics["error"] == pytest.approx(errors[12])
  assert metrics["samples"] == 16


def test_evaluating_turned_copies(reference):
  metrics = evaluate_run(reference["workdir"], turns=4, degrees=90.0)
  once = evaluate_run(reference["workdir"])
  assert (metrics["turns"], metrics["degrees"]) == (4, 90.0)
  assert (once["turns"], once["degrees"]) == (1, 360.0)
  assert metrics["loss"] != once["loss"]
  # What the transformer does is shown of the image as it is.
  assert metrics["theta"] == once["theta"]
  with pytest.raises(ValueError, match="`turns` must be 1 or more; got 0"):
    evaluate_run(reference["workdir"], turns=0)


def test_evaluating_reads_no_other_split(reference, monkeypatch):
  asked = []
  load_split = data.load_split

  def load(config, split):
    asked.append(split)
    return load_split(config, split)

  monkeypatch.setattr(data, "load_split", load)
  evaluate_run(reference["workdir"])
  assert asked == ["test"]


def test_a_run_of_an_older_version_is_refused(config, tmp_path):
  """Its config had no version."""
  old = config.to_dict()
  del old["version"], old["task"]
  (tmp_path / "config.json").write_text(json.dumps(old))
  for call in (
    lambda: train_and_evaluate(config, tmp_path),
    lambda: evaluate_run(tmp_path),
  ):
    with pytest.raises(ValueError, match="another version of stn"):
      call()
  assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_evaluating_an_unknown_split_lists_them(reference):
  with pytest.raises(ValueError, match="one of train, validation, test; got"):
    evaluate_run(reference["workdir"], split="valid")


@pytest.mark.skipif(
  importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib"
)
@pytest.mark.long
def test_pictures_are_drawn_at_every_evaluation_and_animated(config, tmp_path):
  with config.unlocked():
    config.update({"num_pictures": 5, "num_steps": 4, "eval_every": 2})
  train_and_evaluate(config, tmp_path / "run")
  names = [p.name for p in sorted((tmp_path / "run" / "pictures").iterdir())]
  assert names == [f"step_{step:07d}.png" for step in (0, 2, 4)]
  assert (tmp_path / "run" / "pictures.gif").stat().st_size < 200_000
  evaluate_run(tmp_path / "run", pictures=tmp_path / "examples.png")
  assert (tmp_path / "examples.png").stat().st_size < 60_000


def test_another_thread_than_the_main_one_catches_no_signals():
  def enter():
    with caught_signals() as caught:
      return caught, signal.getsignal(signal.SIGTERM)

  before = signal.getsignal(signal.SIGTERM)
  with ThreadPoolExecutor() as pool:
    assert pool.submit(enter).result() == ([], before)
  assert enter()[1] != before
  assert signal.getsignal(signal.SIGTERM) == before
