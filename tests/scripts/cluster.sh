# shellcheck shell=bash disable=SC2154
# Sourced, on a machine that setup.sh has set up: a real Kubernetes for tests, on this machine (tests/cluster/up says what it is like). Sourcing it does nothing.
#
#   install_cluster_packages   installs the packages that are missing
#   build_cluster              builds the binary once for all checkouts; $cluster_binary is where it is
#   start_cluster NODES        starts one; KUBECONFIG and CLUSTER_DIR say where. Where KUBECONFIG is set already, that cluster is used and none is started
#   load_image NAME            brings an image of the Docker engine to every node, by the same name; to those of a cluster of your own with the command of LOAD_IMAGE, such as `kind load docker-image`
#   start_registry             starts a registry that the nodes pull from; REGISTRY is its HOST:PORT. Where REGISTRY is set already, that one is used
#   push_image NAME            brings an image of the Docker engine to that registry, as $REGISTRY/NAME; by way of the first node, so there must be one
#   stop_registry, stop_cluster  stop what was started here, and nothing else

started_cluster='' started_registry=''
# Where setup.sh was not sourced but run.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
declare -F say >/dev/null || say() { printf '%s\n' "$*" >&2; }
declare -F as_root >/dev/null || as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install_cluster_packages() {
  local missing=() package
  for package in containerd runc iptables iproute2 conntrack containernetworking-plugins busybox-static bash-static openssl curl procps docker-registry tmux; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} != 0 ] || return 0
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

