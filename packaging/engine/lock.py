"""Make the engine's lock files: `python3 packaging/engine/lock.py [--platform P] [--tag T]`.

Each file, `pylock.<platform>-<tag>.toml` (PEP 751), names every wheel with its address,
size and sha256, for one platform and one build of torch and for all Pythons it exists for.
Versions come from uv, out of the ranges in pyproject.toml; checksums come from the index,
or from a file that lies here (`--torch FILE`), and from nowhere else. What cannot be resolved
is not locked: its file is not written, and the program says so and takes the next build.

Needs uv, requests, and packaging >= 26.1.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import requests

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent
TORCH_INDEX = "https://download.pytorch.org/whl"
TORCH = "2.13.0"
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
PLATFORMS = {
    "linux-x86_64": ("linux", "x86_64", r"manylinux\w*_x86_64|linux_x86_64"),
    "windows-amd64": ("win32", "AMD64", r"win_amd64"),
}
TAGS = ("cpu", "cu126", "cu128", "cu130")
ON_PYPI = {"linux-x86_64": "cu130", "windows-amd64": "cpu"}
"""PyPI's own torch is built for this; the others are in PyTorch's own index alone."""
IMPORTS = (
    "numpy", "torch", "transformers", "diffusers", "accelerate", "safetensors", "av", "cv2",
    "PIL", "psutil", "pynvml", "peft", "gguf", "platformdirs", "typing_extensions",
)  # fmt: skip
"""What the worker and the export import; the program tries all of it before it switches."""
WORKER = ("numpy", "av", "nvidia-ml-py", "psutil", "platformdirs")
"""Those of the program's own dependencies that the worker uses too."""


def requirements() -> list[str]:
    """Return what the engine needs, from pyproject.toml, with OpenCV without a window."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    own = [one for one in project["dependencies"] if re.match(r"[\w-]+", one)[0] in WORKER]
    quantised = [one for one in extras["quantised"] if one.startswith("gguf")]
    found = [*extras["engine"], *quantised, *own, f"torch=={TORCH}", *extras["torch"]]
    return [one.replace("opencv-python", "opencv-python-headless", 1) for one in found]


def resolved(tag: str, at: str) -> dict[str, Any]:
    """Return the universal lock that uv makes, as it stands on `at`: a PyPI of that day.

    Raises:
        subprocess.CalledProcessError: uv says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted, made = Path(folder, "engine.in"), Path(folder, "pylock.toml")
        wanted.write_text("\n".join(requirements()) + "\n")
        command = [
            "uv", "pip", "compile", str(wanted), "--format", "pylock.toml", "--universal",
            "--python-version", "3.11", "--no-config", "--quiet", "--output-file", str(made),
            "--no-header",
        ]  # fmt: skip
        if at:
            command += ["--exclude-newer", at]
        if tag:
            command += ["--torch-backend", tag]
        subprocess.run(command, check=True)
        return tomllib.loads(made.read_text("utf-8"))


def narrowed(data: dict[str, Any], platform: str) -> list[dict[str, Any]]:
    """Return the packages and wheels of one platform; source distributions are left out."""
    from packaging.markers import Marker

    system, machine, pattern = PLATFORMS[platform]
    fixed = {
        "sys_platform": system, "platform_machine": machine,
        "platform_system": "Windows" if system == "win32" else "Linux",
        "os_name": "nt" if system == "win32" else "posix",
    }  # fmt: skip
    found = []
    for package in data["packages"]:
        marker = Marker(package["marker"]) if "marker" in package else None
        versions = [
            minor for minor in PYTHONS if marker is None or marker.evaluate({**fixed, **_of(minor)})
        ]
        if not versions:
            continue
        wheels = [w for w in package.get("wheels", ()) if _fits(_name(w), versions, pattern)]
        if not wheels:
            raise SystemExit(f"{package['name']} {package['version']}: no wheel for {platform}")
        found.append({**package, "versions": versions, "wheels": wheels})
    return found


def _of(minor: tuple[int, int]) -> dict[str, str]:
    text = f"{minor[0]}.{minor[1]}"
    return {"python_version": text, "python_full_version": f"{text}.99"}


