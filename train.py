"""Trains a network as a config file says; continues a run that was stopped.

    python train.py --config=configs/mnist.py:distortion=r,model=st_cnn \
        --workdir=runs/r_st_cnn --config.optim.learning_rate=0.001
"""

import sys

from stn._extras import needs

with needs("train", "Training", script=True):
  import jax
  from absl import flags

  from stn import command_line
  from stn.training import (
    CheckpointError,
    Interrupted,
    LostProcessError,
    NonFiniteError,
    joined,
    train_and_evaluate,
  )

command_line.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run.")
COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of process 0, for runs in many processes."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which, from 0.")
flags.mark_flags_as_required(["config", "workdir"])
# Whose message says it all.
ERRORS = (
  ValueError,
  OSError,
  CheckpointError,
  LostProcessError,
  NonFiniteError,
)


def main():
  """Runs the experiment and prints where it is."""
  processes = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  try:
    with joined(*processes, expected=ERRORS):
      result = train_and_evaluate(flags.FLAGS.config, WORKDIR.value)
  except Interrupted as stop:
    print(stop, file=sys.stderr)
    return 128 + stop.signum
  except ERRORS as error:
    return f"Error: {error}"
  if jax.process_index() == 0:
    low, high = result["interval"]
    print(
      f"{result['model']}: test {result['metric']} {result['value']:.4g} "
      f"{result['unit']} (95 % interval {low:.4g} to {high:.4g}), "
      f"{result['params']:,} parameters, {result['seconds']:.0f} s. "
      f"Everything is in {WORKDIR.value}/"
    )
  return 0


if __name__ == "__main__":
  command_line.run(main)
