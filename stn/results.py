"""The results table: `python -m stn.results`.

Each line of results/*.jsonl is what one finished run wrote to its result.json.
This groups them by what was trained, averages over seeds and puts the paper's
figure beside ours.

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
from collections.abc import Iterable, Sequence
from typing import Any

RESULTS = pathlib.Path("results")

# Test error in percent of the paper's Table 1, by distortion and model.
PAPER = {
  ("r", "fcn", None): 2.1,
  ("r", "cnn", None): 1.2,
  ("r", "st_fcn", "affine"): 1.2,
  ("r", "st_cnn", "affine"): 0.7,
  ("rts", "fcn", None): 5.2,
  ("rts", "cnn", None): 0.8,
  ("rts", "st_fcn", "affine"): 0.8,
  ("rts", "st_cnn", "affine"): 0.5,
}

_GROUP = (
  "experiment",
  "dataset",
  "distortion",
  "model",
  "transform",
  "recipe",
  "params",
  "device",
)

# Student's t, two-sided 95 %, for 2, 3, ... seeds.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


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


def _interval(errors: list[float], single: list[float]) -> list[float]:
  """Over seeds, Student's; of a single run, its own over test examples."""
  if len(errors) == 1:
    return single
  t = _T95[min(len(errors) - 2, len(_T95) - 1)]
  half = t * statistics.stdev(errors) / math.sqrt(len(errors))
  mean = statistics.fmean(errors)
  return [round(max(0.0, mean - half), 4), round(mean + half, 4)]


def summarise(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Averages runs that differ in their seed only.

  Args:
    runs: from `read`.

  Returns:
    One row for each group, in the order of experiment, dataset, distortion,
    recipe and model: what was trained; "seeds", their number; "error", the mean
    test error in percent; "ci95", its 95 % interval, over seeds, or for a
    single seed over test examples; "samples" in the test set; "seconds" a run;
    "device" and "commit" of the runs.

  Example:
    >>> run = dict.fromkeys(
    ...     ["experiment", "dataset", "distortion", "model", "recipe"], "")
    >>> run |= {"transform": None, "params": 1, "ci95": [0., 2.], "samples": 9,
    ...         "seconds": 1., "device": "cpu", "commit": "c", "seed": 0}
    >>> [row] = summarise([run | {"error": 1.}, run | {"error": 2.}])
    >>> row["error"], row["seeds"]
    (1.5, 2)
  """
  groups: dict[tuple, list[dict[str, Any]]] = {}
  for run in runs:
    groups.setdefault(tuple(run[name] for name in _GROUP), []).append(run)
  rows = []
  for key, group in groups.items():
    errors = [run["error"] for run in group]
    rows.append(
      {
        **{n: v for n, v in zip(_GROUP, key, strict=True) if n != "device"},
        "seeds": len(group),
        "error": round(statistics.fmean(errors), 4),
        "ci95": _interval(errors, group[0]["ci95"]),
        "samples": group[0]["samples"],
        "seconds": round(statistics.fmean(r["seconds"] for r in group), 1),
        "device": group[0]["device"],
        "commit": ", ".join(sorted({str(run["commit"]) for run in group})),
      }
    )
  order = ("experiment", "dataset", "distortion", "recipe", "model", "device")
  return sorted(rows, key=lambda row: [row[name] for name in order])


def to_markdown(rows: Iterable[dict[str, Any]]) -> str:
  """The table, as in the README.

  Args:
    rows: from `summarise`.

  Returns:
    A Markdown table. The paper's figures stand beside runs on full MNIST only.

  Example:
    >>> to_markdown([]).splitlines()[0][:21]
    '| data | distortion |'
  """
  lines = [
    "| data | distortion | model | recipe | parameters | test error % "
    "(95 % interval) | paper % | seeds | time a run |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for row in rows:
    key = (row["distortion"], row["model"], row["transform"])
    paper = PAPER.get(key, "") if row["dataset"] == "mnist" else ""
    model = row["model"] + (f" {row['transform']}" if row["transform"] else "")
    low, high = row["ci95"]
    lines.append(
      f"| {row['dataset']} | {row['distortion']} | {model} | {row['recipe']} "
      f"| {row['params']:,} | **{row['error']:.2f}** ({low:.2f} to {high:.2f}) "
      f"| {paper} | {row['seeds']} | {row['seconds']:.0f} s, {row['device']} |"
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
