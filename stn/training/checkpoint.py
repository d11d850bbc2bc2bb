"""Checkpoints by orbax: asynchronous, atomic, the last few and the best.

A checkpoint has two parts: `variables`, the network's nested dict (its
parameters as "params", and what else it keeps), which any orbax reader opens,
and `progress`, the step and the optimiser's arrays by their path. A step is
visible only once it is whole: a run that is killed while it saves leaves the
previous checkpoint untouched.
"""

import contextlib
import dataclasses
import gc
import logging
import math
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from stn.training.failures import last_good, write_failure
from stn.training.signals import Interrupted
from stn.training.state import TrainState

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def _without_echoes() -> Iterator[None]:
  """Silences what orbax's other readers report after the first has failed.

  Each array is read by a coroutine of its own; those that nobody waits for any
  more report, at length, to asyncio's logger and when they are collected.
  """
  asyncio_logger = logging.getLogger("asyncio")
  level, hook = asyncio_logger.level, sys.unraisablehook
  asyncio_logger.setLevel(logging.CRITICAL)
  sys.unraisablehook = lambda _: None
  try:
    yield
  finally:
    asyncio_logger.setLevel(level)
    sys.unraisablehook = hook


class CheckpointError(RuntimeError):
  """A checkpoint could not be written or read."""


