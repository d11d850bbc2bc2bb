"""A sweep, from its description to its table."""

import dataclasses
import fnmatch
import pathlib
import shlex
from collections.abc import Mapping, Sequence

from stn import training
from stn.sweeps import slots
from stn.sweeps.config_file import ConfigFile
from stn.sweeps.distributions import is_distribution, is_search
from stn.sweeps.folder import Item, Sweep
from stn.sweeps.local import run
from stn.sweeps.search import Search
from stn.sweeps.supply import Enumerated, Supply
from stn.sweeps.view import View

# Runs in one program, at most, where there is a GPU or TPU.
_TOGETHER = 64


def make_groups(items: Sequence[Item], population: str) -> list[list[Item]]:
  """Which items train together, in one program.

  Args:
    items: to train.
    population: "off": each alone. "auto": alone on CPUs; on GPUs and TPUs all
      that differ in traced numbers only, see `stn.training.group`. A number: so
      many of those at most, on any machine.

  Returns:
    The groups.

  Raises:
    ValueError: if `population` is none of these.

  Example:
    >>> make_groups([], "auto")
    []
  """
  if population == "auto":
    size = _TOGETHER if slots.is_parallel() else 1
  elif population == "off":
    size = 1
  elif population.isdecimal() and int(population) > 0:
    size = int(population)
  else:
    raise ValueError(
      f"`population` must be auto, off or a positive integer; got "
      f"{population!r}."
    )
  if size == 1:
    return [[item] for item in items]
  configs = [item.config() for item in items]
  return [
    [items[i] for i in together[first : first + size]]
    for together in training.group(configs)
    for first in range(0, len(together), size)
  ]


def select(items: Sequence[Item], patterns: Sequence[str]) -> list[Item]:
  """The items whose folder matches a pattern; all if there is no pattern.

  Args:
    items: to choose from.
    patterns: as in the shell; `*` matches anything.

  Returns:
    Those items, in order.

  Raises:
    ValueError: if a pattern matches nothing.

  Example:
    >>> items = [Item(pathlib.Path(f"s/seed={s}"), {"seed": s}) for s in (0, 1)]
    >>> [item.name for item in select(items, ["*=1"])]
    ['seed=1']
  """
  for pattern in patterns:
    if not any(fnmatch.fnmatchcase(item.name, pattern) for item in items):
      names = ", ".join(item.name for item in items[:5])
      raise ValueError(
        f"`only` must match an item; {pattern!r} matches none of {names}"
        + (", ..." if len(items) > 5 else ".")
      )
  return [
    item
    for item in items
    if not patterns
    or any(fnmatch.fnmatchcase(item.name, pattern) for pattern in patterns)
  ]


@dataclasses.dataclass(frozen=True)
class Options:
  """How a sweep is run; fields as the flags of sweep.py.

  Attributes:
    workers: processes at a time.
    population: see `make_groups`.
    only: see `select`.
    wait: whether to wait for items that others run.
    trials: of a search.
    sampler: of a search.
    pruner: of a search.
    seed: of a search's sampler.
  """

  workers: int = 1
  population: str = "auto"
  only: Sequence[str] = ()
  wait: bool = True
  trials: int = 20
  sampler: str = "tpe"
  pruner: str = "median"
  seed: int = 0


def make_sweep(
  file: ConfigFile,
  workdir: str | pathlib.Path,
  names: Sequence[str] = (),
  values: Mapping[str, str] | None = None,
  options: Options | None = None,
) -> Sweep:
  """The sweep that a config file and a command line describe.

  Args:
    file: the config file.
    workdir: folder of the sweep.
    names: of the file's functions, see `ConfigFile.settings`.
    values: field to values with commas between.
    options: for a search.

  Returns:
    The sweep; nothing is written.

  Raises:
    ValueError: if something does not fit.

  Example:
    >>> file = ConfigFile("configs/quickstart.py")
    >>> sweep = make_sweep(file, "runs/lr", ["lr"], {"seed": "0,1"})
    >>> sweep.items[0].name
    'learning_rate=0.001,seed=0'
  """
  options = options or Options()
  if not str(workdir):
    raise ValueError("`workdir` must name a folder; got ''.")
  settings = file.settings(names, values)
  if not is_search(settings):
    return Sweep(pathlib.Path(workdir), file, settings)
  drawn = {f: x for f, x in settings[0].items() if is_distribution(x)}
  about = {
    "trials": options.trials,
    "sampler": options.sampler,
    "pruner": options.pruner,
    "seed": options.seed,
    "space": drawn,
    "fixed": {f: x for f, x in settings[0].items() if f not in drawn},
  }
  return Sweep(pathlib.Path(workdir), file, (), about)


