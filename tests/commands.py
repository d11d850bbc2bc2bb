"""The scripts, run as a user runs them."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import quickly

ROOT = pathlib.Path(__file__).parent.parent

# An ST-FCN on the embedded digits that steps in about a millisecond.
SMALL = (
  "--config=configs/quickstart.py:model=st_fcn",
  "--config.model.features=(8,)",
  "--config.data.batch_size=8",
  "--config.num_pictures=0",
)


def start(script, *args, devices=1, cwd=ROOT, env=None, redirect="", **kwargs):
  """Starts a script as a user would, by default in the repository's root.

  `env` holds further variables, None for those to unset; `redirect` is what
  follows the command in the shell.
  """
  env = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "NPROC": "16",
    "XLA_FLAGS": (
      f"--xla_force_host_platform_device_count={devices} {quickly.flags()}"
    ),
    "TFDS_DATA_DIR": None,
    **(env or {}),
  }
  if folder := jax.config.jax_compilation_cache_dir:  # as pytest's own
    env["JAX_COMPILATION_CACHE_DIR"] = folder
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  command = [sys.executable, ROOT / script, *map(str, args)]
  if redirect:
    command = ["bash", "-c", f'"$0" "$@" {redirect}', *command]
  return subprocess.Popen(
    command,
    cwd=cwd,
    env={name: value for name, value in env.items() if value is not None},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **kwargs,
  )


def run(script, *args, code=0, **kwargs):
  """Runs a script to its end; returns what it printed."""
  process = start(script, *args, **kwargs)
  out, err = process.communicate(timeout=240)
  assert process.returncode == code, f"{out}\n{err}"
  return out, err


def start_two(workdir, *args):
  """Starts a run of two processes with one device each."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  return [
    start(
      "train.py",
      *args,
      f"--workdir={workdir}",
      f"--coordinator={address}",
      "--num_processes=2",
      f"--process_id={i}",
    )
    for i in range(2)
  ]
