"""Builds the sampler in C++ into the wheel, where there is a compiler."""

import os
import pathlib
import shutil
import subprocess
import sysconfig
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PACKAGE = "stn_native"


class NativeBuildHook(BuildHookInterface):
  """Adds the package `stn_native` to wheels and to editable installs.

  The environment variable STN_NATIVE says what a build without a compiler is:
  by default a wheel without C++, with STN_NATIVE=1 an error. STN_NATIVE=0 does
  not try.
  """

  PLUGIN_NAME = "custom"

  def __init__(self, *args: Any, **kwargs: Any):
    """Makes the folder to build in."""
    super().__init__(*args, **kwargs)
    self._folder = tempfile.TemporaryDirectory(prefix=_PACKAGE)

  def dependencies(self) -> list[str]:
    """What the build needs of the registry, as it is not on this machine."""
    if _wanted() == "0":
      return []
    return [tool for tool in ("cmake", "ninja") if shutil.which(tool) is None]

  def initialize(self, version: str, build_data: dict[str, Any]) -> None:
    """Compiles; adds the package and the platform's tag to the wheel."""
    if _wanted() == "0":
      return
    source = pathlib.Path(self.root, "native")
    build = pathlib.Path(self._folder.name)
    try:
      _build(source, build)
    except (OSError, subprocess.CalledProcessError) as error:
      if _wanted() == "1":
        raise
      self.app.display_warning(
        f"The sampler in C++ was not built ({error}): plain JAX runs."
      )
      return
    kind = "force_include" + ("_editable" if version == "editable" else "")
    for path in (
      source / _PACKAGE / "__init__.py",
      build / f"{_PACKAGE}.so",
    ):
      build_data[kind][str(path)] = f"{_PACKAGE}/{path.name}"
    # No Python ABI is touched: one wheel for every version.
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    build_data["tag"] = f"py3-none-{platform}"
    build_data["pure_python"] = False

  def finalize(
    self, version: str, build_data: dict[str, Any], artifact_path: str
  ) -> None:
    """Deletes what was built, which is in the wheel."""
    self._folder.cleanup()


def _wanted() -> str | None:
  return os.environ.get("STN_NATIVE")


def _build(source: pathlib.Path, build: pathlib.Path) -> None:
  subprocess.run(
    ["cmake", "-G", "Ninja", "-S", source, "-B", build], check=True
  )
  subprocess.run(["cmake", "--build", build], check=True)
