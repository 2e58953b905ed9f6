#!/usr/bin/env bash
# Installs Express in .tools/express/ at the root of the repository. Without npm or a network connection, it prints
# a note and exits with 0; the Node contestant then uses node:http.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=.tools/express
if [[ -d $folder/node_modules/express ]]; then
    exit 0
fi
if ! command -v npm > /dev/null; then
    echo "npm is not installed: the Node contestant will use node:http, if Node is installed"
    exit 0
fi

mkdir -p "$folder"
npm install --silent --no-audit --no-fund --no-save --prefix "$folder" 'express@^5.3' ||
    echo "Express could not be installed: the Node contestant will use node:http"
