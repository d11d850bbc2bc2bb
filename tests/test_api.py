"""Habits of the public functions, checked by introspection."""

import ast
import importlib
import inspect
import pathlib
import re
import types

import pytest

import stn

# All that may be given by position, in the order it is given in.
POSITIONAL = (
  "transform",
  "families",
  "image",
  "coordinate",
  "pixel",
  "name",
  "theta",
  "matrix",
  "first",
  "second",
  "source",
  "target",
  "grid",
  "size",
  "output_size",
)
# Packages of the optional extras: their absence is no failure.
OPTIONAL = {"matplotlib", "mlxtend", "optuna", "tensorflow"}

PACKAGE = pathlib.Path(stn.__file__).parent


def module_names():
  for path in sorted(PACKAGE.rglob("*.py")):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def load(name):
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name and error.name.split(".")[0] in OPTIONAL:
      pytest.skip(f"{name} needs {error.name}")
    raise


FUNCTIONS = {
  name: getattr(stn, name)
  for name in stn.__all__
  if inspect.isfunction(getattr(stn, name))
}
CLASSES = {
  name: getattr(stn, name)
  for name in stn.__all__
  if inspect.isclass(getattr(stn, name))
}
each_function = pytest.mark.parametrize("name", FUNCTIONS)
each_module = pytest.mark.parametrize("name", list(module_names()))


def section(docstring, title):
  """The body of a Google-style section of a cleaned docstring, or None."""
  match = re.search(
    rf"^{title}:\n((?:[ ]+.*\n|\n)+)", inspect.cleandoc(docstring) + "\n", re.M
  )
  return match and match[1]


def documented(docstring, title):
  """The names that a section explains, without the stars of `**options`."""
  body = section(docstring, title) or ""
  return re.findall(r"^  \**(\w+):", body, re.M)


# What `stn` exports.


def test_all_is_complete():
  public = {
    name
    for name, value in vars(stn).items()
    if not name.startswith("_") and not isinstance(value, types.ModuleType)
  }
  assert public == set(stn.__all__)
  assert len(stn.__all__) == len(set(stn.__all__))


def test_all_is_sorted():
  kinds = (str.isupper, lambda name: name[0].isupper(), lambda name: True)
  key = [
    (next(i for i, kind in enumerate(kinds) if kind(name)), name)
    for name in stn.__all__
  ]
  assert key == sorted(key)


def test_the_tables_are_what_the_names_say():
  assert all(isinstance(kernel, stn.Kernel) for kernel in stn.KERNELS.values())
  for table in (stn.TRANSFORMS, stn.PADDINGS, stn.IMPLEMENTATIONS):
    assert all(map(callable, table.values()))
  assert {"nearest", "linear"} <= set(stn.KERNELS)
  assert {"zeros", "border", "reflection"} <= set(stn.PADDINGS)


# How its functions are called.


@each_function
def test_options_are_keyword_only(name):
  parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
  positional = [
    p.name
    for p in parameters
    if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
  ]
  assert positional
  assert set(positional) <= set(POSITIONAL)
  assert positional == sorted(positional, key=POSITIONAL.index)
  for p in parameters:
    if p.kind is p.POSITIONAL_OR_KEYWORD:
      assert p.default is p.empty, p.name
    elif p.kind is p.KEYWORD_ONLY:
      assert p.default is not p.empty, p.name
    else:
      assert p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD), p.name


@each_function
def test_the_words_are_the_field_s(name):
  """Never `mode`: interpolation in torch, boundary in SciPy."""
  words = {
    "mode",
    "padding",
    "interpolation",
    "out_size",
    "params",
    "localization",
  }
  assert not words & set(inspect.signature(FUNCTIONS[name]).parameters)


@each_function
def test_defaults_agree(name):
  defaults = {
    "align_corners": False,
    "implementation": None,
    "method": "linear",
    "output_size": None,
    "padding_mode": "zeros",
    "transform": "affine",
  }
  for p in inspect.signature(FUNCTIONS[name]).parameters.values():
    if p.kind is p.KEYWORD_ONLY and p.name in defaults:
      assert p.default == defaults[p.name], p.name


@each_function
def test_parameters_and_results_are_annotated(name):
  signature = inspect.signature(FUNCTIONS[name])
  assert signature.return_annotation is not signature.empty
  for p in signature.parameters.values():
    if p.kind is not p.VAR_KEYWORD:
      assert p.annotation is not p.empty, p.name


# What their docstrings say.


@each_function
def test_docstrings_have_every_section(name):
  docstring = FUNCTIONS[name].__doc__
  for title in ("Args", "Returns", "Raises"):
    assert section(docstring, title), title
  assert ">>> " in section(docstring, "Example")


@each_function
def test_docstrings_explain_every_argument(name):
  function = FUNCTIONS[name]
  assert documented(function.__doc__, "Args") == list(
    inspect.signature(function).parameters
  )


@pytest.mark.parametrize("name", CLASSES)
def test_docstrings_explain_every_attribute(name):
  cls = CLASSES[name]
  assert documented(cls.__doc__, "Attributes") == list(cls.__annotations__)


def test_a_missing_section_would_be_seen():
  docstring = """Does.

  Args:
    one: this,
      and that: too.
    **two: more.

  Returns:
    Nothing.
  """
  assert documented(docstring, "Args") == ["one", "two"]
  assert section(docstring, "Returns") == "  Nothing.\n"
  assert section(docstring, "Raises") is None


# Every module.


@each_module
def test_every_module_imports_and_says_what_it_is(name):
  assert load(name).__doc__


@each_module
def test_what_a_module_lists_exists(name):
  module = load(name)
  for listed in getattr(module, "__all__", ()):
    assert hasattr(module, listed), listed


def public_functions():
  """Functions in the `__all__` of any module, found in the sources."""
  listed, defined = set(), {}
  for name in module_names():
    path = PACKAGE.parent.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
        defined[name, node.name] = node
      if isinstance(node, ast.Assign) and "__all__" in {
        target.id for target in node.targets if isinstance(target, ast.Name)
      }:
        package = name.rpartition(".")[0] if path.stem != "__init__" else name
        listed.update((package, item) for item in ast.literal_eval(node.value))
  for (module, name), node in defined.items():
    packages = (module, module.rpartition(".")[0], "stn")
    if any((package, name) in listed for package in packages):
      yield pytest.param(node, id=f"{module}.{name}")


@pytest.mark.parametrize("node", list(public_functions()))
def test_every_public_function_has_a_doctest(node):
  assert ">>> " in (ast.get_docstring(node) or "")
