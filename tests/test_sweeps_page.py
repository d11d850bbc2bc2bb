"""docs/sweeps.md: its code makes sweeps, its commands are accepted."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from configs import sweeps
from stn.sweeps import ConfigFile

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "sweeps.md").read_text()


def _commands():
  text = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
  lines = text.replace("\\\n", " ").splitlines()
  return [shlex.split(line, comments=True) for line in lines]


def test_the_code_makes_sweeps(tmp_path):
  first, search = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
  code = f"{first}\n{search}\n\nfrom configs.quickstart import get_config\n"
  (tmp_path / "mine.py").write_text(code)
  file = ConfigFile(str(tmp_path / "mine.py"))
  assert file.sweep_names() == ["lr", "models", "search", "warmup"]
  for name, number in (("lr", 3), ("models", 2), ("warmup", 6)):
    settings = file.settings([name])
    assert len(settings) == number
    for setting in settings:
      file.make(setting)
  quickstart = ConfigFile("configs/quickstart.py")
  assert file.settings(["search"]) == quickstart.settings(["search"])
  assert file.settings(["lr"]) == quickstart.settings(["lr"])


def test_the_helpers_are_named():
  for name in ("product", "zipped", "chained", "seeds", "uniform"):
    assert f"`{name}" in PAGE
    assert callable(getattr(sweeps, name))


@pytest.mark.long
@pytest.mark.parametrize(
  "command",
  [words for words in _commands() if "sweep.py" in words],
  ids=lambda words: " ".join(words)[:60],
)
def test_a_command_describes_a_sweep(command):
  done = subprocess.run(
    [sys.executable, *command[1:], "--dry_run"],
    capture_output=True,
    cwd=ROOT,
    check=True,
    text=True,
    timeout=120,
  )
  lines = done.stdout.splitlines()
  assert all(line.startswith("python train.py --config=") for line in lines)
  assert bool(lines) != ("--sweep=search" in command)


def test_the_table_of_flags_is_that_of_the_script():
  named = set(re.findall(r"--(\w+)", PAGE))
  script = (ROOT / "sweep.py").read_text()
  flags = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', script))
  assert flags - {"wait"} <= named
