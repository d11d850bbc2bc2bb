"""What happens to the commands where something around them fails."""

import os
import time

import pytest
from commands import SMALL, run, start, start_two

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STEPS = ("--config.num_steps=20", "--config.log_every=1")


@pytest.mark.parametrize(
  "redirect", ["| head -1", "<&- >&- 2>&-", "> /dev/full", "2> /dev/full"]
)
def test_a_run_ends_well_where_nobody_reads(redirect, tmp_path):
  run("train.py", *SMALL, *STEPS, f"--workdir={tmp_path}", redirect=redirect)
  assert (tmp_path / "result.json").exists()


def test_a_full_disk_ends_a_run_with_one_line(small_disk):
  (small_disk / "filler").write_bytes(b"0" * 1_300_000)
  args = (*SMALL, "--config.num_steps=200", "--config.eval_every=10")
  workdir = f"--workdir={small_disk / 'run'}"
  _, err = run("train.py", *args, workdir, code=1)
  [line] = err.splitlines()
  assert line.startswith("Error: Could not ")
  assert "No space left on device. Nothing is lost: the last good ch" in line
  (small_disk / "filler").unlink()
  run("train.py", *args, workdir)


def test_a_second_run_names_the_first(tmp_path):
  args = (*SMALL, "--config.num_steps=100000", f"--workdir={tmp_path}")
  first = start("train.py", *args)
  while not (tmp_path / ".lock_holder").exists():
    time.sleep(0.1)
  _, err = run("train.py", *args, code=1)
  first.kill()
  first.communicate()
  [line] = err.splitlines()
  assert f"is in use: process {first.pid} on {os.uname().nodename} tr" in line


def test_a_killed_process_ends_the_other(tmp_path):
  args = (*SMALL, "--config.num_steps=100000", "--config.log_every=20")
  processes = start_two(tmp_path, *args)
  metrics = tmp_path / "metrics.jsonl"
  while not (metrics.exists() and '"train"' in metrics.read_text()):
    assert all(p.poll() is None for p in processes)
    time.sleep(0.05)
  processes[1].kill()
  _, err = processes[0].communicate(timeout=60)
  processes[1].communicate()
  assert processes[0].returncode == 1
  last = err.splitlines()[-1]
  assert last.startswith("Error: A computation over all 2 processes failed")
  assert "checkpoint is that of step 0. Start all processes again" in last
