"""The rows of results: one for each finished run."""

import itertools
import json
import pathlib
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stn._extras import needs
from stn.fields import flatten, is_option
from stn.files import read_json_lines, write_atomically
from stn.results.run_files import read_result

RESULTS = pathlib.Path("results")

# What a row of a table is about. Runs that agree in these differ in their seed
# only, or in further fields of their configs: see `settings`.
GROUP = (
  "experiment",
  "task",
  "dataset",
  "distortion",
  "model",
  "transform",
  "transformers",
  "iterations",
  "recipe",
  "params",
  "train_samples",
  "metric",
  "unit",
  "device",
)

# Runs that differ in these fields alone are averaged: co-localisation's runs
# are of one class each.
_AVERAGED = ("seed", "data.classes", "data.data_dir", "num_devices")
# What an option is where a config leaves it out, and another one says it.
_LEFT_OUT = {"task.label_smoothing": 0.0}

# What the tables need of a row, in the file or in its config.
_NEEDED = (
  *(name for name in GROUP if name != "iterations"),
  "seed",
  "value",
  "interval",
  "error",
  "samples",
  "seconds",
)


def _iterations(config: Mapping[str, Any]) -> int:
  """The warps that each transformer composes; 1 if the config has no field."""
  return config.get("model", {}).get("iterations", 1)


def make_row(
  metrics: Mapping[str, Any],
  *,
  metric: str,
  rate: bool,
  config: Any,
  transform: str | None,
  transformers: int,
  params: int,
  step: int,
  train_samples: int,
  seconds: float,
  environment: Mapping[str, Any],
  population: int = 1,
) -> dict[str, Any]:
  """The row of one finished run: the one home of its schema.

  Args:
    metrics: of the test split, see `stn.training.evaluate`.
    metric: the one to report.
    rate: whether it is a fraction of examples, reported in percent.
    config: of the run.
    transform: family of its spatial transformers; None if it has none.
    transformers: how many it has.
    params: number of parameters.
    step: of the checkpoint that was evaluated.
    train_samples: examples seen in training, repetitions included.
    seconds: that training took.
    environment: "device", "commit" and "versions".
    population: number of runs that trained in one program, in those seconds.

  Returns:
    A dict ready for JSON. "config" is without the folder of the data sets,
    which is of one machine. "value" and "interval" are those of "metric", in
    "unit" ("%" or ""); "error" and "ci95" repeat them where the metric is an
    error rate, and are None elsewhere.

  Example:
    >>> from configs import common
    >>> row = make_row(
    ...     {"error": 0.01, "error_ci95": (0.0, 0.02), "loss": 0.1,
    ...      "samples": 100}, metric="error", rate=True,
    ...     config=common.get_base(), transform=None, transformers=0,
    ...     params=10, step=5, train_samples=320, seconds=1.0,
    ...     environment={"device": "cpu", "commit": "c", "versions": {}})
    >>> row["value"], row["unit"]
    (1.0, '%')
  """
  scale = 100 if rate else 1
  value = round(scale * metrics[metric], 4)
  interval = [round(scale * bound, 4) for bound in metrics[f"{metric}_ci95"]]
  is_error = metric == "error" and rate
  fields = json.loads(config.to_json())
  fields["data"]["data_dir"] = ""
  return {
    "experiment": config.experiment,
    "task": config.task.name,
    "dataset": config.data.name,
    "distortion": config.data.distortion,
    "model": config.model.name,
    "transform": transform,
    "transformers": transformers,
    "iterations": _iterations(fields),
    "recipe": config.recipe,
    "params": params,
    "seed": config.seed,
    "step": step,
    "metric": metric,
    "value": value,
    "interval": interval,
    "unit": "%" if rate else "",
    "error": value if is_error else None,
    "ci95": interval if is_error else None,
    "loss": metrics["loss"],
    "samples": metrics["samples"],
    "train_samples": train_samples,
    "seconds": seconds,
    "population": population,
    "date": time.strftime("%Y-%m-%d", time.gmtime()),
    "device": environment["device"],
    "commit": environment["commit"],
    "versions": environment["versions"],
    "config": fields,
  }


