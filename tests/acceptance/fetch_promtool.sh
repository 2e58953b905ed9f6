#!/usr/bin/env bash
# Extracts promtool from Debian's package `prometheus` into .tools/ at the root of the repository. The package is not
# installed, so no service starts and root is not needed. Does nothing if the tests already find a promtool.
set -euo pipefail
cd "$(dirname "$0")/../.."

promtool=.tools/usr/bin/promtool
if [[ -n ${GATEHOUSE_TEST_PROMTOOL:-} ]] || command -v promtool > /dev/null || "$promtool" --version &> /dev/null; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Uses its own package lists. Those of the machine may be missing or old, and only root may update them.
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/package"
apt=(apt-get -qq -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache"
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)

cd "$scratch/package"
if ! apt-get -qq -o APT::Sandbox::User="$(id -un)" download prometheus 2> /dev/null; then
    "${apt[@]}" update
    "${apt[@]}" download prometheus
fi
cd "$OLDPWD"

dpkg -x "$scratch"/package/prometheus_*.deb "$scratch/unpacked"
install -D "$scratch/unpacked/usr/bin/promtool" "$promtool"
"$promtool" --version > /dev/null