def _name(wheel: dict[str, Any]) -> str:
    return unquote(wheel.get("name") or wheel["url"].rpartition("/")[2])


def _fits(filename: str, versions: list[tuple[int, int]], pattern: str) -> bool:
    from packaging.utils import parse_wheel_filename

    *_, tags = parse_wheel_filename(filename)
    return any(
        tag.platform == "any" or re.fullmatch(pattern, tag.platform)
        for tag in tags
        if any(_runs(tag.interpreter, tag.abi, *version) for version in versions)
    )


def _runs(interpreter: str, abi: str, major: int, minor: int) -> bool:
    """Say whether such a wheel runs in a CPython; those without the GIL are others."""
    own = f"cp{major}{minor}"
    if interpreter in (own, f"py{major}", f"py{major}{minor}"):
        return abi in (own, "none", "abi3")
    older = re.fullmatch(r"cp3(\d+)", interpreter)
    return abi == "abi3" and older is not None and int(older[1]) <= minor


def with_torch(packages: list[dict[str, Any]], file: Path, tag: str) -> list[dict[str, Any]]:
    """Return packages with torch from a file that lies here, and without what CUDA needs.

    The checksum is that of the file; its address is where PyTorch publishes a file of this name.
    """
    data = file.read_bytes()
    address = f"{TORCH_INDEX}/{tag}/{quote(file.name)}"
    wheel = {
        "name": file.name, "url": address, "size": len(data),
        "hashes": {"sha256": hashlib.sha256(data).hexdigest()}, "local": str(file),
    }  # fmt: skip
    version = file.name.split("-")[1]
    found = []
    for package in packages:
        if package["name"] == "torch":
            python = re.search(r"-cp3(\d+)-", file.name)
            assert python is not None
            versions = [(3, int(python[1]))]
            found.append({**package, "version": version, "versions": versions, "wheels": [wheel]})
        elif not re.match(r"nvidia-(?!ml-py)|cuda-|triton$", package["name"]):
            found.append(package)
    return found


