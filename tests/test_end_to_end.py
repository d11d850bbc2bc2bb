"""What a user does at the shell: train, stop, continue, evaluate."""

import json
import pathlib
import random
import signal
import time

import jax
import numpy as np
import pytest
from commands import SMALL, run, start, start_two

ROOT = pathlib.Path(__file__).parent.parent


def _lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def _final_params(workdir, step):
  """The arrays of a checkpoint, by path, read without the model."""
  import orbax.checkpoint as ocp

  folder = workdir / "checkpoints" / str(step) / "variables"
  with ocp.StandardCheckpointer() as reader:
    params = reader.restore(folder.absolute())["params"]
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return {jax.tree_util.keystr(k): np.asarray(v) for k, v in leaves}


@pytest.mark.long
def test_train_then_evaluate_by_command(tmp_path):
  workdir = tmp_path / "a rún of 数字"  # it may have any name
  args = (*SMALL, "--config.num_steps=30", f"--workdir={workdir}")
  out, _ = run("train.py", *args, env={"HOME": None, "TERM": "dumb"})
  assert "st_fcn: test error" in out
  result = json.loads((workdir / "result.json").read_text())
  assert result["model"] == "st_fcn"
  assert result["commit"]

  again, _ = run("train.py", *args)  # finished: says the same at once
  assert again.splitlines()[-1] == out.splitlines()[-1]

  out, _ = run("eval.py", f"--workdir={workdir}", "--split=test")
  metrics = json.loads(out)
  assert 100 * metrics["error"] == pytest.approx(result["error"])
  assert len(metrics["error_ci95"]) == 2
  assert len(metrics["error_by_class"]) == 10
  assert set(metrics["theta"]["transformer"]) == {"mean", "std", "min", "max"}

  _, err = run("eval.py", f"--workdir={workdir}", "--step=7", code=1)
  assert "No checkpoint of step 7" in err
  assert "Traceback" not in err

  turned = (f"--workdir={workdir}", "--invariance", "--turns=2")
  _, err = run("eval.py", *turned, code=1)
  assert "--turns and --degrees are not for --invariance" in err


# What a user writes in a folder of their own: a task, a network, a distortion,
# a data set, an optimiser, and a config that names them.
MINE = """
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from stn.data import ArraySource
from stn.models import FCLocalisation, SpatialTransformer
from stn.tasks import Caption, Task


def bars(config, split):
  number = {"train": 64, "test": 16}[split]
  places = np.arange(number) % 8
  images = np.zeros((number, 8, 8, 1), np.uint8)
  images[np.arange(number), :, places] = 255
  labels = places.astype(np.int32)
  return ArraySource({"image": images, "label": labels}, 8)


def dim(key, example, *, factor):
  place = example["label"] / 7
  return {**example, "image": factor * example["image"], "place": place}


def where_is_it(*, power=2):
  def error(outputs, batch):
    return jnp.abs(outputs[:, 0] - batch["place"])

  return Task(
    head=lambda spec: (1,),
    loss=lambda outputs, batch: error(outputs, batch) ** power,
    metrics={"distance": error, "far": lambda o, b: error(o, b) > 0.2},
    monitor="distance",
    answer=lambda outputs, batch: [Caption(f"{x:.1f}") for x in outputs[:, 0]],
  )


class Net(nn.Module):
  head: tuple
  width: int = 4

  @nn.compact
  def __call__(self, x, train: bool = False):
    x, _ = SpatialTransformer(FCLocalisation((4,)), name="first")(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x, _ = SpatialTransformer(FCLocalisation((4,)), name="second")(x)
    x = nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))
    return nn.Dense(self.head[0])(x)


def rmsprop(config, schedule):
  return optax.rmsprop(schedule)
"""
CONFIG = """
from configs import common


def get_config():
  config = common.get_base()
  config.experiment = "bars"
  config.task = {"name": "mine:where_is_it", "power": 1}
  config.model = {"name": "mine:Net", "width": 8}
  config.data.name = "mine:bars"
  config.data.distortion = "mine:dim"
  config.data.distortion_options.factor = 0.5
  config.data.batch_size = 16
  config.data.eval_batch_size = 16
  config.optim.name = "mine:rmsprop"
  config.num_steps = 90
  config.eval_every = 30
  config.num_pictures = 4
  return config.lock()
"""


@pytest.mark.slow  # the pages of docs/ do so too, one by one
def test_everything_of_one_s_own_from_a_folder_of_one_s_own(tmp_path):
  (tmp_path / "mine.py").write_text(MINE)
  (tmp_path / "bars.py").write_text(CONFIG)
  args = ("--config=bars.py", "--workdir=run")
  out, _ = run("train.py", *args, cwd=tmp_path)
  assert "mine:Net: test distance" in out
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  assert (result["task"], result["metric"]) == ("mine:where_is_it", "distance")
  assert result["error"] is None
  lines = _lines(tmp_path / "run")
  distances = [x["distance"] for x in lines if x["kind"] == "test"]
  assert distances[-1] < 0.8 * distances[0]  # it learns
  assert (tmp_path / "run" / "pictures.gif").exists()

  out, _ = run("eval.py", "--workdir=run", "--split=train", cwd=tmp_path)
  metrics = json.loads(out)
  assert set(metrics["theta"]) == {"first", "second"}
  assert metrics["samples"] == 64


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (("--config.optim.learning_rat=1",), 'Did you mean "learning_rate"'),
    (("--config.data.distortion_options.angel=1",), "Did you mean 'angle'"),
    (("--config.model.localisation_options=1",), "`1` is not a dict"),
    (("--config.dat_options.x=1",), "has no field 'dat_options.x'"),
    (("--config.data.distortion=rotation",), "'none', 'p', 'r', 'rot'"),
    (("--config.model.name=mine:Net",), "no module 'mine' on the Python path"),
    (
      ("--config.data.name=mnist", "--config.data.data_dir=nowhere"),
      "python -m stn.data.prepare mnist --data_dir=nowhere",
    ),
  ],
)
def test_a_wrong_command_line_says_what_is_right(tmp_path, args, message):
  workdir = tmp_path / "run"
  _, err = run("train.py", *SMALL, *args, f"--workdir={workdir}", code=1)
  assert message in err
  assert not workdir.exists()


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_continues(tmp_path):
  args = (
    *SMALL,
    "--config.num_steps=3000",
    "--config.log_every=20",
    f"--workdir={tmp_path}",
  )
  process = start("train.py", *args)
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
  out, _ = run("train.py", *args)
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
  run("train.py", *args, f"--workdir={alone}")

  rng = random.Random(0)
  metrics = killed / "metrics.jsonl"
  for kill in range(10):
    process = start("train.py", *args, f"--workdir={killed}")
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
  run("train.py", *args, f"--workdir={killed}")

  expected, params = _final_params(alone, 4000), _final_params(killed, 4000)
  assert params.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(params[name], array, err_msg=name)
  steps = [
    [(x["step"], x["kind"], x["loss"]) for x in _lines(workdir)]
    for workdir in (alone, killed)
  ]
  assert steps[0] == steps[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_train_as_one(tmp_path):
  args = (*SMALL, "--config.num_steps=20", "--config.log_every=1")
  one, two = tmp_path / "one", tmp_path / "two"
  run("train.py", *args, f"--workdir={one}", devices=2)
  processes = start_two(two, *args)
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
  processes = start_two(tmp_path, *args)
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
