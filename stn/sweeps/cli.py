"""What sweep.py does with its flags."""

import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

from stn.results.__main__ import main as show_results
from stn.sweeps import cluster
from stn.sweeps.config_file import ConfigFile
from stn.sweeps.run import Options, check, commands, make_sweep, run_sweep

_OPTIONS = (
  "workers",
  "population",
  "only",
  "wait",
  "trials",
  "sampler",
  "pruner",
)


def main(file: ConfigFile, values: Mapping[str, str], flags: Any) -> int:
  """Prints, submits or runs a sweep; shows its table at the end.

  Args:
    file: the config file.
    values: field to values, of `--sweep.FIELD=value,value`.
    flags: the others of sweep.py, as attributes.

  Returns:
    The exit status, see `run_sweep`.

  Raises:
    ValueError: if something does not fit.
  """
  options = Options(**{name: getattr(flags, name) for name in _OPTIONS})
  sweep = make_sweep(file, flags.workdir, flags.sweep, values, options)
  if flags.dry_run:
    if check(sweep, options) is not None:
      print("The items of a search are drawn as it runs.", file=sys.stderr)
    for command in commands(sweep, options):
      print(command)
    return 0
  if flags.cluster:
    check(sweep, options)
    for job in cluster.submit(
      sweep, sys.argv, flags.jobs, flags.cluster, flags.cluster_options
    ):
      print(f"Submitted job {job.job_id}, which writes to {job.paths.folder}")
    return 0
  code = run_sweep(sweep, options)
  if any(sweep.path.glob("*/result.json")):
    drawn = importlib.util.find_spec("matplotlib") is not None
    show_results([str(sweep.path), *([] if drawn else ["--no_pictures"])])
  return code
