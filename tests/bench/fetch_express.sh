#!/usr/bin/env bash
# Puts Express into .tools/express/ at the root of the repository. Without npm, or without a network, it says so
# and does nothing: the Node contestant then uses node:http.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=.tools/express
if [[ -d $folder/node_modules/express ]]; then
    exit 0
fi
if ! command -v npm > /dev/null; then
    echo "no npm: the Node contestant will use node:http, if there is a node"
    exit 0
fi

mkdir -p "$folder"
npm install --silent --no-audit --no-fund --no-save --prefix "$folder" 'express@^5.3' ||
    echo "Express could not be installed: the Node contestant will use node:http"