build_cluster() {
  local version minor flags key
  version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$top/tests/cluster/go.mod")
  minor=${version#v*.}
  # What the programs say of themselves: kubelet and the API server compare these.
  flags=(-trimpath -buildvcs=false -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version \
-X k8s.io/component-base/version.gitMajor=${version:1:1} -X k8s.io/component-base/version.gitMinor=${minor%%.*}")
  # Outside the checkout, and named for what it is made of: checkouts share it, and a change makes another.
  key=$(cd "$top/tests/cluster" && { cat go.sum go.mod main.go; printf '%s\n' "${flags[@]}"; } | sha256sum | cut -c 1-16)
  cluster_binary=${XDG_CACHE_HOME:-$HOME/.cache}/gantry/cluster-$key/cluster
  [ ! -x "$cluster_binary" ] || return 0
  if ! command -v go >/dev/null; then
    echo 'error: the test cluster cannot be built' >&2
    echo 'caused by: `go` is not installed' >&2
    echo 'hint: unpack a release from https://go.dev/dl in /usr/local and add /usr/local/go/bin to PATH; the golang-go of Debian 12 is too old' >&2
    return 1
  fi
  mkdir -p "${cluster_binary%/*}"
  (
    # Of two at once the second waits, and then finds it built.
    flock 9
    [ ! -x "$cluster_binary" ] || exit 0
    say 'building the test cluster; the first time takes minutes'
    cd "$top/tests/cluster" || exit
    CGO_ENABLED=0 go build "${flags[@]}" -o "$cluster_binary.new" . && mv "$cluster_binary.new" "$cluster_binary"
  ) 9>"${cluster_binary%/*}/lock"
}

start_cluster() { # NODES
  if [ -n "${KUBECONFIG:-}" ]; then say "using the cluster of KUBECONFIG=$KUBECONFIG"; return; fi
  build_cluster || return
  say "starting a cluster; nodes: $1"
  started_cluster=$(mktemp -d /tmp/gantry-cluster.XXXXXX)
  ln -s "$cluster_binary" "$started_cluster/cluster"
  # sudo passes no variables on.
  if ! as_root env ${CLUSTER_BRIDGE:+CLUSTER_BRIDGE="$CLUSTER_BRIDGE"} ${CLUSTER_NET:+CLUSTER_NET="$CLUSTER_NET"} ${CLUSTER_PORT:+CLUSTER_PORT="$CLUSTER_PORT"} \
    "$top/tests/cluster/up" "$started_cluster" "$1" >&2; then
    # The logs go with the directory.
    tail -n 5 "$started_cluster"/*.log >&2
    stop_cluster
    return 1
  fi
  export CLUSTER_DIR=$started_cluster KUBECONFIG=$started_cluster/kubeconfig
}

stop_cluster() {
  [ -n "$started_cluster" ] || return 0
  # The registry ends with it.
  as_root "$top/tests/cluster/down" "$started_cluster"
  rm -rf "$started_cluster"
  [ -z "$started_registry" ] || unset REGISTRY
  unset CLUSTER_DIR KUBECONFIG
  started_cluster='' started_registry=''
}

# in_cluster_dir WHAT: fails where there is no CLUSTER_DIR to do it in.
in_cluster_dir() {
  [ -z "${CLUSTER_DIR:-}" ] || return 0
  echo "error: $1" >&2
  echo 'caused by: `CLUSTER_DIR` is not set: the cluster is not one that start_cluster started' >&2
  return 1
}

load_image() { # NAME
  local archive node imports=() import failed=0 load
  if [ -z "${CLUSTER_DIR:-}" ] && [ -n "${LOAD_IMAGE:-}" ]; then
    read -ra load <<<"$LOAD_IMAGE"
    "${load[@]}" "$1" >&2
    return
  fi
  in_cluster_dir "\`$1\` cannot be loaded" || {
    echo 'hint: set `LOAD_IMAGE` to the command that brings an image of the Docker engine to your cluster, such as `kind load docker-image`' >&2
    return 1
  }
  archive=$(mktemp "$CLUSTER_DIR/image.XXXXXX")
  docker save -o "$archive" "$1" || { rm -f "$archive"; return 1; }
  for node in "$CLUSTER_DIR"/node*/; do
    [ -d "$node" ] || continue
    as_root ctr -a "${node}containerd.sock" -n k8s.io images import "$archive" >/dev/null & imports+=($!)
  done
  for import in "${imports[@]}"; do wait "$import" || failed=1; done
  rm -f "$archive"
  return $failed
}

start_registry() {
  if [ -n "${REGISTRY:-}" ]; then say "using the registry REGISTRY=$REGISTRY"; return; fi
  in_cluster_dir 'the registry cannot be started' || { echo 'hint: set `REGISTRY` to one that the cluster pulls from' >&2; return 1; }
  started_registry=$(as_root "$top/tests/cluster/registry" "$CLUSTER_DIR") || { started_registry=''; return 1; }
  export REGISTRY=$started_registry
}

stop_registry() {
  [ -n "$started_registry" ] || return 0
  as_root "$top/tests/cluster/registry" "$CLUSTER_DIR" stop
  unset REGISTRY
  started_registry=''
}

push_image() { # NAME
  local name=$REGISTRY/$1 ctr failed=0
  if [ -n "${CLUSTER_DIR:-}" ] && [ ! -d "$CLUSTER_DIR/node1" ]; then
    printf 'error: `%s` cannot be pushed\ncaused by: the cluster has no node\nhint: start_cluster 1\n' "$1" >&2
    return 1
  fi
  docker tag "$1" "$name" || return
  if [ -n "${CLUSTER_DIR:-}" ]; then
    # By a containerd, since `docker push` speaks plain HTTP to addresses of 127.0.0.0/8 alone; in a namespace of containerd's that kubelet does not see.
    ctr=(as_root ctr -a "$CLUSTER_DIR/node1/containerd.sock" -n gantry-push images)
    { docker save "$name" | "${ctr[@]}" import --no-unpack - && "${ctr[@]}" push --plain-http "$name" && "${ctr[@]}" rm "$name"; } >/dev/null || failed=1
  else
    docker push -q "$name" >/dev/null || failed=1
  fi
  docker rmi "$name" >/dev/null
  return $failed
}
