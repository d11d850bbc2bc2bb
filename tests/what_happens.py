"""What can go wrong, and what then happens: the cases of docs/reliability.md.

Those of `FILES` and `CODE` are the parameters of tests in tests/reliability,
those of `WRONG` of one in tests/training/test_rules.py; each row of `RUNS`
names its test. After a change,

    PYTHONPATH=.:tests python tests/what_happens.py

writes the tables into the page; a test compares them with it.
"""

import pathlib
import re

from wrong_fields import WRONG

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "reliability.md"

_ROW = b'{"step": 1, "num_steps": 4, "kind": "train", "seconds": 0.5}\n'

# Who reads it, file, what is wrong with it, its bytes, and what is said about
# it; a number stands for the lines that are kept.
FILES = [
  ("train.py", "config.json", "empty", b"", "it is empty"),
  ("train.py", "config.json", "cut", b'{"seed": ', "it is not JSON"),
  ("train.py", "config.json", "a list", b"[1]", "it is not a JSON object"),
  ("train.py", "config.json", "zeros", b"\0" * 64, "it is empty"),
  ("train.py", "config.json", "not text", b'{"\xff', "byte 2 is not UTF-8"),
  ("train.py", "result.json", "empty", b"", "it is empty"),
  ("train.py", "result.json", "cut", b'{"metric"', "it is not JSON"),
  ("train.py", "result.json", "not its own", b"{}", "it has no field 'metric'"),
  ("train.py", "metrics.jsonl", "empty", b"", 0),
  ("train.py", "metrics.jsonl", "last line cut", _ROW + b'{"st', 1),
  ("train.py", "metrics.jsonl", "garbage at the end", _ROW + b"\xff\n", 1),
  ("train.py", "metrics.jsonl", "zeros at the end", _ROW + b"\0" * 99, 1),
  ("train.py", "metrics.jsonl", "blank lines", b"\n" + _ROW + b"\n", 1),
  (
    "train.py",
    "metrics.jsonl",
    "garbage between lines",
    _ROW + b"garbage\n" + _ROW,
    "it is not JSON",
  ),
  (
    "train.py",
    "metrics.jsonl",
    "a line of something else",
    b'{"loss": 1}\n' + _ROW,
    "it has no field 'step'",
  ),
  ("eval.py", "config.json", "empty", b"", "it is empty"),
  ("eval.py", "config.json", "nested too deeply", b"[" * 10**5, "it is not J"),
  ("stn.results", "a.jsonl", "last line cut", b'{"metric', "it is not JSON"),
  ("stn.results", "a.jsonl", "not text", b"{\xff}\n", "byte 1 is not UTF-8"),
  ("stn.results", "a.jsonl", "a number", b"3\n", "it is not a JSON object"),
  ("stn.results", "a.jsonl", "not its own", b"{}\n", "no field 'experiment'"),
  ("stn.results", "result.json", "empty", b"", "it is empty"),
  ("stn.results", "sweep.json", "empty", b"", "it is empty"),
  ("stn.results", "sweep.json", "not its own", b"{}", "no field 'version'"),
  ("sweep.py", "sweep.json", "cut", b'{"version": 1', "it is not JSON"),
  ("sweep.py", "item.json", "empty", b"", "it is empty"),
  ("sweep.py", "item.json", "a list", b"[]", "it is not a JSON object"),
  ("sweep.py", "failed.json", "cut", b'{"reason"', "it is not JSON"),
]

# Fields of the config of a run, and code that they may not name. `mine.py` is a
# module of the present folder, which imports os; `run` is the run's folder.
CODE = [
  ("task.name", "os:system"),
  ("task.name", "subprocess:check_output"),
  ("task.name", "__main__:run"),
  ("model.name", "builtins:exec"),
  ("model.localisation", "pickle:loads"),
  ("data.name", "numpy:load"),
  ("data.composition", "shutil:rmtree"),
  ("data.distortion", "os.path:join"),
  ("data.contrast", "mine:system"),
  ("optim.schedule", "mine:os.system"),
  ("optim.name", "stn.command_line:run"),
  ("model.options.names", ("affine", "os:system")),
  ("model.name", "run:Net"),
  ("model.name", "run.net:Net"),
  ("model.name", "missing:Net"),
]

