"""Benchmarks of machines that tests do not run on."""

import json
import subprocess
import sys

import pytest
from commands import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gpu_s_benchmark_at_small_sizes(tmp_path):
  page, out = tmp_path / "page.md", tmp_path / "out.json"
  marks = ("gpu", "gpu-channels", "gpu-results")
  page.write_text("".join(f"<!-- {m} -->\n<!-- /{m} -->\n" for m in marks))
  subprocess.run(
    [
      sys.executable,
      ROOT / "benchmarks" / "bench_gpu.py",
      "--smoke",
      f"--page={page}",
      f"--out={out}",
    ],
    check=True,
    cwd=ROOT,
  )
  rows = json.loads(out.read_text())["rows"]
  assert {"default", "matmul"} <= {row["by"] for row in rows}
  tables = page.read_text()
  assert "| C256 bfloat16 | both |" in tables
  assert "| large | forward |" in tables
  assert "| default | 3 | 1 |" in tables
