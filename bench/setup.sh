#!/usr/bin/env bash
# Brings what bench/compare.ts and bench/failover.ts need beyond the tests' own peers. Idempotent; needs root to install
# packages.
set -euo pipefail
cd "$(dirname "$0")"

bash ../test/setup.sh

missing=()
for program in haproxy hitch gcc; do
  PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing+=("$program")
done
# Without the package apache2, which would start a server.
[ -x /usr/sbin/apache2 ] || missing+=(apache2-bin)
[ -e /usr/include/openssl/ssl.h ] || missing+=(libssl-dev)
[ "${#missing[@]}" -eq 0 ] || apt-get -qq install -y --no-install-recommends "${missing[@]}"
