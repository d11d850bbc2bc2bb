"""What the command lines of train.py, eval.py and sweep.py have in common."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from stn.fields import is_option, parse_value, set_field

# Set by --config.FIELD=value: flags of ml_collections set listed fields only.
_OPTIONS: dict[str, Any] = {}


def take_values(
  argv: Sequence[str],
  prefix: str,
  which: Callable[[str], bool] = lambda field: True,
) -> tuple[list[str], dict[str, str]]:
  """Takes words `--prefix.FIELD=text` out of a command line.

  Args:
    argv: words; flags of any name are known only to whoever takes them.
    prefix: of the flags to take.
    which: of the fields to take.

  Returns:
    The other words, and field to text.

  Example:
    >>> take_values(["sweep.py", "--sweep.seed=0,1", "--sweep=lr"], "sweep")
    (['sweep.py', '--sweep=lr'], {'seed': '0,1'})
  """
  words, values = [], {}
  for word in argv:
    name, equals, text = word.lstrip("-").partition("=")
    field = name.removeprefix(f"{prefix}.")
    if word.startswith("-") and equals and field != name and which(field):
      values[field] = text
    else:
      words.append(word)
  return words, values


def define_config() -> None:
  """Defines `--config=FILE:name=value,...` and `--config.FIELD=value`.

  A field is one that the file lists, or an option: see `stn.fields.is_option`.
  """
  config_flags.DEFINE_config_file(
    "config",
    help_string="FILE or FILE:name=value,...",
    lock_config=True,
    sys_argv=take_values(sys.argv, "config", is_option)[0],
  )


def overrides() -> dict[str, Any]:
  """What `--config.FIELD=value` set: field to value."""
  listed = config_flags.get_override_values(flags.FLAGS["config"])
  return {
    field: value.to_dict() if isinstance(value, ConfigDict) else value
    for field, value in {**listed, **_OPTIONS}.items()
  }


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses flags; of a wrong field of the config, says what is right."""
  words, options = list(argv), {}
  if "config" in flags.FLAGS:
    words, options = take_values(argv, "config", is_option)
  try:
    rest = app.parse_flags_with_usage(words)
  except (AttributeError, KeyError) as error:
    hint = str(error).rpartition("\\n")[2].strip("'\"")
    sys.exit(f"Error: --config has no such field. {hint}")
  _OPTIONS.update({field: parse_value(text) for field, text in options.items()})
  try:
    for field, value in _OPTIONS.items():
      set_field(flags.FLAGS.config, field, value)
  except (TypeError, ValueError) as error:
    sys.exit(f"Error: {error}")
  return rest


def quieten() -> None:
  """Silences libraries that report at length what is also raised.

  orbax logs each error of a checkpoint with its traceback; arrays that it still
  writes then report to an event loop that has ended.

  Example:
    >>> quieten()
  """
  absl_logging.set_verbosity(absl_logging.FATAL)
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  logging.getLogger("stn").setLevel(logging.WARNING)
  sys.unraisablehook = _report_unraisable


def _report_unraisable(unraisable: Any) -> None:
  if str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _open_standard_files() -> None:
  """Opens those of standard input, output and error that are closed: `>&-`.

  Else files of the run would get their numbers, and what libraries print would
  be written there.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # takes the smallest free number


def run(
  main: Callable[[], Any],
  parse: Callable[[Sequence[str]], list[str]] = parse_flags,
) -> None:
  """Parses the flags, then runs a script.

  Modules of the folder in which it is called can be named in configs, as
  "module:attribute".

  Args:
    main: the script; what it returns is the exit status.
    parse: of its flags.
  """

  def start(argv):
    quieten()
    if len(argv) > 1:
      raise app.UsageError(f"unexpected arguments {argv[1:]}")
    sys.exit(main())

  _open_standard_files()
  sys.path.append(os.getcwd())
  app.run(start, flags_parser=parse)
