"""From a run to files that need neither its folder nor its data."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from stn._checks import lookup
from stn._extras import needs
from stn.files import replacing
from stn.results.rows import GROUP
from stn.results.run_files import read_result
from stn.zoo.pretrained import Pretrained

# What of a run's result stands on its card.
_CARD = (
  *(name for name in GROUP if name not in ("iterations", "device")),
  "seed",
  "step",
  "value",
  "interval",
  "samples",
  "date",
  "commit",
)


def from_run(
  workdir: str | pathlib.Path,
  *,
  step: int | None = None,
  data_dir: str | None = None,
) -> Pretrained:
  """The network of a run.

  Args:
    workdir: of the run.
    step: of the checkpoint, see `stn.training.evaluate_run`. The card tells of
      the test of the best one, if it is not given.
    data_dir: where the data lies, if not where the config says: its shapes are
      looked up.

  Raises:
    As `stn.training.evaluate_run`.
  """
  from stn.training.run import restore  # networks are loaded without it

  workdir = pathlib.Path(workdir)
  experiment, state = restore(workdir, step, "test", data_dir)
  config = experiment.config.copy_and_resolve_references()
  config.data.data_dir = ""  # of this machine
  card: dict[str, Any] = {"step": int(state.step)}
  row = read_result(workdir, _CARD)
  if step is None and row is not None:
    card = {name: row[name] for name in _CARD}
  spec = experiment.spec
  return Pretrained(
    config=config,
    input_shape=tuple(spec.example["image"].shape),
    head=tuple(experiment.task.head(spec)),
    card=card,
    params=jax.device_get(state.params),
    model_state=jax.device_get(state.model_state),
  )


def _to_stablehlo(network: Pretrained, path: pathlib.Path) -> None:
  """Images (n, *input_shape), float32, to outputs, with the gradient."""
  (n,) = jax_export.symbolic_shape("n")
  exported = jax_export.export(
    jax.jit(lambda images: network(images)[0]),
    platforms=("cpu", "cuda", "tpu"),
  )(jax.ShapeDtypeStruct((n, *network.input_shape), jnp.float32))
  with needs("export", "The format stablehlo"):
    artifact = exported.serialize(vjp_order=1)
  path.write_bytes(artifact)


def _to_onnx(network: Pretrained, path: pathlib.Path) -> None:
  with needs("onnx", "The format onnx"):
    from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]

  config: Any = network.config.copy_and_resolve_references()
  config.model.implementation = "gather"  # of JAX's own operations
  plain = dataclasses.replace(network, config=config)
  model = to_onnx(
    lambda images: plain(images)[0], [("B", *network.input_shape)]
  )
  path.write_bytes(model.SerializeToString())


# Format, which is also a file's suffix -> how to write it.
FORMATS: Mapping[str, Callable[[Pretrained, pathlib.Path], None]] = {
  "safetensors": Pretrained.save,
  "stablehlo": _to_stablehlo,
  "onnx": _to_onnx,
}


def export_run(
  workdir: str | pathlib.Path,
  out: str | pathlib.Path,
  formats: Sequence[str] = ("safetensors",),
  *,
  name: str = "",
  step: int | None = None,
  data_dir: str | None = None,
) -> list[pathlib.Path]:
  """Writes the network of a run as files.

  Args:
    workdir: of the run.
    out: folder; made if it is not there.
    formats: keys of `FORMATS`. "safetensors" is what `stn.zoo.load` reads;
      "stablehlo" a program that `jax.export.deserialize` reads, from images
      (n, *input_shape), float32 in [0, 1], to outputs, for CPUs, GPUs and TPUs,
      with its gradient; "onnx" the same without gradient.
    name: of the files; "" takes that of the workdir.
    step: of the checkpoint, see `stn.training.evaluate_run`.
    data_dir: where the data lies, if not where the config says.

  Returns:
    The files, one for each format, each written whole or not at all.

  Raises:
    ValueError: if a format is unknown, or the name is a path.
    MissingExtraError: if what a format needs is not installed.
    As `stn.training.evaluate_run`.

  Example:
    >>> export_run("runs/example", "exported")  # doctest: +SKIP
    [PosixPath('exported/example.safetensors')]
  """
  writers = {f: lookup("formats", f, FORMATS) for f in formats}
  name = name or pathlib.Path(workdir).resolve().name
  if pathlib.PurePath(name).name != name:
    raise ValueError(f"`name` must be that of a file, no path; got {name!r}.")
  network = from_run(workdir, step=step, data_dir=data_dir)
  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  files = []
  for suffix, write in writers.items():
    path = out / f"{name}.{suffix}"
    with replacing(path) as partial:
      write(network, partial)
    files.append(path)
  return files
