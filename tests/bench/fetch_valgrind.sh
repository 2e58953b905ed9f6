#!/usr/bin/env bash
# Extracts Debian's package `valgrind` to .tools/valgrind/ at the root of the repository. The package is not
# installed, so root is not needed. Does nothing if the tests already find valgrind.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=.tools/valgrind
if [[ -n ${GATEHOUSE_TEST_VALGRIND:-} ]] || command -v valgrind > /dev/null ||
    [[ -x $folder/usr/bin/valgrind.bin ]]; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Uses separate package lists: those of the system may be missing or old, and only root can update them.
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/packages"
apt=(apt-get -qq -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache"
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)

cd "$scratch/packages"
if ! apt-get -qq -o APT::Sandbox::User="$(id -un)" download valgrind 2> /dev/null; then
    "${apt[@]}" update
    "${apt[@]}" download valgrind
fi
cd "$OLDPWD"

dpkg -x "$scratch"/packages/valgrind_*.deb "$scratch/unpacked"
mkdir -p .tools
rm -rf "$folder"
mv "$scratch/unpacked" "$folder"
