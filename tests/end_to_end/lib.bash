# What the end-to-end tests share. Sourced, with $SPILLWAY naming the command. Gives each test directories of its own, which
# are removed at the end together with the processes it started.
set -uo pipefail

: "${SPILLWAY:?names the spillway command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/spillway-test-XXXXXX")
rings=$(mktemp -d /dev/shm/spillway-test-XXXXXX) || exit 77
export SPILLWAY_DATA=$work/data SPILLWAY_SHM=$rings/shm
cd "$work" || exit 1

started=()
clean_up() {
  local pid
  for pid in "${started[@]}"; do kill -CONT "$pid" 2>/dev/null && kill -KILL "$pid" 2>/dev/null; done
  wait 2>/dev/null
  umount "$work"/small 2>/dev/null
  cd / && rm -rf "$work" "$rings"
}
trap clean_up EXIT

spillway() { "$SPILLWAY" "$@"; }

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
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ" 1; }
equal() { [ "$1" = "$2" ] || fail "'$1' is not '$2'" 1; }

# in_background NAME ARGUMENTS...: starts the command with output in NAME.out and NAME.err; its pid is $NAME. Standard input
# is the caller's.
in_background() {
  local name=$1
  shift
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
