"""The tree of docs/architecture.md: folders, the direction of imports, and what is installed."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("preprocessing", "training", "evaluation", "pipeline")
"""From the lowest to the highest; the ground floor, src/ucn, lies below them all."""
FOREIGN = (*STAGES, "models", "configs", "benchmarks", "tests", "docs", "infra")
MAX_MODULES = 13
FACE = ROOT / "src" / "ucn" / "__init__.py"


def product_files() -> Iterator[Path]:
    for folder in (ROOT / "src" / "ucn", *(ROOT / stage for stage in STAGES)):
        for path in sorted(folder.rglob("*.py")):
            # The links in src/ucn are the folders of the stages once more.
            if not any(parent.is_symlink() for parent in path.parents):
                yield path


def level(module: str) -> int:
    """Height of a module of ours, ``ucn.stage.name``; the ground floor is 0."""
    parts = module.split(".")
    return 1 + STAGES.index(parts[1]) if len(parts) > 1 and parts[1] in STAGES else 0


def imports_of(path: Path) -> Iterator[str]:
    """All modules of ours that a file imports, inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] == "ucn")


def test_the_files_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in product_files()}
    assert {"src/ucn/errors.py", "training/job.py", "preprocessing/labels/flow.py"} <= names
    assert not any(name.startswith("src/ucn/training") for name in names)


def test_imports_point_down() -> None:
    upward = []
    for path in product_files():
        own = level("ucn." + path.relative_to(ROOT).as_posix().replace("/", "."))
        # The public face is the one file of the ground floor that may use the stages.
        if path != FACE:
            upward += [f"{path}: {name}" for name in imports_of(path) if level(name) > own]
    assert upward == []


def test_the_public_face_imports_stages_inside_functions_only() -> None:
    """Outside of functions it may do so for type checkers alone."""
    for node in ast.parse(FACE.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not ast.unparse(node).startswith("from ucn")


def test_no_folder_holds_more_modules_than_a_reader_can_hold_in_mind() -> None:
    folders: dict[Path, int] = {}
    for path in product_files():
        if path.name != "__init__.py":
            folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {folder for folder, number in folders.items() if number > MAX_MODULES} == set()


def test_nothing_but_ucn_is_installed(tmp_path: Path) -> None:
    """By the installation that runs these tests, seen from outside the checkout."""
    owners = importlib.metadata.packages_distributions()
    assert [name for name, of in owners.items() if "ucn" in of] in ([], ["ucn"])
    code = (
        "import importlib.util, ucn\n"
        f"print([n for n in {FOREIGN!r} if importlib.util.find_spec(n) is not None])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_wheel_holds_ucn_alone_and_all_that_it_reads(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", *STAGES, "models", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('wheels'))"
    (source / "wheels").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    (wheel,) = (source / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ucn"}
    expected = {path.relative_to(ROOT).as_posix() for path in product_files()}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("*.yaml")}
    expected |= {
        "models/small/model.safetensors",
        "models/small/config.json",
        "evaluation/report/page.html.jinja",
    }
    missing = {f"ucn/{name.removeprefix('src/ucn/')}" for name in expected} - set(names)
    assert missing == set()


def test_folders_of_other_projects_are_not_taken_for_ours(tmp_path: Path) -> None:
    for name in FOREIGN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError\n")
    (tmp_path / "use.py").write_text("import ucn\nprint(type(ucn.load_model()).__name__)\n")
    done = subprocess.run(
        [sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "Model\n"), done.stderr


def exists(name: str) -> bool:
    """Whether ``ucn.package.module``, or that with the name of a definition behind it, exists."""
    parts = name.split(".")[1:]
    for length in range(len(parts), -1, -1):
        path = ROOT.joinpath("src", "ucn", *parts[:length])
        source = path.with_suffix(".py") if path.with_suffix(".py").exists() else None
        if source is None and (path / "__init__.py").exists():
            source = path / "__init__.py"
        if source is not None:
            rest = parts[length:]
            return not rest or (len(rest) <= 2 and rest[0] in source.read_text())
    return False


def test_the_documents_name_existing_modules_and_files() -> None:
    missing = []
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/README.md")):
        if page.name == "CHANGELOG.md":
            continue
        text = page.read_text()
        names = re.findall(r"`(ucn(?:\.[A-Za-z_]\w*)+)`", text)
        missing += [f"{page.name}: {name}" for name in names if not exists(name)]
        folders = "|".join((*STAGES, "src/ucn", "configs", "benchmarks", "infra", "tests"))
        files = re.findall(rf"`((?:{folders})/[\w/.-]+\.(?:py|yaml))`", text)
        missing += [f"{page.name}: {name}" for name in files if not (ROOT / name).exists()]
    assert missing == []
