"""The linear sampler, with derivative rules of its own.

`sampler.py` is what the rest of the package calls; `rules.py` has the rules;
`primitives.py` makes an operation a primitive of JAX; `batching.py` handles its
batch axes; `xla.py` defines what the operations compute, and `native.py` runs
them in C++ on CPUs.
"""
