"""Searches: Optuna's trials as items, pruning, and what is left at the end."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import optuna
import pytest

from stn.sweeps import ConfigFile, Options, local, make_sweep, run_sweep
from stn.sweeps.search import Search

SPACE = ["optim.learning_rate", "optim.name"]


def _search(file, path, trials=6, sampler="random", pruner="none"):
  options = Options(trials=trials, sampler=sampler, pruner=pruner)
  sweep = make_sweep(file, path, ["search"], options=options)
  search = Search(sweep.path, file, sweep.search)
  sweep.claim()
  return search


@pytest.mark.long
def test_a_search_ends_in_a_config_that_trains(file, fake, tmp_path):
  search = _search(file, tmp_path / "s", 12)
  assert local.run(search, 2, command=fake) == 0
  trials = search.study.trials
  assert [t.state.name for t in trials] == ["COMPLETE"] * 12
  assert [item.name for item in search.items] == [
    f"trial_{i:04d}" for i in range(12)
  ]
  best = min(
    trials, key=lambda t: (t.params["optim.learning_rate"] - 0.01) ** 2
  )
  path, setting = search.write_best()
  assert setting == {"optim.momentum": 0.5, **best.params}
  config = ConfigFile(str(path)).make()
  assert config == file.make(setting)
  shares = json.loads((tmp_path / "s" / "importance.json").read_text())
  assert sorted(shares) == SPACE
  assert sum(shares.values()) == pytest.approx(1)


def test_a_search_continues_and_may_get_more_trials(file, fake, tmp_path):
  assert local.run(_search(file, tmp_path / "s", 2), 1, command=fake) == 0
  search = _search(file, tmp_path / "s", 4)
  first = [t.params for t in search.study.trials]
  assert local.run(search, 2, command=fake) == 0
  assert [t.params for t in search.study.trials][:2] == first
  assert len(search.items) == 4
  assert search.is_empty()


def test_choices_may_be_tuples(file, fake, tmp_path):
  text = (tmp_path / "swept.py").read_text()
  text = text.replace('"optim.name"', '"model.features"').replace(
    'sweeps.choice("adamw", "sgd")', "sweeps.choice((4,), (8, 8))"
  )
  (tmp_path / "swept.py").write_text(text)
  search = _search(ConfigFile(file.path), tmp_path / "s")
  assert local.run(search, 2, command=fake) == 0
  _, setting = search.write_best()
  assert tuple(setting["model.features"]) in [(4,), (8, 8)]
  shares = json.loads((tmp_path / "s" / "importance.json").read_text())
  assert sorted(shares) == ["model.features", "optim.learning_rate"]


def test_values_that_do_not_go_together_fail_their_trial(
  file, tmp_path, monkeypatch
):
  search = _search(file, tmp_path / "s")

  def refuse(self, config, **more):
    raise ValueError("not together")

  with monkeypatch.context() as patch:
    patch.setattr("stn.sweeps.folder.Item.write", refuse)
    with pytest.raises(ValueError, match="not together"):
      search.take()
  [item] = search.take()
  assert item.name == "trial_0001"
  assert [t.state.name for t in search.study.trials] == ["FAIL", "RUNNING"]


@pytest.mark.long
def test_a_poor_trial_is_stopped(file, fake, tmp_path, monkeypatch):
  search = _search(file, tmp_path / "s", 2)
  monkeypatch.setattr(
    optuna.Trial, "should_prune", lambda trial: trial.number == 1
  )
  # Slow enough to be looked at before it ends.
  text = (tmp_path / "worker.py").read_text()
  (tmp_path / "worker.py").write_text(text.replace("0.02", "0.3"))
  assert local.run(search, 1, command=fake) == 0
  first, second = search.study.trials
  assert first.state.name == "COMPLETE"
  assert second.state.name == "PRUNED"
  item = search.items[1]
  assert item.status() == "pruned"
  pruned = json.loads((item.path / "pruned.json").read_text())
  percent = 25 * pruned["step"]  # of four steps
  assert second.intermediate_values[percent] == pruned["value"]
  assert second.value == pruned["value"]


def test_a_failed_trial_does_not_stop_the_search(file, fake, tmp_path):
  text = (tmp_path / "swept.py").read_text()
  (tmp_path / "swept.py").write_text(
    text.replace("log_uniform(1e-4, 1e-1)", "choice(0.9, 0.1)")
  )
  search = _search(ConfigFile(file.path), tmp_path / "s", 6)
  assert local.run(search, 2, command=fake) == 0
  states = {
    t.params["optim.learning_rate"]: t.state.name for t in search.study.trials
  }
  assert states == {0.9: "FAIL", 0.1: "COMPLETE"}
  assert search.write_best()[1]["optim.learning_rate"] == 0.1
  options = Options(trials=6, sampler="random", pruner="none")
  sweep = make_sweep(file, tmp_path / "s", ["search"], options=options)
  assert run_sweep(sweep, options) == 1  # nothing is left, and some failed


def test_a_line_that_was_not_written_to_its_end_is_cut(file, fake, tmp_path):
  """As a full disk leaves it; a damaged line elsewhere is named."""
  path = tmp_path / "s" / "study.journal"
  assert local.run(_search(file, tmp_path / "s", 1), 1, command=fake) == 0
  with path.open("a") as journal:
    journal.write('{"op_code":4,"worker_id":"9')
  assert local.run(_search(file, tmp_path / "s", 2), 1, command=fake) == 0
  trials = _search(file, tmp_path / "s", 2).study.trials
  assert [t.state.name for t in trials] == ["COMPLETE"] * 2
  path.write_text("{" + path.read_text())
  with pytest.raises(ValueError, match="study.journal is damaged"):
    _ = _search(file, tmp_path / "s", 2).study


_SEARCHER = """
  import sys
  sys.path.insert(0, sys.argv[1])
  from stn.sweeps import ConfigFile, local
  from tests.sweeps.test_search import _search

  search = _search(ConfigFile(sys.argv[3]), sys.argv[2], 6)
  print("ready", flush=True)
  sys.exit(local.run(search, 2, command=sys.argv[4:]))
