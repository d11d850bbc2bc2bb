"""Searches: Optuna chooses the settings, trains them, and stops the poor ones.

The study is a journal file in the sweep's folder, which any number of
sweepers, on machines that share it, read and append to; a search continues,
and `optuna-dashboard SWEEP/study.journal` shows it. A trial is an item like
others: killed in any way, it is taken up again from its last checkpoint.
"""

import functools
import json
import math
import pathlib
import pprint
import textwrap
from collections.abc import Mapping
from typing import Any

import filelock
import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from stn._checks import check_choice
from stn.files import read_json, write_atomically
from stn.sweeps.config_file import ConfigFile, Setting
from stn.sweeps.distributions import limits, make_distribution, value_of
from stn.sweeps.folder import Item
from stn.sweeps.journal import Journal
from stn.sweeps.supply import Supply
from stn.tasks import make_task

# Pruners compare trials at the same percentage of their training, which need
# not be the same step; not before this one.
_EARLIEST = 20

SAMPLERS = {
  "tpe": lambda seed: optuna.samplers.TPESampler(
    seed=seed, multivariate=True, constant_liar=True
  ),
  "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
PRUNERS = {
  "none": optuna.pruners.NopPruner,
  "median": lambda: optuna.pruners.MedianPruner(
    n_startup_trials=5, n_warmup_steps=_EARLIEST, n_min_trials=3
  ),
  "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(
    min_resource=_EARLIEST
  ),
}


# Completed trials from which the importance of a field can be told: what sets
# the best share of them apart.
_ENOUGH, _BEST_SHARE = 6, 0.3


def _percent(line: Mapping[str, Any]) -> int:
  """How much of its training a trial has behind it."""
  return 100 * line["step"] // line["num_steps"]


