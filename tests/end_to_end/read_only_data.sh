#!/usr/bin/env bash
# A data directory that can't be written to: everything is read, live and from the disk, nothing is written, and each refusal
# says so. One that becomes so under a persister: a visible state, nothing lost, and it goes on by itself.
# Method: a bind mount that is read-only, first beside a domain that lives, then without a ring; then modes, for a user without
# root's right to write whatever they say.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"
own_namespaces --mount

records 15000 >input
lines=$(wc -l <input)
expect 0 spillway create t --ring 64KiB --segment 64KiB
mkdir view
mount --bind data view 2>err || skip "can't mount: $(cat err)"
mount -o remount,bind,ro view 2>err || skip "can't mount read-only: $(cat err)"
reading() { "$SPILLWAY" "$@" --data "$work/view"; }

# The domain lives: a writer with the directory, consumers with the read-only view of it, on the same rings.
in_background daemon persist
until_true grep -qx ready daemon.out
in_background live sub t --data "$work/view" --from earliest --count "$lines" </dev/null
in_background slow sub t --data "$work/view" --from earliest --count "$lines" </dev/null
for pid in "$live" "$slow"; do until_true grep -q '/t/0.ring$' "/proc/$pid/maps"; done
kill -STOP "$slow"
expect 0 spillway pub t --no-persist --ack durable <input
ends_with 0 "$live"
same live.out input
kill -CONT "$slow"
ends_with 0 "$slow"
same slow.out input
expect 0 reading stat t
expect 0 reading sub t --from earliest --until-end --read-up-to durable
same out input
# Who would write is refused, whatever it is, and the writer beside it notices nothing.
refused() {
  expect 4 reading "$@" <<<x
  says 'ead-only' && says "$work/view" && says 'choose another'
}
refused create more
refused pub t
refused pub t --exclusive --no-persist
refused persist t
refused sub t --cursor mine
expect 0 spillway pub t --no-persist --ack durable <<<more
kill -TERM "$daemon"
ends_with 0 "$daemon"
expect 4 reading doctor
grep -A 2 '^prevents *segments' out | grep -q "cause: .*can't be written" || fail "doctor does not name the cause"
grep -A 2 '^prevents *segments' out | grep -q 'cure: ' || fail "doctor has no cure"

# Without a ring, as after a reboot.
rm -r "$SPILLWAY_SHM"
{ cat input && echo more; } >all
find data -type f -exec cksum {} + | sort >before
for command in "sub t --from earliest --until-end" "verify t" "stat t" "describe t" "list"; do
  # shellcheck disable=SC2086
  expect 0 reading $command
  [ "$command" != "sub t --from earliest --until-end" ] || same out all
done
refused pub t
refused delete t --yes
[ ! -e "$SPILLWAY_SHM/t/0.ring" ] || fail "a ring was made whose log can't be written"
find data -type f -exec cksum {} + | sort >after
same before after
expect 0 spillway pub t <<<"and again"

# Modes taken away while somebody persists: what can't be written stays in the ring, and the producer is told why.
if [ "$(id -u)" -eq 0 ]; then
  # Root without its rights is stopped by modes as everybody is.
  unprivileged="setpriv --inh-caps=-all --bounding-set=-all"
  $unprivileged true 2>err || fail "can't give up rights"
  run_behind "$unprivileged"
fi
expect 0 spillway create u --ring 64KiB --segment 64KiB
in_background daemon persist
until_true grep -qx ready daemon.out
expect 0 spillway pub u --no-persist --ack durable <<<first
chmod a-w "$SPILLWAY_DATA/u/0"
expect 4 spillway pub u --no-persist --deadline 0.5 <input
says 'no progress' && says 'ermission|error'
until_true stat_is u state io_error
spillway stat u --json | values error_text | grep -q 'ermission' || fail "stat does not name the cause"
chmod u+w "$SPILLWAY_DATA/u/0"
until_true stat_is u state working
expect 0 spillway pub u --no-persist --ack durable <<<last
expect 0 spillway sub u --from earliest --until-end
appended=$(($(wc -l <out) - 2))
{ echo first && head -n $appended input && echo last; } | cmp -s - out || fail "the log is not what was appended"
kill -TERM "$daemon"
ends_with 0 "$daemon"
