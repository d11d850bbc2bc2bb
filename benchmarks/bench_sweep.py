"""Times a sweep of one item against train.py alone; writes JSON.

  python benchmarks/bench_sweep.py [--num_steps=3000] [--repeats=3]
      [--out=runs/bench_sweep.json]

The two take turns. "overhead" is what sweep.py adds, over the time of train.py.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from timing import write_report

ROOT = pathlib.Path(__file__).parents[1]


def seconds(script: str, *words: str) -> float:
  """The time of a script of the repository, in a folder of its own."""
  with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    subprocess.run(
      [sys.executable, ROOT / script, *words, f"--workdir={folder}/run"],
      check=True,
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
  """Measures and reports."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--num_steps", type=int, default=3000)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--out", default="runs/bench_sweep.json")
  flags = parser.parse_args()
  words = [
    "--config=configs/quickstart.py:model=cnn",
    f"--config.num_steps={flags.num_steps}",
    "--config.num_pictures=0",
  ]
  rows = []
  for _ in range(flags.repeats):
    alone = seconds("train.py", *words)
    swept = seconds("sweep.py", *words, "--sweep.seed=0")
    rows.append({"alone_s": alone, "sweep_s": swept})
    print(f"train.py {alone:.1f} s, sweep.py {swept:.1f} s")
  alone = statistics.median(row["alone_s"] for row in rows)
  overhead = statistics.median(r["sweep_s"] - r["alone_s"] for r in rows)
  print(f"overhead {overhead:.2f} s, {overhead / alone:.1%} of {alone:.0f} s")
  write_report(flags.out, rows, overhead_s=overhead)


if __name__ == "__main__":
  main()
