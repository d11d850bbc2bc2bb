"""Times runs that train in one program against runs alone; writes JSON.

  python benchmarks/bench_population.py [--runs=1,8,56] [--steps=50]
      [--steps_per_call=1] [--model=st_cnn] [--out=runs/bench_population.json]

MNIST R of configs/quickstart.py; runs differ in seed and learning rate. Steps
are timed after two untimed calls, batches read from memory included. "share" is
the time of all runs in one program over that of as many alone.
"""

import argparse
import time
from typing import Any

import jax
from timing import write_report

from configs import quickstart
from stn.training.experiment import Experiment
from stn.training.loop import plan_calls
from stn.training.population import Population


def make_configs(flags: argparse.Namespace, number: int) -> list[Any]:
  """Configs that may train together."""
  configs = []
  for seed in range(number):
    config = quickstart.get_config(f"model={flags.model}")
    config.seed = seed
    config.optim.learning_rate = 1e-3 * 10 ** (seed / max(number - 1, 1))
    config.steps_per_call = flags.steps_per_call
    config.num_steps = flags.steps + 2 * flags.steps_per_call
    config.log_every = config.eval_every = config.num_steps
    configs.append(config)
  return configs


def seconds(trained: Experiment | Population) -> float:
  """Of all steps but those of the first two calls."""
  state, config = trained.init_state(), trained.config
  calls = list(plan_calls(0, config.num_steps, config))
  start = 0.0
  batches = trained.train_batches(calls)
  for i, ((_, count), batch) in enumerate(zip(calls, batches, strict=True)):
    if i == 2:
      jax.block_until_ready(state)
      start = time.perf_counter()
    state, _ = trained.train_step(count)(state, batch, trained.train_key)
  jax.block_until_ready(state)
  return time.perf_counter() - start


def main() -> None:
  """Measures and reports."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--runs", default="1,8,56")
  parser.add_argument("--steps", type=int, default=50)
  parser.add_argument("--steps_per_call", type=int, default=1)
  parser.add_argument("--model", default="st_cnn")
  parser.add_argument("--out", default="runs/bench_population.json")
  flags = parser.parse_args()
  rows, alone = [], 0.0
  print(f"{'runs':>6}{'images/s':>12}{'share':>8}")
  for number in [0, *map(int, flags.runs.split(","))]:
    configs = make_configs(flags, max(number, 1))
    experiment = Experiment.build(configs[0])
    images = max(number, 1) * flags.steps * experiment.config.data.batch_size
    if number == 0:  # not batched
      alone = seconds(experiment)
      print(f"{'alone':>6}{images / alone:>12,.0f}")
      continue
    took = seconds(Population.build(experiment, configs))
    share = took / (number * alone)
    row = {"runs": number, "images_per_s": images / took, "share": share}
    rows.append(row)
    print(f"{number:>6}{row['images_per_s']:>12,.0f}{share:>8.1%}")
  device = jax.devices()[0].device_kind
  write_report(flags.out, rows, device=device, model=flags.model, alone_s=alone)


if __name__ == "__main__":
  main()
