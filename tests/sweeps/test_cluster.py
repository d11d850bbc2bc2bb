"""Jobs of a cluster, with submitit's local executor."""

import os
import pathlib
import signal
import sys
import textwrap
import time

import pytest

from stn.sweeps import Sweep, submit
from stn.sweeps.cluster import Sweeper


def _sweep(file, path):
  return Sweep(path, file, file.settings((), {"seed": "0,1,2,3"}))


# What sweep.py does, with a worker that trains nothing.
_SCRIPT = """
  import pathlib, sys
  from stn.sweeps import ConfigFile, Sweep, local
  from stn.sweeps.supply import Enumerated

  path, config, *command = sys.argv[1:-2]
  assert sys.argv[-2:] == ["--cluster=", "--nowait"]
  with open(path + "/starts", "a") as starts:
    starts.write("x")
  file = ConfigFile(config)
  sweep = Sweep(
    pathlib.Path(path), file, file.settings((), {"seed": "0,1,2,3"}))
  sweep.claim()
  supply = Enumerated([item] for item in sweep.items)
  code = local.run(supply, 1, command=command, wait=False)
  sys.exit(128 + code if code else 0)
"""


@pytest.fixture
def argv(file, fake, tmp_path):
  """The words of a command that runs the sweep."""
  script = tmp_path / "script.py"
  script.write_text(textwrap.dedent(_SCRIPT))
  return [str(script), str(tmp_path / "s"), file.path, *fake]


def _task_of(job):
  """The process that runs a job, not the one that looks after it."""
  for entry in pathlib.Path("/proc").iterdir():
    try:
      words = (entry / "cmdline").read_bytes().split(b"\0")
      variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
      continue
    mine = f"SUBMITIT_LOCAL_JOB_ID={job.job_id}".encode() in variables
    if mine and b"submitit.core._submit" in words:
      return int(entry.name)
  raise AssertionError(f"no process of job {job.job_id}")


@pytest.mark.long
def test_two_jobs_share_a_sweep(file, tmp_path, argv):
  sweep = _sweep(file, tmp_path / "s")
  jobs = submit(sweep, argv, 2, "local", ["timeout_min=2"])
  for job in jobs:
    job.result()
  for item in sweep.items:
    assert (item.path / "runs").read_text() == "once\n"


@pytest.mark.skipif(not os.path.exists("/proc"), reason="needs /proc")
@pytest.mark.slow
def test_a_job_whose_time_is_up_saves_and_is_queued_again(
  file, fake, tmp_path, argv
):
  worker = tmp_path / "worker.py"
  worker.write_text(worker.read_text().replace("0.02", "0.3"))
  sweep = _sweep(file, tmp_path / "s")
  [job] = submit(sweep, argv, 1, "local", ["timeout_min=2"])
  while not any(item.lines() for item in sweep.items):
    time.sleep(0.05)
  os.kill(_task_of(job), signal.SIGUSR2)  # as before a time-out
  job.result()
  assert (tmp_path / "s" / "starts").read_text() == "xx"
  for item in sweep.items:
    assert (item.path / "runs").read_text() == "once\n"
    assert len(item.lines()) == 8


def test_a_job_that_fails_says_so():
  sweeper = Sweeper([sys.executable, "-c", "raise SystemExit(3)"], ".")
  with pytest.raises(Exception, match="exit status 3"):
    sweeper()
  sweeper.checkpoint()  # nothing left to stop


@pytest.mark.parametrize(
  ("cluster", "jobs", "options", "match"),
  [
    ("pbs", 1, [], "`cluster` must be one of 'local', 'slurm'; got 'pbs'"),
    ("local", 0, [], "`jobs` must be 1 or more; got 0"),
    ("local", 1, ["timeout"], "`cluster_options` must be name=value"),
    ("local", 1, ["timeout_hours=1"], "`cluster_options` cannot be used"),
  ],
)
def test_wrong_options_are_refused(
  file, tmp_path, cluster, jobs, options, match
):
  with pytest.raises(ValueError, match=match):
    submit(_sweep(file, tmp_path / "s"), [], jobs, cluster, options)
  assert not (tmp_path / "s").exists()


def test_slurm_must_be_there(file, tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  with pytest.raises(RuntimeError, match="srun"):
    submit(_sweep(file, tmp_path / "s"), [], 1, "slurm")
  assert not (tmp_path / "s").exists()
