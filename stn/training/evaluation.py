"""The evaluation of a run's checkpoints."""

import math
import pathlib
from typing import Any

import jax

from stn import visualise
from stn.data.sources import get_split
from stn.training import experiment as experiment_lib
from stn.training import workdir as workdir_lib
from stn.training.checkpoint import CheckpointStore


def evaluate_run(
  workdir: str | pathlib.Path,
  *,
  step: int | None = None,
  split: str = "test",
  data_dir: str | None = None,
  pictures: pathlib.Path | None = None,
) -> dict[str, Any]:
  """Evaluates a checkpoint of a run; changes nothing in it.

  Args:
    workdir: of the run.
    step: of the checkpoint; None takes the one with the smallest validation
      error, or the last if there is no validation split.
    split: "train", "validation" or "test"; distorted by the evaluation's seed.
    data_dir: where the data lies, if not where the config says.
    pictures: a PNG file to write the examples to, if any.

  Returns:
    What `stn.evaluate.evaluate` returns, with "workdir", "step" and "split".

  Raises:
    FileNotFoundError: if `workdir` holds no run.
    ValueError: if the split is unknown, or the checkpoint is of another model.
    CheckpointError: if there is no such checkpoint, or it cannot be read.

  Example:
    >>> evaluate_run("runs/example", split="test")["error"]  # doctest: +SKIP
  """
  config: Any = workdir_lib.load_config(workdir)
  with config.unlocked():
    config.num_devices = 0
    if data_dir is not None:
      config.data.data_dir = data_dir
    # Whatever the number of devices, they divide it.
    size, devices = config.data.eval_batch_size, jax.device_count()
    config.data.eval_batch_size = math.ceil(size / devices) * devices
    config.data.batch_size = devices
  experiment = experiment_lib.build(config)
  get_split(experiment.splits, split)
  checkpoints = pathlib.Path(workdir) / "checkpoints"
  with CheckpointStore(checkpoints, read_only=True) as store:
    like = experiment.init_state()
    if step is None:
      step = store.best_step()
    if step is None:
      state = store.restore_latest(like)
      if state is None:
        raise FileNotFoundError(f"`workdir` {workdir!s} has no checkpoint yet.")
    else:
      state = store.restore(step, like)
  metrics = experiment.evaluate(state.params, split)
  if pictures is not None:
    picture = experiment.draw(
      state.params,
      f"step {int(state.step)}: {split} error {100 * metrics['error']:.2f} %",
    )
    if picture is not None:
      pictures.write_bytes(visualise.encode_png(picture))
  return {
    "workdir": str(workdir),
    "step": int(state.step),
    "split": split,
    **metrics,
  }
