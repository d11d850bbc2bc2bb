"""What stn-jax installs on request, and the message where it is missing."""

import contextlib
import re
import sys
from collections.abc import Iterator


class MissingExtraError(ModuleNotFoundError, ValueError):
  """An extra of stn-jax is not installed.

  A ValueError, too: what was asked for cannot be had on this machine, and
  command lines say that without a traceback.
  """


@contextlib.contextmanager
def needs(extra: str, what: str, *, script: bool = False) -> Iterator[None]:
  """Says which extra to install if an import within fails.

  Args:
    extra: that the modules imported within belong to, see pyproject.toml.
    what: what is not possible without it, for the message.
    script: whether to leave Python with the message alone, no traceback, as
      is done for `python -m stn....`, too.

  Raises:
    MissingExtraError: if a module is missing that is not of stn itself.

  Example:
    >>> with needs("train", "Training"):
    ...   import not_there  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    stn._extras.MissingExtraError: Training needs the extra `train`: pip ...
  """
  try:
    yield
  except ModuleNotFoundError as error:
    message = str(error)
    if not isinstance(error, MissingExtraError):
      if str(error.name).split(".")[0] == "stn":
        raise
      message = (
        f"{what} needs the extra `{extra}`: pip install 'stn-jax[{extra}]' "
        f"(there is no module {error.name!r})."
      )
    if script or _starts_command():
      sys.exit(f"Error: {message}")
    raise MissingExtraError(message, name=error.name) from None


def _starts_command() -> bool:
  """Whether Python is looking for the module of `python -m stn....`."""
  command = " ".join(sys.orig_argv)
  return sys.argv[:1] == ["-m"] and bool(re.search(r" -m ?stn\b", command))