"""


@pytest.mark.long
def test_a_killed_search_puts_its_trials_back(file, fake, tmp_path):
  text = (tmp_path / "worker.py").read_text()
  (tmp_path / "worker.py").write_text(text.replace("0.02", "0.2"))
  words = [os.getcwd(), tmp_path / "s", file.path, *fake]
  with subprocess.Popen(
    [sys.executable, "-c", textwrap.dedent(_SEARCHER), *words],
    stdout=subprocess.PIPE,
  ) as process:
    assert process.stdout.readline() == b"ready\n"
    search = _search(file, tmp_path / "s")
    while len(search.items) < 2:
      assert process.poll() is None
    process.send_signal(signal.SIGKILL)
  assert local.run(search, 2, command=fake) == 0
  trials = search.study.trials
  assert [t.state.name for t in trials] == ["COMPLETE"] * 6
  assert len({t.params["optim.learning_rate"] for t in trials}) == 6
  for item in search.items:
    assert (item.path / "runs").read_text() == "once\n"


@pytest.mark.parametrize(
  ("change", "match"),
  [
    (("1e-1)", "1e-2)"), r"search.space.optim.learning_rate.high: there 0.1"),
    (('"sgd"', '"lion"'), r"search.space.optim.name.values"),
  ],
)
def test_a_study_of_another_space_is_refused(file, tmp_path, change, match):
  _search(file, tmp_path / "s")
  text = (tmp_path / "swept.py").read_text()
  (tmp_path / "swept.py").write_text(text.replace(*change))
  with pytest.raises(ValueError, match=match):
    _search(ConfigFile(file.path), tmp_path / "s")


@pytest.mark.parametrize(
  ("change", "match"),
  [
    (("log_uniform(1e-4, 1e-1)", "log_uniform(0.0, 1.0)"), "learning_rate"),
    (("optim.name", "optim.nam"), "no field 'optim.nam'. Nearest: optim.name"),
    (("validation_size = 500", "validation_size = 0"), "validation split"),
    (("optim.learning_rate", "data.batch_size"), "batch_size.*type int"),
    (('"adamw", "sgd"', '"adamw", 3'), "optim.name.*type str; got 3"),
  ],
)
def test_a_space_that_does_not_fit_is_refused(file, tmp_path, change, match):
  text = (tmp_path / "swept.py").read_text()
  (tmp_path / "swept.py").write_text(text.replace(*change))
  with pytest.raises((TypeError, ValueError), match=match):
    _search(ConfigFile(file.path), tmp_path / "s")
  assert not (tmp_path / "s").exists()


def test_names_of_samplers_and_pruners_are_checked(file, tmp_path):
  with pytest.raises(ValueError, match="`sampler` must be one of 'random', 't"):
    _search(file, tmp_path / "s", sampler="grid")
  with pytest.raises(ValueError, match="`pruner` must be one of"):
    _search(file, tmp_path / "s", pruner="hyperband")


def test_a_search_is_not_multiplied(file, tmp_path):
  with pytest.raises(ValueError, match="must have one item; got 2"):
    make_sweep(file, tmp_path / "s", ["search"], {"seed": "0,1"})
