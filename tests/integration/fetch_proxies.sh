#!/usr/bin/env bash
# Puts nginx, Caddy and HAProxy into .tools/proxies/ at the root of the repository, out of Debian's packages, which it does not
# install: no service is started and no root is needed. Does nothing when the tests find all of them already.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=.tools/proxies
if [[ -x $folder/usr/sbin/nginx && -x $folder/usr/bin/caddy && -x $folder/usr/sbin/haproxy ]]; then
    exit 0
fi
if { [[ -n ${GATEHOUSE_TEST_NGINX:-} ]] || command -v nginx > /dev/null; } &&
    { [[ -n ${GATEHOUSE_TEST_CADDY:-} ]] || command -v caddy > /dev/null; } &&
    { [[ -n ${GATEHOUSE_TEST_HAPROXY:-} ]] || command -v haproxy > /dev/null; }; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Package lists of our own: the machine's may be missing or old, and only root may update them.
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/packages"
own=(-o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache")
sandbox=(-o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)

fetch() {
    # The names of the libraries that they are linked with differ between releases.
    local libraries more
    libraries=$(needed_by "$@" -- nginx haproxy)
    # shellcheck disable=SC2086 # several names
    more=$(needed_by "$@" -- $libraries)
    # shellcheck disable=SC2086 # likewise
    apt-get -qq "$@" "${sandbox[@]}" download nginx caddy haproxy $libraries $more
}

# The libraries that packages need, but for those of the compiler and the system, which every machine has.
needed_by() {
    local options=()
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    apt-cache "${options[@]}" depends "$@" |
        sed -nE 's/^ +Depends: (lib(pcre2|ssl|lua|opentracing|jemalloc)[^ ]*)$/\1/p' | sort -u
}

cd "$scratch/packages"
if ! fetch 2> /dev/null; then
    apt-get -qq "${own[@]}" "${sandbox[@]}" update
    fetch "${own[@]}"
fi
cd "$OLDPWD"

for package in "$scratch"/packages/*.deb; do
    dpkg -x "$package" "$scratch/unpacked"
done
mkdir -p .tools
rm -rf "$folder"
mv "$scratch/unpacked" "$folder"
