"""Where arrays live: a mesh of devices, and who holds which rows."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(num_devices: int | None = None) -> Mesh:
  """A mesh of all devices, or the first few, over the one axis "data".

  Args:
    num_devices: how many; None takes those of all processes.

  Returns:
    The mesh; its axis is Auto: the compiler shards what lies between inputs
    and outputs.

  Raises:
    ValueError: if there are not that many.

  Example:
    >>> make_mesh(1).axis_names
    ('data',)
  """
  devices = jax.devices()
  if num_devices is not None:
    if not 1 <= num_devices <= len(devices):
      raise ValueError(
        f"`num_devices` must be 1 to {len(devices)}; got {num_devices}."
      )
    devices = devices[:num_devices]
  return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """A copy on every device: parameters.

  Example:
    >>> replicated(make_mesh(1)).is_fully_replicated
    True
  """
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, stacked: bool = False) -> NamedSharding:
  """Examples split over the devices: a batch.

  Args:
    mesh: from `make_mesh`.
    stacked: the batch has a first axis of steps.

  Returns:
    The sharding of the examples' axis.

  Example:
    >>> tuple(batch_sharding(make_mesh(1)).spec)
    ('data',)
  """
  spec = PartitionSpec(None, "data") if stacked else PartitionSpec("data")
  return NamedSharding(mesh, spec)


def process_rows(mesh: Mesh, batch_size: int) -> slice:
  """The rows of a global batch that this process holds.

  Args:
    mesh: from `make_mesh`.
    batch_size: examples in the global batch.

  Returns:
    One slice: devices are ordered by process.

  Raises:
    ValueError: if the devices do not divide the batch.

  Example:
    >>> process_rows(make_mesh(1), 8)
    slice(0, 8, None)
  """
  devices = mesh.devices.flatten().tolist()
  share, rest = divmod(batch_size, len(devices))
  if rest:
    raise ValueError(
      f"The batch size (={batch_size}) must be divisible by the number of "
      f"devices (={len(devices)})."
    )
  mine = [
    i for i, d in enumerate(devices) if d.process_index == jax.process_index()
  ]
  return slice(mine[0] * share, (mine[-1] + 1) * share)


def put_batch(
  batch: Mapping[str, np.ndarray], mesh: Mesh, *, stacked: bool = False
) -> dict[str, jax.Array]:
  """Puts a batch on the devices.

  Args:
    batch: the rows that this process holds, see `process_rows`.
    mesh: from `make_mesh`.
    stacked: the batch has a first axis of steps.

  Returns:
    The global batch, sharded over the devices.

  Example:
    >>> put_batch({"label": np.arange(2)}, make_mesh(1))["label"].shape
    (2,)
  """
  sharding = batch_sharding(mesh, stacked)
  if jax.process_count() == 1:  # the same, faster
    return jax.device_put(dict(batch), sharding)
  return {
    name: jax.make_array_from_process_local_data(sharding, array)
    for name, array in batch.items()
  }
