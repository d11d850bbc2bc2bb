"""The results table: `python -m stn.results`.

Each line of results/*.jsonl is what one finished run wrote to its result.json,
a row made by `make_row`. This groups them by what was trained, averages over
seeds and adds the published figure.

    python -m stn.results                      # the table of results/
    python -m stn.results --json               # the same, as a JSON list
    python -m stn.results runs/a runs/b        # the table of some runs
    python -m stn.results --add runs/a runs/b  # appends them to results/
"""

import argparse
import json
import math
import pathlib
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RESULTS = pathlib.Path("results")

_FAMILIES = ("affine", "projective", "tps")

# Test errors in percent of the paper's Table 1: distortion -> FCN, CNN, and
# ST-FCN and ST-CNN of each family.
_TABLE_1 = {
  "r": (2.1, 1.2, (1.2, 1.3, 1.1), (0.7, 0.8, 0.7)),
  "rts": (5.2, 0.8, (0.8, 0.9, 0.8), (0.5, 0.6, 0.5)),
  "p": (3.1, 1.5, (1.5, 1.4, 1.4), (0.8, 0.8, 0.8)),
  "e": (3.2, 1.4, (2.7, 2.6, 2.4), (1.2, 1.3, 1.1)),
}


def _published() -> dict[tuple[str, str, str, str | None], float]:
  """(experiment, distortion, model, transform) -> test error in percent."""
  table: dict[tuple[str, str, str, str | None], float] = {}
  for distortion, (fcn, cnn, st_fcn, st_cnn) in _TABLE_1.items():
    table["mnist", distortion, "fcn", None] = fcn
    table["mnist", distortion, "cnn", None] = cnn
    for model, errors in (("st_fcn", st_fcn), ("st_cnn", st_cnn)):
      for family, error in zip(_FAMILIES, errors, strict=True):
        table["mnist", distortion, model, family] = error
  # The family of the transformers is not stated.
  for model, error in (("fcn", 13.2), ("cnn", 3.5)):
    table["mnist", "tc", model, None] = error
  for model, error in (("st_fcn", 2.0), ("st_cnn", 1.7)):
    table["mnist", "tc", model, "affine"] = error
  table["mnist_addition", "addition", "fcn", None] = 47.7
  table["mnist_addition", "addition", "cnn", None] = 14.7
  for family, error in zip(_FAMILIES, (9.0, 5.9, 5.8), strict=True):
    table["mnist_addition", "addition", "st_fcn", family] = error
  # Esteves et al., Polar Transformer Networks (ICLR 2018), Tables 1 and 2.
  for distortion, cnn, st_cnn in (("r", 0.74, 0.61), ("rts", 0.62, 0.54)):
    table["mnist", distortion, "cnn_bn", None] = cnn
    table["mnist", distortion, "st_cnn_bn", "affine"] = st_cnn
  table["sim2mnist", "sim2mnist", "cnn_bn", None] = 11.73
  table["sim2mnist", "sim2mnist", "st_cnn_bn", "affine"] = 12.35
  return table


PUBLISHED = _published()

_GROUP = (
  "experiment",
  "task",
  "dataset",
  "distortion",
  "model",
  "transform",
  "recipe",
  "params",
  "metric",
  "unit",
  "device",
)

# Student's t, two-sided 95 %, for 2, 3, ... seeds.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def make_row(
  metrics: Mapping[str, Any],
  *,
  metric: str,
  rate: bool,
  config: Any,
  transform: str | None,
  params: int,
  step: int,
  train_samples: int,
  seconds: float,
  environment: Mapping[str, Any],
) -> dict[str, Any]:
  """The row of one finished run: the one home of its schema.

  Args:
    metrics: of the test split, see `stn.training.evaluate`.
    metric: the one to report.
    rate: whether it is a fraction of examples, reported in percent.
    config: of the run.
    transform: family of its spatial transformers; None if it has none.
    params: number of parameters.
    step: of the checkpoint that was evaluated.
    train_samples: examples seen in training, repetitions included.
    seconds: that training took.
    environment: "device", "commit" and "versions".

  Returns:
    A dict ready for JSON. "value" and "interval" are those of "metric", in
    "unit" ("%" or ""); "error" and "ci95" repeat them where the metric is an
    error rate, and are None elsewhere.
  """
  scale = 100 if rate else 1
  value = round(scale * metrics[metric], 4)
  interval = [round(scale * bound, 4) for bound in metrics[f"{metric}_ci95"]]
  is_error = metric == "error" and rate
  return {
    "experiment": config.experiment,
    "task": config.task.name,
    "dataset": config.data.name,
    "distortion": config.data.distortion,
    "model": config.model.name,
    "transform": transform,
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
    "date": time.strftime("%Y-%m-%d", time.gmtime()),
    "device": environment["device"],
    "commit": environment["commit"],
    "versions": environment["versions"],
    "config": json.loads(config.to_json()),
  }


def read(paths: Iterable[pathlib.Path]) -> list[dict[str, Any]]:
  r"""Reads results of runs.

  Args:
    paths: workdirs of finished runs, JSON lines files, or folders of such.

  Returns:
    One dict a run.

  Raises:
    FileNotFoundError: if there is nothing at a path, or a run is not finished.

  Example:
    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.jsonl").write_text('{"seed": 0}\n{"seed": 1}\n')
    >>> read([folder])
    [{'seed': 0}, {'seed': 1}]
  """
  runs = []
  for path in paths:
    if (path / "result.json").is_file():
      runs.append(json.loads((path / "result.json").read_text()))
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
      runs += [json.loads(line) for line in file.read_text().splitlines()]
  return runs


