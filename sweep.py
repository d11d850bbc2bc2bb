"""Trains every item of a sweep; continues one that was stopped.

    python sweep.py --config=configs/quickstart.py --sweep=lr,seeds \
        --workdir=runs/lr --workers=2
    python sweep.py --config=configs/quickstart.py --workdir=runs/lr \
        --sweep.optim.learning_rate=1e-3,3e-3 --sweep.seed=0,1,2 --dry_run

`--sweep=NAME` is the function sweep_NAME of the config file, without a name it
is sweep(); the product of all that is named is run.
"""

from stn._extras import needs

with needs("sweep", "A sweep", script=True):
  from absl import flags
  from ml_collections import config_flags

  from stn import command_line
  from stn.sweeps import ConfigFile, cli

command_line.define_config()
flags.DEFINE_list("sweep", [], "Functions sweep_NAME of the config file.")
flags.DEFINE_string("workdir", None, "Folder of the sweep.")
flags.DEFINE_bool("dry_run", False, "Only print the commands.")
flags.DEFINE_integer("workers", 1, "Processes at a time.")
flags.DEFINE_string("population", "auto", "In one program: auto, off, number.")
flags.DEFINE_multi_string("only", [], "Items to run: NAME, or a pattern.")
flags.DEFINE_bool("wait", True, "For the items that other sweepers run.")
flags.DEFINE_integer("trials", 20, "Items of a search.")
flags.DEFINE_string("sampler", "tpe", "Of a search: tpe, random.")
flags.DEFINE_string("pruner", "median", "Of a search: none, median, asha.")
flags.DEFINE_string("cluster", "", "Submit jobs instead: slurm, local.")
flags.DEFINE_integer("jobs", 1, "Jobs to submit, each with one worker.")
flags.DEFINE_list("cluster_options", [], "Of submitit: timeout_min=240,...")
flags.mark_flags_as_required(["config", "workdir"])
VALUES: dict[str, str] = {}  # of --sweep.FIELD=value,value


def main():
  """Describes the sweep, then prints, submits or runs it."""
  name = config_flags.get_config_filename(flags.FLAGS["config"])
  file = ConfigFile.of(name, command_line.overrides())
  try:
    return cli.main(file, VALUES, flags.FLAGS)
  except (ValueError, TypeError, OSError, RuntimeError) as error:
    return f"Error: {error}"


def parse_flags(argv):
  """Parses flags; `--sweep.FIELD=value,value` may name any field."""
  words, values = command_line.take_values(argv, "sweep")
  VALUES.update(values)
  return command_line.parse_flags(words)


if __name__ == "__main__":
  command_line.run(main, parse_flags)
