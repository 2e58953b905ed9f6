#!/usr/bin/env bash
# Builds the compiled reference of the benchmark as .tools/reference/reference at the root of the repository. Without Go
# and a C compiler, or without a network connection for the first build, it prints a note and exits with 0; the
# benchmark then leaves the reference out. Its test is then skipped, but fails in CI.
set -euo pipefail
cd "$(dirname "$0")/../.."

sources=$PWD/tests/bench/reference
folder=$PWD/.tools/reference
if [[ -x $folder/reference ]] && [[ -z $(find "$sources" -newer "$folder/reference") ]]; then
    exit 0
fi
if ! command -v go > /dev/null || ! command -v cc > /dev/null; then
    echo "no Go with a C compiler: the compiled reference is left out"
    exit 0
fi

echo "Building the compiled reference (the first build compiles SQLite, for a minute) ..."
mkdir -p "$folder"
# The Go example uses the same folders. Files in the module cache can be removed with -modcacherw.
(cd "$sources" && GOMODCACHE=$folder/../go/modules GOCACHE=$folder/../go/cache GOFLAGS=-modcacherw CGO_ENABLED=1 \
    go build -buildvcs=false -o "$folder/reference" .) && touch "$folder/reference" ||
    { rm -f "$folder/reference"; echo "go failed: the compiled reference is left out"; }
