#!/usr/bin/env bash
# Goal: the demo succeeds, tells what it did in its last line or as JSON, and leaves nothing behind, however it ends.
# Method: run it as a whole; interrupt one; kill one outright, and see that its processes die with it and that the next one
# clears up. $SPILLWAY is the command.
set -euo pipefail

scratch=$(mktemp -d)
rings=$(mktemp -d /dev/shm/spillway-demo-test-XXXXXX)
demo_pid=
cleanup() {
  [ -z "$demo_pid" ] || kill -9 "$demo_pid" 2>/dev/null || true
  rm -rf "$scratch" "$rings"
}
trap cleanup EXIT
export SPILLWAY_DATA=$scratch/data SPILLWAY_SHM=$rings

fail() {
  echo "demo: $*" >&2
  for log in "$scratch"/*.out "$scratch"/*.err; do
    [ ! -s "$log" ] || { echo "--- $log"; tail -n 40 "$log"; } >&2
  done
  exit 1
}

# What is left of a demo's directories; those of a demo begin with a dot.
leftovers() { find "$scratch" "$rings" -mindepth 1 -name '.spillway-demo-*' -prune -print; }
expect_clean() { [ -z "$(leftovers)" ] || fail "$1 left behind: $(leftovers)"; }

# But for what the leak check of a sanitized process says of threads that end while it looks (io_uring's, say).
silent() { ! grep -qv '^==[0-9]*==Unable to get registers from thread' "$1"; }

# Waits up to a minute for the command "$@" to succeed.
await() {
  local tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "waited a minute for: $*"
    sleep 0.1  # sleep-ok: polls for a state
  done
}

# Starts a demo in the background and waits until its table shows a row.
start_demo() {
  "$SPILLWAY" demo --seconds 60 >"$scratch/$1.out" 2>"$scratch/$1.err" &
  demo_pid=$!
  await grep -qE '^ +1\.[0-9] \|' "$scratch/$1.out"
}

# A whole one, with its last line.
"$SPILLWAY" demo --seconds 3 >"$scratch/whole.out" 2>"$scratch/whole.err" || fail "exit $?"
last=$(tail -n 1 "$scratch/whole.out")
[[ $last =~ ^demo:\ ok\ records=[1-9][0-9]*\ bytes=[1-9][0-9]*\ replayed=[1-9][0-9]*\ gaps=0\ lost=0\ torn=0$ ]] ||
  fail "last line: $last"
grep -q stopped "$scratch/whole.out" || fail "the table never showed the slow consumer stopped"
silent "$scratch/whole.err" || fail "it succeeded and wrote to standard error"
expect_clean "a demo that succeeded"

# The same as JSON, and nothing else on standard output.
"$SPILLWAY" demo --seconds 3 --json >"$scratch/json.out" 2>"$scratch/json.err" || fail "--json: exit $?"
[ "$(wc -l <"$scratch/json.out")" = 1 ] || fail "--json printed more than one line"
grep -qE '^\{.*"ok":true.*\}$' "$scratch/json.out" || fail "--json did not print an object that says ok"
expect_clean "a demo with --json"

# Whoever reads the table goes away: success, at once.
"$SPILLWAY" demo --seconds 60 2>"$scratch/pipe.err" | head -n 1 >"$scratch/pipe.out" || fail "closed pipe: exit $?"
silent "$scratch/pipe.err" || fail "a closed pipe is no reason to complain"
expect_clean "a demo whose output was closed"

# Interrupted.
start_demo interrupted
kill -INT "$demo_pid"
status=0
wait "$demo_pid" || status=$?
demo_pid=
[ $status = 4 ] || fail "interrupted: exit $status instead of 4"
grep -q interrupted "$scratch/interrupted.err" || fail "an interrupted demo did not say so"
expect_clean "an interrupted demo"

# Killed outright, so that it can clear up nothing itself: its processes die, and the next demo removes its files.
start_demo killed
children=$(cat "/proc/$demo_pid/task/$demo_pid/children")
[ "$(wc -w <<<"$children")" = 5 ] || fail "the scene: a demo has five processes, not: $children"
kill -9 "$demo_pid"
wait "$demo_pid" 2>/dev/null || true
demo_pid=
gone() {
  local child
  for child in $children; do
    # A zombie that nobody has reaped yet is dead too.
    [ ! -e "/proc/$child" ] || grep -q '^State:.Z' "/proc/$child/status" 2>/dev/null || return 1
  done
}
await gone
[ -n "$(leftovers)" ] || fail "the scene: a killed demo should have left its directories"
"$SPILLWAY" demo --seconds 3 --json >"$scratch/next.out" 2>"$scratch/next.err" || fail "after a killed one: exit $?"
expect_clean "a demo after a killed one"

# Too short to show anything: refused.
if "$SPILLWAY" demo --seconds 1 >"$scratch/short.out" 2>"$scratch/short.err"; then fail "--seconds 1 was taken"; fi
echo "demo: everything as promised"
