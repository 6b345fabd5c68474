# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the scripts of this folder: processes that are written down, so that these are ended and no others.
# $dir/pids has a line "PID START NAME" for each; START is in ticks since the machine started, and tells a process from a later one with its number.

# start_of PID: prints START while the process lives.
start_of() {
  local line
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  # The name of a process may have blanks and parentheses in it; what follows the last one is the state, the third of the fields.
  read -ra line <<<"${line##*) }"
  [ "${line[0]}" != Z ] && echo "${line[19]}"
}

lives() { [ "$(start_of "$1")" = "$2" ]; } # PID START

# spawn NAME COMMAND...: in the background, with its output in $dir/NAME.log. $spawned is its process.
spawn() {
  local name=$1
  shift
  # 9 is the lock of $dir, which must not outlive who took it. The process writes itself down, so that none is forgotten when who spawned it is killed.
  (
    pid=$BASHPID
    echo "$pid $(start_of "$pid") $name" >>"$dir/pids"
    exec setsid "$@"
  ) >"$dir/$name.log" 2>&1 </dev/null 9<&- &
  spawned=$!
}

# until_ok WHAT COMMAND...: waits until the command succeeds, as long as all that was spawned lives.
until_ok() {
  local what=$1 deadline=$((SECONDS + 120)) pid start name
  shift
  until "$@" >/dev/null 2>&1; do
    while read -r pid start name; do
      lives "$pid" "$start" && continue
      printf 'error: %s is not ready\ncaused by: `%s` has ended; %s says:\n' "$what" "$name" "$dir/$name.log" >&2
      tail -n 5 "$dir/$name.log" >&2
      return 1
    done <"$dir/pids"
    [ "$SECONDS" -lt "$deadline" ] || { printf 'error: %s is not ready after 120 seconds\nhint: look into %s/*.log\n' "$what" "$dir" >&2; return 1; }
    sleep 0.1
  done
}

# end NAME: kills what was spawned by this name, and forgets it.
end() {
  local pid start name
  while read -r pid start name; do
    [ "$name" = "$1" ] && lives "$pid" "$start" && kill -KILL "$pid"
  done <"$dir/pids"
  sed -i "/ $1\$/d" "$dir/pids"
}