def _interval(values: list[float], single: list[float]) -> list[float]:
  """Over seeds, Student's; of a single run, its own over test examples."""
  if len(values) == 1:
    return single
  t = _T95[min(len(values) - 2, len(_T95) - 1)]
  half = t * statistics.stdev(values) / math.sqrt(len(values))
  mean = statistics.fmean(values)
  return [round(max(0.0, mean - half), 4), round(mean + half, 4)]


def summarise(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Averages runs that differ in their seed only.

  Args:
    runs: from `read`.

  Returns:
    One row for each group, in the order of experiment, dataset, distortion,
    recipe and model: what was trained; "seeds", their number; "value", the mean
    of the test metric, and "interval", 95 %, over seeds, or for a single seed
    over test examples; "error" and "ci95", the same for error rates;
    "samples" in the test set; "train_samples" and "seconds" per run; "device"
    and "commit" of the runs.

  Example:
    >>> run = dict.fromkeys(
    ...     ["experiment", "task", "dataset", "distortion", "model", "recipe",
    ...      "metric", "unit"], "")
    >>> run |= {"transform": None, "params": 1, "interval": [0., 2.],
    ...         "error": None, "samples": 9, "train_samples": 9, "seconds": 1.,
    ...         "device": "cpu", "commit": "c", "seed": 0}
    >>> [row] = summarise([run | {"value": 1.}, run | {"value": 2.}])
    >>> row["value"], row["seeds"]
    (1.5, 2)
  """
  groups: dict[tuple, list[dict[str, Any]]] = {}
  for run in runs:
    groups.setdefault(tuple(run[name] for name in _GROUP), []).append(run)
  rows = []
  for key, group in groups.items():
    values = [run["value"] for run in group]
    value = round(statistics.fmean(values), 4)
    interval = _interval(values, group[0]["interval"])
    is_error = group[0]["error"] is not None
    rows.append(
      {
        **{n: v for n, v in zip(_GROUP, key, strict=True) if n != "device"},
        "seeds": len(group),
        "value": value,
        "interval": interval,
        "error": value if is_error else None,
        "ci95": interval if is_error else None,
        "samples": group[0]["samples"],
        "train_samples": round(
          statistics.fmean(run["train_samples"] for run in group)
        ),
        "seconds": round(statistics.fmean(r["seconds"] for r in group), 1),
        "device": group[0]["device"],
        "commit": ", ".join(sorted({str(run["commit"]) for run in group})),
      }
    )
  order = ("experiment", "dataset", "distortion", "recipe", "model")
  return sorted(
    rows,
    key=lambda row: [str(row[n]) for n in (*order, "transform", "device")],
  )


def to_markdown(rows: Iterable[dict[str, Any]]) -> str:
  """The table, as in docs/results.md.

  Args:
    rows: from `summarise`.

  Returns:
    A Markdown table. Only runs on full MNIST have a published figure.

  Example:
    >>> to_markdown([]).splitlines()[0][:21]
    '| experiment | data |'
  """
  lines = [
    "| experiment | data | distortion | model | recipe | parameters "
    "| test (95 % interval) | published | seeds | time per run |",
    "|---|---|---|---|---|---|---|---|---|---|",
  ]
  for row in rows:
    names = ("experiment", "distortion", "model", "transform")
    published = PUBLISHED.get(tuple(row[name] for name in names), "")
    if row["dataset"] != "mnist":
      published = ""
    model = row["model"] + (f" {row['transform']}" if row["transform"] else "")
    low, high = row["interval"]
    unit = f" {row['unit']}" if row["unit"] else ""
    lines.append(
      f"| {row['experiment']} | {row['dataset']} | {row['distortion']} "
      f"| {model} | {row['recipe']} | {row['params']:,} "
      f"| {row['metric']} **{row['value']:.2f}**{unit} ({low:.2f} to "
      f"{high:.2f}) | {published} | {row['seeds']} "
      f"| {row['seconds']:.0f} s, {row['device']} |"
    )
  return "\n".join(lines)


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
  """
  folder.mkdir(parents=True, exist_ok=True)
  identity = (*_GROUP, "seed")
  there = {
    tuple(run[name] for name in identity)
    for file in folder.glob("*.jsonl")
    for run in read([file])
  }
  runs = read(workdirs)
  for run in runs:
    key = tuple(run[name] for name in identity)
    if key in there:
      raise ValueError(
        f"{folder} already holds a run of {run['model']} on "
        f"{run['distortion']} with recipe {run['recipe']} and seed "
        f"{run['seed']}. Remove its line to replace it."
      )
    there.add(key)
  files = []
  for run in runs:
    files.append(folder / f"{run['experiment']}.jsonl")
    with files[-1].open("a") as file:
      file.write(json.dumps(run) + "\n")
  return files


def main(argv: Sequence[str] | None = None) -> None:
  """The command line, see the head of this module."""
  parser = argparse.ArgumentParser(
    prog="python -m stn.results",
    description="Prints the table of finished runs, averaged over seeds.",
  )
  parser.add_argument(
    "paths", nargs="*", type=pathlib.Path, help="workdirs or JSON lines files"
  )
  parser.add_argument("--json", action="store_true", help="print a JSON list")
  parser.add_argument(
    "--add", action="store_true", help=f"append the runs to {RESULTS}/"
  )
  args = parser.parse_args(argv)
  if args.add and not args.paths:
    parser.error("--add needs workdirs")
  try:
    if args.add:
      for file in add(args.paths):
        print(f"added to {file}")
      return
    rows = summarise(read(args.paths or [RESULTS]))
  except (OSError, ValueError) as error:
    sys.exit(f"Error: {error}")
  print(json.dumps(rows, indent=2) if args.json else to_markdown(rows))


if __name__ == "__main__":
  main()
