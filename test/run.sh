#!/usr/bin/env bash
# `npm test`: brings the real peers, runs every test (or the files given), and ends with `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

bash test/setup.sh
# A fresh tap still has the plugin that .taprc turns off. It would rebuild itself, but too late for the run at hand.
if grep -q '"@tapjs/typescript"' node_modules/@tapjs/test/test-built/dist/esm/index.js; then tap build; fi
tap run --reporter=tap "$@" </dev/null | node test/report.ts
