"""docs/reliability.md shows what is tested."""

import pathlib

import what_happens
from wrong_fields import WRONG

TESTS = pathlib.Path(__file__).parent.parent


def test_the_page_shows_the_cases():
  text = what_happens.PAGE.read_text()
  assert what_happens.page(text) == text


def test_each_case_of_a_run_names_its_test():
  for case, _, place in what_happens.RUNS:
    path, _, name = place.partition("::")
    assert f"\ndef {name}(" in (TESTS / path).read_text(), case


def test_there_are_more_than_a_hundred_cases():
  other = (what_happens.FILES, what_happens.CODE, what_happens.RUNS)
  assert len(WRONG) + sum(map(len, other)) > 150
