#!/bin/sh
# Puts the OHIF viewer that the tests look through into a cache folder: one pinned package, checked, from npm.
set -eu

version=3.13.2
sha512=5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/dicom-ai-node
viewer=$cache/ohif-$version

if [ -f "$viewer/dist/index.html" ]; then
    echo "$viewer/dist"
    exit 0
fi
if ! command -v npm >/dev/null; then
    echo "The viewer tests need npm (Debian: apt-get install npm) to fetch @ohif/app $version." >&2
    exit 1
fi
mkdir -p "$cache"
fetched=$(mktemp -d "$cache/fetching.XXXXXX")
trap 'rm -rf "$fetched"' EXIT
# The package alone: what it depends on is bundled in its dist folder.
(cd "$fetched" && npm pack --silent "@ohif/app@$version" >/dev/null)
(cd "$fetched" && echo "$sha512  ohif-app-$version.tgz" | sha512sum --check --quiet)
tar -xzf "$fetched/ohif-app-$version.tgz" -C "$fetched"
# Only whole: another run may have been faster.
mkdir "$fetched/whole" && mv "$fetched/package/dist" "$fetched/whole/dist"
mv -T "$fetched/whole" "$viewer" 2>/dev/null || [ -f "$viewer/dist/index.html" ]
echo "$viewer/dist"