class Remote(io.RawIOBase):
    """A file on a server, of which only the parts that are asked for are fetched."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._at = url, size, 0
        self._tail = b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._at)
        if count <= 0:
            return 0
        buffer[:count] = self._part(self._at, count)
        self._at += count
        return count

    def _part(self, start: int, count: int) -> bytes:
        # The directory of a zip lies at its end, and is read in several goes.
        if start >= self._size - 262_144:
            first = max(0, self._size - 262_144)
            self._tail = self._tail or self._get(first, self._size - 1)
            return self._tail[start - first : start - first + count]
        return self._get(start, start + count - 1)

    def _get(self, first: int, last: int) -> bytes:
        wanted = {"Range": f"bytes={first}-{last}"}
        with requests.get(self._url, headers=wanted, timeout=60) as answer:
            if answer.status_code != 206:
                raise OSError(f"{self._url}: no parts are sent")
            return answer.content


def completed(wheel: dict[str, Any]) -> dict[str, Any]:
    """Return a wheel with its size, which PyTorch's own index does not tell.

    Raises:
        SystemExit: It has no checksum, and none is made up.
    """
    if not wheel.get("hashes", {}).get("sha256"):
        raise SystemExit(f"{_name(wheel)} has no sha256 in the index")
    if "size" in wheel:
        return wheel
    with requests.head(wheel["url"], allow_redirects=True, timeout=60) as answer:
        answer.raise_for_status()
        return {**wheel, "size": int(answer.headers["Content-Length"])}


def unpacked(wheel: dict[str, Any], known: dict[str, int]) -> int:
    """Return what a wheel takes once it is unpacked, from the directory at its end."""
    name = _name(wheel)
    if name not in known:
        local = wheel.get("local")
        source = Path(local).open("rb") if local else io.BufferedReader(  # noqa: SIM115
            Remote(wheel["url"], wheel["size"]), 65_536
        )  # fmt: skip
        with source, zipfile.ZipFile(source) as archive:
            known[name] = sum(info.file_size for info in archive.infolist())
    return known[name]


def written(packages: list[dict[str, Any]], platform: str, tag: str, at: str) -> str:
    """Return the text of a lock file."""
    known: dict[str, int] = {}
    for other in FOLDER.glob("pylock.*.toml"):
        own = tomllib.loads(other.read_text("utf-8")).get("tool", {}).get("framedeck", {})
        known |= own.get("unpacked", {})
    lines = [
        f"# Made by `python3 packaging/engine/lock.py --platform {platform} --tag {tag}`.",
        'lock-version = "1.0"', 'created-by = "framedeck"', 'requires-python = ">=3.11"',
    ]  # fmt: skip
    sizes: dict[str, int] = {}
    for package in packages:
        lines += ["", "[[packages]]", f"name = {_text(package['name'])}"]
        lines.append(f"version = {_text(package['version'])}")
        if len(package["versions"]) < len(PYTHONS) and package["name"] != "torch":
            lines.append(f"marker = {_text(_marker(package['versions']))}")
        lines.append("wheels = [")
        for wheel in map(completed, sorted(package["wheels"], key=_name)):
            name = _name(wheel)
            sizes[name] = unpacked(wheel, known)
            lines.append(
                f"    {{ name = {_text(name)}, url = {_text(wheel['url'])}, "
                f"size = {wheel['size']}, hashes = {{ sha256 = "
                f"{_text(wheel['hashes']['sha256'])} }} }},"
            )
        lines.append("]")
    lines += ["", "[tool.framedeck]", f"imports = {json.dumps(list(IMPORTS))}"]
    if at:
        lines.append(f"as-of = {_text(at)}")
    lines += ["", "[tool.framedeck.unpacked]"]
    lines += [f"{_text(name)} = {size}" for name, size in sorted(sizes.items())]
    return "\n".join(lines) + "\n"


def _marker(versions: list[tuple[int, int]]) -> str:
    return " or ".join(f"python_version == '{major}.{minor}'" for major, minor in versions)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def make(platform: str, tag: str, at: str, torch: Path | None) -> Path:
    """Write one lock file; return its path. Raises SystemExit where it cannot be resolved."""
    on_pypi = ON_PYPI.get(platform) == tag
    try:
        data = resolved("" if on_pypi or torch else tag, at)
    except subprocess.CalledProcessError:
        raise SystemExit(f"{platform} {tag} cannot be resolved here: not locked") from None
    packages = narrowed(data, platform)
    if torch is not None:
        packages = with_torch(packages, torch, tag)
    found = next(one for one in packages if one["name"] == "torch")
    _torch_is(found, platform, tag)
    path = FOLDER / f"pylock.{platform}-{tag}.toml"
    path.write_text(written(packages, platform, tag, at), encoding="utf-8", newline="\n")
    return path


def _torch_is(package: dict[str, Any], platform: str, tag: str) -> None:
    """Refuse a lock whose torch is another build than the file's name says."""
    local = package["version"].partition("+")[2]
    if local != tag and not (not local and ON_PYPI.get(platform) == tag):
        raise SystemExit(f"torch {package['version']} is not the build {tag}: not locked")


def _all() -> Iterator[tuple[str, str]]:
    for platform in PLATFORMS:
        for tag in TAGS:
            yield platform, tag


def main() -> int:
    """Make what is asked for, or all that can be made; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--platform", choices=sorted(PLATFORMS))
    parser.add_argument("--tag", choices=TAGS)
    parser.add_argument("--at", default="", help="use what was published before, RFC 3339")
    parser.add_argument("--torch", type=Path, help="a torch wheel that lies here")
    options = parser.parse_args()
    wanted = [
        (platform, tag)
        for platform, tag in _all()
        if options.platform in (None, platform) and options.tag in (None, tag)
    ]
    if options.torch is not None and len(wanted) != 1:
        parser.error("--torch needs --platform and --tag")
    failed = 0
    for platform, tag in wanted:
        try:
            print(make(platform, tag, options.at, options.torch).relative_to(ROOT))
        except SystemExit as error:
            print(f"{platform} {tag}: {error}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
