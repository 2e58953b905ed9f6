#!/usr/bin/env bash
# Extracts Debian's packages `strace` and `libunwind8` to .tools/strace/ at the root of the repository. The packages
# are not installed, so root is not needed. Does nothing if the tests already find strace.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=.tools/strace
if [[ -n ${GATEHOUSE_TEST_STRACE:-} ]] || command -v strace > /dev/null || [[ -x $folder/usr/bin/strace ]]; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Uses separate package lists: those of the system may be missing or old, and only root can update them.
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/packages"
apt=(apt-get -qq -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache"
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)

cd "$scratch/packages"
if ! apt-get -qq -o APT::Sandbox::User="$(id -un)" download strace libunwind8 2> /dev/null; then
    "${apt[@]}" update
    "${apt[@]}" download strace libunwind8
fi
cd "$OLDPWD"

for package in "$scratch"/packages/*.deb; do
    dpkg -x "$package" "$scratch/unpacked"
done
mkdir -p .tools
rm -rf "$folder"
mv "$scratch/unpacked" "$folder"
