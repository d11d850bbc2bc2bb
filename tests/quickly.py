"""XLA without optimisations, which compiles in a quarter of the time.

Compiling takes most of the time of programs that run once or twice.
"""

import jax

OPTIONS = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
  "xla_cpu_parallel_codegen_split_count": 1,
  "xla_cpu_use_fusion_emitters": False,  # XLA's former code generator
}


def is_known(name):
  """Whether this version of XLA has the option."""
  try:
    jax.jit(lambda: 0, compiler_options={name: OPTIONS[name]})()
  except jax.errors.JaxRuntimeError:
    return False
  return True


def flags():
  """The same for the environment's `XLA_FLAGS`, for a process of its own."""
  return " ".join(f"--{name}={value}" for name, value in OPTIONS.items())
