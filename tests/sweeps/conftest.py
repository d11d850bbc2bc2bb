"""A config file to sweep, and a worker that trains nothing."""

import sys
import textwrap

import pytest

from stn.sweeps import ConfigFile

_CONFIG = """
  from configs import common, sweeps

  def get_config(arg=""):
    args = common.parse_arg(arg, model="fcn")
    config = common.get_base()
    config.data.validation_size = 500
    config.data.train_size = 64
    config.model.name = args["model"]
    config.model.features = (4,)
    config.num_steps = 4
    config.eval_every = 2
    config.log_every = 1
    config.num_pictures = 0
    config.data.eval_batch_size = 500
    return config.lock()

  def sweep():
    return sweeps.seeds(2)

  def sweep_lr():
    return sweeps.over("optim.learning_rate", 1e-3, 1e-2)

  def sweep_wrong():
    yield {"optim.learning_rat": 1e-3}

  def sweep_none():
    return []

  def sweep_search():
    yield {
      "optim.learning_rate": sweeps.log_uniform(1e-4, 1e-1),
      "optim.name": sweeps.choice("adamw", "sgd"),
      "optim.momentum": 0.5,
    }
"""

# Stands in for stn.sweeps.worker: writes what it does into the item's folder,
# two steps every 20 ms; a learning rate above 0.5 fails.
_WORKER = """
  import json, os, pathlib, signal, sys, time
  import filelock

  code = 0
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  for path in map(pathlib.Path, sys.argv[1:]):
    lock = filelock.FileLock(path / ".lock")
    try:
      lock.acquire(blocking=False)
    except filelock.Timeout:
      sys.exit(os.EX_TEMPFAIL)
    if (path / "result.json").exists():
      continue
    (path / "failed.json").unlink(missing_ok=True)
    config = json.loads((path / "item.json").read_text())["config"]
    rate = config["optim"]["learning_rate"]
    if rate > 0.5:
      print("first line")
      sys.exit("the learning rate is too large")
    file = path / "metrics.jsonl"
    done = file.read_text().count("validation") if file.exists() else 0
    for step in range(done, 4):
      time.sleep(0.02)
      with file.open("a") as lines:
        for kind in ("train", "validation"):
          lines.write(json.dumps({
            "step": step + 1, "num_steps": 4, "kind": kind, "seconds": 0.1,
            "loss": rate, "error": (rate - 0.01) ** 2 + 1 / (step + 1),
          }) + "\\n")
    with (path / "runs").open("a") as runs:
      runs.write("once\\n")
    (path / "result.json").write_text(json.dumps(
      {"metric": "error", "value": 1.0, "unit": "%"}))
    lock.release()
  sys.exit(code)
"""


@pytest.fixture
def file(tmp_path):
  """A config file with sweeps."""
  path = tmp_path / "swept.py"
  path.write_text(textwrap.dedent(_CONFIG))
  return ConfigFile(str(path))


@pytest.fixture
def fake(tmp_path):
  """The command of a worker that only writes files."""
  path = tmp_path / "worker.py"
  path.write_text(textwrap.dedent(_WORKER))
  return (sys.executable, str(path))
