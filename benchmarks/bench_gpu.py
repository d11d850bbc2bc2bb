"""What only a GPU can tell of the sampler, against torch on CUDA, in one call.

  python benchmarks/bench_gpu.py [--page=docs/speed.md] [--out=FILE] [--smoke]

Three tables: the workloads of bench_sampling.py in float32; one of them as the
channels grow, in float32 and bfloat16; and how many results 1,000 runs of one
gradient have. "MB" is what a run allocates in addition to arguments and
results: as XLA plans it, and at its peak in torch. Torch's grids have the dtype
of the images, ours are float32.

`--smoke` does all of it at small sizes, on any device: it tests this file, and
its times mean nothing. bench_training.py times train steps on the same device.
"""

import argparse
import dataclasses
from typing import Any

import jax
import numpy as np
from bench_sampling import (
  copy_bandwidth,
  measure_all,
  print_head,
  table,
)
from samplers import WORKLOADS, Contestant, Workload, contestants
from timing import put_in_page, write_report

PASSES = ("forward", "grid", "image", "both")
BY = ("default", "matmul", "torch")

# Channels of a feature map in a network.
CHANNELS = {
  f"C{channels} {dtype}": Workload(
    32, (64, 64), channels, (64, 64), dtype=dtype
  )
  for dtype in ("float32", "bfloat16")
  for channels in (1, 3, 16, 64, 128, 256)
}
# Many samples of each pixel, so that their order may matter.
REPEATED = Workload(8, (32, 32), 16, (128, 128))


def shrink(workload: Workload) -> Workload:
  """The same, too small to time."""
  return dataclasses.replace(
    workload,
    batch=min(workload.batch, 2),
    spatial=tuple(min(n, 8) for n in workload.spatial),
    channels=min(workload.channels, 4),
    output=tuple(min(n, 8) for n in workload.output),
    grids=min(workload.grids, 2),
  )


def count_results(
  peers: dict[str, Contestant], workload: Workload, repeats: int
) -> list[dict[str, Any]]:
  """How many different image gradients so many runs have, bit for bit."""
  rows = []
  for peer, prepare in peers.items():
    run, _ = prepare(workload, "image")
    results = set()
    for _ in range(repeats):
      _, (gradient,) = run()
      if not isinstance(gradient, jax.Array):
        gradient = gradient.cpu()
      results.add(np.asarray(gradient).tobytes())
    rows.append({"by": peer, "repeats": repeats, "results": len(results)})
    print(f"{peer}: {len(results)} results of {repeats} runs", flush=True)
  return rows


def main() -> None:
  """Measures and reports."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=20)
  parser.add_argument("--repeats", type=int, default=1000)
  parser.add_argument("--smoke", action="store_true", help="small, any device")
  parser.add_argument("--page", help="to put the tables in: docs/speed.md")
  parser.add_argument("--out", default="runs/bench_gpu.json")
  flags = parser.parse_args()
  if jax.default_backend() != "gpu" and not flags.smoke:
    print(f"No GPU: jax runs on {jax.default_backend()}. Nothing to time.")
    return

  peers = {name: p for name, p in contestants().items() if name in BY}
  bandwidth = copy_bandwidth()
  tables, rows = {}, []
  print_head()
  for name, workloads in (("gpu", WORKLOADS), ("gpu-channels", CHANNELS)):
    if flags.smoke:
      workloads = {key: shrink(value) for key, value in workloads.items()}
    rounds = 2 if flags.smoke else flags.rounds
    measured = measure_all(workloads, PASSES, peers, rounds, bandwidth)
    tables[name] = table(measured, bandwidth, memory_of=("default", "torch"))
    rows += measured
  repeated = shrink(REPEATED) if flags.smoke else REPEATED
  counted = count_results(peers, repeated, 3 if flags.smoke else flags.repeats)
  tables["gpu-results"] = [
    ["sampler", "runs", "different results"],
    *([str(value) for value in row.values()] for row in counted),
  ]
  if flags.page:
    for name, lines in tables.items():
      put_in_page(flags.page, name, lines)
  write_report(
    flags.out,
    rows + counted,
    device=jax.devices()[0].device_kind,
    bandwidth=bandwidth,
  )


if __name__ == "__main__":
  main()
