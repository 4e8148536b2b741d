#!/usr/bin/env bash
# clean: removes what the dead left, never what the living use, and writes to disk what is nowhere else.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

expect 0 spillway clean
expect 0 spillway clean --yes
expect 0 spillway create t --ring 64KiB --segment 64KiB
expect 0 spillway create e --ephemeral --ring 64KiB
expect 0 spillway pub e <<<kept

# Committed and not written: it is written before its ring goes.
expect 0 spillway pub t --no-persist --ack committed < <(seq 1000)
stat_is t written_end 0 || fail "somebody has written it already"
expect 2 spillway clean
says '--yes'
grep -q "persist and remove .* of topic t" out || fail "the plan does not show the ring"
grep -q "keep: .*/e/0.ring" out || fail "the ephemeral ring is not kept"
[ -e "$SPILLWAY_SHM/t/0.ring" ] || fail "a plan removed a ring"
expect 0 spillway clean --yes
[ ! -e "$SPILLWAY_SHM/t/0.ring" ] || fail "the ring is still there"
[ -e "$SPILLWAY_SHM/e/0.ring" ] || fail "records that are nowhere else were removed"
expect 0 spillway sub t --from earliest --until-end
seq 1000 | cmp -s - out || fail "committed records are gone"
expect 0 spillway verify t
expect 0 spillway clean

# Not while somebody writes, reads, or persists.
mkfifo in && exec 3<>in
in_background writer pub t --no-persist --ack committed <in
echo 1001 >&3
until_true uses t "$writer"
expect 0 spillway clean --yes
[ -e "$SPILLWAY_SHM/t/0.ring" ] || fail "a ring with a live writer was removed"
in_background reader sub t
until_true uses t "$reader"
kill -KILL "$writer"
wait "$writer" 2>/dev/null
expect 0 spillway clean --yes
grep -q 'keep: .*live consumers' out || fail "the consumer is not named"
[ -e "$SPILLWAY_SHM/t/0.ring" ] || fail "a ring with a live reader was removed"
kill -TERM "$reader"
ends_with 0 "$reader"
expect 0 spillway clean --yes
[ ! -e "$SPILLWAY_SHM/t/0.ring" ] || fail "the ring is still there"
expect 0 spillway sub t --from earliest --until-end
equal "$(tail -n 1 out)" 1001

# A ring without which the log went on: refused by name, and out of the way afterwards, its bytes kept if they are nowhere else.
expect 0 spillway pub t --no-persist --ack committed <<<1002
cp -r "$SPILLWAY_SHM/t" "$rings/copy"
rm -r "$SPILLWAY_SHM/t"
expect 0 spillway pub t <<<1003
rm -r "$SPILLWAY_SHM/t" && cp -r "$rings/copy" "$SPILLWAY_SHM/t"
expect 2 spillway pub t <<<x
says 'clean'
expect 0 spillway clean --yes
ls "$SPILLWAY_SHM/t" | grep -q '0.ring.aside-' || fail "a ring with unwritten bytes was not kept"
expect 0 spillway pub t <<<1004
expect 0 spillway sub t --from earliest --until-end --on-gap report
equal "$(tail -n 2 out)" $'1003\n1004'

# Files of no use, and half-made ones.
expect 0 spillway clean --yes
head -c 100000 /dev/urandom >"$SPILLWAY_SHM/t/0.ring"
expect 1 spillway pub t <<<x
says 'clean'
: >"$SPILLWAY_SHM/t/0.control.tmp-123"
: >"$SPILLWAY_DATA/t/0/making-00000000000009999999"
expect 0 spillway clean --yes
[ ! -e "$SPILLWAY_SHM/t/0.ring" ] && [ ! -e "$SPILLWAY_SHM/t/0.control.tmp-123" ] || fail "leftovers are still there"
[ ! -e "$SPILLWAY_DATA/t/0/making-00000000000009999999" ] || fail "a half-made segment is still there"
expect 0 spillway pub t <<<1005
mkdir -p "$SPILLWAY_SHM/stranger"
expect 0 spillway clean --yes
grep -q "keep: .*stranger" out || fail "a directory of no topic is not told"
[ -d "$SPILLWAY_SHM/stranger" ] || fail "a directory of no topic was removed"
