"""Runs that train in one program, each with the workdir that it has alone."""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from stn.fields import different_fields
from stn.results.run_files import read_result
from stn.training import hyper
from stn.training import workdir as workdir_lib
from stn.training.checkpoint import CheckpointStore
from stn.training.console import Console
from stn.training.experiment import Experiment
from stn.training.failures import explained
from stn.training.lock import locked
from stn.training.loop import train
from stn.training.meter import NonFiniteError
from stn.training.population import Population
from stn.training.population_record import PopulationRecord
from stn.training.progress import Progress
from stn.training.record import Record, finish
from stn.training.run import train_and_evaluate
from stn.training.signals import caught_signals
from stn.training.state import TrainState

# What came of a run.
Outcome = dict[str, Any] | NonFiniteError


def train_population(
  configs: Sequence[Any], workdirs: Sequence[str | pathlib.Path]
) -> list[Outcome]:
  """Trains runs in one program, or continues to, and evaluates them.

  Every run leaves in its workdir what `train_and_evaluate` leaves, of the same
  values to float tolerance: batches, dropout and distortions are drawn from its
  own seed, what is tested is the best of its own on validation, and it can go
  on alone. What differs: "seconds" is the time of all runs together, with their
  number, "population", in the result; "images_per_second" is a run's share. The
  console shows means over the runs, and the best.

  With several devices (`config.num_devices`) each trains its share of the runs
  and never waits for another; a batch is not cut. Where they do not divide the
  runs, the last one is repeated to fill up, which takes no longer.

  A run whose loss or gradient is not finite is frozen and reported, and gets no
  result; the others go on as if it were not there. After a signal every run is
  saved. A population that is started again continues from the last checkpoint
  that all its runs have, or in parts where there is none, and ends bit for bit
  the same. Finished runs are not trained again.

  Args:
    configs: of the runs; equal but for `stn.training.TRACED`, see `group`.
    workdirs: a folder for each.

  Returns:
    For each run the row of the results table, see `stn.results.make_row`, or
    the error that froze it, with its step and what may help.

  Raises:
    ValueError: if configs may not train together, do not fit the data or the
      devices, a folder is given twice or holds a run with another config, or
      there are several processes; nothing is changed then.
    DataNotFoundError: if the data set is not on this machine.
    PermissionError: if a workdir cannot be written to.
    InUseError: if another process trains in one.
    CheckpointError: if a checkpoint cannot be written or read.
    Interrupted: after SIGTERM or SIGINT.

  Example:
    >>> from configs import quickstart
    >>> configs = [quickstart.get_config() for _ in range(2)]
    >>> configs[1].seed = 1
    >>> train_population(
    ...     configs, ["runs/seed_0", "runs/seed_1"])  # doctest: +SKIP
  """
  paths = [pathlib.Path(workdir) for workdir in workdirs]
  _check(configs, paths)
  outcomes: dict[int, Outcome] = {}
  for i, path in enumerate(paths):
    workdir_lib.check_config(configs[i], path)
    result = read_result(path)
    if result is not None:
      outcomes[i] = result
  left = [i for i in range(len(paths)) if i not in outcomes]
  if len(left) == 1:
    outcomes[left[0]] = _alone(configs[left[0]], paths[left[0]])
  elif left:
    trained = _train(
      [configs[i] for i in left],
      [paths[i] for i in left],
      hyper.differing(configs),
    )
    outcomes |= {left[i]: outcome for i, outcome in trained.items()}
  return [outcomes[i] for i in range(len(paths))]


def _check(configs: Sequence[Any], workdirs: Sequence[pathlib.Path]) -> None:
  if len(configs) != len(workdirs) or not configs:
    raise ValueError(
      "`workdirs` must be one for each of one or more configs; got "
      f"{len(workdirs)} for {len(configs)}."
    )
  if len({path.resolve() for path in workdirs}) < len(workdirs):
    raise ValueError(
      "`workdirs` must be different folders; got "
      f"{', '.join(map(str, workdirs))}."
    )
  if len(configs) == 1:
    return
  if jax.process_count() > 1:
    raise ValueError(
      "`train_population` must run in one process, whose devices share the "
      f"runs; got {jax.process_count()} processes. Train runs one at a time."
    )
  groups = hyper.group(configs)
  if len(groups) > 1:
    one, other = (configs[members[0]] for members in groups[:2])
    fields = different_fields(one.to_dict(), other.to_dict())
    raise ValueError(
      "`configs` must be of one group, equal but for what can be traced, "
      f"{', '.join(hyper.TRACED)}; got {len(groups)} groups. The first two "
      f"differ in {', '.join(fields)}."
    )


def _alone(config: Any, workdir: pathlib.Path) -> Outcome:
  try:
    return train_and_evaluate(config, workdir)
  except NonFiniteError as error:
    return error


