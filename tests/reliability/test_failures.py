"""A disk that is full, output that nobody reads, processes that fail."""

import io
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from stn.training import LostProcessError, joined
from stn.training.board import Board
from stn.training.console import Output
from stn.training.failures import explained
from stn.training.progress import Progress

ROOT = pathlib.Path(__file__).parents[2]


def _fail(*args):
  raise OSError(28, os.strerror(28))


def test_metrics_that_cannot_be_written_are_reported(tmp_path, monkeypatch):
  progress = Progress(tmp_path, 4, 0, monitor="error", rate=True, shown=False)
  monkeypatch.setattr(progress._board, "flush", _fail)
  metrics = {"loss": 1.0, "error": 0.5, "images_per_second": 1.0}
  with (
    pytest.raises(OSError, match="No space left.*Nothing is lost: that of 3"),
    explained(tmp_path, lambda: "that of 3"),
    progress,
  ):
    progress.train(1, metrics)


class _FullDisk(io.BytesIO):
  """A file that takes what it can keep in memory."""

  def flush(self):
    _fail()


def test_curves_that_cannot_be_written_raise(tmp_path, monkeypatch):
  """In a thread of tensorboardX the run waited forever at the eleventh."""
  monkeypatch.setattr(
    "tensorboardX.record_writer.open_file", lambda path: _FullDisk()
  )
  board = Board(tmp_path)
  for step in range(99):
    board.add_scalar("loss", 1.0, step)
  with pytest.raises(OSError, match="No space left"):
    board.flush()


def test_other_errors_are_as_they_were():
  error = FileNotFoundError(2, "No such file")
  with (
    pytest.raises(FileNotFoundError) as caught,
    explained("a", lambda: ""),
  ):
    raise error
  assert caught.value is error


def _full():
  return open("/dev/full", "w")  # noqa: SIM115


def _broken():
  read, write = os.pipe()
  os.close(read)
  return os.fdopen(write, "w")


@pytest.mark.parametrize("make", [_full, _broken])
def test_output_that_cannot_be_written_is_left_out(make, monkeypatch):
  with make() as file:
    monkeypatch.setattr(sys, "stdout", file)
    output = Output()
    output.say("one line")
    output.say("another")
    file.write("what a script prints at its end")
    file.flush()


@pytest.mark.long
def test_closed_standard_files_are_not_those_of_a_run(tmp_path):
  code = (
    "import sys\nfrom stn import command_line\n"
    "command_line._open_standard_files()\n"
    "file = open(sys.argv[1], 'w')\nfile.write(str(file.fileno()))"
  )
  command = ["bash", "-c", '"$0" "$@" <&- >&- 2>&-', sys.executable, "-c", code]
  subprocess.run([*command, tmp_path / "number"], check=True, cwd=ROOT)
  assert int((tmp_path / "number").read_text()) > 2


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (("here:1", 0, 0), "`num_processes` must be 1 or more; got 0"),
    (("here:1", 2, 2), r"`process_id` must be in \[0, 2\).*got 2"),
    (("here:1", 2, -1), r"`process_id` must be in \[0, 2\).*got -1"),
  ],
)
def test_processes_that_do_not_fit_are_refused(args, message):
  with pytest.raises(ValueError, match=message), joined(*args):
    pass


def _lose_one():
  with explained("a", lambda: "the last good checkpoint is that of step 7"):
    raise jax.errors.JaxRuntimeError("UNKNOWN: Connection reset\nby peer")


def test_a_lost_process_is_reported_with_the_checkpoint(monkeypatch):
  with pytest.raises(jax.errors.JaxRuntimeError, match="UNKNOWN"):
    _lose_one()  # a run in one process has lost none
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(LostProcessError, match=r"2 proc.*reset\).* of step 7. S"):
    _lose_one()


class _Exit(BaseException):
  """In place of the end of the process."""


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (ValueError("wrong"), "Error: wrong\n"),
    (KeyError("wrong"), "KeyError: 'wrong'\n"),
  ],
)
def test_a_process_of_many_leaves_at_once_when_it_fails(
  error, said, monkeypatch, capsys
):
  def leave(code):
    raise _Exit(code)

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(os, "_exit", leave)
  with pytest.raises(_Exit), joined(expected=(ValueError,)):
    raise error
  err = capsys.readouterr().err
  assert err.endswith(said)
  assert err.startswith("Traceback") == isinstance(error, KeyError)
