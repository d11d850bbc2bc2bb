"""The README's code runs, and what it names is there."""

import pathlib
import re

import jax
import numpy as np
import pytest

import stn

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def _blocks(language):
  return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_sampler_s_lines_run_and_do_what_they_say():
  names = {}
  exec(_blocks("python")[0], names)
  assert names["warped"].shape == (14, 14, 1)
  np.testing.assert_allclose(names["same"], names["warped"], atol=1e-6)
  assert names["grad"].shape == (6,)
  assert names["grad"].any()
  assert names["batch"].shape == (1, 28, 28, 1)


def test_the_module_s_lines_run():
  names = {"jax": jax, "jnp": jax.numpy}  # of the block before
  exec(_blocks("python")[1], names)
  assert names["warped"].shape == (2, 14, 14, 1)
  fields = ("theta", "grid", "input", "output", "start")
  assert names["warp"]._fields == fields


def test_links_and_folders_exist():
  links = re.findall(r"\]\((?!http)([^)]+)\)", README)
  folders = re.findall(r"^\| `([^`]+/)`", README, re.MULTILINE)
  assert links
  assert folders
  for path in (*links, *folders):
    assert (ROOT / path.split("#")[0]).exists(), path


def test_the_names_are_those_of_the_tables():
  rows = dict(re.findall(r"^\| \[`(\w+)=`\]\(.*?\) \| (.*) \|$", README, re.M))
  names = set()
  for part in rows["transform"].split("; "):
    families, dimensions = part.split(" in ")
    for name in families.split(", "):
      names.add(name)
      for ndim in (1, 2, 3):
        if f"{ndim}D" in dimensions.split(", "):
          assert stn.get_transform(name, ndim=ndim).num_params
        else:
          with pytest.raises(ValueError, match="`ndim`"):
            stn.get_transform(name, ndim=ndim)
  assert names == set(stn.TRANSFORMS)
  assert rows["method"].split(", ") == list(stn.KERNELS)
  assert rows["padding_mode"].split(", ") == list(stn.PADDINGS)
  assert rows["gradient"].split(", ") == list(stn.GRADIENTS)


def test_it_is_short_enough_to_read():
  assert len(README.splitlines()) <= 150


def test_make_has_the_two_commands():
  targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
  commands = re.findall(r"^make (\S+)", "".join(_blocks("sh")), re.MULTILINE)
  assert commands == ["quickstart", "test"]
  assert {*commands, "test-all"} <= set(targets)
