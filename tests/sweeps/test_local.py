"""Local processes: what is done, stopped, killed, failed, run twice."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from stn.sweeps import Sweep, local, slots
from stn.sweeps.supply import Enumerated
from stn.sweeps.view import View


def _sweep(file, path, *names, values=None):
  sweep = Sweep(path, file, file.settings(names, values))
  sweep.claim()
  return sweep


def _run(sweep, fake, workers=2, **options):
  supply = Enumerated([item] for item in sweep.items)
  return local.run(supply, workers, command=fake, **options)


def _times_run(item):
  return (item.path / "runs").read_text().count("once")


def test_every_item_runs_once(file, fake, tmp_path):
  sweep = _sweep(file, tmp_path / "s", "lr", "")
  assert _run(sweep, fake) == 0
  assert [_times_run(item) for item in sweep.items] == [1] * 4
  assert _run(sweep, fake) == 0  # what is done is left alone
  assert [_times_run(item) for item in sweep.items] == [1] * 4


def test_a_failed_item_leaves_its_last_lines_and_the_others_go_on(
  file, fake, tmp_path, capsys
):
  sweep = _sweep(
    file, tmp_path / "s", values={"optim.learning_rate": "0.1,0.9,0.2"}
  )
  view = View(lambda: sweep.items)
  assert _run(sweep, fake, workers=1, show=view.update) == 0
  view.update([], now=True)
  assert [item.status() for item in sweep.items] == ["done", "failed", "done"]
  shown = capsys.readouterr().out
  assert "done     learning_rate=0.2  error 1 %" in shown
  assert "failed   learning_rate=0.9\n  exit code 1\n  first line\n" in shown
  assert "the learning rate is too large" in shown


def test_a_failed_item_is_tried_again_by_the_next_sweep(file, fake, tmp_path):
  [item] = _sweep(file, tmp_path / "s", values={"seed": "0"}).items
  item.fail("no reason")
  assert local.run(Enumerated([[item]]), 1, command=fake) == 0
  assert item.status() == "done"


def test_a_process_that_is_always_killed_is_given_up(file, tmp_path):
  [item] = _sweep(file, tmp_path / "s", values={"seed": "0"}).items
  suicide = (
    sys.executable,
    "-c",
    "import os, sys; open(sys.argv[1] + '/starts', 'a').write('x')\n"
    "print('last words', flush=True); os.kill(os.getpid(), 9)",
  )
  assert local.run(Enumerated([[item]]), 1, command=suicide) == 0
  assert item.status() == "failed"
  assert len((item.path / "starts").read_text()) == 3
  reason = (item.path / "failed.json").read_text()
  assert "exit code -9" in reason
  assert "last words" in reason


def test_items_of_a_group_train_in_one_process(file, fake, tmp_path):
  items = _sweep(file, tmp_path / "s").items
  started = []
  assert local.run(Enumerated([items]), 2, started.append, command=fake) == 0
  assert items in started
  assert [_times_run(item) for item in items] == [1, 1]


# A sweeper in a process of its own, to be killed.
_SWEEPER = """
  import pathlib, sys
  from stn.sweeps import ConfigFile, Sweep, local
  from stn.sweeps.supply import Enumerated

  file = ConfigFile(sys.argv[2])
  values = {"seed": ",".join(map(str, range(6)))}
  sweep = Sweep(pathlib.Path(sys.argv[1]), file, file.settings((), values))
  sweep.claim()
  print("ready", flush=True)
  supply = Enumerated([item] for item in sweep.items)
  sys.exit(local.run(supply, 2, command=sys.argv[3:]))
