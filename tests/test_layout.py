"""Who may import whom, and one name for one op in every folder."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = ("reference", "kernels", "conformance", "golden")
MAY = {
    "reference": {"torch", "safetensors", "lingspec.reference"},
    "kernels": {"torch", "triton", "lingspec.kernels"},
    "golden": {"torch", "numpy", "safetensors", "lingspec.golden", "lingspec.reference"},
}
# The files of conformance/ that may know golden/ and kernels/.
GOLDEN_TOO = {"cli.py", "output.py", "verbs"}
ADAPTER = "adapters/kernels.py"


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names; `from lingspec import kernels` is lingspec.kernels."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # its own package
                found.add(f"lingspec.{path.relative_to(ROOT).parts[0]}")
                continue
            assert node.module is not None
            own = node.module == "lingspec"
            found |= {f"lingspec.{a.name}" for a in node.names} if own else {node.module}
    return found


def outside(name: str) -> str | None:
    """The package, or lingspec's folder, that a name is of; None for the standard library."""
    head, _, rest = name.partition(".")
    if head == "lingspec":
        return f"lingspec.{rest.partition('.')[0]}"
    return None if head in sys.stdlib_module_names else head


@pytest.mark.parametrize("folder", MAY)
def test_a_folder_imports_only_what_it_may(folder):
    for path in files(folder):
        wrong = {outside(name) for name in imported(path)} - {None} - MAY[folder]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(map(str, wrong)))}"


def test_conformance_knows_the_kernels_only_through_their_adapter():
    knowing = {
        str(path.relative_to(ROOT / "conformance")) for path in files("conformance")
        if any(outside(name) == "lingspec.kernels" for name in imported(path))
    }  # fmt: skip
    assert knowing <= {ADAPTER}


def test_conformance_knows_golden_only_from_the_command_line_and_the_report():
    for path in files("conformance"):
        place = path.relative_to(ROOT / "conformance")
        if any(outside(name) == "lingspec.golden" for name in imported(path)):
            assert place.parts[0] in GOLDEN_TOO


@pytest.mark.parametrize(
    "part", ["mutants", "honest", "adapter.py", "runner", "emulator", "registry.py"]
)
def test_what_runs_in_the_candidate_s_process_does_not_need_the_reference(part):
    place = ROOT / "conformance" / part
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        names = {outside(name) for name in imported(path)}
        assert not names & {"lingspec.reference", "lingspec.golden"}, path


def test_an_op_has_one_name_in_every_folder():
    def names(folder: str) -> set[str]:
        return {p.stem for p in (ROOT / folder).glob("[!_]*.py")}

    contracts, reference = names("conformance/contracts"), names("reference/ops")
    assert contracts <= reference | names("reference/layers") | {"model"}
    assert (ROOT / "reference" / "model.py").is_file()
    assert names("reference/formulations") <= reference
    assert names("kernels") - {"checked", "checks"} <= reference
    for folder in ("mutants", "honest"):
        for name in names(f"conformance/{folder}"):
            assert any(name.startswith(op) for op in contracts), f"{folder}/{name}.py"
    for op in reference:
        assert (ROOT / "tests" / "reference" / f"test_{op}.py").is_file()


def test_every_op_s_file_defines_a_function_of_its_name():
    for path in (ROOT / "reference" / "ops").glob("[!_]*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert path.stem in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_the_packages_that_are_declared_are_the_folders_that_exist():
    found = {
        "lingspec." + ".".join(init.parent.relative_to(ROOT).parts)
        for folder in FOLDERS for init in (ROOT / folder).rglob("__init__.py")
    }  # fmt: skip
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(found)
    for folder in FOLDERS:
        for path in files(folder):
            assert (path.parent / "__init__.py").is_file(), path


def test_entry_points_name_modules_that_exist():
    project = PYPROJECT["project"]
    points = {**project["scripts"], **project["entry-points"]["pytest11"]}
    for target in points.values():
        module = target.partition(":")[0].removeprefix("lingspec.").replace(".", "/")
        assert (ROOT / f"{module}.py").is_file(), target