def plan_starts(
  steps: Mapping[int, Sequence[int]], num_steps: int
) -> list[tuple[int, list[int]]]:
  """Who trains together, and from which step.

  Runs of one program take the same step at a time. After a kill their last
  checkpoints may differ: then the program starts from one that many have, which
  for the others is not the last. That takes no longer, and runs that all have a
  common step end as if nothing had happened. Those without one are apart.

  Args:
    steps: of the checkpoints of each run.
    num_steps: length of the training.

  Returns:
    Step and runs of each program: the one of fewest steps in all, of putting as
    many runs together as possible, and of going on from the last checkpoints.

  Example:
    >>> plan_starts({0: [4, 6], 1: [4], 2: []}, 8)
    [(4, [0, 1]), (0, [2])]
  """

  def plan(choices):
    starts, left = [], dict(choices)
    while left:
      every = [step for own in left.values() for step in own]
      step = max(set(every), key=lambda step: (every.count(step), step))
      runs = [i for i, own in left.items() if step in own]
      starts.append((step, runs))
      left = {i: own for i, own in left.items() if i not in runs}
    return starts

  own = {i: sorted(saved) or [0] for i, saved in steps.items()}
  last = {i: saved[-1:] for i, saved in own.items()}
  return min(
    (plan(own), plan(last)),
    key=lambda starts: sum(num_steps - step for step, _ in starts),
  )


def _train(
  configs: Sequence[Any],
  workdirs: Sequence[pathlib.Path],
  paths: Sequence[str],
) -> dict[int, Outcome]:
  """Trains several unfinished runs."""
  experiment = Experiment.build(configs[0])
  experiment.read_inputs()  # what is missing shows before anything is written
  environment = workdir_lib.environment()
  for config, workdir in zip(configs, workdirs, strict=True):
    workdir_lib.claim(config, workdir, environment)
  like = experiment.state_shape()
  outcomes: dict[int, Outcome] = {}
  with (
    explained(
      ", ".join(map(str, workdirs)), lambda: "each run has its checkpoints"
    ),
    contextlib.ExitStack() as stack,
    caught_signals() as signals,
  ):
    for workdir in workdirs:
      stack.enter_context(locked(workdir))
    stores = [
      stack.enter_context(
        CheckpointStore(workdir / "checkpoints", config.keep_checkpoints)
      )
      for config, workdir in zip(configs, workdirs, strict=True)
    ]
    # Sets aside what cannot be read.
    last = [jax.device_get(store.restore_latest(like)) for store in stores]
    steps = {i: store.steps() for i, store in enumerate(stores)}
    for step, runs in plan_starts(steps, experiment.num_steps):
      population = Population.build(
        experiment, [configs[i] for i in runs], paths
      )
      state = population.init_state()
      if any(steps[i] for i in runs):
        fresh = population.states(state)
        for k, i in enumerate(runs):
          if last[i] is not None and int(last[i].step) == step:
            fresh[k] = last[i]
          elif steps[i]:
            fresh[k] = jax.device_get(stores[i].restore(step, like))
        state = population.join(fresh)
      trained = _train_together(
        population,
        state,
        step,
        [workdirs[i] for i in runs],
        [stores[i] for i in runs],
        signals,
        environment,
      )
      outcomes |= {runs[k]: outcome for k, outcome in trained.items()}
  return outcomes


def _train_together(
  population: Population,
  state: TrainState,
  step: int,
  workdirs: Sequence[pathlib.Path],
  stores: Sequence[CheckpointStore],
  signals: list[int],
  environment: Mapping[str, Any],
) -> dict[int, Outcome]:
  """Trains runs from the same step, in one program."""
  experiment, num_steps = population.experiment, population.num_steps
  monitor = experiment.task.monitor
  done = [max(store.steps(), default=-1) for store in stores]
  with contextlib.ExitStack() as stack:
    console = stack.enter_context(contextlib.closing(Console(num_steps, step)))
    records = [
      Record(
        experiment,
        config,
        workdir,
        store,
        stack.enter_context(
          Progress(
            workdir,
            num_steps,
            last,
            monitor=monitor,
            rate=monitor in experiment.rates,
            split=experiment.monitor_split,
            shown=False,
          )
        ),
      )
      for config, workdir, store, last in zip(
        population.configs, workdirs, stores, done, strict=True
      )
    ]
    if max(done) >= 0:
      console.say(f"Continuing {len(records)} runs after step {step}.")
    record = PopulationRecord(population, records, done, console)
    results: dict[int, dict[str, Any]] = {}
    try:
      state = train(population, state, step, record, signals)
    except NonFiniteError:  # all are frozen
      pass
    else:
      states = _best_states(population, state, stores, record.active)
      metrics = population.evaluate(population.join(states), "test")
      results = record.results(states, metrics, environment)
  for i, result in results.items():
    finish(workdirs[i], result)
  return {**results, **record.failures}


def _best_states(
  population: Population,
  state: TrainState,
  stores: Sequence[CheckpointStore],
  runs: Sequence[int],
) -> list[TrainState]:
  """The states to test: those that were best on validation, if measured."""
  states = population.states(state)
  like = population.experiment.state_shape()
  for i in runs:
    best = stores[i].best_step()
    if best is not None and best != int(states[i].step):
      states[i] = jax.device_get(stores[i].restore(best, like))
  return states
