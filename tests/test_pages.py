"""The pages for one's own network, data and task: run as they stand."""

import json
import re
import shlex

import commands
import pytest

PAGES = ["your_model", "your_data", "your_task"]


def _blocks(page, language):
  text = (commands.ROOT / "docs" / f"{page}.md").read_text()
  return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _run(command, cwd):
  """Runs a documented command in a folder, with this checkout's scripts."""
  python, script, *args = shlex.split(command)
  assert python == "python"
  script = script.removeprefix("CLONE/")
  env = {"PYTHONPATH": str(commands.ROOT)}
  return commands.run(script, *args, cwd=cwd, env=env)[0]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.long
def test_a_page_does_what_it_says(page, tmp_path):
  for code in _blocks(page, "python"):
    name = re.match(r"# (\w+\.py)\n", code)
    assert name, "a block begins with the name of its file"
    (tmp_path / name[1]).write_text(code)
  [shell] = _blocks(page, "sh")
  train, evaluate = shell.strip().splitlines()
  assert "test " in _run(train, tmp_path)
  metrics = json.loads(_run(evaluate, tmp_path))
  [workdir] = (tmp_path / "runs").iterdir()
  result = json.loads((workdir / "result.json").read_text())
  assert result["config"]["num_steps"] == result["step"] == 100
  scale = 100 if result["unit"] == "%" else 1
  if metrics["split"] == "test":
    assert scale * metrics[result["metric"]] == pytest.approx(result["value"])
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  losses = [x["loss"] for x in map(json.loads, lines) if x["kind"] == "test"]
  assert losses[-1] < losses[0]
