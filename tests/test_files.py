"""Files are written whole or not at all."""

import os

import pytest

from stn.files import write_atomically


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  path = tmp_path / "a.json"
  write_atomically(path, "old")

  def fail(*args):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="No space left"):
    write_atomically(path, "new")
  assert path.read_text() == "old"
  assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
