"""sweep.py as users call it."""

import json
import pathlib

import commands
import pytest

from stn.sweeps import Options, make_sweep, run, run_sweep
from stn.sweeps.folder import Item


def _sweep_py(*words, cwd, code=0):
  """What it printed, and its errors."""
  env = {"TF_CPP_MIN_LOG_LEVEL": "3"}
  return commands.run("sweep.py", *words, cwd=cwd, code=code, env=env)


@pytest.mark.long
def test_a_sweep_trains_from_a_config_outside_the_repository(file, tmp_path):
  words = (
    f"--config={file.path}:model=fcn",
    "--config.num_steps=2",
    "--sweep.optim.learning_rate=1e-3,1e-2",
    f"--workdir={tmp_path / 's'}",
  )
  dry, _ = _sweep_py(*words, "--dry_run", cwd=tmp_path)
  assert dry.splitlines() == [
    f"python train.py --config={file.path}:model=fcn --config.num_steps=2 "
    f"--config.optim.learning_rate={rate} "
    f"--workdir={tmp_path}/s/learning_rate={rate}"
    for rate in (0.001, 0.01)
  ]
  assert not (tmp_path / "s").exists()

  done, _ = _sweep_py(*words, "--workers=2", cwd=tmp_path)
  results = [
    json.loads(path.read_text())
    for path in sorted((tmp_path / "s").glob("*/result.json"))
  ]
  assert [r["config"]["optim"]["learning_rate"] for r in results] == [
    0.001,
    0.01,
  ]
  assert {r["train_samples"] for r in results} == {2 * 64}
  assert done.count("done     learning_rate=") == 2
  logs = "".join(p.read_text() for p in (tmp_path / "s").glob("*/train.log"))
  assert logs.count("test error") >= 2
  assert "Warning" not in logs

  again, _ = _sweep_py(*words, "--only=*=0.01", cwd=tmp_path)
  assert "running" not in again


@pytest.mark.parametrize(
  ("words", "match"),
  [
    (["--sweep.optim.lr=1"], "no field 'optim.lr'"),
    (["--sweep=none"], "has no items"),
    pytest.param(
      ["--sweep.seed=a"],
      "`seed` must be of type int; got 'a'",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      ["--sweep.seed=1", "--only=x*"],
      "`only` must match an item",
      marks=pytest.mark.slow,
    ),
  ],
)
def test_bad_input_is_one_line(file, tmp_path, words, match):
  words = [f"--config={file.path}", f"--workdir={tmp_path / 's'}", *words]
  _, error = _sweep_py(*words, cwd=tmp_path, code=1)
  assert match in error
  assert len(error.strip().splitlines()) == 1
  assert not (tmp_path / "s").exists()


def test_options_are_checked_before_anything_is_written(file, tmp_path):
  sweep = make_sweep(file, tmp_path / "s")
  for options, match in [
    (Options(workers=0), "`workers` must be 1 or more; got 0"),
    (Options(population="many"), "`population` must be auto, off or a"),
    (
      Options(only=["x"]),
      "`only` must match an item; 'x' matches none of seed",
    ),
  ]:
    with pytest.raises(ValueError, match=match):
      run_sweep(sweep, options)
  assert not (tmp_path / "s").exists()


def test_items_that_differ_in_traced_numbers_train_together(file, tmp_path):
  sweep = make_sweep(file, tmp_path / "s", [""], {"arg.model": "fcn,cnn"})
  sweep.claim()

  def names(population):
    groups = run.make_groups(sweep.items, population)
    return [[item.name for item in group] for group in groups]

  singles = [["seed=0,model=fcn"], ["seed=0,model=cnn"]]
  singles += [["seed=1,model=fcn"], ["seed=1,model=cnn"]]
  assert names("off") == names("1") == names("auto") == singles
  assert names("2") == [
    ["seed=0,model=fcn", "seed=1,model=fcn"],
    ["seed=0,model=cnn", "seed=1,model=cnn"],
  ]


def test_patterns_choose_items():
  items = [Item(pathlib.Path(f"s/seed={seed}"), {}) for seed in range(3)]
  assert run.select(items, []) == items
  assert run.select(items, ["*=0", "seed=2"]) == [items[0], items[2]]
