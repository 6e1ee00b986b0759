"""Holds lists of parts (SBOM) to the schema of CycloneDX 1.6, and to what they say of themselves.

    python3 packaging/check_sbom.py [FILE ...]        without a name, those in dist/

Needs the package cyclonedx-python-lib[json-validation], which carries the schema: no network.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NEEDED = "cyclonedx-python-lib[json-validation]"
FORMATS = ("date-time", "iri-reference")
"""What the schema asks of dates and addresses; unknown formats would pass unseen."""


def faults(text: str) -> list[str]:
    """Return what is wrong with a list of parts, [] when nothing is.

    Raises:
        ImportError: A package is missing that this needs.
    """
    return [*_by_schema(text), *_by_itself(json.loads(text))] if _is_json(text) else ["no JSON"]


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _by_schema(text: str) -> list[str]:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from jsonschema.validators import Draft7Validator

    unknown = [name for name in FORMATS if name not in Draft7Validator.FORMAT_CHECKER.checkers]
    if unknown:
        raise ImportError(f"nothing checks the formats {', '.join(unknown)}")
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text, all_errors=True)
    return [f"{error.data.json_path}: {error.data.message[:300]}" for error in found or ()]


def _by_itself(bill: dict[str, Any]) -> list[str]:
    """Look at what no schema can: that references lead somewhere, and addresses are well made."""
    from packageurl import PackageURL

    parts = bill.get("components", [])
    top = bill.get("metadata", {}).get("component", {})
    names = [part.get("bom-ref") for part in (top, *parts)]
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    found = [f"the reference {name} stands twice" for name in twice]
    if bill.get("specVersion") != "1.6":
        found.append(f"specVersion is {bill.get('specVersion')!r}, not '1.6'")
    for entry in bill.get("dependencies", []):
        for name in (entry.get("ref"), *entry.get("dependsOn", [])):
            if name not in names:
                found.append(f"the reference {name} leads nowhere")
    for part in (top, *parts):
        address = part.get("purl", "")
        try:
            better = PackageURL.from_string(address).to_string()
        except ValueError as error:
            found.append(f"{address!r}: {error}")
        else:
            if better != address:
                found.append(f"{address} is written {better}")
    return found


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code: 0 all good, 1 not, 2 nothing could be checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    files = options.files or sorted((ROOT / "dist").glob("*.cdx.json"))
    if not files:
        parser.error("there is no list in dist/; packaging/build.py makes one")
    code = 0
    for path in files:
        try:
            found = faults(path.read_text("utf-8"))
        except ImportError as error:
            print(f"Not checked: {error}. Install {NEEDED}.", file=sys.stderr)
            return 2
        except (OSError, ValueError) as error:
            found = [str(error)]
        for line in found:
            print(f"FAILED {path.name}: {line}")
        if found:
            code = 1
        else:
            count = len(json.loads(path.read_text("utf-8"))["components"])
            print(f"ok     {path.name}: {count} parts, as CycloneDX 1.6 wants them")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
