"""What the frozen window carries and what it leaves out; read by framedeck.spec and the tests."""

from __future__ import annotations

import re
import sys
from pathlib import Path

NAME = "framedeck"
OWN_PACKAGES = ("app", "core", "resources", "widgets")
SOURCE_PACKAGES = ("app", "core", "resources")
"""What the engine's Python imports, so what is carried as plain files."""

ENGINE_ONLY = (
    "accelerate", "bitsandbytes", "cv2", "diffusers", "gguf", "huggingface_hub", "peft",
    "safetensors", "sentencepiece", "tokenizers", "torch", "torchao", "torchaudio",
    "torchvision", "transformers", "triton",
)  # fmt: skip
"""What only the engine's own process imports, with another Python than this program's."""
UNUSED = (
    "IPython", "OpenGL", "PIL", "PyQt5", "PyQt6", "PySide2", "_pytest", "cupy", "ensurepip", "h5py",
    "hypothesis", "idlelib", "lib2to3", "matplotlib", "numba", "pip", "pytest", "scipy",
    "setuptools", "tests", "tkinter", "turtledemo", "tqdm",
)  # fmt: skip
_QT = (
    "3DCore", "Bluetooth", "Charts", "Concurrent", "DataVisualization", "Designer", "Help",
    "HttpServer", "Location", "Multimedia", "MultimediaWidgets", "NetworkAuth", "Nfc", "OpenGL",
    "OpenGLWidgets", "Pdf", "PdfWidgets", "Positioning", "PrintSupport", "Qml", "Quick",
    "Quick3D", "QuickControls2", "QuickTest", "QuickWidgets", "RemoteObjects", "Scxml", "Sensors",
    "SerialBus", "SerialPort", "SpatialAudio", "Sql", "StateMachine", "SvgWidgets", "Test",
    "TextToSpeech", "UiTools", "WebChannel", "WebEngineCore", "WebEngineQuick",
    "WebEngineWidgets", "WebSockets", "WebView", "Xml",
)  # fmt: skip
QT_MODULES = tuple(f"PySide6.Qt{name}" for name in _QT)
EXCLUDES = (*ENGINE_ONLY, *UNUSED, *QT_MODULES)

UNUSED_HOOKS = (
    "pyi_rth_cryptography_openssl", "pyi_rth_inspect", "pyi_rth_multiprocessing",
    "pyi_rth_pkgutil", "pyi_rth_pyqtgraph_multiprocess",
    *(() if sys.platform == "win32" else ("pyi_rth_pyside6",)),
)  # fmt: skip
"""What PyInstaller runs before the program, a fifth of the time to the first paint.

That of PySide6 loads Qt, for commands too; its wheels for Linux find their plugins themselves.

Nothing here looks for sources or modules, and no process is made by multiprocessing: one that
was would be refused for its arguments, and opens no second window.
"""

_DROPPED = re.compile(
    r"""
      Qt6?(3D|Charts|Concurrent|DataVis|Designer|Help|Labs|Multimedia|OpenGLWidgets|Pdf
         |PrintSupport|Qml|Quick|Sensors|Spatial|Sql|Test|VirtualKeyboard|WaylandEglClient
         |Web|EglFs|EglFS|ShaderTools)
    | /plugins/(designer|egldeviceintegrations|generic|networkinformation|position|printsupport
         |qmllint|qmltooling|sensors|sqldrivers|webview|virtualkeyboard|renderers|sceneparsers)/
    | /plugins/platforms/(lib)?q(eglfs|linuxfb|minimalegl|vnc|vkkhrdisplay|directfb|webgl)
    | /plugins/platforminputcontexts/(lib)?qtvirtualkeyboard
    | /plugins/platformthemes/libqgtk3
    | (^|/)lib(gtk-3|gdk-3|atk-1|atk-bridge|atspi|cairo-gobject|pangocairo|epoxy|rsvg)[-.\w]*\.so
    # What only the GTK theme of Qt needs, which is not carried.
    | ^/lib(Xau|Xcomposite|Xcursor|Xdamage|Xdmcp|Xfixes|Xi|Xinerama|Xrandr|Xrender|blkid|bsd
         |cairo|datrie|fribidi|gdk_pixbuf-2|gio-2|gmodule-2|gobject-2|graphite2|harfbuzz|jpeg|md
         |mount|pango-1|pangoft2-1|pixman-1|selinux|thai)[-.][-.\w]*so
    | ^/libmvec\.so                        # a part of the C library, which must be the system's
    | /PySide6/(Qt/)?translations/         # the program speaks English, and so shall its buttons
    | /PySide6/qml/
    | opengl32sw\.dll | d3dcompiler_\d+\.dll
    | (^|/)pyqtgraph/(examples|opengl|canvas|jupyter|flowchart|console)/
    | (^|/)numpy/(?!.*(LICENSE)).*(/tests/|\.pxd$|\.h$|\.lib$|\.a$|\.pyi$)
    | (^|/)av/.*\.(pxd|pyx|pyi|h)$
    # Notes of the installer, which hold paths of the build.
    | \.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$
    """,
    re.VERBOSE,
)


def dropped(name: str) -> bool:
    """Say whether a file of the bundle, by its place in it, is of no use to the window."""
    return _DROPPED.search("/" + name.replace("\\", "/")) is not None


def own_modules(root: Path) -> list[str]:
    """Return the names of all our modules: many are imported late, some by a name alone."""
    found = []
    for package in OWN_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if package == "resources" and len(parts) > 2:
                continue
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def source_files(root: Path) -> list[tuple[Path, str]]:
    """Return our plain files for another Python, each with its folder in `_internal`."""
    found = []
    for package in SOURCE_PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                found.append((path, str(Path("source") / path.parent.relative_to(root))))
    return found
