"""Times the sampler against its peers: prints tables, writes JSON.

  python benchmarks/bench_sampling.py [--workloads=N256,N8] [--rounds=20]
      [--out=runs/bench_sampling.json] [--page=docs/speed.md]

Peers that are not installed are left out. Runs take turns, each timed after
10 ms of untimed ones: compare rows within one table only. "MB temp" is what a
program allocates in addition to its arguments and results, as XLA plans it. The
second table is of the whole layer of a spatial transformer, from theta to the
warped images, the third of the default sampler alone: its cost as batch,
channels and output grow.
"""

import argparse
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from samplers import (
  LAYER_PASSES,
  LAYERS,
  PASSES,
  WORKLOADS,
  Contestant,
  Workload,
  bytes_moved,
  contestants,
  layers,
)
from timing import measure, put_in_page, write_report

from stn.sampling import implementations

# At most so much of torch's time, says the plan: by pass.
LAYER_AIMS = {"forward": 0.35, "theta": 0.35, "both": 0.45}

# What grows, the rest being the same.
SCALING = {
  **{
    f"batch {n}": Workload(n, (28, 28), 1, (28, 28)) for n in (1, 16, 256, 4096)
  },
  **{
    f"channels {c}": Workload(8, (64, 64), c, (64, 64))
    for c in (1, 3, 16, 64, 256)
  },
  **{
    f"output {n}x{n}": Workload(1, (256, 256), 3, (n, n))
    for n in (64, 256, 1024)
  },
}


def copy_bandwidth() -> float:
  """Bytes per second that this machine reads and writes, on all its threads."""
  array = jnp.zeros(2**26, jnp.float32)
  copy = jax.jit(lambda a: a + 1)
  seconds = measure({"copy": lambda: copy(array).block_until_ready()}, 5)
  return 2 * array.nbytes / seconds["copy"][1]


def measure_workload(
  name: str,
  workload: Workload,
  direction: str,
  peers: dict[str, Contestant],
  rounds: int,
) -> list[dict[str, Any]]:
  """One row for each contestant that can do this workload."""
  runs, memory = {}, {}
  for peer, prepare in peers.items():
    try:
      runs[peer], memory[peer] = prepare(workload, direction)
      runs[peer]()
    except Exception as error:  # a peer's own limit: say so and go on
      print(f"{name} {direction}: {peer} cannot: {type(error).__name__}")
      runs.pop(peer, None)
  start = time.perf_counter()
  for run in runs.values():
    run()
  budget = int(7 / max(time.perf_counter() - start, 1e-3))
  seconds = measure(runs, max(3, min(rounds, budget)), warm=0.01)
  return [
    {
      "workload": name,
      "pass": direction,
      "by": peer,
      "ms": 1e3 * seconds[peer][0],
      "least_ms": 1e3 * seconds[peer][1],
      "bytes_moved": bytes_moved(workload, direction),
      "bytes_temporary": memory[peer],
    }
    for peer in runs
  ]


def print_head() -> None:
  """The columns of `print_rows`."""
  print(
    f"{'workload':9}{'pass':9}{'by':17}{'ms':>9}{'x torch':>9}"
    f"{'least ms':>10}{'x torch':>9}{'% of copy':>11}{'MB temp':>11}"
  )


def print_rows(rows: list[dict[str, Any]], bandwidth: float) -> None:
  """Milliseconds, the share of the copy bandwidth, megabytes."""
  torch = next((row for row in rows if row["by"] == "torch"), None)
  for row in rows:
    ratio, least = (
      f"{row[key] / torch[key]:.2f}" if torch else "-"
      for key in ("ms", "least_ms")
    )
    share = 1e5 * row["bytes_moved"] / row["ms"] / bandwidth
    needed = row["bytes_temporary"]
    print(
      f"{row['workload']:9}{row['pass']:9}{row['by']:17}{row['ms']:9.2f}{ratio:>9}"
      f"{row['least_ms']:10.2f}{least:>9}"
      f"{share:11.0f}{'-' if needed is None else f'{needed / 1e6:.1f}':>11}",
      flush=True,
    )


def measure_all(
  workloads: Mapping[str, Workload],
  passes: Iterable[str],
  peers: dict[str, Contestant],
  rounds: int,
  bandwidth: float,
) -> list[dict[str, Any]]:
  """Measures every pass of every workload; prints on the way."""
  rows = []
  for name, workload in workloads.items():
    for direction in passes:
      measured = measure_workload(name, workload, direction, peers, rounds)
      print_rows(measured, bandwidth)
      rows += measured
  return rows


