#!/usr/bin/env bash
# `npm test`: brings the real peers, runs every test (or the files given), and ends with `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

bash test/setup.sh
tap run --reporter=tap "$@" </dev/null | node test/report.ts
