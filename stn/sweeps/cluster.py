"""Sweepers as jobs of a cluster, by submitit.

Each job of the array runs the same sweep with one worker on the shared folder:
whatever is left, it takes. When its time is up or it is preempted, submitit's
signal reaches it a while before; it stops its worker, which saves a checkpoint,
and the job is queued again. "local" runs the jobs on this machine, as tests do.
"""

import ast
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

# Its own logging would be set up at import, which closes what absl logs to.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")

import submitit  # noqa: E402

from stn._checks import check_choice  # noqa: E402
from stn.sweeps.folder import Sweep  # noqa: E402

_POLL = 0.2  # seconds
_REQUEUES = 1000


class Sweeper:
  """A job: a command that stops on SIGTERM and then may be started again.

  Args:
    command: of a sweep.
    folder: where to run it.
  """

  def __init__(self, command: Sequence[str], folder: str):
    """Starts nothing yet."""
    self._command, self._folder = list(command), folder
    self._process: subprocess.Popen | None = None

  def __call__(self) -> None:
    """Runs the command.

    Raises:
      subprocess.CalledProcessError: if it fails.
    """
    self._process = subprocess.Popen(
      self._command, cwd=self._folder, start_new_session=True
    )
    while self._process.poll() is None:  # wait() would hold a lock
      time.sleep(_POLL)
    if self._process.returncode:
      raise subprocess.CalledProcessError(
        self._process.returncode, self._command
      )

  def checkpoint(self) -> submitit.helpers.DelayedSubmission:
    """Stops the command, which saves; submitit calls this on its signal."""
    if self._process is not None:
      self._process.terminate()
      with contextlib.suppress(ChildProcessError):  # it has been waited for
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
    return submitit.helpers.DelayedSubmission(
      Sweeper(self._command, self._folder)
    )


def _executor(
  folder: pathlib.Path, cluster: str, parameters: Mapping[str, Any]
) -> submitit.AutoExecutor:
  executor = submitit.AutoExecutor(
    folder=folder,
    cluster=cluster,
    **{f"{cluster}_max_num_timeout": _REQUEUES},
  )
  try:
    executor.update_parameters(**parameters)
  except (NameError, ValueError) as error:
    raise ValueError(f"`cluster_options` cannot be used: {error}") from None
  return executor


def submit(
  sweep: Sweep,
  argv: Sequence[str],
  jobs: int,
  cluster: str,
  options: Sequence[str] = (),
) -> list[submitit.Job]:
  """Submits an array of equal jobs.

  Args:
    sweep: to run; its folder is made.
    argv: words of the command that runs it, without the interpreter; each job
      runs it in the present folder.
    jobs: how many.
    cluster: "slurm", or "local" for this machine.
    options: "name=value" of submitit's executor, such as "timeout_min=240",
      "gpus_per_node=1", "slurm_partition=gpu".

  Returns:
    The jobs.

  Raises:
    ValueError: if there is no such cluster or option.
    RuntimeError: if that cluster is not here.

  Example:
    >>> submit(sweep, ["sweep.py", ...], 8, "slurm",
    ...        ["timeout_min=240", "gpus_per_node=1"])  # doctest: +SKIP
  """
  check_choice("cluster", cluster, ("local", "slurm"))
  if jobs < 1:
    raise ValueError(f"`jobs` must be 1 or more; got {jobs}.")
  parameters = {}
  for option in options:
    name, equals, text = option.partition("=")
    if not equals:
      raise ValueError(f"`cluster_options` must be name=value; got {option!r}.")
    try:
      parameters[name] = ast.literal_eval(text)
    except (SyntaxError, ValueError):
      parameters[name] = text
  with tempfile.TemporaryDirectory() as folder:  # an executor makes its own
    _executor(pathlib.Path(folder), cluster, parameters)
  sweep.claim()
  executor = _executor(sweep.path / "jobs", cluster, parameters)
  command = [sys.executable, *argv, "--cluster=", "--nowait"]
  with executor.batch():
    return [executor.submit(Sweeper(command, os.getcwd())) for _ in range(jobs)]
