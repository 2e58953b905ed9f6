#!/usr/bin/env bash
# Extracts Debian's packages `wrk`, `libluajit-5.1-2` and `libluajit-5.1-common` to .tools/wrk/ at the root of the
# repository. The packages are not installed, so root is not needed. Does nothing if wrk is already available.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=.tools/wrk
if command -v wrk > /dev/null || [[ -x $folder/usr/bin/wrk ]]; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
packages=(wrk libluajit-5.1-2 libluajit-5.1-common)

# Uses separate package lists: those of the system may be missing or old, and only root can update them.
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/packages"
apt=(apt-get -qq -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache"
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)

cd "$scratch/packages"
if ! apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${packages[@]}" 2> /dev/null; then
    "${apt[@]}" update
    "${apt[@]}" download "${packages[@]}"
fi
cd "$OLDPWD"

for package in "$scratch"/packages/*.deb; do
    dpkg -x "$package" "$scratch/unpacked"
done
mkdir -p .tools
rm -rf "$folder"
mv "$scratch/unpacked" "$folder"
