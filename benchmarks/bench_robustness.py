"""Trains spatial transformers from many seeds: does any collapse? Writes JSON.

  python benchmarks/bench_robustness.py [--distortions=r,rts,tc]
      [--transforms=affine,projective,tps] [--optimizers=adamw,sgd] [--seeds=20]
      [--models=st_cnn,cnn] [--epochs=10] [--draws=10]
      [--set="optim.localisation_lr=0.1;model.limit=(1.0,)"]
      [--out=runs/robustness.jsonl] [--picture=runs/robustness.png]

Short runs on the embedded digits, configs/mnist.py with its defaults, but for
AdamW at learning rate 1e-3, SGD at 1e-2 with momentum 0.9, or plain_sgd without
momentum. Each line of the output is a run: its test error and what its
transformer does to the test set, see `stn.training.warps`. The 1,000 test
digits are distorted ten times, so that chance in the test hides less of the
difference. Runs that the file has are not repeated, so that the bench can be
stopped at any time. At the end, a table, and a picture: runs that collapsed or
do not move, and the share whose error is less than that of the same network
without a transformer, of the same seed.
"""

import argparse
import json
import pathlib
import time
from collections import defaultdict
from typing import Any

import numpy as np

from configs import mnist
from stn import data
from stn.fields import parse_value, set_field
from stn.results.figure import COLOURS, pyplot, to_png
from stn.training.experiment import INIT, TRAIN, Experiment
from stn.training.sharding import put_batch
from stn.training.state import init_state
from stn.training.warps import problem
from stn.training.workdir import environment

OPTIMIZERS = {
  "adamw": {"name": "adamw", "learning_rate": 1e-3},
  "sgd": {"name": "sgd", "learning_rate": 1e-2, "momentum": 0.9},
  "plain_sgd": {"name": "sgd", "learning_rate": 1e-2},
}
# What a line is about; lines that differ in their seed only are averaged.
CELL = (
  "distortion",
  "transform",
  "optimizer",
  "model",
  "settings",
  "epochs",
  "draws",
)
# Of these, that of the network without a transformer is another one.
_OWN = ("transform", "model", "settings")


def make_config(cell: dict[str, Any]) -> Any:
  """The config of a cell of the table."""
  transform = cell["transform"] or "affine"
  config = mnist.get_config(
    f"data=mnist_5k,distortion={cell['distortion']},model={cell['model']},"
    f"transform={transform}"
  )
  with config.unlocked():
    config.optim.update(OPTIMIZERS[cell["optimizer"]])
    config.num_epochs = cell["epochs"]
  for setting in filter(None, cell["settings"].split(";")):
    name, _, value = setting.partition("=")
    set_field(config, name, parse_value(value))
  return config


def train(
  experiment: Experiment, seed: int, draws: int
) -> tuple[dict[str, Any], float]:
  """The test of a run, and its seconds; programs are shared between seeds."""
  start = time.perf_counter()
  key = experiment.key(seed, TRAIN)
  state = init_state(
    experiment.init,
    experiment.optimizer,
    experiment.key(seed, INIT),
    experiment.mesh,
  )
  size = experiment.config.data.batch_size
  source, rows = experiment.reader.source("train"), range(size)
  for step in range(experiment.num_steps):
    batch = data.train_batch(source, seed, step, size, rows)
    batch = put_batch(batch, experiment.mesh)
    state, measured = experiment.train_step(1)(state, batch, key)
    if step % 20 == 0:  # no more calls may wait than the devices can hold
      measured["bad_step"].block_until_ready()
  metrics = experiment.evaluate(state, "test", draws=draws)
  return metrics, time.perf_counter() - start


def run_cell(cell: dict[str, Any], seeds: list[int], out: pathlib.Path) -> None:
  """Trains what is missing of a cell; appends lines."""
  config = make_config(cell)
  ran = environment()
  experiment = Experiment.build(config)
  for seed in seeds:
    metrics, seconds = train(experiment, seed, cell["draws"])
    line = {**cell, "seed": seed, "error": metrics["error"]}
    line |= {"loss": metrics["loss"], "seconds": round(seconds, 1)}
    line |= {"date": time.strftime("%Y-%m-%d")}
    line |= {"commit": ran["commit"], "device": ran["device"]}
    for statistics in metrics.get("warps", {}).values():
      line |= {name: values[0] for name, values in statistics.items()}
      line["problem"] = problem(statistics)
    with out.open("a") as file:
      file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def by_cell(
  lines: list[dict[str, Any]],
) -> dict[tuple[str, ...], list[tuple[dict[str, Any], float]]]:
  """Cell -> runs with a transformer, and the error without it, or NaN.

  A run is compared with that of the same settings, or, where these are of the
  transformer alone and there is none, of no settings.
  """

  def without(line, settings):
    network = line["model"].removeprefix("st_")
    rest = [line[name] for name in CELL if name not in _OWN]
    return (network, settings, line["seed"], *rest)

  plain = {
    without(line, line["settings"]): line["error"]
    for line in lines
    if not line["transform"]
  }
  cells = defaultdict(list)
  for line in lines:
    if line["transform"]:
      error = plain.get(without(line, ""), float("nan"))
      error = plain.get(without(line, line["settings"]), error)
      cells[tuple(line[name] for name in CELL)].append((line, error))
  return dict(sorted(cells.items()))