_E2E = "test_end_to_end.py::"
_COMMANDS = "reliability/test_commands.py::"
_FAILURES = "reliability/test_failures.py::"
_WORKDIR = "training/test_workdir.py::"
_CHECKPOINT = "training/test_checkpoint.py::"

# Case, what happens, the test of it.
RUNS = [
  (
    "a second `train.py` on a workdir",
    "is refused, naming host and process of the first",
    f"{_COMMANDS}test_a_second_run_names_the_first",
  ),
  (
    "a lock that a killed process left",
    "is free: the kernel's lock ends with its process",
    f"{_WORKDIR}test_a_workdir_in_use_is_refused_and_free_once_its_process_is"
    "_killed",
  ),
  (
    "`kill -9` at any moment",
    "the same command continues, and ends bit for bit the same",
    f"{_E2E}test_ten_kills_at_random_moments_change_no_bit",
  ),
  (
    "SIGTERM or Ctrl-C",
    "saves and says so, exit status 128 + signal; the same command continues",
    f"{_E2E}test_sigterm_saves_and_the_same_command_continues",
  ),
  (
    "SIGTERM to one of two processes",
    "both save after the same step and end",
    f"{_E2E}test_sigterm_to_one_of_two_processes_stops_both_after_one_step",
  ),
  (
    "`kill -9` of one of two processes",
    "the other ends at its next step, naming the checkpoint to continue from",
    f"{_COMMANDS}test_a_killed_process_ends_the_other",
  ),
  (
    "one of two processes fails",
    "says why and ends at once, without waiting for the other",
    f"{_FAILURES}test_a_process_of_many_leaves_at_once_when_it_fails",
  ),
  (
    "`--num_processes=0`",
    "is refused: must be 1 or more",
    f"{_FAILURES}test_processes_that_do_not_fit_are_refused",
  ),
  (
    "`--process_id` that is not below `--num_processes`",
    "is refused: must be in [0, number)",
    f"{_FAILURES}test_processes_that_do_not_fit_are_refused",
  ),
  (
    "a loss or gradient that is not finite",
    "ends the run with its step; the last good checkpoint is kept",
    "training/test_loop.py::"
    "test_a_loss_that_is_not_finite_stops_after_the_last_good_checkpoint",
  ),
  (
    "a full disk",
    "one line that names the checkpoint to continue from",
    f"{_COMMANDS}test_a_full_disk_ends_a_run_with_one_line",
  ),
  (
    "a full disk while a checkpoint is written",
    "the checkpoints before it are untouched",
    f"{_CHECKPOINT}test_a_full_disk_loses_nothing",
  ),
  (
    "a full disk while metrics are written",
    "as above",
    f"{_FAILURES}test_metrics_that_cannot_be_written_are_reported",
  ),
  (
    "a full disk while curves for TensorBoard are written",
    "as above; the run does not wait forever",
    f"{_FAILURES}test_curves_that_cannot_be_written_raise",
  ),
  (
    "a full disk while a sweep is written",
    "the same command continues",
    "sweeps/test_folder.py::test_a_full_disk_leaves_a_sweep_that_continues",
  ),
  (
    "a full disk while a JSON file is written",
    "the file is as it was before",
    "test_files.py::test_a_file_is_written_whole_or_not_at_all",
  ),
  (
    "`train.py ... | head -1`",
    "trains to the end and writes its result",
    f"{_COMMANDS}test_a_run_ends_well_where_nobody_reads",
  ),
  (
    "standard input, output and error closed: `<&- >&- 2>&-`",
    "trains to the end; nothing printed goes into a file of the run",
    f"{_COMMANDS}test_a_run_ends_well_where_nobody_reads",
  ),
  (
    "standard output or error on a full disk",
    "trains to the end",
    f"{_COMMANDS}test_a_run_ends_well_where_nobody_reads",
  ),
  (
    "`HOME` unset, `TERM=dumb`, no terminal",
    "trains to the end; the output is plain lines",
    f"{_E2E}test_train_then_evaluate_by_command",
  ),
  (
    "a workdir with spaces and letters of any script",
    "trains to the end",
    f"{_E2E}test_train_then_evaluate_by_command",
  ),
  (
    'an empty workdir: `--workdir=""`',
    "is refused: must name a folder",
    f"{_WORKDIR}test_an_empty_name_is_refused",
  ),
  (
    "a workdir that is a file, or below one",
    "is refused: must be a folder that can be written to",
    f"{_WORKDIR}test_a_workdir_that_is_a_file_is_refused",
  ),
  (
    "a workdir that cannot be written to: rights, read-only or full disk",
    "is refused, with the system's reason",
    f"{_WORKDIR}test_a_folder_that_cannot_be_written_to_is_refused",
  ),
  (
    "a workdir of another config",
    "is refused, with each field that differs; nothing is changed",
    f"{_WORKDIR}test_another_config_is_refused_with_the_fields_that_differ",
  ),
  (
    "two runs of different configs that claim a workdir at the same time",
    "the second is refused, with each field that differs",
    f"{_WORKDIR}test_a_folder_that_another_config_claimed_first_is_refused",
  ),
  (
    "a checkpoint that cannot be read",
    "is set aside, and the one before it is taken",
    f"{_CHECKPOINT}test_an_unreadable_checkpoint_is_reported_and_the_one_before"
    "_taken",
  ),
  (
    "no checkpoint that can be read",
    "is refused, with their steps; nothing is overwritten",
    f"{_CHECKPOINT}test_if_none_is_readable_nothing_is_touched",
  ),
  (
    "a checkpoint that was being written when its process was killed",
    "is no checkpoint; the one before it is taken",
    f"{_CHECKPOINT}test_an_unfinished_checkpoint_is_no_checkpoint",
  ),
  (
    "sweep.json was removed",
    "`sweep.py` writes it anew; finished items are kept",
    "reliability/test_damaged_files.py::test_a_sweep_is_described_anew",
  ),
  (
    "a results file whose last line has no end",
    "gets it before a line is added",
    "reliability/test_damaged_files.py::test_a_line_is_added_after_one_without"
    "_an_end",
  ),
  (
    "a pickle in place of a file of a run",
    "is never unpickled",
    "reliability/test_trust.py::test_no_file_of_a_run_is_unpickled",
  ),
  (
    "a pickle in place of any file of a checkpoint",
    "is never unpickled",
    "reliability/test_trust.py::test_no_file_of_a_checkpoint_is_unpickled",
  ),
]


