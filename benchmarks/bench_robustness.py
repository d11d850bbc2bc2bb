"""Trains spatial transformers from many seeds: does any collapse? Writes JSON.

  python benchmarks/bench_robustness.py [--distortions=r,rts,tc]
      [--transforms=affine,projective,tps] [--optimizers=adamw,sgd] [--seeds=20]
      [--models=st_cnn,cnn] [--epochs=10] [--set=optim.localisation_lr=0.1]
      [--out=runs/robustness.jsonl]

Short runs on the embedded digits, configs/mnist.py with its defaults, but for
AdamW at learning rate 1e-3 or SGD at 1e-2. Each line of the output is a run:
its test error and what its transformer does to the test set, see
`stn.training.warps`. Runs that the file has are not repeated, so that the bench
can be stopped at any time. At the end, a table: runs that collapsed or do not
move, and the share whose error is less than that of the same network without a
transformer, of the same seed.
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
from stn.training.experiment import INIT, TRAIN, Experiment
from stn.training.sharding import put_batch
from stn.training.state import init_state
from stn.training.warps import problem
from stn.training.workdir import environment

OPTIMIZERS = {"adamw": 1e-3, "sgd": 1e-2}
# What a line is about.
CELL = ("distortion", "transform", "optimizer", "model", "settings")


def make_config(cell: dict[str, str], epochs: float) -> Any:
  """The config of a cell of the table."""
  transform = cell["transform"] or "affine"
  config = mnist.get_config(
    f"data=mnist_5k,distortion={cell['distortion']},model={cell['model']},"
    f"transform={transform}"
  )
  with config.unlocked():
    config.optim.name = cell["optimizer"]
    config.optim.learning_rate = OPTIMIZERS[cell["optimizer"]]
    config.num_epochs = epochs
    for setting in filter(None, cell["settings"].split(";")):
      name, _, value = setting.partition("=")
      config.update_from_flattened_dict({name: json.loads(value)})
  return config


def train(experiment: Experiment, seed: int) -> tuple[dict[str, Any], float]:
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
  source, rows = experiment.source("train"), range(size)
  for step in range(experiment.num_steps):
    batch = data.train_batch(source, seed, step, size, rows)
    batch = put_batch(batch, experiment.mesh)
    state, measured = experiment.train_step(1)(state, batch, key)
    if step % 20 == 0:  # no more calls may wait than the devices can hold
      measured["bad_step"].block_until_ready()
  metrics = experiment.evaluate(state, "test")
  return metrics, time.perf_counter() - start


def run_cell(cell: dict[str, str], seeds: list[int], flags: Any) -> None:
  """Trains what is missing of a cell; appends lines."""
  config = make_config(cell, flags.epochs)
  ran = environment()
  experiment = Experiment.build(config)
  for seed in seeds:
    metrics, seconds = train(experiment, seed)
    line = {**cell, "seed": seed, "error": metrics["error"]}
    line |= {"loss": metrics["loss"], "seconds": round(seconds, 1)}
    line |= {"epochs": flags.epochs, "date": time.strftime("%Y-%m-%d")}
    line |= {"commit": ran["commit"], "device": ran["device"]}
    for statistics in metrics.get("warps", {}).values():
      line |= {name: values[0] for name, values in statistics.items()}
      line["problem"] = problem(statistics)
    with flags.out.open("a") as file:
      file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def table(lines: list[dict[str, Any]]) -> str:
  """How often it went well, by cell: Markdown."""
  plain = {
    (line["distortion"], line["optimizer"], line["seed"]): line["error"]
    for line in lines
    if not line["transform"]
  }
  cells = defaultdict(list)
  for line in lines:
    if line["transform"]:
      cells[tuple(line[name] for name in CELL)].append(line)
  rows = [
    "| distortion | family | optimiser | settings | runs | collapsed | still | "
    "better than without | error, % | without, % |",
    "|" + "---|" * 10,
  ]
  for cell, runs in sorted(cells.items()):
    distortion, transform, optimizer, _, settings = cell
    seen = [
      run for run in runs if (distortion, optimizer, run["seed"]) in plain
    ]
    without = [plain[distortion, optimizer, run["seed"]] for run in seen]
    better = [
      run["error"] < error for run, error in zip(seen, without, strict=True)
    ]
    problems = [run["problem"] or "" for run in runs]
    errors = [100 * run["error"] for run in runs]
    rows.append(
      f"| {distortion} | {transform} | {optimizer} | {settings or 'default'} | "
      f"{len(runs)} | {sum('collapsed' in p for p in problems)} | "
      f"{sum('move' in p for p in problems)} | {sum(better)} of {len(seen)} | "
      f"{np.mean(errors):.1f} (worst {max(errors):.1f}) | "
      f"{100 * np.mean(without) if without else float('nan'):.1f} |"
    )
  return "\n".join(rows)


def main() -> None:
  """Trains what is missing, and reports."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--distortions", default="r,rts,tc")
  parser.add_argument("--transforms", default="affine,projective,tps")
  parser.add_argument("--optimizers", default="adamw,sgd")
  parser.add_argument("--models", default="st_cnn,cnn")
  parser.add_argument("--seeds", type=int, default=20)
  parser.add_argument("--epochs", type=float, default=10.0)
  parser.add_argument("--set", default="", help="NAME=JSON;NAME=JSON")
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("runs/robustness.jsonl")
  )
  flags = parser.parse_args()
  flags.out.parent.mkdir(parents=True, exist_ok=True)

  def lines():
    text = flags.out.read_text() if flags.out.exists() else ""
    return [json.loads(line) for line in text.splitlines()]

  for distortion in flags.distortions.split(","):
    for optimizer in flags.optimizers.split(","):
      for model in flags.models.split(","):
        has_transformer = model.startswith("st_")
        families = flags.transforms.split(",") if has_transformer else [""]
        for transform in families:
          values = (distortion, transform, optimizer, model, flags.set)
          cell = dict(zip(CELL, values, strict=True))
          done = {
            line["seed"]
            for line in lines()
            if all(line[name] == value for name, value in cell.items())
          }
          seeds = [seed for seed in range(flags.seeds) if seed not in done]
          if seeds:
            run_cell(cell, seeds, flags)
  print(table(lines()))


if __name__ == "__main__":
  main()
