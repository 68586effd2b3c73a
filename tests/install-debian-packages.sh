#!/bin/sh
# Installs the Debian packages that the tests talk to: as root, or with sudo; else it names what is missing.
set -eu
cd "$(dirname "$0")"

missing=
while read -r package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done < debian-packages.txt
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    echo "The tests need these Debian packages:$missing" >&2
    echo "Install them (apt-get install$missing), then run this again." >&2
    exit 1
fi
echo "Installing for the tests:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
