"""Nothing that is imported is read for Qt's name; large blocks of memory go back at once."""

from __future__ import annotations

import os
import subprocess
import sys

COUNT = """
import inspect, sys
read = []
plain = inspect.getsource
def getsource(thing):
    read.append(getattr(thing, "__name__", ""))
    return plain(thing)
inspect.getsource = getsource
if sys.argv[1] == "lean":
    from app.lean import skip_feature_scan
    assert skip_feature_scan()
elif sys.argv[1] == "other":
    import PySide6.QtCore, types
    sys.modules["shibokensupport.feature"] = types.ModuleType("feature")
    from app.lean import skip_feature_scan
    assert not skip_feature_scan()
    raise SystemExit
import app.gui, widgets.stage
from PySide6.QtCore import QObject
made = QObject()
made.setObjectName("plain")
assert made.objectName() == "plain" and not hasattr(made, "set_object_name")
print(len([name for name in read if name.startswith(("app", "widgets", "core"))]))
"""


def counted(how: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", COUNT, how],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    return done.stdout.strip()


def test_no_module_is_searched_for_the_name_of_qt() -> None:
    assert int(counted("plain")) > 10  # What PySide6 does by itself; if not, this can go.
    assert int(counted("lean")) == 0


def test_another_pyside_is_left_as_it_is() -> None:
    assert counted("other") == ""


APART = """
import ctypes, sys
from app.lean import keep_large_blocks_apart
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
class Figures(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena a b blocks c d e f g h".split()]
libc.mallinfo2.restype = Figures
if sys.argv[1] == "apart":
    assert keep_large_blocks_apart()
for _ in range(3):  # The first that is freed raises the limit.
    libc.free(libc.malloc(4_000_000))
before = libc.mallinfo2().blocks
libc.malloc(3_000_000)
print(libc.mallinfo2().blocks - before)
"""


def test_large_blocks_lie_apart_and_go_back_at_once() -> None:
    for how, apart in (("apart", "1"), ("plain", "0")):
        done = subprocess.run(
            [sys.executable, "-c", APART, how], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == apart, how
