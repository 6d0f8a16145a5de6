"""Imports run one way: api -> core <- workers; and what must stay light stays light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLES = {"manager", "camera", "inference", "logger", "notifier", "housekeeper", "watchdog"}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


def test_core_imports_neither_workers_nor_api():
    wrong = [
        (file.relative_to(ROOT), name)
        for file in files("core")
        for name in imported(file)
        if name.split(".")[0] in {"workers", "api", "bench", "tests"}
    ]
    assert wrong == []


def test_api_and_workers_do_not_import_each_other():
    wrong = [
        (file.relative_to(ROOT), name)
        for folder, other in (("api", "workers"), ("workers", "api"))
        for file in files(folder)
        for name in imported(file)
        if name.split(".")[0] == other
    ]
    assert wrong == []


def test_no_worker_imports_another():
    wrong = []
    for role in ROLES:
        if not (ROOT / "workers" / role).is_dir():
            continue
        for file in files(f"workers/{role}"):
            for name in imported(file):
                parts = name.split(".")
                if parts[0] == "workers" and len(parts) > 1 and parts[1] in ROLES - {role}:
                    wrong.append((file.relative_to(ROOT), name))
    assert wrong == []


def test_nothing_uses_relative_imports():
    wrong = [
        file.relative_to(ROOT)
        for folder in ("core", "workers", "api", "bench")
        for file in files(folder)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert wrong == []


def loaded(modules: list[str], heavy: tuple[str, ...]) -> str:
    """Which of `heavy` are loaded in a fresh interpreter once `modules` are imported."""
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules!r}]; "
    code += f"print([m for m in {heavy!r} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("workers.manager.__main__", ("torch", "cv2", "av", "alembic", "rich")),
        ("workers.watchdog.__main__", ("torch", "cv2", "av", "sqlalchemy")),
        ("workers.logger.__main__", ("torch", "cv2", "av")),
        ("workers.notifier.__main__", ("torch", "cv2", "av")),
        ("workers.inference.__main__", ("torch",)),
        ("workers.camera.__main__", ("torch", "sqlalchemy", "rich")),
        ("workers.cli", ("torch", "cv2", "av", "sqlalchemy")),
    ],
)
def test_a_process_does_not_load_what_it_does_not_need(module, heavy):
    assert loaded([module], heavy) == "[]"


def test_importing_core_loads_neither_torch_nor_cv2():
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files("core")
    ]
    assert loaded(modules, ("torch", "cv2", "av")) == "[]"
