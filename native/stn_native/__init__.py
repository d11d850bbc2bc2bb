"""Where the shared library is, and which XLA FFI it was built for.

`stn.sampling` decides whether it may be registered, and does so: nothing is
loaded into XLA by importing this package.
"""

import ctypes
import functools
import pathlib

# Which attributes the handlers take: one more with every change of them.
INTERFACE = 2

HANDLERS = ("stn_native_sample", "stn_native_pull", "stn_native_scatter")


@functools.cache
def load() -> ctypes.CDLL:
  """Loads the library. Raises OSError where that is impossible."""
  return ctypes.CDLL(str(pathlib.Path(__file__).with_name("stn_native.so")))


def ffi_version() -> tuple[int, int]:
  """The (major, minor) version of XLA's FFI that it was built against."""
  library = load()
  return library.stn_native_ffi_major(), library.stn_native_ffi_minor()
