"""Times a train step against torch's: prints a table, writes JSON.

  python benchmarks/bench_training.py [--workloads=st_cnn-28,cnn-42]
      [--batches=64,256] [--rounds=10] [--out=runs/bench_training.json]

The same network with the same parameters, optimiser and batch in torch (eager,
and compiled with --compile) and here, where it is what train.py runs. Runs are
interleaved, each timed after another of its own. The distortion, which torch
does not do, is timed apart. Compilation is timed without and with a persistent
cache of compiled programs; tracing is part of both.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from samplers import torch_device
from timing import THREADS, measure, put_in_page, write_report
from torch import nn

from configs import common
from stn.data.sources import ArraySource
from stn.data.splits import SOURCES
from stn.training.experiment import Experiment

# Workload -> model, (H, W, C), classes, distortion and the size it starts from.
WORKLOADS = {
  f"{model}-{name}": (model, shape, classes, distortion, size)
  for name, shape, classes, distortion, size in (
    ("28", (28, 28, 1), 10, "r", 28),  # MNIST R
    ("42", (42, 42, 1), 10, "rts", 28),  # MNIST RTS
    ("gtsrb", (32, 32, 3), 43, "r", 32),
  )
  for model in ("st_cnn", "cnn")
}


class Localisation(nn.Module):
  """`stn.models.ConvLocalisation` and the layer from its features to theta."""

  def __init__(self):
    """Sizes that depend on the input come with the parameters."""
    super().__init__()
    self.convs = nn.ModuleList([nn.LazyConv2d(20, 5), nn.LazyConv2d(20, 5)])
    self.dense, self.head = nn.LazyLinear(20), nn.LazyLinear(6)

  def forward(self, x):
    """(N, C, H, W) -> theta (N, 2, 3)."""
    x = F.avg_pool2d(x, 2)
    x = F.max_pool2d(F.relu(self.convs[0](x)), 2)
    x = F.relu(self.convs[1](x)).flatten(1)
    return self.head(F.relu(self.dense(x))).view(-1, 2, 3)


class TorchCNN(nn.Module):
  """`stn.models.CNN`, behind a spatial transformer if asked for."""

  def __init__(self, classes: int, transformer: bool):
    """Sizes that depend on the input come with the parameters."""
    super().__init__()
    self.localisation = Localisation() if transformer else None
    self.convs = nn.ModuleList([nn.LazyConv2d(32, 9), nn.LazyConv2d(64, 7)])
    self.head = nn.LazyLinear(classes)

  def forward(self, x):
    """(N, C, H, W) -> logits."""
    if self.localisation is not None:
      theta = self.localisation(x)
      grid = F.affine_grid(theta, x.shape, align_corners=False)
      x = F.grid_sample(x, grid, align_corners=False)
    for conv in self.convs:
      x = F.max_pool2d(F.relu(conv(x)), 2)
    return self.head(x.flatten(1))


@torch.no_grad()
def copy_layer(layer: nn.Module, params: dict, channels: int = 0) -> None:
  """Parameters of Flax; those behind `channels` maps change their order."""
  kernel = torch.from_numpy(np.array(params["kernel"]))
  if kernel.ndim == 4:
    kernel = kernel.permute(3, 2, 0, 1)
  else:
    if channels:
      size = math.isqrt(len(kernel) // channels)
      kernel = kernel.view(size, size, channels, -1).permute(2, 0, 1, 3)
    kernel = kernel.flatten(0, -2).T
  layer.weight.copy_(kernel)
  layer.bias.copy_(torch.from_numpy(np.array(params["bias"])))


def copy_params(net: TorchCNN, params: dict) -> None:
  """Makes `net` the very network."""
  if net.localisation is not None:
    transformer = params["transformer"]
    params = params["classifier"]
    found, ours = transformer["localisation"], net.localisation
    for i, conv in enumerate(ours.convs):
      copy_layer(conv, found[f"Conv_{i}"])
    copy_layer(ours.dense, found["Dense_0"], 20)
    copy_layer(ours.head, transformer["localisation_head"])
  for i, conv in enumerate(net.convs):
    copy_layer(conv, params[f"convolutions_{i}"])
  copy_layer(net.head, params["head"]["dense"], 64)


def torch_step(
  workload: str, batch: dict, params: Any, compiled: bool
) -> tuple[Callable[[], Any], np.ndarray]:
  """A step in torch, and the logits before the first."""
  model, _, classes, *_ = WORKLOADS[workload]
  torch.set_num_threads(THREADS)
  device = torch_device()
  x = torch.tensor(batch["image"]).permute(0, 3, 1, 2).contiguous() / 255
  y = torch.tensor(batch["label"]).long()
  net = TorchCNN(classes, transformer=model.startswith("st_"))
  net(x)
  copy_params(net, params)
  logits = net(x).detach().numpy()
  net, x, y = net.to(device), x.to(device), y.to(device)
  optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
  parts = [[], []]  # whose gradients are clipped by themselves, as here
  for name, parameter in net.named_parameters():
    parts[name.startswith("localisation")].append(parameter)
  torch.compiler.reset()
  forward = torch.compile(net, dynamic=False) if compiled else net

  def run():
    optimizer.zero_grad()
    loss = F.cross_entropy(forward(x), y)
    loss.backward()
    for part in filter(None, parts):
      nn.utils.clip_grad_norm_(part, 1.0)
    optimizer.step()
    return loss.item()

  return run, logits


def random_data(
  shape: tuple[int, ...], classes: int, number: int
) -> ArraySource:
  """Images and labels that mean nothing."""
  rng = np.random.default_rng(0)
  arrays = {
    "image": rng.integers(0, 256, (number, *shape), np.uint8),
    "label": rng.integers(0, classes, number, np.int32),
  }
  return ArraySource(arrays, classes)


def make_experiment(
  workload: str, shape: tuple[int, ...], batch_size: int, distortion: str
) -> Experiment:
  """What train.py would build, on one device."""
  model, _, classes, *_ = WORKLOADS[workload]
  config = common.get_base()
  config.data.update(
    {"name": "random", "batch_size": batch_size, "distortion": distortion}
  )
  config.model.name = model
  config.model.localisation_options.norm = False  # torch's has ReLUs alone
  config.optim.update({"learning_rate": 1e-3, "schedule": "constant"})
  config.num_devices = 1
  SOURCES["random"] = lambda split: random_data(shape, classes, batch_size)
  return Experiment.build(config)


def prepare_batch(experiment: Experiment, key: jax.Array, batch: dict) -> dict:
  """What the step does before the network sees the images."""
  keys = jax.random.split(key, len(batch["label"]))
  return jax.vmap(experiment.train_prepare)(keys, batch)


def our_step(
  workload: str, batch_size: int
) -> tuple[Callable, dict, Any, list]:
  """The step, its batch, the parameters, and seconds of two compilations."""
  experiment = make_experiment(
    workload, WORKLOADS[workload][1], batch_size, "none"
  )
  state, key = experiment.init_state(), experiment.train_key
  params = jax.device_get(state.params)
  batch = experiment.reader.train_batch(experiment.config.seed, 0)
  seconds = []
  for _ in range(2):  # the second time from the persistent cache
    jax.clear_caches()
    start = time.perf_counter()
    step = experiment.train_step(1).lower(state, batch, key).compile()
    seconds.append(time.perf_counter() - start)

  def run():
    nonlocal state
    state, _ = step(state, batch, key)
    jax.block_until_ready(state)

  def forward(params, batch):
    batch = prepare_batch(experiment, key, batch)
    inputs = experiment.task.inputs(batch)
    return experiment.network.apply(params, {}, inputs, key, False)[0]

  return run, batch, params, [*seconds, forward]


def our_distortion(workload: str, batch_size: int) -> Callable[[], Any]:
  """The preparation of a batch, by itself."""
  _, shape, _, distortion, size = WORKLOADS[workload]
  shape = (size, size, shape[-1])
  experiment = make_experiment(workload, shape, batch_size, distortion)
  batch = experiment.reader.train_batch(experiment.config.seed, 0)
  key = experiment.train_key
  prepare = jax.jit(lambda key, batch: prepare_batch(experiment, key, batch))
  return lambda: jax.block_until_ready(prepare(key, batch))


def measure_workload(
  workload: str, batch_size: int, rounds: int, compiled: bool
) -> dict[str, Any]:
  """One row."""
  ours, batch, params, (cold, warm, forward) = our_step(workload, batch_size)
  runs = {"ours": ours, "distortion": our_distortion(workload, batch_size)}
  runs["torch"], expected = torch_step(workload, batch, params, compiled=False)
  logits = jax.jit(forward)(params, batch)
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
  if compiled:
    try:
      runs["compiled"], _ = torch_step(workload, batch, params, compiled=True)
      runs["compiled"]()
    except Exception as error:  # a peer's own limit: say so and go on
      print(f"{workload}: torch.compile cannot: {type(error).__name__}")
      del runs["compiled"]
  seconds = measure(runs, rounds, warm=0.01)
  row = {
    "workload": workload,
    "batch": batch_size,
    "cold_s": cold,
    "cached_s": warm,
  }
  for name, (median, _) in seconds.items():
    row[f"{name}_ms"] = 1e3 * median
  row["images_per_second"] = batch_size / seconds["ours"][0]
  row["x_torch"] = row["ours_ms"] / row["torch_ms"]
  row["distortion_share"] = row["distortion_ms"] / (
    row["ours_ms"] + row["distortion_ms"]
  )
  return row


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
  """Images per second, milliseconds, and the ratio to torch's."""
  head = ["network", "batch", "images/s", "ms", "torch ms", "/ torch"]
  head += ["/ torch.compile", "distortion", "compile s", "cached s"]
  body = []
  for row in rows:
    compiled = row.get("compiled_ms")
    body.append(
      [
        row["workload"],
        str(row["batch"]),
        f"{row['images_per_second']:.0f}",
        f"{row['ours_ms']:.1f}",
        f"{row['torch_ms']:.1f}",
        f"{row['x_torch']:.2f}",
        "-" if compiled is None else f"{row['ours_ms'] / compiled:.2f}",
        f"{row['distortion_share']:.1%}",
        f"{row['cold_s']:.1f}",
        f"{row['cached_s']:.1f}",
      ]
    )
  return [head, *body]


def main() -> None:
  """Measures and reports."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workloads", default=",".join(WORKLOADS))
  parser.add_argument("--batches", default="64,256")
  parser.add_argument("--rounds", type=int, default=10)
  parser.add_argument("--compile", action="store_true", help="takes minutes")
  parser.add_argument("--page", help="to put the table in: docs/speed.md")
  parser.add_argument("--out", default="runs/bench_training.json")
  flags = parser.parse_args()

  rows = []
  with tempfile.TemporaryDirectory() as cache:
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    for workload in flags.workloads.split(","):
      for batch_size in map(int, flags.batches.split(",")):
        row = measure_workload(
          workload, batch_size, flags.rounds, flags.compile
        )
        rows.append(row)
        for line in table(rows) if len(rows) == 1 else table(rows)[-1:]:
          print("".join(f"{cell:>16}" for cell in line), flush=True)
  if flags.page:
    put_in_page(flags.page, "training", table(rows))
  write_report(flags.out, rows, torch=torch.__version__)


if __name__ == "__main__":
  main()