class Search(Supply):
  """Items that Optuna chooses.

  Args:
    path: the sweep's folder.
    file: the config file.
    about: "space", field to distribution; "trials", how many; "sampler", a key
      of `SAMPLERS`; "pruner", a key of `PRUNERS`; "seed", of the sampler;
      "fixed", what else the items have in common.

  Raises:
    ValueError: if a name is unknown, the config has no such field, or it holds
      out no validation split.
  """

  def __init__(
    self, path: pathlib.Path, file: ConfigFile, about: Mapping[str, Any]
  ):
    """Checks everything; writes nothing."""
    check_choice("sampler", about["sampler"], SAMPLERS)
    check_choice("pruner", about["pruner"], PRUNERS)
    self._path, self._file, self._about = path, file, about
    self._space = {
      field: make_distribution(field, value)
      for field, value in about["space"].items()
    }
    for setting in limits(about["space"]):
      config: Any = file.make({**about["fixed"], **setting})
      if not config.data.validation_size:
        raise ValueError(
          "A search must choose on a validation split; `data.validation_size` "
          "is 0."
        )
    self._monitor = make_task(**config.task.to_dict()).monitor
    self._lock = filelock.FileLock(path / ".search.lock")
    self._mine: dict[str, optuna.Trial] = {}

  @functools.cached_property
  def study(self) -> optuna.Study:
    """The study, made if there is none; the sweep's folder must be there."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = Journal(str(self._path / "study.journal"))
    with self._lock:
      return optuna.create_study(
        storage=JournalStorage(journal),
        study_name="sweep",
        pruner=PRUNERS[self._about["pruner"]](),
        load_if_exists=True,
      )

  @property
  def items(self) -> list[Item]:
    """Those of all trials."""
    return [
      Item(file.parent, read_json(file, ["overrides"])["overrides"])
      for file in sorted(self._path.glob("trial_*/item.json"))
    ]

  def _item(self, trial: Any) -> Item:
    space = self._about["space"]
    drawn = {f: value_of(space[f], x) for f, x in trial.params.items()}
    setting = {**self._about["fixed"], **drawn}
    return Item(self._path / f"trial_{trial.number:04d}", setting)

  def _open(self, number: int) -> optuna.Trial:
    """A trial that runs, to report to."""
    frozen = self.study.get_trials(deepcopy=False)[number]
    # There is no public way to go on with a trial of another process.
    return optuna.Trial(self.study, frozen._trial_id)

  def take(self) -> list[Item]:
    """A trial that lost its process, otherwise a new one."""
    with self._lock:
      trials = self.study.get_trials(deepcopy=False)
      for trial in trials:
        item = self._item(trial)
        if trial.state == TrialState.RUNNING and item.name not in self._mine:
          if not item.has("item.json"):
            self._write(item, trial.number)
          if item.status() in ("done", "pruned"):  # and nobody was told
            self._mine[item.name] = self._open(trial.number)
            self.ended(item)
          elif not item.is_running:
            self._mine[item.name] = self._open(trial.number)
            return [item]
      if len(trials) >= self._about["trials"]:
        return []
      # Drawn from the trial's number: another process would repeat the first.
      seed = np.random.SeedSequence([self._about["seed"], len(trials)])
      self.study.sampler = SAMPLERS[self._about["sampler"]](
        int(seed.generate_state(1)[0])
      )
      trial = self.study.ask(self._space)
      item = self._item(trial)
      try:
        self._write(item, trial.number)
      except ValueError:  # these values do not go together
        self.study.tell(trial, state=TrialState.FAIL)
        raise
      self._mine[item.name] = trial
      return [item]

  def _write(self, item: Item, number: int) -> None:
    item.write(self._file.make(item.setting), number=number)

  def is_empty(self) -> bool:
    """Whether all trials have ended."""
    trials = self.study.get_trials(deepcopy=False)
    ended = sum(trial.state.is_finished() for trial in trials)
    return ended >= self._about["trials"] and ended == len(trials)

  def put_back(self, items: list[Item]) -> None:
    """Their trials still run: whoever comes first takes them."""
    for item in items:
      del self._mine[item.name]

  def _measured(self, item: Item) -> list[dict[str, Any]]:
    """The lines of an item's metrics about validation."""
    return [line for line in item.lines() if line["kind"] == "validation"]

  def ended(self, item: Item) -> None:
    """Tells the study how good the trial's best checkpoint is."""
    trial = self._mine.pop(item.name)
    status = item.status()
    values = [line[self._monitor] for line in self._measured(item)]
    values = [value for value in values if math.isfinite(value)]
    if status == "done" and values:
      self.study.tell(trial, min(values), skip_if_finished=True)
    else:
      state = TrialState.PRUNED if status == "pruned" else TrialState.FAIL
      self.study.tell(trial, state=state, skip_if_finished=True)

  def should_stop(self, item: Item) -> bool:
    """Reports what was measured; asks the pruner."""
    trial = self._mine[item.name]
    known = self.study.get_trials(deepcopy=False)[
      trial.number
    ].intermediate_values
    lines = self._measured(item)
    new = [line for line in lines if _percent(line) not in known]
    for line in new:
      trial.report(line[self._monitor], _percent(line))
    if not new or not trial.should_prune():
      return False
    last = new[-1]
    text = json.dumps({"step": last["step"], "value": last[self._monitor]})
    write_atomically(item.path / "pruned.json", text)
    return True

  def best(self) -> optuna.trial.FrozenTrial | None:
    """The best trial that was not stopped early; None if there is none."""
    done = [t for t in self.study.trials if t.state == TrialState.COMPLETE]
    return min(done, key=lambda trial: trial.values[0]) if done else None

  def write_best(self) -> tuple[pathlib.Path, Setting] | None:
    """Writes best.py, which train.py takes; importance.json if it can be told.

    Returns:
      The config file and the best setting; None if no trial has a result.
    """
    trial = self.best()
    if trial is None:
      return None
    item, path = self._item(trial), self._path / "best.py"
    config = pprint.pformat(
      self._file.make(item.setting).to_dict(), width=76, sort_dicts=False
    )
    lines = textwrap.indent(config, "    ").strip()
    fields = "\n".join(f"    {f} = {x!r}" for f, x in item.setting.items())
    write_atomically(
      path,
      f'"""The best of {len(self.study.trials)} trials, {item.name}.\n\n'
      f"{fields}\n\n"
      f"    python train.py --config={path} --workdir=DIR\n"
      '"""\n\n'
      "from ml_collections import ConfigDict\n\n\n"
      "def get_config():\n"
      '  """Returns the config."""\n'
      f"  return ConfigDict(\n    {lines}\n  ).lock()\n",
    )
    varied = {f for f, d in self._space.items() if not d.single()}
    done = sum(t.state == TrialState.COMPLETE for t in self.study.trials)
    if done >= _ENOUGH:
      shares = optuna.importance.get_param_importances(
        self.study,
        params=sorted(varied),
        evaluator=optuna.importance.PedAnovaImportanceEvaluator(
          target_quantile=_BEST_SHARE
        ),
      )
      write_atomically(
        self._path / "importance.json", json.dumps(shares, indent=2)
      )
    return path, item.setting
