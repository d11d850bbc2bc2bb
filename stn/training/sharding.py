"""Where arrays live: a mesh of devices, and who holds which rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
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


def make_run_mesh(mesh: Mesh, num_runs: int) -> tuple[Mesh, int]:
  """A mesh over the axis "run", for runs that train in one program.

  Each device holds as many runs as any other. Where they do not divide the
  runs, some runs are computed twice: the time is that of the device with most
  runs in any case.

  Args:
    mesh: of a run alone, whose devices are used.
    num_runs: runs that train together.

  Returns:
    The mesh, of no more devices than that takes; and the number of runs that it
    holds, at least `num_runs`.

  Example:
    >>> mesh, num_slots = make_run_mesh(make_mesh(1), 3)
    >>> mesh.axis_names, num_slots
    (('run',), 3)
  """
  devices = mesh.devices.flatten()
  share = math.ceil(num_runs / len(devices))
  devices = devices[: math.ceil(num_runs / share)]
  runs = Mesh(devices, ("run",), axis_types=(AxisType.Auto,))
  return runs, share * len(devices)


def run_sharding(mesh: Mesh) -> NamedSharding:
  """Runs, the first axis, split over the devices of `make_run_mesh`.

  Example:
    >>> tuple(run_sharding(make_run_mesh(make_mesh(1), 1)[0]).spec)
    ('run',)
  """
  return NamedSharding(mesh, PartitionSpec("run"))


def map_runs(
  function: Callable[..., Any],
  mesh: Mesh,
  in_axes: Sequence[Any],
  donate: int | None = None,
) -> Callable[..., Any]:
  """Jits a function of one run for all runs, each on its device.

  No device ever waits for another one.

  Args:
    function: of one run, pure.
    mesh: from `make_run_mesh`.
    in_axes: of each argument, as for `jax.vmap`: 0 if each run has its own,
      None if all share one.
    donate: the argument whose memory the results may take.

  Returns:
    The jitted function; results have a first axis of runs.

  Example:
    >>> mesh, _ = make_run_mesh(make_mesh(1), 2)
    >>> add = map_runs(lambda a, b: a + b, mesh, (0, None))
    >>> add(np.arange(2), 10).tolist()
    [10, 11]
  """
  own, shared = PartitionSpec("run"), PartitionSpec()
  specs = jax.tree.map(
    lambda axis: shared if axis is None else own,
    tuple(in_axes),
    is_leaf=lambda axis: axis is None,
  )
  return jax.jit(
    jax.shard_map(
      jax.vmap(function, in_axes=tuple(in_axes)),
      mesh=mesh,
      in_specs=specs,
      out_specs=own,
      check_vma=False,  # a scan that starts from zeros is no error
    ),
    donate_argnums=() if donate is None else donate,
  )


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


def map_shards(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
  """A function of examples, run by each device for its own.

  Left to itself the compiler gathers what a foreign call needs, so that the
  sampler runs without its C++ (`stn.sampling`).

  Args:
    function: of arrays of examples, to arrays of as many.
    mesh: from `make_mesh`, over which examples are split.

  Example:
    >>> map_shards(lambda x: 2 * x, make_mesh(1))(np.arange(2)).tolist()
    [0, 2]
  """
  split = PartitionSpec("data")
  return jax.shard_map(
    function, mesh=mesh, in_specs=split, out_specs=split, check_vma=False
  )


def sum_shards(
  function: Callable[[Any], Any], mesh: Mesh
) -> Callable[[Any], Any]:
  """A sum over examples, of which each device adds up its own.

  Args:
    function: of a batch, to arrays that are sums over it.
    mesh: from `make_mesh`, over which the batch is split.

  Example:
    >>> sum_shards(lambda x: x.sum(), make_mesh(1))(np.arange(3)).item()
    3
  """

  def total(batch):
    share = function(batch)
    if mesh.devices.flat[0].platform != "cpu":
      return jax.lax.psum(share, "data")
    # As one message. CPUs send one for each array, which takes longer.
    message, unravel = ravel_pytree(share)
    return unravel(jax.lax.psum(message, "data"))

  return jax.shard_map(
    total,
    mesh=mesh,
    in_specs=PartitionSpec("data"),
    out_specs=PartitionSpec(),
    check_vma=False,
  )


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
