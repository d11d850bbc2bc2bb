"""What is written about a run, over restarts."""

import json

import numpy as np
import pytest

from stn.training.progress import Progress

TRAIN = {"loss": 1.0, "error": 0.5, "images_per_second": 10.0}


def _progress(workdir, num_steps, step, **options):
  return Progress(
    workdir, num_steps, step, monitor="error", rate=True, **options
  )


def _steps(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line)["step"] for line in text.splitlines()]


def test_a_restart_cuts_off_what_lies_after_its_checkpoint(tmp_path):
  with _progress(tmp_path, 10, 0) as progress:
    for step in range(1, 6):
      progress.seconds += 1
      progress.train(step, TRAIN)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 6, "ki')  # killed while writing
  with _progress(tmp_path, 10, 3) as progress:
    assert _steps(tmp_path) == [1, 2, 3]
    assert progress.seconds == 3  # time goes on, too
    progress.train(4, TRAIN)
  assert _steps(tmp_path) == [1, 2, 3, 4]


def _kinds(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  return [f"{line['kind']} {line['step']}" for line in lines]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_restart_repeats_no_line(tmp_path, split):
  """Killed before the first checkpoint, or after the test."""
  metrics = {"error": 0.02, "error_ci95": [0.01, 0.03], "loss": 0.1}
  for step in (-1, -1, 2, 2):
    with _progress(tmp_path, 2, step, split=split) as progress:
      if step == -1:
        progress.evaluation(0, split, metrics)
        progress.train(2, TRAIN)
        progress.evaluation(2, split, metrics)
      progress.evaluation(2, "test", metrics)
  expected = [f"{split} 0", "train 2", f"{split} 2", "test 2"]
  assert _kinds(tmp_path) == expected


def test_lines_are_plain_where_there_is_no_terminal(tmp_path, capsys):
  with _progress(tmp_path, 10, 0) as progress:
    progress.train(5, TRAIN)
    progress.evaluation(
      5, "test", {"error": 0.02, "error_ci95": [0.01, 0.03], "loss": 0.1}
    )
  out = capsys.readouterr().out
  assert "step 5/10  loss 1.0000  error 50.00 %  10 images/s\n" in out
  assert "step 5/10  test error 2.00 % (1.00 to 3.00)  loss 0.1000\n" in out
  assert "\x1b" not in out


def test_a_terminal_gets_a_bar_with_loss_error_speed_and_time_left(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv("TTY_COMPATIBLE", "1")
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("COLUMNS", "100")
  with _progress(tmp_path, 10, 0) as progress:
    progress.train(5, TRAIN)
  out = capsys.readouterr().out
  assert "step 5/10" in out
  assert "error 50.00 %" in out
  assert "10 images/s" in out
  assert "0:00:0" in out or "-:--:--" in out


def test_a_quiet_progress_writes_nothing(tmp_path, capsys):
  with _progress(tmp_path, 10, 0, quiet=True) as progress:
    progress.train(5, TRAIN)
    progress.evaluation(
      5, "test", {"error": 0.02, "error_ci95": [0.01, 0.03], "loss": 0.1}
    )
    progress.picture(5, np.zeros((2, 2, 3), np.uint8))
  assert not list(tmp_path.iterdir())
  assert not capsys.readouterr().out
