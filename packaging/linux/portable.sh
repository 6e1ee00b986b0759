#!/bin/sh
# Framedeck @VERSION@ for Linux in one file. It unpacks itself once, beside the person's own
# programs, and starts; later starts find it there. Nothing is installed for others.
set -eu
version='@VERSION@'
digest='@SHA256@'
skip='@SKIP@'

usage() {
    cat <<'HELP'
Usage: sh FILE.run [options] [-- arguments of framedeck]
  --target FOLDER   unpack into FOLDER (default: ~/.local/lib/framedeck)
  --desktop         put Framedeck into the menu, for the one who runs this
  --check           only look whether this file is whole
  --no-start        unpack and do not start
  --remove          remove the program and the menu's entry; what you made stays
HELP
}

data="${XDG_DATA_HOME:-$HOME/.local/share}"
target="$HOME/.local/lib/framedeck"
desktop=no start=yes check=no remove=no
while [ $# -gt 0 ]; do
    case "$1" in
        --target) [ $# -ge 2 ] || { usage >&2; exit 2; }; target="$2"; shift ;;
        --desktop) desktop=yes ;;
        --no-start) start=no ;;
        --check) check=yes ;;
        --remove) remove=yes ;;
        -h | --help) usage; exit 0 ;;
        --) shift; break ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
case "$target" in /*) ;; *) target="$(pwd)/$target" ;; esac
entry="$data/applications/framedeck.desktop"
icon="$data/icons/hicolor/scalable/apps/framedeck.svg"

if [ "$remove" = yes ]; then
    # Only what was unpacked by this script is removed.
    if [ -f "$target/.framedeck-portable" ]; then rm -rf "$target"; fi
    if [ -f "$entry" ] && grep -q '^X-Framedeck-Portable=' "$entry"; then rm -f "$entry" "$icon"; fi
    exit 0
fi

if [ "$check" = yes ] || [ "$(cat "$target/.framedeck-portable" 2>/dev/null)" != "$digest" ]; then
    got="$(tail -c "+$((1$skip - 1000000))" "$0" | sha256sum | cut -d ' ' -f 1)"
    if [ "$got" != "$digest" ]; then
        echo "This file is damaged: get it again." >&2
        exit 1
    fi
    if [ "$check" = yes ]; then
        echo "Framedeck $version: whole."
        exit 0
    fi
    if [ -e "$target" ] && [ ! -f "$target/.framedeck-portable" ]; then
        if [ ! -d "$target" ] || [ -n "$(ls -A "$target")" ]; then
            echo "$target holds something else: choose another folder with --target." >&2
            exit 1
        fi
    fi
    if ! command -v xz >/dev/null; then
        echo "The program xz is missing; install the package xz-utils (or xz), then run this again." >&2
        exit 1
    fi
    fresh="$target.new.$$"
    trap 'rm -rf "$fresh"' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir -p "$fresh"
    tail -c "+$((1$skip - 1000000))" "$0" | tar -xJ --no-same-owner --strip-components=1 -C "$fresh" || {
        echo "Framedeck could not be unpacked into $target (is the disk full?)." >&2
        exit 1
    }
    printf '%s\n' "$digest" > "$fresh/.framedeck-portable"
    if [ -e "$target" ]; then
        mv "$target" "$target.old.$$"
    fi
    mv "$fresh" "$target"
    rm -rf "$target.old.$$"
    trap - EXIT INT TERM HUP
    echo "Framedeck $version is in $target" >&2
fi

if [ "$desktop" = yes ]; then
    mkdir -p "$(dirname "$entry")" "$(dirname "$icon")"
    cp "$target/_internal/source/resources/icons/framedeck.svg" "$icon"
    # Two layers of quotes, as the specification of desktop entries wants them.
    word="$(printf '%s' "$target/framedeck" | sed -e 's/[\\"`$]/\\&/g' -e 's/%/%%/g' -e 's/\\/\\\\/g')"
    cat > "$entry.new" <<ENTRY
[Desktop Entry]
Type=Application
Name=Framedeck
GenericName=AI Video Generator
Comment=Generate videos on this machine and watch its GPU memory
Exec="$word" %F
Icon=framedeck
Terminal=false
Categories=AudioVideo;Video;
StartupNotify=true
StartupWMClass=framedeck
X-Framedeck-Portable=$version
ENTRY
    mv "$entry.new" "$entry"
    echo "Framedeck is in the menu." >&2
fi

if [ "$start" = yes ]; then
    exec "$target/framedeck" "$@"
fi
exit 0
