import math

import pytest

from stn._checks import lookup

TABLE = {"sum": sum, "max": max}


def test_lookup_takes_a_row_of_the_table():
  assert lookup("reduce", "sum", TABLE) is sum


@pytest.mark.parametrize(
  ("name", "value"),
  [("math:fsum", math.fsum), ("os:path.join", __import__("os").path.join)],
)
def test_lookup_imports_what_a_user_names(name, value):
  assert lookup("reduce", name, TABLE) is value


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("summ", r"`reduce` must be one of 'max', 'sum'; got 'summ'.*'sum'"),
    (3, r"`reduce` must be one of 'max', 'sum'; got 3"),
    ("maths:fsum", r"no module 'maths' on the Python path"),
    ("math:fsumm", r"'math:fsumm' cannot be used: .*fsumm"),
  ],
)
def test_lookup_says_what_is_wrong(name, message):
  with pytest.raises(ValueError, match=message):
    lookup("reduce", name, TABLE)


def test_lookup_shows_a_missing_import_of_the_users_module(
  tmp_path, monkeypatch
):
  (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
    lookup("reduce", "needs_more:f", TABLE)
