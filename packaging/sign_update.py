"""Makes what a server of updates holds: keys, archives, the manifest and its signature.

    sign_update.py key ~/framedeck-update.key
    sign_update.py pack dist/framedeck dist --version 0.2.0 --platform linux-x86_64
    sign_update.py manifest dist --key ~/framedeck-update.key --version 0.2.0 --sequence 7
        --notes notes.txt dist/framedeck-0.2.0-linux-x86_64.tar.xz.json

`key` writes a private key, readable by its owner alone, and prints the line for
resources/update_keys.json. The private key belongs on no server and into no repository.
`manifest` writes manifest.json and manifest.json.sig: put both and the archives into one folder
of an https server. Every manifest needs a higher sequence, and a new one before the last expires.
Needs the package cryptography.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import hashlib
import json
import lzma
import os
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from folders import below

TOP = "framedeck"
STAMP = 1_577_836_800
"""2020-01-01: every file of an archive bears it, so that the same files give the same archive."""


def make_key(path: Path) -> dict[str, str]:
    """Write a new private key to `path`; return its line for resources/update_keys.json.

    Raises:
        FileExistsError: There is something already.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(base64.b64encode(key.private_bytes_raw()).decode() + "\n")
    return public_line(path)


def public_line(path: Path) -> dict[str, str]:
    """Return the public half of the private key in `path`."""
    public = _private(path).public_key().public_bytes_raw()
    return {"id": _key_id(public), "public": base64.b64encode(public).decode()}


def sign(data: bytes, path: Path) -> bytes:
    """Return the signature's file for `data`, made with the private key in `path`."""
    key = _private(path)
    made = {
        "key": _key_id(key.public_key().public_bytes_raw()),
        "signature": base64.b64encode(key.sign(data)).decode(),
    }
    return (json.dumps(made, indent=1) + "\n").encode()


def pack(bundle: Path, into: Path, version: str, platform: str, preset: int = 6) -> dict[str, Any]:
    """Pack a bundle; return its entry for the manifest, which is written beside it as well.

    tar.xz with links and modes; zip for Windows. The same files give the same bytes. `preset` is
    how hard xz tries: 0 takes a tenth of the time of 6, for a quarter more bytes.

    Raises:
        ValueError: The bundle carries no list of its files, or one of another version.
    """
    listed = bundle / "_internal" / "files.json"
    if not listed.is_file() or json.loads(listed.read_text("utf-8")).get("version") != version:
        raise ValueError(f"run packaging/file_list.py {bundle} {version} first")
    kind = "zip" if platform.startswith("windows") else "tar.xz"
    path = into / f"{TOP}-{version}-{platform}.{kind}"
    unpacked = _zip(bundle, path) if kind == "zip" else _tar(bundle, path, preset)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    entry = {
        "platform": platform, "name": path.name, "kind": kind, "sha256": digest,
        "size": path.stat().st_size, "unpacked": unpacked,
    }  # fmt: skip
    text = json.dumps(entry, indent=1) + "\n"
    path.with_name(path.name + ".json").write_text(text, "utf-8", newline="\n")
    return entry


def make_manifest(
    entries: list[dict[str, Any]],
    *,
    version: str,
    sequence: int,
    notes: str,
    minimum: str = "0.1.0",
    engine_since: str = "",
    days: float = 90,
    now: float | None = None,
) -> bytes:
    """Return the bytes of a manifest.

    Args:
        entries: What `pack` returned, one for each system.
        version: The version there is.
        sequence: Higher than that of any manifest before.
        notes: What is new, as plain text.
        minimum: The oldest version that can update to it.
        engine_since: The first version with the engine that it needs.
        days: From then on nobody believes the manifest any more.
        now: Unix seconds.
    """
    now = time.time() if now is None else now
    made = {
        "format": 1,
        "sequence": sequence,
        "version": version,
        "minimum": minimum,
        "engine_since": engine_since,
        "released_at": _moment(now),
        "expires_at": _moment(now + days * 86_400),
        "notes": notes,
        "artefacts": entries,
    }
    return (json.dumps(made, indent=1, ensure_ascii=False) + "\n").encode()


def _tar(bundle: Path, path: Path, preset: int) -> int:
    total = 0
    with (
        lzma.open(path, "wb", preset=preset) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for source in below(bundle):
            entry = tar.gettarinfo(source, f"{TOP}/{source.relative_to(bundle).as_posix()}")
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = STAMP
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            if entry.isreg():
                total += entry.size
                with source.open("rb") as file:
                    tar.addfile(entry, file)
            else:
                tar.addfile(entry)
    return total


def _zip(bundle: Path, path: Path) -> int:
    total = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for source in below(bundle):
            if source.is_symlink():
                raise ValueError(f"{source} is a link, which Windows does not unpack")
            name = f"{TOP}/{source.relative_to(bundle).as_posix()}"
            entry = zipfile.ZipInfo(name, time.gmtime(STAMP)[:6])
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            entry.create_system = 3  # Whose modes those are, wherever it is packed.
            data = source.read_bytes()
            packed.writestr(entry, data, compresslevel=9)
            total += len(data)
    return total


def _private(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_text("ascii")))


def _key_id(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def _moment(unix: float) -> str:
    moment = datetime.datetime.fromtimestamp(unix, datetime.UTC)
    return moment.isoformat(timespec="seconds")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    key = actions.add_parser("key", help="make a key pair")
    key.add_argument("file", type=Path, help="where the private half is written")
    show = actions.add_parser("public", help="print the public half of a key")
    show.add_argument("file", type=Path)
    pack_ = actions.add_parser("pack", help="pack a bundle")
    pack_.add_argument("bundle", type=Path)
    pack_.add_argument("into", type=Path)
    pack_.add_argument("--version", required=True)
    pack_.add_argument("--platform", required=True, help="such as linux-x86_64, windows-amd64")
    manifest = actions.add_parser("manifest", help="make the manifest and sign it")
    manifest.add_argument("into", type=Path)
    manifest.add_argument("entries", type=Path, nargs="+", help="the .json files that pack wrote")
    manifest.add_argument("--key", type=Path, required=True, help="the private key")
    manifest.add_argument("--version", required=True)
    manifest.add_argument("--sequence", type=int, required=True)
    manifest.add_argument("--notes", type=Path, required=True, help="a file of plain text")
    manifest.add_argument("--minimum", default="0.1.0")
    manifest.add_argument("--engine-since", default="")
    manifest.add_argument("--days", type=float, default=90, help="until nobody believes it")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> None:
    if options.action == "key":
        print(json.dumps(make_key(options.file)))
    elif options.action == "public":
        print(json.dumps(public_line(options.file)))
    elif options.action == "pack":
        print(json.dumps(pack(options.bundle, options.into, options.version, options.platform)))
    else:
        data = make_manifest(
            [json.loads(path.read_text("utf-8")) for path in options.entries],
            version=options.version, sequence=options.sequence,
            notes=options.notes.read_text("utf-8"), minimum=options.minimum,
            engine_since=options.engine_since, days=options.days,
        )  # fmt: skip
        (options.into / "manifest.json").write_bytes(data)
        (options.into / "manifest.json.sig").write_bytes(sign(data, options.key))
        print(options.into / "manifest.json")


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    options = _options(arguments)
    try:
        _run(options)
    except (OSError, ValueError) as error:
        print(f"Nothing was made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