def table(lines: list[dict[str, Any]]) -> str:
  """How often it went well, by cell: Markdown."""
  rows = [
    "| distortion | model | family | optimiser | settings | runs | collapsed | "
    "still | better than without | error, % | without, % |",
    "|" + "---|" * 11,
  ]
  for cell, runs in by_cell(lines).items():
    distortion, transform, optimizer, model, settings, *_ = cell
    seen = [(run["error"], w) for run, w in runs if np.isfinite(w)]
    better = sum(error < without for error, without in seen)
    problems = [run["problem"] or "" for run, _ in runs]
    errors = [100 * run["error"] for run, _ in runs]
    without = 100 * np.mean([w for _, w in seen]) if seen else float("nan")
    rows.append(
      f"| {distortion} | {model} | {transform} | {optimizer} | "
      f"{settings or 'default'} | {len(runs)} | "
      f"{sum('collapsed' in p for p in problems)} | "
      f"{sum('move' in p for p in problems)} | {better} of {len(seen)} | "
      f"{np.mean(errors):.1f} (worst {max(errors):.1f}) | {without:.1f} |"
    )
  return "\n".join(rows)


def draw(lines: list[dict[str, Any]]) -> bytes:
  """Every run: its error less that without a transformer; a PNG."""
  plt = pyplot()
  cells = list(by_cell(lines).items())
  height = 1.2 + 0.3 * len(cells)
  figure, axis = plt.subplots(figsize=(7.0, height), layout="constrained")
  axis.axvline(0, color="black", lw=0.8)
  names = []
  for row, (cell, runs) in enumerate(cells):
    distortion, transform, optimizer, model, settings, *_ = cell
    what = [s.rpartition(".")[2] for s in settings.split(";")]
    names.append(" ".join([distortion, model, transform, optimizer, *what]))
    x = np.array([100 * (run["error"] - without) for run, without in runs])
    bad = np.array([bool(run["problem"]) for run, _ in runs])
    # Spread over the row, so that runs do not hide each other.
    y = row + np.linspace(-0.3, 0.3, len(x))
    axis.scatter(x[~bad], y[~bad], s=14, color=COLOURS[0])
    axis.scatter(x[bad], y[bad], s=22, color=COLOURS[1], marker="x")
    if np.isfinite(x).any():  # of runs that there is another to compare with
      mean = np.nanmean(x)
      axis.plot([mean] * 2, [row - 0.4, row + 0.4], color="black", lw=1.6)
  axis.set_yticks(range(len(names)), names)
  axis.invert_yaxis()
  axis.spines[["top", "right"]].set_visible(False)
  figure.supxlabel(
    "test error less that of the same seed without a transformer, in points\n"
    "line: mean; cross: collapsed, or does not move",
    fontsize="medium",
  )
  return to_png(plt, figure)


def main() -> None:
  """Trains what is missing, and reports."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--distortions", default="r,rts,tc")
  parser.add_argument("--transforms", default="affine,projective,tps")
  parser.add_argument("--optimizers", default="adamw,sgd")
  parser.add_argument("--models", default="st_cnn,cnn")
  parser.add_argument("--seeds", type=int, default=20)
  parser.add_argument("--epochs", type=float, default=10.0)
  parser.add_argument("--draws", type=int, default=10)
  parser.add_argument("--set", default="", help="FIELD=VALUE;FIELD=VALUE")
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("runs/robustness.jsonl")
  )
  parser.add_argument("--picture", type=pathlib.Path)
  flags = parser.parse_args()
  flags.out.parent.mkdir(parents=True, exist_ok=True)

  def lines():
    text = flags.out.read_text() if flags.out.exists() else ""
    # The test digits were once distorted once, and lines did not say so.
    return [{"draws": 1, **json.loads(line)} for line in text.splitlines()]

  for distortion in flags.distortions.split(","):
    for optimizer in flags.optimizers.split(","):
      for model in flags.models.split(","):
        has_transformer = model.startswith("st_")
        families = flags.transforms.split(",") if has_transformer else [""]
        for transform in families:
          values = (distortion, transform, optimizer, model, flags.set)
          values += (flags.epochs, flags.draws)
          cell = dict(zip(CELL, values, strict=True))
          done = {
            line["seed"]
            for line in lines()
            if all(line[name] == value for name, value in cell.items())
          }
          seeds = [seed for seed in range(flags.seeds) if seed not in done]
          if seeds:
            run_cell(cell, seeds, flags.out)
  print(table(lines()))
  if flags.picture:
    flags.picture.write_bytes(draw(lines()))


if __name__ == "__main__":
  main()
