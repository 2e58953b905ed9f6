#!/usr/bin/env bash
# Extracts Debian's package `chromium`, two families of fonts, and every library that this machine lacks for them, to
# .tools/chromium/ at the root of the repository. The packages are not installed, so root is not needed. Does nothing if
# the tests already find Chromium. Downloads 120 MB; takes 350 MB of disk.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=.tools/chromium
if [[ -n ${GATEHOUSE_TEST_CHROMIUM:-} ]] || command -v chromium > /dev/null ||
    [[ -x $folder/usr/lib/chromium/chromium ]]; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Uses separate package lists and a separate cache: those of the system may be missing or old, and only root can
# change them.
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
cache=(-o Dir::Cache="$scratch/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)
lists=(-o Dir::State::Lists="$scratch/lists")

download() {
    apt-get -qq -y -d --no-install-recommends "${cache[@]}" "$@" install chromium fonts-liberation fonts-dejavu-core
}

if ! download 2> /dev/null; then
    apt-get -qq "${cache[@]}" "${lists[@]}" update
    download "${lists[@]}"
fi

for package in "$scratch"/cache/archives/*.deb; do
    dpkg -x "$package" "$scratch/unpacked"
done
find "$scratch/unpacked/usr/lib/chromium/locales" -type f ! -name 'en-US*' -delete
rm -rf "$scratch"/unpacked/usr/share/{doc,icons,locale,man} "$scratch"/unpacked/usr/lib/chromium/libVkLayer_*
mkdir -p .tools
rm -rf "$folder"
mv "$scratch/unpacked" "$folder"
