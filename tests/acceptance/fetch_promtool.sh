#!/usr/bin/env bash
# Puts promtool into .tools/ at the root of the repository, out of Debian's package `prometheus`, which it does not
# install: no service is started and no root is needed. Does nothing when the tests find a promtool already.
set -euo pipefail
cd "$(dirname "$0")/../.."

promtool=.tools/usr/bin/promtool
if [[ -n ${GATEHOUSE_TEST_PROMTOOL:-} ]] || command -v promtool > /dev/null || "$promtool" --version &> /dev/null; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Package lists of our own: the machine's may be missing or old, and only root may update them.
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
