"""Training: state, optimiser, step, checkpoints and the loop over them."""

from stn.training.checkpoint import CheckpointError, CheckpointStore
from stn.training.evaluation import evaluate_run
from stn.training.loop import Interrupted, NonFiniteError, train_and_evaluate
from stn.training.state import TrainState

__all__ = [
  "CheckpointError",
  "CheckpointStore",
  "Interrupted",
  "NonFiniteError",
  "TrainState",
  "evaluate_run",
  "train_and_evaluate",
]
