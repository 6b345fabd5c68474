#!/usr/bin/env bash
# Sourced by the other scripts: brings a fresh Debian machine with rustup to where Gantry builds and its tests run.
# Installs only what is missing; starts a Docker engine only when none answers, and `stop_docker` stops only that one.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"

say() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if [ "$(id -u)" != 0 ]; then
  echo 'error: only root can set this machine up and speak to its Docker engine' >&2
  echo 'hint: become root first: `sudo -i`' >&2
  exit 1
fi

# in_background COMMAND...: runs it beside what follows, in a process group of its own; $background is its process. stop_background ends it with all that it has started.
background=
in_background() { set -m; "$@" & background=$!; set +m; }
stop_background() { [ -z "$background" ] || kill -- "-$background" 2>/dev/null || true; background=; }

install_packages() {
  local missing=() package
  for package in docker.io iptables iproute2 openssl procps busybox-static bash-static curl; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  command -v cc >/dev/null || missing+=(build-essential)
  [ ${#missing[@]} = 0 ] && return
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

install_rust() {
  command -v rustup >/dev/null || { echo 'error: rustup is not installed' >&2; echo 'hint: https://rustup.rs' >&2; exit 1; }
  local target
  # Plugins, and the program that builds inside clusters.
  for target in wasm32-wasip2 "$(uname -m)-unknown-linux-musl"; do
    rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2
  done
}

docker_answers() { curl -sf -m 5 --unix-socket "${DOCKER_SOCKET:-/var/run/docker.sock}" http://docker/_ping >/dev/null; }

started_dockerd=
start_docker() {
  if [ -n "${DOCKER_HOST:-}" ] || docker_answers; then return; fi
  say 'starting dockerd'
  dockerd_log=$(mktemp /tmp/dockerd.XXXXXX.log)
  as_root setsid dockerd >"$dockerd_log" 2>&1 </dev/null &
  for _ in $(seq 240); do
    if docker_answers; then started_dockerd=$(cat /var/run/docker.pid); return; fi
    sleep 0.25
  done
  echo "error: dockerd did not come up" >&2; tail -n 20 "$dockerd_log" >&2; exit 1
}

stop_docker() {
  [ -n "$started_dockerd" ] || return 0
  as_root kill "$started_dockerd" 2>/dev/null || true
  for _ in $(seq 120); do as_root kill -0 "$started_dockerd" 2>/dev/null || break; sleep 0.25; done
  rm -f "$dockerd_log"
  started_dockerd=
}

install_packages
install_rust
start_docker
