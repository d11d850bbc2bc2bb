"""What each of several processes on a machine may use of it."""

import glob
import os
from collections.abc import Mapping, Sequence


def accelerators() -> list[str]:
  """The GPUs that processes may see, by the names of `CUDA_VISIBLE_DEVICES`.

  jax is not asked: it would take the memory of all of them.

  Returns:
    Their names; none where jax is to run on CPUs.
  """
  if os.environ.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
    return []
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  if visible is not None:
    return [name for name in visible.split(",") if name not in ("", "-1")]
  number = len(glob.glob("/dev/nvidia[0-9]*"))
  return [str(i) for i in range(number)]


def is_parallel() -> bool:
  """Whether this machine has a GPU or TPU, where runs train together."""
  tpu = glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*")
  return bool(accelerators() or tpu)


def environment(
  slot: int, workers: int, gpus: Sequence[str]
) -> Mapping[str, str]:
  """What a worker's environment adds: its GPUs, or its part of one.

  Args:
    slot: of the worker, from 0.
    workers: how many there are.
    gpus: from `accelerators`.

  Returns:
    Variables; none without GPUs.

  Example:
    >>> environment(1, 2, ["0", "1"])
    {'CUDA_VISIBLE_DEVICES': '1'}
  """
  if not gpus:
    return {}
  if workers <= len(gpus):
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[slot::workers])}
  share = -(-workers // len(gpus))
  return {
    "CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)],
    "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / share:.3f}",
  }


def cores(slot: int, workers: int, available: Sequence[int]) -> set[int]:
  """The CPU cores of a worker: an equal part, at least one.

  Args:
    slot: of the worker, from 0.
    workers: how many there are.
    available: all cores.

  Returns:
    Some of them.

  Example:
    >>> cores(1, 2, range(4))
    {1, 3}
  """
  if workers >= len(available):
    return {available[slot % len(available)]}
  return set(available[slot::workers])
