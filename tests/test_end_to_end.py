"""What a user does at the shell: train, stop, continue, evaluate."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent

# An ST-FCN on the embedded digits that steps in about a millisecond.
SMALL = (
  "--config=configs/quickstart.py:model=st_fcn",
  "--config.model.features=(8,)",
  "--config.data.batch_size=8",
  "--config.num_pictures=0",
)


def _start(script, *args, devices=1, **kwargs):
  """Starts a script as a user would, in the repository's root."""
  env = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "NPROC": "16",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
  }
  env.pop("TFDS_DATA_DIR", None)
  if folder := jax.config.jax_compilation_cache_dir:  # as pytest's own
    env["JAX_COMPILATION_CACHE_DIR"] = folder
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  return subprocess.Popen(
    [sys.executable, script, *args],
    cwd=ROOT,
    env=env,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **kwargs,
  )


def _run(script, *args, code=0, **kwargs):
  """Runs a script to its end; returns what it printed."""
  process = _start(script, *args, **kwargs)
  out, err = process.communicate(timeout=240)
  assert process.returncode == code, f"{out}\n{err}"
  return out, err


def _lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def _final_params(workdir, step):
  """The arrays of a checkpoint, by path, read without the model."""
  import orbax.checkpoint as ocp

  folder = workdir / "checkpoints" / str(step) / "params"
  with ocp.StandardCheckpointer() as reader:
    params = reader.restore(folder.absolute())
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return {jax.tree_util.keystr(k): np.asarray(v) for k, v in leaves}


def test_train_then_evaluate_by_command(tmp_path):
  workdir = tmp_path / "run"
  args = (*SMALL, "--config.num_steps=30", f"--workdir={workdir}")
  out, _ = _run("train.py", *args)
  assert "st_fcn: test error" in out
  result = json.loads((workdir / "result.json").read_text())
  assert result["model"] == "st_fcn"
  assert result["commit"]

  again, _ = _run("train.py", *args)  # finished: says the same at once
  assert again.splitlines()[-1] == out.splitlines()[-1]

  out, _ = _run("eval.py", f"--workdir={workdir}", "--split=test")
  metrics = json.loads(out)
  assert 100 * metrics["error"] == pytest.approx(result["error"])
  assert len(metrics["error_ci95"]) == 2
  assert len(metrics["per_class_accuracy"]) == 10
  assert set(metrics["theta"]) == {"mean", "std", "min", "max"}

  _, err = _run("eval.py", f"--workdir={workdir}", "--step=7", code=1)
  assert "No checkpoint of step 7" in err
  assert "Traceback" not in err


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (("--config.optim.learning_rat=1",), 'Did you mean "learning_rate"'),
    (("--config.data.distortion=rotation",), "'none', 'r', 'rts'"),
    (
      ("--config.data.name=mnist", "--config.data.data_dir=nowhere"),
      "python -m stn.data.prepare mnist --data_dir=nowhere",
    ),
  ],
)
def test_a_wrong_command_line_says_what_is_right(tmp_path, args, message):
  workdir = tmp_path / "run"
  _, err = _run("train.py", *SMALL, *args, f"--workdir={workdir}", code=1)
  assert message in err
  assert not workdir.exists()


def test_sigterm_saves_and_the_same_command_continues(tmp_path):
  args = (
    *SMALL,
    "--config.num_steps=3000",
    "--config.log_every=20",
    f"--workdir={tmp_path}",
  )
  process = _start("train.py", *args)
  metrics = tmp_path / "metrics.jsonl"
  deadline = time.monotonic() + 120
  while not (metrics.exists() and '"train"' in metrics.read_text()):
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM
  assert "The same command continues." in err
  out, _ = _run("train.py", *args)
  assert "Continuing" in out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_at_random_moments_change_no_bit(tmp_path):
  args = (
    *SMALL,
    "--config.num_steps=4000",
    "--config.log_every=10",
    "--config.eval_every=150",
    "--config.checkpoint_every=20",
  )
  alone, killed = tmp_path / "alone", tmp_path / "killed"
  _run("train.py", *args, f"--workdir={alone}")

  rng = random.Random(0)
  metrics = killed / "metrics.jsonl"
  for kill in range(10):
    process = _start("train.py", *args, f"--workdir={killed}")
    if kill % 3 == 0:  # while it imports, reads, compiles or restores
      time.sleep(rng.uniform(0.1, 6))
    else:  # while it trains, evaluates or saves
      lines = metrics.read_text().count("\n") if metrics.exists() else 0
      lines += rng.randint(1, 15)
      deadline = time.monotonic() + 120
      while not metrics.exists() or metrics.read_text().count("\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
      time.sleep(rng.uniform(0, 0.2))
    assert process.poll() is None, "the run ended before it was killed"
    process.kill()
    process.communicate()
  _run("train.py", *args, f"--workdir={killed}")

  expected, params = _final_params(alone, 4000), _final_params(killed, 4000)
  assert params.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(params[name], array, err_msg=name)
  steps = [
    [(x["step"], x["kind"], x["loss"]) for x in _lines(workdir)]
    for workdir in (alone, killed)
  ]
  assert steps[0] == steps[1]


def _start_two(workdir, *args):
  """Starts a run of two processes with one device each."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  return [
    _start(
      "train.py",
      *args,
      f"--workdir={workdir}",
      f"--coordinator={address}",
      "--num_processes=2",
      f"--process_id={i}",
    )
    for i in range(2)
  ]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_train_as_one(tmp_path):
  args = (*SMALL, "--config.num_steps=20", "--config.log_every=1")
  one, two = tmp_path / "one", tmp_path / "two"
  _run("train.py", *args, f"--workdir={one}", devices=2)
  processes = _start_two(two, *args)
  ends = [process.communicate(timeout=200) for process in processes]
  assert [p.returncode for p in processes] == [0, 0], ends
  assert "test error" in ends[0][0]
  assert "test error" not in ends[1][0]  # only the first process talks
  losses = [[x["loss"] for x in _lines(workdir)] for workdir in (one, two)]
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sigterm_to_one_of_two_processes_stops_both_after_one_step(tmp_path):
  args = (*SMALL, "--config.num_steps=100000", "--config.log_every=20")
  processes = _start_two(tmp_path, *args)
  metrics = tmp_path / "metrics.jsonl"
  deadline = time.monotonic() + 200
  while not (metrics.exists() and '"train"' in metrics.read_text()):
    assert all(p.poll() is None for p in processes), [
      p.communicate() for p in processes
    ]
    assert time.monotonic() < deadline
    time.sleep(0.05)
  processes[1].send_signal(signal.SIGTERM)
  ends = [process.communicate(timeout=60) for process in processes]
  codes = [process.returncode for process in processes]
  assert codes == [128 + signal.SIGTERM] * 2, ends
  saved = [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
  step = max(int(p.name) for p in saved)
  assert step > 0
  assert all(f"after step {step}" in err for _, err in ends)
