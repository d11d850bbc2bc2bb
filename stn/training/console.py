"""The console: lines, and on a terminal a bar with the time left."""

import rich.console
import rich.progress


class Console:
  """Shows how a training goes.

  Args:
    num_steps: its length.
    step: where it starts or continues.
  """

  def __init__(self, num_steps: int, step: int):
    """Starts the bar, on a terminal."""
    self._num_steps = num_steps
    self._console = rich.console.Console(highlight=False)
    self._bar = None
    if self._console.is_terminal:
      self._bar = rich.progress.Progress(
        rich.progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TextColumn("{task.fields[status]}"),
        rich.progress.TimeRemainingColumn(),
        console=self._console,
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
    self._console.print(text, markup=False, soft_wrap=True)

  def report(self, step: int, status: str) -> None:
    """Shows where the training is, on the bar or as a line."""
    if self._bar:
      self._bar.update(self._task, completed=step, status=status)
    else:
      self.say(f"step {step}/{self._num_steps}  {status}")
