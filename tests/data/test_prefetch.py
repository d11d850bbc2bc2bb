import threading
import time

import pytest

from stn.data import prefetch


@pytest.mark.parametrize(
  ("ahead", "threads"), [(0, 0), (1, 1), (3, 2), (99, 4)]
)
def test_results_are_in_order(ahead, threads):
  def slow_first(i):
    time.sleep(0.02 if i == 0 else 0)
    return i * i

  results = prefetch(slow_first, range(20), ahead=ahead, threads=threads)
  assert list(results) == [i * i for i in range(20)]


def test_no_more_is_computed_ahead_than_asked_for():
  begun = []
  results = prefetch(begun.append, range(100), ahead=3, threads=2)
  assert begun == []  # nothing before it is asked for
  next(results)
  time.sleep(0.05)
  assert len(begun) <= 1 + 3
  results.close()


def test_an_error_is_raised_at_its_place():
  def fail_at_2(i):
    if i == 2:
      raise KeyError("two")
    return i

  results = prefetch(fail_at_2, range(5), ahead=4, threads=2)
  assert [next(results), next(results)] == [0, 1]
  with pytest.raises(KeyError, match="two"):
    next(results)


def test_closing_computes_no_more():
  begun, go = [], threading.Event()

  def wait(i):
    begun.append(i)
    if i:
      go.wait(5)
    return i

  results = prefetch(wait, range(100), ahead=10, threads=1)
  assert next(results) == 0
  results.close()
  go.set()
  time.sleep(0.05)
  assert len(begun) <= 2


def test_it_reads_while_the_consumer_works():
  def read(i):
    time.sleep(0.02)
    return i

  start = time.perf_counter()
  for _ in prefetch(read, range(10), ahead=2, threads=2):
    time.sleep(0.02)
  assert time.perf_counter() - start < 0.35  # 0.4 one after the other
