"""The console: lines, and on a terminal a bar with the time left."""

import os
import sys

import rich.console
import rich.progress


class Output(rich.console.Console):
  """Lines on standard output, for as long as they can be written.

  Nothing depends on them: a program goes on where its reader has gone, as after
  `| head`, or where the disk that they are written to is full.

  Example:
    >>> Output().say("step 1")
    step 1
  """

  def __init__(self):
    """Colours no numbers."""
    super().__init__(highlight=False)

  def say(self, text: str) -> None:
    """Prints a line."""
    try:
      self.print(text, markup=False, soft_wrap=True)
    except OSError:
      self._discard()

  def on_broken_pipe(self) -> None:
    """Goes on where rich would end the program."""
    self._discard()

  def _discard(self) -> None:
    """Sends standard output nowhere, also what is printed elsewhere."""
    self.quiet = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Console:
  """Shows how a training goes.

  Args:
    num_steps: its length.
    step: where it starts or continues.
  """

  def __init__(self, num_steps: int, step: int):
    """Starts the bar, on a terminal."""
    self._num_steps = num_steps
    self._output = Output()
    self._bar = None
    if self._output.is_terminal:
      self._bar = rich.progress.Progress(
        rich.progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TextColumn("{task.fields[status]}"),
        rich.progress.TimeRemainingColumn(),
        console=self._output,
      )
      self._task = self._bar.add_task(
        "", total=num_steps, completed=step, status=""
      )
      self._bar.start()

  def close(self) -> None:
    """Stops the bar."""
    if self._bar:
      self._bar.stop()

  def say(self, text: str) -> None:
    """Prints a line, above the bar if there is one."""
    self._output.say(text)

  def report(self, step: int, status: str) -> None:
    """Shows where the training is, on the bar or as a line."""
    if self._bar:
      self._bar.update(self._task, completed=step, status=status)
    else:
      self.say(f"step {step}/{self._num_steps}  {status}")
