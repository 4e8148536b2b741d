# What the end-to-end tests share. Sourced, with $SPILLWAY naming the command. Gives each test directories of its own, which
# are removed at the end together with the processes it started.
set -uo pipefail

: "${SPILLWAY:?names the spillway command}"
script=$(realpath "$0")
work=$(mktemp -d "${TMPDIR:-/tmp}/spillway-test-XXXXXX")
rings=$(mktemp -d /dev/shm/spillway-test-XXXXXX) || { echo "skipped: there is no /dev/shm to write to" && exit 77; }
export SPILLWAY_DATA=$work/data SPILLWAY_SHM=$rings/shm
cd "$work" || exit 1

started=()
clean_up() {
  local pid
  for pid in "${started[@]}"; do kill -CONT "$pid" 2>/dev/null && kill -KILL "$pid" 2>/dev/null; done
  wait 2>/dev/null
  awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r -n 1 umount --lazy
  cd / && rm -rf "$work" "$rings"
}
trap clean_up EXIT

# The command; where a test does not say how long pub may make no progress, longer than any disk stalls: here 10 s were too short.
spillway() {
  case "${1-} $*" in
    *--deadline*) ;;
    pub\ *) set -- pub --deadline 120 "${@:2}" ;;
  esac
  "$SPILLWAY" "$@"
}

# Where the kernel, or this user's rights, have no such thing as the test is about.
skip() {
  echo "skipped: $1"
  exit 77
}

# own_namespaces FLAGS...: the script begins anew in namespaces of its own, as unshare makes them with these flags, and goes on
# from here there: its mounts are seen by nobody else and end with it. Who is not root becomes it in a user namespace.
own_namespaces() {
  [ -z "${SPILLWAY_TEST_INSIDE-}" ] || return 0
  local as_root
  for as_root in "" --map-root-user; do
    # shellcheck disable=SC2086
    unshare $as_root "$@" true 2>/dev/null || continue
    clean_up
    # shellcheck disable=SC2086
    exec env SPILLWAY_TEST_INSIDE=1 unshare $as_root "$@" bash "$script"
  done
  skip "this user can't have namespaces of its own ($(unshare --map-root-user "$@" true 2>&1))"
}

# Where the command runs in an environment of the test's: SPILLWAY becomes a program that runs WORDS... before it.
run_behind() {
  printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$*" "$SPILLWAY" >"$work/behind"
  chmod 755 "$work/behind"
  SPILLWAY=$work/behind
}

fail() {
  echo "FAILED at line ${BASH_LINENO[${2-0}]}: $1" >&2
  for file in out err; do
    [ ! -s "$work/$file" ] || { echo "--- $file" && head -c 2000 "$work/$file"; } >&2
  done
  exit 1
}

# expect CODE COMMAND...: runs it with standard output in `out` and standard error in `err`. Standard input is the caller's.
# A code that is not 0 must come with a message.
expect() {
  local code=$1 got
  shift
  "$@" >out 2>err
  got=$?
  [ "$got" -eq "$code" ] || fail "$* exited $got instead of $code" 1
  [ "$code" -eq 0 ] || [ -s err ] || fail "$* exited $code without a message" 1
}
# The last command's standard error must hold the pattern.
says() { grep -qE -- "$1" err || fail "standard error does not say '$1'" 1; }
# Nothing was written to the file. What the leak check of a sanitized process says of threads that end while it looks (io_uring's,
# say) is no word of ours.
silent() { ! grep -qv '^==[0-9]*==Unable to get registers from thread' "$1" || fail "$1 has: $(head -n 3 "$1")" 1; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ" 1; }
equal() { [ "$1" = "$2" ] || fail "'$1' is not '$2'" 1; }

# in_background NAME ARGUMENTS...: starts the command with output in NAME.out and NAME.err; its pid is $NAME. Standard input
# is the caller's.
in_background() {
  local name=$1
  shift
  : >"$name.out" # here, because the process may take its time to, and an earlier one's output must not be taken for its own
  "$SPILLWAY" "$@" <&0 >"$name.out" 2>"$name.err" &
  printf -v "$name" '%s' $!
  started+=($!)
}

# until_true COMMAND...: asks again until it succeeds; gives up after a minute.
until_true() {
  local tries
  for ((tries = 0; tries < 1200; ++tries)); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.05 # sleep-ok: between two looks at a state that is waited for
  done
  fail "'$*' did not become true" 1
}

# ends_with CODE PID: the process ends by itself, with this code.
ends_with() {
  wait "$2"
  local got=$?
  [ "$got" -eq "$1" ] || fail "process $2 exited $got instead of $1" 1
}

has_lines() { [ "$(wc -l <"$2")" -ge "$1" ]; }

# values NAME: of every "NAME" in the JSON on standard input (as --json prints it), one a line, without quotes.
values() { grep -E '^ *"('"$1"')": ' | sed -E 's/^[^:]*: "?//; s/"?,?$//'; }

# stat_of TOPIC NAME: the first such value that stat shows of a topic.
stat_of() { spillway stat "$1" --json | values "$2" | head -n 1; }
stat_is() { [ "$(stat_of "$1" "$2")" = "$3" ]; }
# uses TOPIC PID: the process is in one of the topic's slots.
uses() { spillway stat "$1" --json | grep -q "\"pid\": $2,"; }

# records COUNT: lines of many lengths, empty ones too, that differ from each other; any byte but the newline occurs.
records() {
  LC_ALL=C awk -v count="$1" 'BEGIN {
    for (i = 1; i < 256; ++i) if (i != 10) bytes = bytes sprintf("%c", i)
    for (i = 0; i < count; ++i) print i % 97 ? i substr(bytes, i % 180 + 1, i * 7 % 73) : ""
  }'
}

# the_job TOPIC FILE: the whole of what Spillway is for, on a topic that exists, whose ring FILE is larger than. A daemon
# persists it, one consumer reads live, another is stopped until it was lapped and then replays from disk; each gets every
# byte of FILE, and so does who reads the disk afterwards. Another command to write with may be named in $WRITER.
the_job() {
  local topic=$1 file=$2 lines ring
  lines=$(wc -l <"$file")
  ring=$(stat_of "$topic" capacity)
  [ "$(stat -c %s "$file")" -gt $((2 * ring)) ] || fail "$file would not lap the ring" 1
  in_background daemon persist "$topic"
  until_true grep -qx ready daemon.out
  in_background live sub "$topic" --count "$lines" </dev/null
  in_background slow sub "$topic" --count "$lines" </dev/null
  until_true uses "$topic" "$live"
  until_true uses "$topic" "$slow"
  kill -STOP "$slow"
  expect 0 "${WRITER:-$SPILLWAY}" pub "$topic" --no-persist --ack durable --deadline 120 <"$file"
  ends_with 0 "$live"
  same live.out "$file"
  [ "$(spillway stat "$topic" --json | values lag_bytes | sort -n | tail -n 1)" -gt "$ring" ] ||
    fail "the stopped consumer was not lapped" 1
  kill -CONT "$slow"
  ends_with 0 "$slow"
  same slow.out "$file"
  stat_is "$topic" pid "$daemon" || fail "the daemon did not persist it" 1
  job_path=$(stat_of "$topic" path)
  kill -TERM "$daemon"
  ends_with 0 "$daemon"
  expect 0 spillway sub "$topic" --from earliest --until-end
  same out "$file"
  expect 0 spillway verify "$topic"
}