def _files():
  for reader, name, wrong, _, says in FILES:
    happens = "the file is named, with what to do"
    if isinstance(says, int):
      happens = f"continues; whole lines ({says}) are kept"
    elif name.endswith(".jsonl"):
      happens = "file and line are named, with what to do"
    yield f"`{reader}`: `{name}`, {wrong}", happens


def _fields():
  """Fields that are refused with the same words for the same value."""
  rows = {}
  for name, value, expected in WRONG:
    rows.setdefault((repr(value), expected), []).append(f"`{name}`")
  for (value, expected), names in rows.items():
    yield f"{value} in {', '.join(names)}", f"must be {expected}"


def tables():
  """The tables of the page, by heading."""
  return {
    "Runs, disks and terminals": [row[:2] for row in RUNS],
    "Damaged files": _files(),
    "Code that a config may not name": [
      (f"`{field}`: `{name}`", "is refused by name") for field, name in CODE
    ],
    "Fields of a config": _fields(),
  }


def page(text):
  """The page, with the tables in their places."""
  for heading, rows in tables().items():
    table = "| case | what happens |\n| --- | --- |\n"
    for row in rows:
      case, happens = (cell.replace("|", "\\|") for cell in row)
      table += f"| {case} | {happens} |\n"
    before, after = text.split(f"## {heading}\n", 1)
    words, rest = re.split(r"^(?:\|.*\n)+", after, maxsplit=1, flags=re.M)
    text = f"{before}## {heading}\n{words}{table}{rest}"
  return text


if __name__ == "__main__":
  PAGE.write_text(page(PAGE.read_text()))
