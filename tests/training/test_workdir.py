"""One run, one folder."""

import errno
import json
import os
import socket
import subprocess
import sys
import tempfile

import pytest

from stn.training import lock
from stn.training import workdir as workdir_lib


def test_a_config_survives_the_round_trip(config, tmp_path):
  workdir_lib.claim(config, tmp_path / "run")
  loaded = workdir_lib.load_config(tmp_path / "run")
  assert json.loads(loaded.to_json()) == json.loads(config.to_json())
  assert loaded.is_locked


def test_the_environment_names_commit_versions_and_device(config, tmp_path):
  workdir_lib.claim(config, tmp_path)
  environment = json.loads((tmp_path / "environment.json").read_text())
  assert set(workdir_lib.PACKAGES) < set(environment["versions"])
  assert "not installed" not in environment["versions"].values()
  assert environment["device"].startswith("cpu")


@pytest.mark.parametrize(("nproc", "cores"), [("1", 1), ("16", 3), ("", 3)])
def test_the_device_says_how_many_cores_compute(monkeypatch, nproc, cores):
  monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
  monkeypatch.setenv("NPROC", nproc)
  assert workdir_lib.environment()["device"] == f"cpu ({cores} cores)"


def test_a_system_that_assigns_no_cores_has_an_environment(monkeypatch):
  monkeypatch.delattr(os, "sched_getaffinity")  # as macOS
  monkeypatch.setattr(os, "cpu_count", lambda: 5)
  monkeypatch.setenv("NPROC", "")
  assert workdir_lib.environment()["device"] == "cpu (5 cores)"


def test_another_config_is_refused_with_the_fields_that_differ(
  config, tmp_path
):
  workdir_lib.claim(config, tmp_path)
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
  with config.unlocked():
    config.optim.learning_rate = 0.5
    config.seed = 3
  with pytest.raises(
    ValueError,
    match=r"(?s)another config.*learning_rate: there 0.003, here 0.5.*"
    r"seed: there 0, here 3",
  ):
    workdir_lib.check_config(config, tmp_path)
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
  ("field", "value"), [("data.data_dir", "elsewhere"), ("num_devices", 2)]
)
def test_where_a_run_continues_may_differ(config, tmp_path, field, value):
  workdir_lib.claim(config, tmp_path)
  config.update_from_flattened_dict({field: value})
  workdir_lib.check_config(config, tmp_path)


def test_the_file_to_start_from_may_lie_elsewhere_but_is_the_same(
  config, tmp_path
):
  def starting_from(file):
    with config.unlocked():
      config.init_from.file = file
    return config

  workdir_lib.claim(starting_from("here/net.safetensors"), tmp_path)
  workdir_lib.check_config(starting_from("/there/net.safetensors"), tmp_path)
  for other in ("", "here/another.safetensors"):
    with pytest.raises(ValueError, match="init_from.file: there 'net.safe"):
      workdir_lib.check_config(starting_from(other), tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="no config.json in .*nowhere"):
    workdir_lib.load_config(tmp_path / "nowhere")


def test_a_workdir_that_is_a_file_is_refused(config, tmp_path):
  (tmp_path / "file").write_text("")
  for path in (tmp_path / "file", tmp_path / "file" / "below"):
    with pytest.raises(PermissionError, match="`workdir` must be a folder"):
      workdir_lib.claim(config, path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_refused(config, tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(PermissionError, match="`workdir` must be a folder"):
    workdir_lib.claim(config, tmp_path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_a_folder_that_cannot_be_written_to_is_refused(
  number, config, tmp_path, monkeypatch
):
  why = os.strerror(number)

  def refuse(*args, **kwargs):
    raise OSError(number, why)

  monkeypatch.setattr(tempfile, "mkstemp", refuse)
  with pytest.raises(PermissionError, match=f"`workdir` .*: {why}"):
    workdir_lib.claim(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_an_empty_name_is_refused(config):
  with pytest.raises(ValueError, match="`workdir` must name a folder; got ''"):
    workdir_lib.check_config(config, "")


def test_a_folder_that_another_config_claimed_first_is_refused(
  config, tmp_path
):
  workdir_lib.claim(config, tmp_path)
  with config.unlocked():
    config.seed = 3
  with pytest.raises(ValueError, match="seed: there 0, here 3"):
    workdir_lib.claim(config, tmp_path)


@pytest.mark.long
def test_a_workdir_in_use_is_refused_and_free_once_its_process_is_killed(
  tmp_path,
):
  code = (
    "import sys\nfrom stn.training.lock import locked\n"
    "with locked(sys.argv[1]):\n  print('locked', flush=True)\n"
    "  sys.stdin.read()"
  )
  other = subprocess.Popen(
    [sys.executable, "-c", code, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  with other:
    assert other.stdout.readline() == b"locked\n"
    with (
      pytest.raises(
        lock.InUseError,
        match=f"process {other.pid} on {socket.gethostname()} trains there",
      ),
      lock.locked(tmp_path),
    ):
      pass
    assert lock.is_in_use(tmp_path)
    other.kill()
  with lock.locked(tmp_path), lock.locked(tmp_path):
    assert not lock.is_in_use(tmp_path)  # by another process