def commands(sweep: Sweep, options: Options) -> list[str]:
  """The command line that trains each item; none of a search.

  Args:
    sweep: from `make_sweep`.
    options: which items.

  Returns:
    A line for each.

  Raises:
    ValueError: if something does not fit, such as the name of a field.

  Example:
    >>> file = ConfigFile("configs/quickstart.py")
    >>> commands(make_sweep(file, "s", values={"seed": "0"}), Options())[0][:30]
    'python train.py --config=confi'
  """
  items = select(sweep.items, options.only)
  for item in items:
    sweep.file.make(item.setting)
  return [
    shlex.join(sweep.file.command(item.setting, item.path)) for item in items
  ]


def check(sweep: Sweep, options: Options) -> Search | None:
  """Checks what can be checked before anything is written.

  Args:
    sweep: from `make_sweep`.
    options: how it is to be run.

  Returns:
    The search, if it is one.

  Raises:
    ValueError: if something does not fit.

  Example:
    >>> file = ConfigFile("configs/quickstart.py")
    >>> check(make_sweep(file, "s", ["lr"]), Options(workers=0))
    Traceback (most recent call last):
    ValueError: `workers` must be 1 or more; got 0.
  """
  if options.workers < 1:
    raise ValueError(f"`workers` must be 1 or more; got {options.workers}.")
  make_groups([], options.population)
  if sweep.search is None:
    select(sweep.items, options.only)
    return None
  if options.only:
    raise ValueError("`only` is not for searches: their items are not known.")
  return Search(sweep.path, sweep.file, sweep.search)


def run_sweep(sweep: Sweep, options: Options) -> int:
  """Runs a sweep here, or continues to, until nothing is left of it.

  Args:
    sweep: from `make_sweep`.
    options: how.

  Returns:
    0, 1 if an item failed, or 128 and the signal that stopped it.

  Raises:
    ValueError: if something does not fit; nothing is written then.
    PermissionError: if the folder cannot be written to.

  Example:
    >>> file = ConfigFile("configs/quickstart.py")
    >>> run_sweep(make_sweep(file, "runs/lr", ["lr"]), Options(workers=2)
    ...          )  # doctest: +SKIP
  """
  search = check(sweep, options)
  sweep.claim()
  if search is not None:
    return _run_search(search, sweep, options)
  items = select(sweep.items, options.only)
  supply = Enumerated(make_groups(items, options.population))
  view = View(lambda: items)
  code = _run(supply, view, options)
  failed = any(item.status() == "failed" for item in items)
  return code or int(failed)


def _run(supply: Supply, view: View, options: Options) -> int:
  with view.shown():
    signum = run(supply, options.workers, view.update, wait=options.wait)
    view.update([], now=True)
  if signum:
    view.say("Stopped; every item is saved. The same command continues.")
    return 128 + signum
  return 0


def _run_search(search: Search, sweep: Sweep, options: Options) -> int:
  view = View(lambda: search.items)
  code = _run(search, view, options)
  code = code or int(any(item.status() == "failed" for item in search.items))
  best = search.write_best()
  if best is None:
    view.say("No trial has a result.")
    return code or 1
  path, setting = best
  view.say(f"The best of {len(search.items)} trials, also in {path}:")
  view.say(shlex.join(sweep.file.command(setting, sweep.path / "best")))
  return code
