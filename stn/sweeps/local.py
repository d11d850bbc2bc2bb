"""Runs items in processes of this machine, until none is left."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from stn.sweeps import slots
from stn.sweeps.folder import Item
from stn.sweeps.supply import Supply
from stn.training.signals import caught_signals

# A process that is killed is started again, so many times without progress.
_TRIES = 3
WORKER = (sys.executable, "-m", "stn.sweeps.worker")
IN_USE = os.EX_TEMPFAIL  # how a worker ends whose item another process trains
_POLL = 0.2  # seconds
_LOG_LINES = 5  # of a failed item, that are shown


@dataclasses.dataclass
class Job:
  """A process that trains items.

  Attributes:
    items: that train together.
    process: theirs.
    told: whether it was asked to stop: a second time would kill it.
  """

  items: list[Item]
  process: subprocess.Popen
  told: bool = False

  def stop(self) -> None:
    """Asks the process to save its items and to end."""
    if not self.told:
      self.told = True
      self.process.terminate()


def start(
  items: list[Item], slot: int, workers: int, command: Sequence[str] = WORKER
) -> Job:
  """Starts a process for some items, on its share of the machine.

  Args:
    items: that train together.
    slot: of the process, from 0.
    workers: how many there are.
    command: that takes the folders of items.

  Returns:
    The process.
  """
  extra = slots.environment(slot, workers, slots.accelerators())
  paths = [str(item.path) for item in items]
  with (items[0].path / "train.log").open("a") as log:
    process = subprocess.Popen(
      [*command, *paths],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env={
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **extra,
      },
      start_new_session=True,  # Ctrl-C is for the sweep, which tells it
    )
  if workers > 1 and not extra and hasattr(os, "sched_setaffinity"):
    available = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(ProcessLookupError):  # it has ended at once
      os.sched_setaffinity(process.pid, slots.cores(slot, workers, available))
  return Job(items, process)


def last_lines(item: Item) -> str:
  """The end of what an item's run printed."""
  file = item.path / "train.log"
  text = file.read_text(errors="replace") if file.exists() else ""
  return "\n".join(text.strip().splitlines()[-_LOG_LINES:])


class _Deaths:
  """Counts how often an item's process was killed since it last got ahead."""

  def __init__(self):
    self._seen: dict[str, tuple[int, int]] = {}

  def add(self, item: Item) -> int:
    step = max((line["step"] for line in item.lines()), default=-1)
    before, count = self._seen.get(item.name, (-2, 0))
    count = count + 1 if step <= before else 1
    self._seen[item.name] = (step, count)
    return count


def _settle(job: Job, supply: Supply, deaths: _Deaths) -> None:
  """Looks at what an ended process has left."""
  code, left = job.process.returncode, []
  killed = code < 0 or code > 128
  for item in job.items:
    if any(item.has(f"{x}.json") for x in ("result", "failed", "pruned")):
      supply.ended(item)
    elif code == IN_USE or (killed and deaths.add(item) < _TRIES):
      left.append(item)
    else:
      item.fail(f"exit code {code}\n{last_lines(job.items[0])}")
      supply.ended(item)
  if left:
    supply.put_back(left)


@contextlib.contextmanager
def _stopping(jobs: dict[int, Job]) -> Iterator[None]:
  """Whatever happens, no process goes on that nobody waits for."""
  try:
    yield
  finally:
    for job in jobs.values():
      job.stop()
    for job in jobs.values():
      job.process.wait()


def run(
  supply: Supply,
  workers: int,
  show: Callable[[list[Item]], None] = lambda running: None,
  *,
  wait: bool = True,
  command: Sequence[str] = WORKER,
) -> int:
  """Runs items in processes until none is left.

  Args:
    supply: of items.
    workers: how many processes at a time.
    show: called now and then with the items that run here.
    wait: whether to go on until the items that others run have ended, too; what
      they leave is then taken.
    command: of the processes, see `start`.

  Returns:
    0, or the signal that stopped it: every item has saved a checkpoint then,
    and the same sweep continues.

  Example:
    >>> from stn.sweeps.supply import Enumerated
    >>> run(Enumerated([]), workers=1)
    0
  """
  jobs: dict[int, Job] = {}
  deaths = _Deaths()
  with caught_signals() as signals, _stopping(jobs):
    while not signals:
      for slot, job in list(jobs.items()):
        if job.process.poll() is not None:
          del jobs[slot]
          _settle(job, supply, deaths)
      for slot in range(workers):
        items = [] if slot in jobs else supply.take()
        if items:
          jobs[slot] = start(items, slot, workers, command)
      if not jobs and (supply.is_empty() or not wait):
        break
      for job in jobs.values():
        if all([supply.should_stop(item) for item in job.items]):
          job.stop()
      show([item for job in jobs.values() for item in job.items])
      time.sleep(_POLL)
  return signals[0] if signals else 0
