"""Evaluates a checkpoint of a run; prints one JSON object.

python eval.py --workdir=runs/r_st_cnn --split=test --pictures
python eval.py --workdir=runs/rot --turns=8
python eval.py --workdir=runs/r_st_cnn --invariance --against=runs/r_cnn
"""

import json
import pathlib

from stn._extras import needs

with needs("train", "Evaluating", script=True):
  from absl import flags

  from stn import command_line
  from stn.training import CheckpointError, evaluate_run, report_invariance

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
STEP = flags.DEFINE_integer(
  "step", None, "Which checkpoint; by default the best on validation."
)
SPLIT = flags.DEFINE_string("split", "test", "train, validation or test.")
TURNS = flags.DEFINE_integer(
  "turns", 1, "Average over so many turned copies of each image.", lower_bound=1
)
DEGREES = flags.DEFINE_float(
  "degrees", 360.0, "The range of their angles; 360 is the circle."
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "If not as in the config.")
PICTURES = flags.DEFINE_bool("pictures", False, "Also write examples.png.")
INVARIANCE = flags.DEFINE_bool(
  "invariance", False, "Instead, how much the pose of the input matters."
)
AGAINST = flags.DEFINE_list(
  "against", [], "Workdirs of runs to show beside it, with --invariance."
)
flags.mark_flag_as_required("workdir")


def main():
  """Evaluates and prints."""
  workdir = pathlib.Path(WORKDIR.value)
  which = {
    "step": STEP.value,
    "split": SPLIT.value,
    "data_dir": DATA_DIR.value,
  }
  if INVARIANCE.value and (TURNS.present or DEGREES.present):
    return "Error: --turns and --degrees are not for --invariance."
  try:
    if INVARIANCE.value:
      print(
        json.dumps(report_invariance(workdir, against=AGAINST.value, **which))
      )
      return 0
    metrics = evaluate_run(
      workdir,
      **which,
      turns=TURNS.value,
      degrees=DEGREES.value,
      pictures=workdir / "examples.png" if PICTURES.value else None,
    )
  except (ValueError, OSError, CheckpointError) as error:
    return f"Error: {error}"
  print(json.dumps(metrics))
  return 0


if __name__ == "__main__":
  command_line.run(main)