"""


def _sweeper(tmp_path, file, fake):
  code = textwrap.dedent(_SWEEPER)
  process = subprocess.Popen(
    [sys.executable, "-c", code, tmp_path / "s", file.path, *fake],
    stdout=subprocess.PIPE,
  )
  assert process.stdout.readline() == b"ready\n"
  return process


@pytest.fixture
def six(file, tmp_path):
  """The items that `_SWEEPER` runs."""
  settings = file.settings((), {"seed": ",".join(map(str, range(6)))})
  return Sweep(tmp_path / "s", file, settings).items


@pytest.mark.long
def test_two_sweepers_run_no_item_twice(file, fake, tmp_path, six):
  both = [_sweeper(tmp_path, file, fake) for _ in range(2)]
  for process in both:
    with process:
      assert process.wait(60) == 0
  assert [_times_run(item) for item in six] == [1] * 6


@pytest.mark.long
def test_ctrl_c_stops_the_workers_and_the_same_sweep_continues(
  file, fake, tmp_path, six
):
  with _sweeper(tmp_path, file, fake) as process:
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == signal.SIGINT
  assert not any(item.is_running for item in six)
  assert not all(item.has("result.json") for item in six)
  assert local.run(Enumerated([i] for i in six), 2, command=fake) == 0
  assert [_times_run(item) for item in six] == [1] * 6


def _worker_pids(fake):
  """The processes of the fake worker."""
  found = []
  for entry in pathlib.Path("/proc").iterdir():
    try:
      words = (entry / "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
      continue
    if fake[1].encode() in words and b"-c" not in words:
      found.append(int(entry.name))
  return found


@pytest.mark.skipif(not os.path.exists("/proc"), reason="needs /proc")
@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_run_nothing_twice(
  file, fake, tmp_path, six
):
  """Sweepers and workers are killed at ten random moments."""
  rng = random.Random(0)
  process = _sweeper(tmp_path, file, fake)
  for i in range(10):
    time.sleep(rng.uniform(0, 0.15))
    victims = _worker_pids(fake) if i % 2 else [process.pid]
    for pid in victims[:1]:
      os.kill(pid, signal.SIGKILL)
    if process.poll() is not None or not i % 2:
      with process:
        process.wait(60)
      process = _sweeper(tmp_path, file, fake)
  with process:
    assert process.wait(60) == 0
  assert [item.status() for item in six] == ["done"] * 6
  assert [_times_run(item) for item in six] == [1] * 6
  for item in six:  # no step was lost, none taken twice
    steps = [line["step"] for line in item.lines() if line["kind"] == "train"]
    assert steps == [1, 2, 3, 4]


def test_a_sweeper_that_does_not_wait_leaves_what_others_run(
  file, fake, tmp_path
):
  sweep = _sweep(file, tmp_path / "s")
  first = sweep.items[0]
  code = (
    "import filelock, sys\n"
    "with filelock.FileLock(sys.argv[1]):\n"
    "  print('locked', flush=True)\n"
    "  sys.stdin.read()"
  )
  with subprocess.Popen(
    [sys.executable, "-c", code, first.path / ".lock"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  ) as other:
    assert other.stdout.readline() == b"locked\n"
    assert first.status() == "running"
    assert _run(sweep, fake, wait=False) == 0
    assert [item.status() for item in sweep.items] == ["running", "done"]
    other.kill()
  assert _run(sweep, fake) == 0
  assert [_times_run(item) for item in sweep.items] == [1, 1]


def test_a_system_that_assigns_no_cores_sweeps(
  file, fake, tmp_path, monkeypatch
):
  for name in ("sched_getaffinity", "sched_setaffinity"):
    monkeypatch.delattr(os, name)  # as macOS
  sweep = _sweep(file, tmp_path / "s", values={"seed": "0"})
  assert _run(sweep, fake, workers=2) == 0
  assert [_times_run(item) for item in sweep.items] == [1]


def test_workers_share_cores_and_gpus(monkeypatch):
  assert slots.cores(0, 3, [4, 5]) == {4}
  assert slots.cores(2, 3, [4, 5]) == {4}
  assert slots.environment(2, 4, ["0", "1"]) == {
    "CUDA_VISIBLE_DEVICES": "0",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.450",
  }
  assert slots.environment(1, 2, ["0", "1", "2"]) == {
    "CUDA_VISIBLE_DEVICES": "1"
  }
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert slots.accelerators() == []
  monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
  assert slots.accelerators() == ["2", "3"]
  assert slots.is_parallel()