def read(paths: Iterable[pathlib.Path]) -> list[dict[str, Any]]:
  r"""Reads results of runs.

  Args:
    paths: workdirs of finished runs, JSON lines files, or folders of such.

  Returns:
    One dict a run.

  Raises:
    FileNotFoundError: if there is nothing at a path, or a run is not finished.
    DamagedFileError: if a file does not hold what it should.

  Example:
    >>> read([RESULTS / "mnist.jsonl"])[0]["metric"]
    'error'
  """
  runs = []
  for path in paths:
    row = read_result(path, _NEEDED)
    if row is not None:
      runs.append(row)
      continue
    if (path / "config.json").is_file():
      raise FileNotFoundError(
        f"`path` must be a finished run; {path} has no result.json yet."
      )
    files = [path] if path.is_file() else sorted(path.glob("*.jsonl"))
    if not files:
      raise FileNotFoundError(
        f"`path` must be a finished run or hold JSON lines; got {path}."
      )
    for file in files:
      runs += read_json_lines(file, _NEEDED)
  for run in runs:  # rows of before 28 November 2026 have no such field
    run.setdefault("iterations", _iterations(run.get("config", {})))
  return runs


def settings(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """In what the configs of runs that agree in `GROUP` differ.

  Args:
    runs: from `read`. A config that lacks a field, or has None there, is older
      than the field, or does not say, and is not compared; but an option that
      it lacks was left out.

  Returns:
    For each run the fields, by their dotted names, that are not the same in
    all; without seeds.

  Example:
    >>> settings([{"config": {"seed": 0}}, {"config": {"seed": 1}}])
    [{}, {}]
    >>> settings([{"config": {"dropout": 0.1}}, {"config": {"dropout": 0.2}}])
    [{'dropout': 0.1}, {'dropout': 0.2}]
  """
  configs = [
    _LEFT_OUT
    | {n: x for n, x in flatten(run.get("config", {})).items() if x is not None}
    for run in runs
  ]
  different = []
  for name in sorted({*itertools.chain(*configs)} - {*_AVERAGED}):
    values = [config[name] for config in configs if name in config]
    left_out = is_option(name) and len(values) < len(configs)
    if left_out or any(value != values[0] for value in values):
      different.append(name)
  return [
    {name: config[name] for name in different if name in config}
    for config in configs
  ]


def draw(run: Mapping[str, Any]) -> tuple[int, str]:
  """What tells runs of the same setting apart: the seed, and classes."""
  data = run.get("config", {}).get("data", {})
  return run["seed"], json.dumps(data.get("classes"))


def values_by_draw(runs: Iterable[Mapping[str, Any]]) -> list[float]:
  """The value of each seed; of runs with the same seed, their mean.

  Example:
    >>> rows = [{"seed": 0, "value": 1.0}, {"seed": 1, "value": 4.0}]
    >>> values_by_draw([*rows, {"seed": 0, "value": 3.0}])
    [2.0, 4.0]
  """
  values = defaultdict(list)
  for run in runs:
    values[draw(run)].append(run["value"])
  return [statistics.fmean(alike) for alike in values.values()]


def add(
  workdirs: Sequence[pathlib.Path], folder: pathlib.Path = RESULTS
) -> list[pathlib.Path]:
  """Appends the results of finished runs to the files of their experiments.

  Args:
    workdirs: of the runs.
    folder: of the files `<experiment>.jsonl`.

  Returns:
    The file each run went to.

  Raises:
    FileNotFoundError: if a run is not finished.
    ValueError: if the same training, with the same seed, is there already;
      nothing is added then.

  Example:
    >>> add([pathlib.Path("runs/a")])  # doctest: +SKIP
    [PosixPath('results/mnist.jsonl')]
  """
  with needs("train", "To add to results"):
    import filelock
  folder.mkdir(parents=True, exist_ok=True)
  with filelock.FileLock(folder / ".lock"):
    return _add(read(workdirs), folder)


def _add(runs: list[dict[str, Any]], folder: pathlib.Path):
  def key(run):
    return (*(run[name] for name in GROUP), draw(run))

  there = defaultdict(list)
  for file in folder.glob("*.jsonl"):
    for run in read([file]):
      there[key(run)].append(run)
  for run in runs:
    alike = there[key(run)]
    if not all(any(settings([other, run])) for other in alike):
      raise ValueError(
        f"{folder} already holds a run of {run['model']} on "
        f"{run['distortion']} with recipe {run['recipe']}, seed {run['seed']} "
        "and the same config. Remove its line to replace it."
      )
    alike.append(run)
  files = []
  for run in runs:
    file = folder / f"{run['experiment']}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    lines.append(json.dumps(run))
    write_atomically(file, "".join(f"{line}\n" for line in lines))
    files.append(file)
  return files
