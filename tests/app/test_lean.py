"""Nothing of what is imported is read once more to search it for Qt's name."""

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
