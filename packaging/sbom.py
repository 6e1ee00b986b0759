"""Writes the list of parts (SBOM) of a bundle: CycloneDX 1.6, as JSON.

Own code instead of cyclonedx-bom: that lists a whole environment, the building tools included,
and knows neither the system's libraries nor those inside of wheels.
"""

from __future__ import annotations

import datetime
import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

from carried import Carried
from notices import home, licence

_IDS = {
    "MIT": "MIT", "MIT License": "MIT", "BSD-3-Clause": "BSD-3-Clause", "MPL-2.0": "MPL-2.0",
    "Apache-2.0": "Apache-2.0", "Apache 2.0": "Apache-2.0", "PSF-2.0": "PSF-2.0",
}  # fmt: skip
"""Words that packages use for one licence, and its SPDX name."""


def write(path: Path, carried: Carried, *, version: str, date: int) -> int:
    """Write the list to `path`; return how many parts it names. The same for the same bundle.

    Args:
        path: Where to.
        carried: The parts.
        version: Of Framedeck.
        date: Seconds since 1970 that the list bears.
    """
    parts = sorted(components(carried), key=lambda part: part["bom-ref"])
    top = _address("generic/framedeck", version)
    moment = datetime.datetime.fromtimestamp(date, datetime.UTC)
    names = " ".join(part["bom-ref"] for part in parts)
    made: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{top} {date} {names}')}",
        "version": 1,
        "metadata": {
            "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application", "bom-ref": top, "name": "framedeck", "version": version,
                "licenses": [{"license": {"id": "GPL-3.0-or-later"}}], "purl": top,
            },
        },
        "components": parts,
        "dependencies": [{"ref": top, "dependsOn": [part["bom-ref"] for part in parts]}],
    }  # fmt: skip
    path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", "utf-8", newline="\n")
    return len(parts)


def components(carried: Carried) -> list[dict[str, Any]]:
    """Return the parts: Python, its packages, the libraries in them, those of the system."""
    python = carried.python.version
    found = [_part("python", python, _address("generic/python", python), "PSF-2.0")]
    for part in carried.distributions:
        name = part.name.lower().replace("_", "-")
        made = _part(part.name, part.version, _address(f"pypi/{name}", part.version), licence(part))
        if home(part).startswith("https://"):
            url = quote(home(part), safe="%/:?#@!$&'()*+,;=")
            made["externalReferences"] = [{"type": "website", "url": url}]
        found.append(made)
    for owner, name, version in carried.inner:
        made = _part(name, version, _address(f"generic/{name}", version or "unknown"), "")
        made["bom-ref"] += f"?in={owner}"
        found.append(made)
    for system in carried.systems:
        address = _address(f"deb/debian/{system.name}", system.version)
        found.append(_part(system.name, system.version, address, ""))
    found += [_part(name, "", _address(f"generic/{name}"), "") for name in carried.unknown]
    return found


def _address(name: str, version: str = "") -> str:
    """Return the package URL of a part, such as "pkg:pypi/av@18.1.0"."""
    # As it is agreed on: all but these and the letters are written as %2B.
    return f"pkg:{quote(name, safe='/')}" + (f"@{quote(version, safe=':')}" if version else "")


def _part(name: str, version: str, address: str, said: str) -> dict[str, Any]:
    part: dict[str, Any] = {
        "type": "library", "bom-ref": address, "name": name, "purl": address,
    }  # fmt: skip
    if version:
        part["version"] = version
    if said in _IDS:
        part["licenses"] = [{"license": {"id": _IDS[said]}}]
    elif said:
        # Words or a whole expression: as a name both are true.
        part["licenses"] = [{"license": {"name": said}}]
    return part
