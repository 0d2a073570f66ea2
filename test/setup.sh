#!/usr/bin/env bash
# Brings the real peers that the tests talk to: Debian's packages, and a newer Pebble (ARI, profiles) in test/.peers.
# Idempotent, and quick when nothing is missing. Needs root only to install packages.
set -euo pipefail
cd "$(dirname "$0")"

declare -A package_of=(
  [pebble]=pebble [redis-server]=redis-server [nginx]=nginx [openssl]=openssl [curl]=curl
  [h2load]=nghttp2-client [wrk]=wrk [caddy]=caddy [chromium]=chromium
  [named]=bind9
)

missing_packages() {
  local program
  for program in "${!package_of[@]}"; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || echo "${package_of[$program]}"
  done
}

install_packages() {
  # Installing nginx or Redis must not start a service on this machine.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  local options=(-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  apt-get "${options[@]}" update
  DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends "$@"
}

# Unstable's Pebble runs as it is on older Debians. Its package list is this machine's own with another suite, kept
# apart so that nothing else is ever installed from there.
fetch_pebble() {
  local work mirror
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
    awk '$1 !~ /security/ && $2 == "main" && !found++ { print $1 }')
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror unstable main" >"$work/unstable.list"
  local options=(
    -qq -o Dir::Etc::SourceList="$work/unstable.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User= -o Acquire::Retries=3
  )
  apt-get "${options[@]}" update
  (cd "$work" && apt-get "${options[@]}" download pebble)
  dpkg -x "$work"/pebble_*.deb "$work/root"
  # Moved into place last, so that an interrupted run leaves nothing half done.
  rm -rf .peers/pebble
  mv "$work/root" .peers/pebble
  rm -rf "$work"
}

if ! command -v apt-get >/dev/null; then
  echo "test/setup.sh: the tests run on Debian; elsewhere, run them in a Debian container" >&2
  exit 1
fi

mkdir -p .peers
exec 9>.peers/lock
flock 9

mapfile -t missing < <(missing_packages)
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "test/setup.sh: the tests need packages; run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  install_packages "${missing[@]}"
fi
[ -x .peers/pebble/usr/bin/pebble ] || fetch_pebble