def _by_path(tree: Any) -> dict[str, Any]:
  """The leaves of a tree by their path, as flat and plain as JSON."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
  }


def _variables(params: Any, model_state: Any) -> dict[str, Any]:
  return {"params": params, **model_state}


def _to_parts(state: TrainState) -> dict[str, Any]:
  return {
    "variables": _variables(state.params, state.model_state),
    "progress": {"step": state.step, **_by_path(state.opt_state)},
  }


def _from_parts(parts: Mapping[str, Any], like: TrainState) -> TrainState:
  progress = dict(parts["progress"])
  treedef = jax.tree.structure(like.opt_state)
  leaves = [progress[path] for path in _by_path(like.opt_state)]
  model_state = dict(parts["variables"])
  params = model_state.pop("params")
  opt_state = jax.tree.unflatten(treedef, leaves)
  return TrainState(progress["step"], params, model_state, opt_state)


# What picks the best checkpoint, as orbax keeps it.
_MONITORED = "monitored"


def _monitored(metrics: Mapping[str, float]) -> float:
  return metrics[_MONITORED]


def _describe(leaf: Any) -> str:
  return f"{leaf.dtype}{list(leaf.shape)}"


def _check_same(saved: Any, wanted: Any, step: int) -> None:
  """Raises ValueError, naming the first differences, if trees differ."""
  saved, wanted = _by_path(saved), _by_path(wanted)
  differences = [
    f"  {path}: checkpoint {_describe(saved[path]) if path in saved else '-'}"
    f", model {_describe(wanted[path]) if path in wanted else '-'}"
    for path in sorted({*saved, *wanted})
    if path not in saved
    or path not in wanted
    or _describe(saved[path]) != _describe(wanted[path])
  ]
  if differences:
    more = len(differences) - 5
    raise ValueError(
      f"The checkpoint of step {step} is of another model or optimiser:\n"
      + "\n".join(differences[:5])
      + (f"\n  and {more} more" if more > 0 else "")
    )


@dataclasses.dataclass
class CheckpointStore:
  """The checkpoints of one run.

  Attributes:
    directory: where they are; made if `read_only` is False.
    keep: how many of the latest to keep, in addition to the best one on
      validation.
    read_only: nothing is written.

  Example:
    >>> import tempfile, optax, jax.numpy as jnp
    >>> from stn.training.sharding import make_mesh
    >>> from stn.training.state import init_state
    >>> state = init_state(
    ...     lambda key: ({"w": jnp.ones(2)}, {}), optax.sgd(.1),
    ...     jax.random.key(0), make_mesh(1))
    >>> with CheckpointStore(tempfile.mkdtemp()) as store:
    ...   store.save(state, 0.5)
    ...   store.wait()
    ...   int(store.restore(store.best_step(), like=state).step)
    0
  """

  directory: str | pathlib.Path
  keep: int = 2
  read_only: bool = False

  def __post_init__(self):
    """Opens the directory."""
    self.directory = pathlib.Path(self.directory).absolute()
    policies = checkpoint_managers.preservation_policy
    best = policies.BestN(
      get_metric_fn=_monitored,
      reverse=True,
      n=1,
      keep_checkpoints_without_metrics=False,
    )
    self._manager = ocp.CheckpointManager(
      self.directory,
      item_handlers={
        name: ocp.StandardCheckpointHandler()
        for name in ("variables", "progress")
      },
      options=ocp.CheckpointManagerOptions(
        create=not self.read_only,
        read_only=self.read_only,
        cleanup_tmp_directories=not self.read_only,
        best_fn=_monitored,
        best_mode="min",
        preservation_policy=policies.AnyPreservationPolicy(
          [policies.LatestN(self.keep), best]
        ),
      ),
    )

  def __enter__(self) -> "CheckpointStore":
    """Returns itself."""
    return self

  def __exit__(self, *error: object) -> None:
    """Waits for the save under way and closes.

    Raises:
      CheckpointError: if that save could not be written, and no other error is
        on its way.
    """
    alone = jax.process_count() == 1
    if not alone and error[0] and not isinstance(error[1], Interrupted):
      return  # it would wait for a process that may have ended
    try:
      self._manager.close()
    except Exception as failure:
      if error[0] is None:
        raise self._save_error(failure) from failure
      logger.debug("While closing the checkpoints: %s", failure)

  @property
  def last_good(self) -> str:
    """Names the last whole checkpoint, for messages."""
    return last_good(self.directory)

  def save(self, state: TrainState, monitored: float | None = None) -> None:
    """Starts to save; returns as soon as the state may be donated.

    Args:
      state: it must be finite: the caller has looked at its losses.
      monitored: the task's monitored metric on the validation split, if it was
        measured; the smallest is the best. One that is not finite counts as
        not measured.

    Raises:
      CheckpointError: if this save, or the one before, could not be written;
        the checkpoints before it are untouched.
    """
    self.wait()
    step = int(state.step)
    measured = monitored is not None and math.isfinite(monitored)
    parts = {
      name: ocp.args.StandardSave(part)
      for name, part in _to_parts(state).items()
    }
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(**parts),
        metrics={_MONITORED: monitored} if measured else None,
      )
    except Exception as error:
      raise self._save_error(error) from error

  def wait(self) -> None:
    """Waits until the save under way is on disk.

    Raises:
      CheckpointError: if it could not be written.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._save_error(error) from error

  def _save_error(self, error: Exception) -> CheckpointError:
    reason = write_failure(error) or str(error).splitlines()[0]
    return CheckpointError(
      f"Could not save a checkpoint in {self.directory}: {reason}. Nothing is "
      f"lost: {self.last_good}. Start again with the same command."
    )

  def reached_preemption(self, step: int) -> bool:
    """Whether any process of many was told to stop; all agree on the step."""
    return self._manager.reached_preemption(step)

  def steps(self) -> list[int]:
    """The steps of all whole checkpoints, in order."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """The best step on validation; None if none was measured."""
    return self._manager.best_step()

  def restore(self, step: int, like: TrainState) -> TrainState:
    """Reads one checkpoint onto the devices of `like`.

    Args:
      step: of the checkpoint.
      like: a state, or `jax.ShapeDtypeStruct`s with shardings.

    Returns:
      The state; the devices may be other ones than it was saved from.

    Raises:
      ValueError: if it is the checkpoint of another model or optimiser.
      CheckpointError: if there is none, or it is not readable.
    """
    wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, _to_parts(like))
    return _from_parts(self._read(step, wanted), like)

  def restore_variables(self, step: int | None, like: Any) -> TrainState:
    """Reads what a network needs to be applied, and no optimiser's state.

    Args:
      step: of the checkpoint; None takes the best, or the last one if none was
        measured on validation.
      like: shapes, dtypes and shardings of parameters and model state.

    Returns:
      A state without `opt_state`.

    Raises:
      ValueError: if it is the checkpoint of another model.
      CheckpointError: if there is none, or it is not readable.
    """
    if step is None:
      step = self.best_step()
    if step is None:
      step = self._manager.latest_step()
    if step is None:
      raise CheckpointError(f"No checkpoint yet in {self.directory}.")
    model_state = self._read(step, {"variables": _variables(*like)})[
      "variables"
    ]
    params = model_state.pop("params")
    return TrainState(jnp.asarray(step), params, model_state, ())

  def _read(self, step: int, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Reads some parts of a checkpoint, which must be as `wanted`."""
    if step not in self.steps():
      raise CheckpointError(
        f"No checkpoint of step {step} in {self.directory}; got "
        f"{self.steps() or 'none'}."
      )
    try:
      metadata = self._manager.item_metadata(step)
      saved = {name: metadata[name].tree for name in wanted}
    except Exception as error:
      raise self._read_error(step, error) from error
    _check_same(saved, wanted, step)
    parts = {
      name: ocp.args.StandardRestore(part) for name, part in wanted.items()
    }
    with _without_echoes():
      try:
        return dict(
          self._manager.restore(step, args=ocp.args.Composite(**parts))
        )
      except Exception as error:
        failure = self._read_error(step, error)
      gc.collect()  # the readers, which the error held
    raise failure

  def _read_error(self, step: int, error: Exception) -> CheckpointError:
    cause = error.__cause__ or error
    reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
    return CheckpointError(
      f"The checkpoint of step {step} in {self.directory} cannot be read: "
      f"{reason}"
    )

  def restore_latest(self, like: TrainState) -> TrainState | None:
    """Reads the latest readable checkpoint.

    One that cannot be read is reported, set aside as `<step>.unreadable`, and
    the one before it is tried.

    Args:
      like: see `restore`.

    Returns:
      The state, or None if the run has no checkpoint yet.

    Raises:
      ValueError: if it is the checkpoint of another model or optimiser.
      CheckpointError: if there are checkpoints, and none can be read.
    """
    steps = self.steps()
    for step in reversed(steps):
      try:
        state = self.restore(step, like)
      except CheckpointError as error:
        logger.warning("%s\nFalling back to the one before.", error)
        continue
      for bad in (s for s in steps if s > step):
        self._set_aside(bad)
      return state
    if steps:
      raise CheckpointError(
        f"None of the checkpoints in {self.directory} can be read (steps "
        f"{steps}). To start over, choose another workdir."
      )
    return None

  def _set_aside(self, step: int) -> None:
    """Renames a broken checkpoint, so that its step can be saved again."""
    path = pathlib.Path(self.directory) / str(step)
    if not self.read_only and jax.process_index() == 0:
      aside = path.with_name(f"{step}.unreadable")
      while aside.exists():  # the step was saved again, and broke again
        aside = aside.with_name(f"{aside.name}_")
      path.rename(aside)
    self._manager.reload()