def table(
  rows: list[dict[str, Any]], bandwidth: float, memory_of: Sequence[str] = ()
) -> list[list[str]]:
  """The default sampler's time, as a ratio to that of each peer.

  Args:
    rows: from `measure_all`.
    bandwidth: of a copy.
    memory_of: contestants whose temporary memory is shown, too.

  Returns:
    The head, and a line for each pass of a workload.
  """
  peers = list(dict.fromkeys(row["by"] for row in rows))
  peers.remove("default")
  of = {(row["workload"], row["pass"], row["by"]): row for row in rows}
  body = []
  for (*case, by), row in of.items():
    if by != "default":
      continue
    others = [of.get((*case, peer)) for peer in peers]
    needed = [
      of.get((*case, who), {}).get("bytes_temporary") for who in memory_of
    ]
    share = 1e5 * row["bytes_moved"] / row["ms"] / bandwidth
    body.append(
      [
        *case,
        f"{row['ms']:.3f}",
        *(f"{row['ms'] / peer['ms']:.2f}" if peer else "-" for peer in others),
        f"{share:.0f}",
        *("-" if n is None else f"{n / 1e6:.1f}" for n in needed),
      ]
    )
  head = ["workload", "pass", "ms", *(f"/ {peer}" for peer in peers)]
  return [[*head, "% of copy", *(f"MB, {who}" for who in memory_of)], *body]


def layer_table(rows: list[dict[str, Any]]) -> list[list[str]]:
  """The default layer's time, as a ratio to the others', and what it may be."""
  times = {(row["workload"], row["pass"], row["by"]): row["ms"] for row in rows}
  body = []
  for workload in LAYERS:
    for direction in LAYER_PASSES:
      case = workload, direction
      if (*case, "torch") not in times:
        continue
      ours = times[*case, "default"]
      ratios = [f"{ours / times[*case, by]:.2f}" for by in ("xla", "torch")]
      body.append([*case, f"{ours:.2f}", *ratios, f"{LAYER_AIMS[direction]}"])
  return [["workload", "pass", "ms", "/ xla", "/ torch", "aim"], *body]


def scaling_table(rows: list[dict[str, Any]]) -> list[list[str]]:
  """Nanoseconds for each number of the output."""
  body = []
  for name, workload in SCALING.items():
    count = workload.batch * math.prod(workload.output) * workload.channels
    times = [1e6 * row["ms"] / count for row in rows if row["workload"] == name]
    body.append([name, *(f"{time:.2f}" for time in times)])
  return [["ns per number", *PASSES], *body]


def main() -> None:
  """Measures and reports."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workloads", default=",".join(WORKLOADS))
  parser.add_argument("--layers", default=",".join(LAYERS))
  parser.add_argument("--passes", default=",".join(PASSES))
  parser.add_argument("--by", default="", help="contestants; all by default")
  parser.add_argument("--rounds", type=int, default=20)
  parser.add_argument(
    "--scaling", action=argparse.BooleanOptionalAction, default=True
  )
  parser.add_argument("--page", help="to put the tables in: docs/speed.md")
  parser.add_argument("--out", default="runs/bench_sampling.json")
  flags = parser.parse_args()

  peers = contestants()
  if flags.by:
    peers = {name: peers[name] for name in flags.by.split(",") if name in peers}
  bandwidth = copy_bandwidth()
  print_head()
  sampled, warped = (
    measure_all(
      {name: workloads[name] for name in filter(None, names.split(","))},
      passes,
      who,
      flags.rounds,
      bandwidth,
    )
    for names, workloads, passes, who in (
      (flags.workloads, WORKLOADS, flags.passes.split(","), peers),
      (flags.layers, LAYERS, LAYER_PASSES, layers()),
    )
  )
  rows = [*sampled, *warped]
  if flags.scaling:
    default = {"default": contestants()["default"]}
    for name, workload in SCALING.items():
      for direction in PASSES:
        rows += measure_workload(
          name, workload, direction, default, flags.rounds
        )
    for row in scaling_table(rows):
      print(f"{row[0]:20}" + "".join(f"{cell:>12}" for cell in row[1:]))
  if flags.page and flags.workloads:
    put_in_page(flags.page, "sampling", table(sampled, bandwidth))
  if flags.page and flags.layers:
    put_in_page(flags.page, "layers", layer_table(warped))
  if flags.page and flags.scaling:
    put_in_page(flags.page, "scaling", scaling_table(rows))
  write_report(
    flags.out,
    rows,
    copy_bytes_per_second=bandwidth,
    implementations=implementations(),
  )


if __name__ == "__main__":
  main()
