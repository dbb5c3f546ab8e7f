"""Who may import whom, read from the syntax trees: a file imports only what stands before it in the drawing."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("neuro", "models", "datasets", "deploy")

# From the bottom up. Names of one row stand side by side and do not import each other.
ORDER = [
    ("errors",),
    ("files", "scratch"),  # written whole or not at all; for as long as the process
    ("memory",),  # that the process keeps
    ("plots",),  # draws arrays and tables; knows nothing of networks
    ("reset",),
    ("surrogate",),
    ("kernels",),
    ("scanning",),
    ("module_paths", "misreaders"),  # what a model is made of; its layers that misread time
    ("state",),
    ("neurons",),
    ("layers",),
    ("encode", "loss"),
    ("dispatched", "products"),  # torch's operators by what they cost; one product by its values
    ("counting", "restoring"),  # of operations; of what a module keeps
    ("watching",),  # which module runs
    ("measuring",),  # neuro.activity
    ("nodes",),  # of the graph
    ("graph",),
    ("builders",),  # of nodes from layers
    ("tracing",),
    ("latency",),  # of a step, measured
    ("tables",),  # of a compiled network
    ("forms",),  # of nodes in them
    ("lowering",),  # of a graph to tables
    ("inference",),  # of whole models
    ("models", "datasets", "deploy"),
]
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}
TOP = len(ORDER)  # conversion, timesteps, learning, training, interop, recipes, reports, command line, demo
DRAWING = ("neuro.plots", "neuro.demo", "neuro.report", "neuro.report_page", "neuro.run_report")  # may load the plots when they are loaded
MACHINE = re.compile(r"neuro\.kernels\.(words|translating|\w+_loops)")  # functions for Numba, which these load; others load them when they are used
HEAVY = {"tonic", "lightning", "matplotlib", "pandas", "snntorch", "numba", "triton", "nir", "lava"}


def source_files():
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "neuro" else ("neuro", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in source_files()}


def rank(module):
    if module.startswith("neuro.models.recipes"):
        return TOP
    parts = module.split(".")
    return RANK.get(parts[1], TOP) if len(parts) > 1 else TOP


def imports(path):
    """(imported module, whether on loading, line) of every import, `from package import module` resolved."""
    tree = ast.parse(path.read_text())
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)}
    checking = {
        id(n) for b in ast.walk(tree) if isinstance(b, ast.If) and "TYPE_CHECKING" in ast.unparse(b.test) for n in ast.walk(b)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: a relative import"
            names = [f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in MODULES else node.module for a in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) not in lazy and id(node) not in checking, node.lineno


EVERY = pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))


def problems_of(name, found):
    """What is wrong with the imports [(module, on loading, line)] of the module `name`."""
    for module, on_loading, line in found:
        own = name.split(".")[:2] == module.split(".")[:2] and len(name.split(".")) > 1
        if on_loading and MACHINE.fullmatch(module) and not MACHINE.fullmatch(name):
            yield f"line {line}: {module} loads numba; import it in the function that needs it"
        if MACHINE.fullmatch(name) and module.split(".")[0] == "numba":
            continue
        if on_loading and module.split(".")[0] in HEAVY and (rank(name) < RANK["models"] and not name.startswith("neuro.plots")):
            yield f"line {line}: {module} is heavy; import it in the function that needs it"
        if not module.startswith("neuro") or module == "neuro.errors":
            continue
        if module.startswith("neuro.plots") and not name.startswith(DRAWING):
            if on_loading and name != "neuro":
                yield f"line {line}: neuro.plots is imported lazily, inside the function that draws"
        elif own and rank(module) <= rank(name):
            continue
        elif rank(name) < TOP and rank(module) >= rank(name):
            yield f"line {line}: {name} stands before {module} or beside it"


@EVERY
def test_imports_follow_the_drawing(path):
    assert not list(problems_of(module_name(path), imports(path)))


@pytest.mark.parametrize(
    ("name", "module", "on_loading", "wrong"),
    [
        ("neuro.reset", "neuro.errors", True, False), ("neuro.reset", "neuro.surrogate", True, True),
        ("neuro.reset", "neuro.surrogate", False, True), ("neuro.layers.norm", "neuro.layers.folding", True, False),
        ("neuro.loss", "neuro.encode", True, True), ("neuro.deploy.twin", "neuro.datasets.events", True, True),
        ("neuro.models.spikformer", "neuro.models.recipes.x", True, True), ("neuro.models.recipes.x", "neuro.deploy.twin", True, False),
        ("neuro.tracing", "neuro.models", True, True), ("neuro.training.fit", "neuro.datasets", True, False),
        ("neuro.state", "neuro.plots.curves", True, True), ("neuro.state", "neuro.plots.curves", False, False),
        ("neuro.encode", "snntorch", True, True), ("neuro.encode", "snntorch", False, False), ("neuro.layers.norm", "neuro", True, True),
        ("neuro.kernels.words", "numba", True, False), ("neuro.kernels.cpu", "numba", True, True), ("neuro.kernels.cpu", "neuro.kernels.words", True, True),
        ("neuro.kernels.words", "lightning", True, True), ("neuro.kernels.cpu", "neuro.kernels.words", False, False),
        ("neuro.plots.curves", "neuro.neurons", False, True), ("neuro.plots.curves", "matplotlib", True, False),
    ],
)  # fmt: skip
def test_the_test_sees_what_is_wrong(name, module, on_loading, wrong):
    assert bool(list(problems_of(name, [(module, on_loading, 1)]))) == wrong


@EVERY
def test_no_file_is_giant(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 600, f"{lines} lines; the soft limit is 300"


def test_tests_have_no_packages():
    assert not list((ROOT / "tests").rglob("__init__.py"))
