"""The laws of the house, each by a check rather than by memory."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "diffusers", "transformers", "cv2")


def sources(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_starting_the_window_imports_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from app.main import main
code = main(["--home", {str(tmp_path)!r}, "--screenshot", {str(tmp_path / "w.png")!r}])
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print("heavy:", heavy)
raise SystemExit(code or (3 if heavy else 0))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "heavy: []" in done.stdout
    assert (tmp_path / "w.png").stat().st_size > 10_000


def test_only_pyside_before_the_first_paint(tmp_path: Path) -> None:
    code = f"""
import sys
import app.window
late = ("numpy", "pyqtgraph", "av", "pynvml", "requests", "torch", "PySide6.QtNetwork")
found = []
plain = app.window.MainWindow.paintEvent
def paint(self, event):
    if not self._painted:
        found.extend(name for name in late if name in sys.modules)
        found.extend(name for name in sys.modules if name.startswith("widgets.")
                     and name != "widgets.colours")
    plain(self, event)
app.window.MainWindow.paintEvent = paint
from app.main import main
code = main(["--home", {str(tmp_path)!r}, "--screenshot", {str(tmp_path / "w.png")!r}])
print("found:", found)
raise SystemExit(code)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found: []" in done.stdout


def test_core_runs_without_qt() -> None:
    code = """
import sys, importlib, pathlib
for name in ("PySide6", "pyqtgraph", "shiboken6"):
    sys.modules[name] = None
for path in sorted(pathlib.Path("core").rglob("*.py")):
    parts = path.with_suffix("").parts
    if parts[-1] == "__main__":
        continue
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    importlib.import_module(name)
print("heavy:", [n for n in ("torch", "diffusers", "transformers") if n in sys.modules])
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout


def test_no_module_imports_torch_at_its_top() -> None:
    found = []
    for path in sources("app", "widgets", "core", "resources"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found += [f"{path}: {n}" for n in names if n.split(".")[0] in HEAVY]
    assert found == []


def test_threads_are_made_in_the_pump_alone() -> None:
    """In the window's process; the worker and the command line are processes of their own."""
    own_process = {
        ROOT / "core/engines/local/worker.py",
        ROOT / "core/engines/local/lifeline.py",
        ROOT / "core/engines/local/runner.py",
        # A dream's files are written, and its status told, beside the making of its frames.
        ROOT / "core/engines/local/dream/recorder.py",
        ROOT / "core/engines/local/dream/status.py",
        # Pictures are written by the worker and by `framedeck export`.
        ROOT / "core/outputs/sequence.py",
        ROOT / "core/outputs/behind.py",
        # A client that does not read its socket stalls all clients of a ComfyUI server.
        ROOT / "core/engines/comfy/socket.py",
        ROOT / "app/cli.py",
        ROOT / "app/export_cli.py",
        ROOT / "app/bootstrap.py",
        ROOT / "core/engines/comfy/standin/__main__.py",
    }
    found = []
    for path in sources("app", "widgets", "core"):
        if path == ROOT / "app/pump.py" or path in own_process:
            continue
        text = path.read_text(encoding="utf-8")
        found += [
            f"{path.name}: {word}"
            for word in (
                "QThread(",
                "(QThread)",
                "threading.Thread(",
                "ThreadPoolExecutor(",
                "QThreadPool",
            )
            if word in text
        ]
    assert found == []


def test_files_and_functions_have_one_job() -> None:
    """The limits are where a file or function surely holds two jobs."""
    long = []
    for path in sources("app", "widgets", "core", "resources", "tests"):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > (700 if "tests" in path.parts else 450):
            long.append(f"{path}: {text.count(chr(10))} lines")
        if "tests" in path.parts:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 80:
                    long.append(f"{path}:{node.lineno} {node.name}: {length} lines")
    assert long == []


def named(tree: ast.Module) -> set[str]:
    """Return what a module defines or imports outside of functions and classes."""
    found: set[str] = set()
    left: list[ast.AST] = list(tree.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(name.asname or name.name).partition(".")[0] for name in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        else:
            left += ast.iter_child_nodes(node)
    return found


def test_what_is_imported_late_is_there() -> None:
    """Imports inside of functions run only when a person asks for what they bring."""
    rooms = ("app", "widgets", "core", "resources")
    trees = {path: tree_of(path) for path in sources(*rooms)}
    names = {path: named(tree) for path, tree in trees.items()}
    lost = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.partition(".")[0] not in rooms or node.level:  # type: ignore[attr-defined]
                continue
            place = ROOT.joinpath(*module.split("."))
            whole = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            for one in node.names:  # type: ignore[attr-defined]
                below = place / one.name
                beside = below.with_suffix(".py") in names or below.is_dir()
                if not beside and one.name not in names.get(whole, ()):
                    lost.append(f"{path}:{node.lineno} {module} has no {one.name}")  # type: ignore[attr-defined]
    assert lost == []


def test_torch_is_pinned_in_one_place() -> None:
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    places = [
        (group, item)
        for group, items in {
            "dependencies": project["dependencies"],
            **project["optional-dependencies"],
        }.items()
        for item in items
        if Requirement(item).name == "torch"
    ]
    assert len(places) == 1
    assert Requirement(places[0][1]).specifier.contains("2.13.0")


def test_packaging_folder_does_not_shadow_the_library() -> None:
    assert not list((ROOT / "packaging").rglob("__init__.py"))
    import packaging.version

    assert Path(packaging.version.__file__).parent.parent != ROOT


@pytest.mark.parametrize("word", ["pickle.load", "torch.load(", "shell=True", "os.system("])
def test_unsafe_calls_are_absent(word: str) -> None:
    found = [p.name for p in sources("app", "widgets", "core") if word in p.read_text("utf-8")]
    assert found == []
