"""What is installed is what is on disk, under one name, and light to import."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

FOLDERS = {"neuro": "neuro", "models": "neuro.models", "datasets": "neuro.datasets", "deploy": "neuro.deploy"}


@pytest.fixture(scope="module")
def setuptools(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]


def packages_on_disk(root):
    for folder, package in FOLDERS.items():
        for path in (root / folder).rglob("__init__.py"):
            yield ".".join([package, *path.parent.relative_to(root / folder).parts])


def modules_on_disk(root):
    for folder, package in FOLDERS.items():
        for path in (root / folder).rglob("*.py"):
            yield "/".join([*package.split("."), *path.relative_to(root / folder).parts])


def test_every_package_is_listed(root, setuptools):
    listed = setuptools["packages"]
    assert sorted(listed) == sorted(packages_on_disk(root)) and len(set(listed)) == len(listed)
    assert setuptools["package-dir"] == {package: folder for folder, package in FOLDERS.items()}


def test_every_folder_with_code_is_a_package(root):
    homeless = [p for folder in FOLDERS for p in (root / folder).rglob("*.py") if not (p.parent / "__init__.py").exists()]
    assert not homeless


def test_the_wheel_holds_every_module_and_nothing_else(root, tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="the build backend is not installed here")
    source = tmp_path / "source"
    source.mkdir()
    for path in root.iterdir():  # a copy, so that no stale build/ is packed and none is left behind
        if path.name in FOLDERS or path.name in ("pyproject.toml", "README.md", "LICENSE"):
            (source / path.name).symlink_to(path)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(tmp_path), str(source)]
    done = subprocess.run(pip, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"neuro"}
    assert sorted(name for name in names if name.endswith(".py")) == sorted(modules_on_disk(root))
    assert "neuro/py.typed" in names and any(name.endswith("LICENSE") for name in names)


@pytest.mark.parametrize("folder", ["models", "datasets", "deploy"])
def test_a_top_level_import_is_refused_with_cause_and_cure(folder, root):
    done = subprocess.run([sys.executable, "-c", f"import {folder}"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"ImportError: {folder}: imported as a top-level package" in done.stderr and f"import neuro.{folder}" in done.stderr


def loaded_by(statement, folder):
    code = f"import sys, torch; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import neuro", "import neuro.neurons, neuro.layers, neuro.models, neuro.encode, neuro.loss; neuro.run, neuro.scan"]
)
def test_importing_loads_nothing_heavy(statement, tmp_path):
    found = loaded_by(statement, tmp_path)
    assert "torch._dynamo" not in found  # the compiler: most of a second
    loaded = {name.split(".")[0] for name in found}
    assert not loaded & {"tonic", "lightning", "matplotlib", "pandas", "snntorch", "numba", "triton", "nir"}


def test_importing_neuro_loads_one_module(tmp_path):
    assert {name for name in loaded_by("import neuro", tmp_path) if name.startswith("neuro")} == {"neuro"}


def test_every_public_name_is_there_or_says_what_is_missing():
    import neuro

    assert set(neuro.__all__) <= set(dir(neuro))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        neuro.nonsense  # noqa: B018


def test_the_version_is_one(root):
    import neuro

    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"] == neuro.__version__
    assert Path(neuro.__file__).parent == root / "neuro" or "site-packages" in neuro.__file__
