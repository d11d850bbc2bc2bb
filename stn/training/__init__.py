"""Training: state, optimiser, step, checkpoints and the loop over them."""

from stn._extras import needs

with needs("train", "Training"):
  from stn.training.checkpoint import CheckpointError, CheckpointStore
  from stn.training.experiment import Experiment
  from stn.training.failures import LostProcessError
  from stn.training.hyper import TRACED, group
  from stn.training.meter import NonFiniteError
  from stn.training.population_run import train_population
  from stn.training.processes import joined
  from stn.training.run import (
    evaluate_run,
    report_invariance,
    train_and_evaluate,
  )
  from stn.training.signals import Interrupted
  from stn.training.state import TrainState

__all__ = [
  "TRACED",
  "CheckpointError",
  "CheckpointStore",
  "Experiment",
  "Interrupted",
  "LostProcessError",
  "NonFiniteError",
  "TrainState",
  "evaluate_run",
  "group",
  "joined",
  "report_invariance",
  "train_and_evaluate",
  "train_population",
]
