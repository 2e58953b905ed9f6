#!/usr/bin/env bash
# Installs what the examples for Express and Go need into .tools/examples/ at the root of the repository: the npm
# packages, a Node with SQLite if the machine's Node lacks it, and the program that Go builds. Without npm, or without
# Go and a C compiler, it reports this and omits that example. The tests of the example are then skipped, but fail in
# CI.
set -euo pipefail
cd "$(dirname "$0")/../.."

examples=$PWD/deploy/examples
folder=$PWD/.tools/examples
caches=$PWD/.tools/go
mkdir -p "$folder"

fetch_express() {
    local into=$folder/express packages=()
    if cmp -s "$examples/express/package.json" "$into/package.json" && [[ -d $into/node_modules/express ]]; then
        return
    fi
    if ! command -v npm > /dev/null || ! command -v node > /dev/null; then
        echo "no Node with npm: the tests of the Express example will be skipped"
        return
    fi
    echo "Fetching what the Express example needs ..."
    rm -rf "$into"
    mkdir -p "$into/fetched"
    cp "$examples/express/package.json" "$into/fetched/"
    if ! node --no-warnings -e 'require("node:sqlite")' 2> /dev/null; then
        packages=('node@24') # 60 MB; a newer Node on the machine needs no other
    fi
    # The copy of package.json marks a complete installation.
    (cd "$into/fetched" && npm install --silent --no-audit --no-fund --no-save "${packages[@]}") &&
        mv "$into/fetched/"* "$into/" && rmdir "$into/fetched" ||
        { rm -rf "$into"; echo "npm failed: the tests of the Express example will be skipped"; }
}

build_go() {
    local into=$folder/go
    if [[ -x $into/receive-events ]] && [[ -z $(find "$examples/go" -newer "$into/receive-events") ]]; then
        return
    fi
    if ! command -v go > /dev/null || ! command -v cc > /dev/null; then
        echo "no Go with a C compiler: the tests of the Go example will be skipped"
        return
    fi
    echo "Building the Go example ..."
    mkdir -p "$into"
    # SQLite compiles in seconds without optimization. Files in the module cache can be removed with -modcacherw.
    # tests/bench/build_reference.sh uses the same caches.
    (cd "$examples/go" && GOMODCACHE=$caches/modules GOCACHE=$caches/cache GOFLAGS=-modcacherw CGO_ENABLED=1 CGO_CFLAGS=-O0 \
        go build -o "$into/receive-events" .) && touch "$into/receive-events" ||
        { rm -f "$into/receive-events"; echo "go failed: the tests of the Go example will be skipped"; }
}

fetch_express
build_go
