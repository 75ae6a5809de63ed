"""What is shipped: every file of the tree, under the one name npusim."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import npusim
from support import HAS_TORCH, ROOT

HEAVY = ("hypothesis", "matplotlib", "onnxruntime", "pandas", "torch")
"""Packages that `import npusim` must not load."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files_of(folder: str) -> list[Path]:
    """The files of a folder of the tree, without what running Python or an editor leaves there."""
    return [path for path in sorted((ROOT / folder).rglob("*")) if path.is_file() and not ignored(path)]


def ignored(path: Path) -> bool:
    return "__pycache__" in path.parts or path.name.startswith(".") or path.suffix == ".pyc"


def installed_name(path: Path) -> PurePosixPath:
    """Where a file of the tree belongs in the installed package."""
    relative = PurePosixPath(path.relative_to(ROOT).as_posix())
    return PurePosixPath("npusim") / relative if relative.parts[0] == "kernels" else relative


SHIPPED = sorted(installed_name(path) for folder in ("npusim", "kernels") for path in files_of(folder))
SOURCES = [path for folder in ("npusim", "kernels") for path in files_of(folder) if path.suffix == ".py"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """A wheel built from a copy: in the tree, setuptools leaves build/lib and ships removed modules that still lie there."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("npusim", "kernels"):
        shutil.copytree(ROOT / name, copy / name, ignore=lambda folder, names: [n for n in names if ignored(Path(folder, n))])
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return zipfile.Path(path)


def test_packages_in_pyproject_are_those_of_the_tree() -> None:
    folders = {".".join(name.parent.parts) for name in SHIPPED}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(folders)


@pytest.mark.slow
def test_wheel_holds_every_file_and_only_the_package_npusim(wheel: zipfile.Path) -> None:
    info = f"npusim-{npusim.__version__}.dist-info"
    assert {entry.name for entry in wheel.iterdir()} == {"npusim", info}
    with zipfile.ZipFile(str(wheel.root.filename)) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
    assert sorted(name for name in names if name.parts[0] == "npusim") == SHIPPED
    assert {PurePosixPath("npusim/py.typed"), PurePosixPath("npusim/kernels/__init__.py")} <= set(SHIPPED)
    assert (wheel / info / "licenses" / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License\n")
    assert "npusim = npusim.cli:main" in (wheel / info / "entry_points.txt").read_text(encoding="utf-8")


def test_version_is_that_of_the_project() -> None:
    assert npusim.__version__ == PROJECT["project"]["version"]


def test_kernels_is_not_importable_under_its_own_name() -> None:
    """Another project owns the name; where that one is installed, it must be the one that is found."""
    found = importlib.util.find_spec("kernels")
    assert found is None or not Path(str(found.origin)).is_relative_to(ROOT), (
        "kernels/ of this tree is on the path; run `pytest`, not `python -m pytest`"
    )
    assert importlib.import_module("npusim.kernels").__name__ == "npusim.kernels"


def test_import_stays_light(tmp_path: Path) -> None:
    # From elsewhere: in the root, Python would find the folder npusim/ before the installed package.
    script = (
        "import json, sys, npusim; first = list(sys.modules); npusim.InferenceSession; "
        "print(json.dumps([first, list(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    imported, used = json.loads(done.stdout)
    assert "npusim" in imported
    assert [name for name in ("numpy", "onnx", *HEAVY) if name in imported] == []
    assert "numpy" in used
    assert [name for name in HEAVY if name in used] == []


def test_public_names_exist() -> None:
    assert len(npusim.__all__) == len(set(npusim.__all__))
    assert [name for name in npusim.__all__ if not hasattr(npusim, name)] == []


def needs_torch(name: str) -> bool:
    """Whether a module cannot be imported where the extra `torch` is not installed."""
    return f"{name}.".startswith("npusim.torch.") or name == "npusim.examples.torque_training"


def test_every_module_is_imported_and_keeps_its_table_of_contents() -> None:
    names = [".".join(installed_name(path).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]
    modules = [name for name in names if not name.endswith(".__main__")]
    assert {"npusim", "npusim.kernels", "npusim.kernels.integer", "npusim.errors"} <= set(modules)
    for name in modules:
        if not HAS_TORCH and needs_torch(name):
            continue
        module = importlib.import_module(name)
        assert [public for public in getattr(module, "__all__", ()) if not hasattr(module, public)] == [], name
