#!/usr/bin/env bash
# Other pid namespaces on the same directories, as of containers: pids collide there, so nothing may be decided by them.
# Method: every process is pid 1 of a namespace of its own, so that all slots hold the same number, and a live process of that
# number is always there, whoever was killed. Each kind is killed in turn, and another takes over.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

alone="unshare --pid --fork --mount-proc --kill-child"
$alone true 2>/dev/null || alone="unshare --map-root-user --pid --fork --mount-proc --kill-child"
$alone true 2>err || skip "this user can't have a pid namespace: $(cat err)"
# alone NAME ARGUMENTS...: as in_background, in a namespace of its own; $NAME is its pid here. Killing $NAME_keeper kills it.
alone() {
  local name=$1 keeper status
  shift
  : >"$name.out"
  $alone "$SPILLWAY" "$@" <&0 >"$name.out" 2>"$name.err" &
  keeper=$!
  started+=("$keeper")
  until_true child_of "$keeper"
  status=$(child_of "$keeper")
  printf -v "$name" '%s' "$(basename "$(dirname "$status")")"
  printf -v "${name}_keeper" '%s' "$keeper"
}
child_of() { grep -slE "^PPid:[[:space:]]$1\$" /proc/[0-9]*/status; }
# What it is called where it lives is the last of its numbers.
is_pid_one() { equal "$(sed -n 's/^NSpid:.*[[:space:]]//p' "/proc/$1/status")" 1; }
killed() { # NAME
  local pid=$1 keeper=${1}_keeper
  kill -KILL "${!pid}"
  wait "${!keeper}" 2>/dev/null # bash tells of the killed
}
persisted_by_one() { stat_is t held true && stat_is t pid 1; }

records 15000 >input
lines=$(wc -l <input)
expect 0 spillway create t --ring 64KiB --segment 64KiB
# Two persisters and three consumers, all pid 1. One consumer is stopped, and lapped.
alone first persist t </dev/null
until_true grep -qx ready first.out
is_pid_one "$first"
alone second persist t </dev/null
alone live sub t --from earliest --count "$lines" </dev/null
alone slow sub t --from earliest --count $((2 * lines)) </dev/null
alone placed sub t --cursor place --count 5000 </dev/null
for pid in "$live" "$slow"; do until_true grep -q '/t/0.ring$' "/proc/$pid/maps"; done
kill -STOP "$slow"
expect 0 spillway pub t --no-persist --ack durable --deadline 120 <input
ends_with 0 "$live_keeper"
same live.out input
ends_with 0 "$placed_keeper"
head -n 5000 input | cmp -s - placed.out || fail "the consumer with a cursor got something else"
persisted_by_one || fail "the persister is not the one in its namespace"

# The persister is killed: the other pid 1 takes over, and the first one's number, which lives, does not matter.
killed first
until_true grep -qx ready second.out
expect 0 $alone "$SPILLWAY" pub t --no-persist --ack durable --deadline 120 <input
persisted_by_one || fail "nobody took over"
kill -CONT "$slow"
ends_with 0 "$slow_keeper"
cat input input | cmp -s - slow.out || fail "the lapped consumer got something else"

# An exclusive producer is known by its lock: refused beside it, here and there; free once it is killed.
mkfifo in && exec 3<>in
alone exclusive pub t --exclusive --no-persist --ack committed <in
echo open >&3
until_true stat_is t mode exclusive
expect 2 spillway pub t --exclusive --no-persist <<<x
says 'pid 1'
expect 2 $alone "$SPILLWAY" pub t --exclusive --no-persist <<<x
killed exclusive
exec 3>&-
expect 0 $alone "$SPILLWAY" pub t --exclusive --no-persist --ack durable --deadline 120 <<<mine

# A cursor has one owner, in whatever namespace, until that is killed.
mkfifo stuck && exec 4<>stuck
$alone "$SPILLWAY" sub t --cursor place >stuck 2>err &
keeper=$!
started+=("$keeper")
until_true child_of "$keeper"
place_taken() { ! "$SPILLWAY" sub t --cursor place --count 0; }
until_true place_taken
expect 2 spillway sub t --cursor place --count 1
says 'in use'
kill -KILL "$keeper"
wait "$keeper" 2>/dev/null
exec 4<&-
until_true spillway sub t --cursor place --count 0
expect 0 $alone "$SPILLWAY" sub t --cursor place --until-end
{ tail -n +5001 input && cat input && echo open && echo mine; } | cmp -s - out || fail "the cursor does not go on"

# Who lives in another namespace is not cleaned up or deleted under; once all are dead the log is whole, and the last one to
# leave has left no gap.
expect 0 spillway clean --yes
equal "$(cat out)" ""
expect 2 spillway delete t --yes
says 'pid 1'
kill -TERM "$second"
ends_with 0 "$second_keeper"
expect 0 spillway verify t
rm -r "$SPILLWAY_SHM"
expect 0 $alone "$SPILLWAY" sub t --from earliest --until-end
{ cat input input && echo open && echo mine; } | cmp -s - out || fail "the log is not what was published"
