"""Evaluates a checkpoint of a run; prints one JSON object.

python eval.py --workdir=runs/r_st_cnn --split=test --pictures
"""

import json
import logging
import os
import pathlib
import sys

from absl import app, flags
from absl import logging as absl_logging

from stn.training import CheckpointError, evaluate_run

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
STEP = flags.DEFINE_integer(
  "step", None, "Which checkpoint; by default the best on validation."
)
SPLIT = flags.DEFINE_string("split", "test", "train, validation or test.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "If not as in the config.")
PICTURES = flags.DEFINE_bool("pictures", False, "Also write examples.png.")
flags.mark_flag_as_required("workdir")


def main(argv):
  """Evaluates and prints."""
  absl_logging.set_verbosity(absl_logging.ERROR)  # orbax logs a lot
  logging.getLogger("stn").setLevel(logging.WARNING)
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  workdir = pathlib.Path(WORKDIR.value)
  try:
    metrics = evaluate_run(
      workdir,
      step=STEP.value,
      split=SPLIT.value,
      data_dir=DATA_DIR.value,
      pictures=workdir / "examples.png" if PICTURES.value else None,
    )
  except (ValueError, OSError, CheckpointError) as error:
    sys.exit(f"Error: {error}")
  print(json.dumps(metrics))


if __name__ == "__main__":
  sys.path.append(os.getcwd())  # where "module:attribute" may be, too
  app.run(main)
