# Sourced: the images of the tests and of the README, made from static binaries because no registry is needed for them.
# Process 1 handles SIGTERM: a process 1 without a handler ignores it, and every stop would take its whole grace period.

# make_image NAME TEXT [EXTRA-DOCKERFILE-LINES]: a web app that answers TEXT on port 8888.
make_image() {
  local name=$1 text=$2 extra=${3:-} context
  context=$(mktemp -d)
  mkdir -p "$context/bin" "$context/www" "$context/home/application/current" "$context/tmp"
  cp /bin/busybox "$context/bin/busybox"
  cp /bin/bash-static "$context/bin/bash"
  for applet in sh ls cat echo env sleep httpd wget hostname id ps kill true false printf test; do
    ln "$context/bin/busybox" "$context/bin/$applet"
  done
  printf '%s\n' "$text" >"$context/www/index.html"
  cat >"$context/bin/serve" <<'SERVE'
#!/bin/sh
# CRASH=code ends at once, WAIT_FOR=file answers once that file is there, WWW=folder answers from elsewhere, STUBBORN=1 does not end when it is asked to.
trap 'kill $child 2>/dev/null; [ -n "$STUBBORN" ] || exit 0' TERM INT
echo "starting with $*"
[ -z "$CRASH" ] || { echo "crashing" >&2; exit "$CRASH"; }
[ -z "$WAIT_FOR" ] || until [ -e "$WAIT_FOR" ]; do sleep 1 & child=$!; wait $child; done
echo "serving on ${PORT:-8888}"
httpd -f -p "${PORT:-8888}" -h "${WWW:-/www}" & child=$!
wait $child
while [ -n "$STUBBORN" ]; do sleep 1; done
SERVE
  chmod +x "$context/bin/serve"
  printf 'web: serve\n' >"$context/home/application/current/Procfile"
  printf 'healthcheck:\n  path: /\n' >"$context/home/application/current/tsuru.yaml"
  printf 'FROM scratch\nCOPY . /\nENV PATH=/bin\nEXPOSE 8888\n%s\nENTRYPOINT ["/bin/serve"]\n' "$extra" >"$context/Dockerfile"
  printf 'Dockerfile\n' >"$context/.dockerignore"
  # Without the cache: images made at the same time would share layers, and removing one would take a layer from under another. Quiet about the builder's age, loud about a failure.
  local failed=0
  DOCKER_BUILDKIT=0 docker build -q --no-cache -t "$name" "$context" >"$context.log" 2>&1 || failed=1
  [ "$failed" = 0 ] || cat "$context.log" >&2
  rm -rf "$context" "$context.log"
  return "$failed"
}
