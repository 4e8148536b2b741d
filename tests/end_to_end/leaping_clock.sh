#!/usr/bin/env bash
# A clock that is set back and forth, by a second and by decades, while everything runs: nothing is lost, skipped, repeated or
# stalled, no wait ends early and none lasts for ever. And containers whose monotonic time is another.
# Method: setting the machine's clock would be unkind to all else that runs on it, so the test's own library is preloaded, which
# makes the wall clock that programs read leap every 7 ms and stops who has the kernel wait by it (see leaping_clock.cpp). Times
# of files are set to the past and the future. Monotonic time is moved by time namespaces, where the kernel has them.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

library=${SPILLWAY_TEST_PROGRAMS:?names the directory of the tests\' programs}/leaping_clock.so
leaping="env LD_PRELOAD=$library ASAN_OPTIONS=verify_asan_link_order=0"
# The scene: programs see it leap.
is_another_year() { [ "$($leaping date +%Y)" != "$(date +%Y)" ]; }
until_true is_another_year

records 30000 >input
own=$SPILLWAY
# shellcheck disable=SC2086
run_behind $leaping
expect 0 spillway create t --ring 64KiB --segment 64KiB --sync-interval-ms 1
the_job t input
# Times of files decide nothing: not which segment is the newest, not what is recovered or retained.
i=0
for file in $(find "$SPILLWAY_DATA" "$SPILLWAY_SHM" -type f | sort); do
  touch -d "@$((i % 2 == 0 ? 10 + i : 4000000000 - i))" "$file"
  i=$((i + 1))
done
expect 0 spillway sub t --from earliest --until-end
same out input
expect 0 spillway sub t --cursor place --count 20000
rm -r "$SPILLWAY_SHM"
expect 0 spillway pub t --ack durable <<<"after a reboot"
expect 0 spillway sub t --cursor place --until-end
{ tail -n +20001 input && echo after a reboot; } | cmp -s - out || fail "the cursor does not go on"
expect 0 spillway verify t
# Retention counts bytes, whatever the time.
expect 0 spillway create r --ring 64KiB --segment 64KiB --retain 512KiB
expect 0 spillway pub r --ack durable <input
expect 0 spillway sub r --from earliest --until-end --on-gap report
tail -n "$(wc -l <out)" input | cmp -s - out || fail "what is retained is not the newest"
[ "$(stat -c %s out)" -gt $((256 * 1024)) ] || fail "less is retained than there is room for"
# A deadline passes, and not before its time: nobody writes to disk, so all that ends this is the deadline.
begun=$(date +%s%N)
expect 4 spillway pub t --no-persist --ack durable --deadline 1 <<<x
took_ms=$((($(date +%s%N) - begun) / 1000000))
[ $took_ms -ge 900 ] || fail "a deadline of a second passed after $took_ms ms"
says 'nobody writes it to disk'

# Each process in a time namespace of its own, weeks apart; what they share has no times in it that decide anything.
SPILLWAY=$own
elsewhen="unshare --time --fork --kill-child --monotonic"
$elsewhen 1000000 true 2>/dev/null || elsewhen="unshare --map-root-user --time --fork --kill-child --monotonic"
if ! $elsewhen 1000000 true 2>err; then
  echo "left out: time namespaces ($(cat err))"
  exit 0
fi
expect 0 spillway create w --ring 64KiB --segment 64KiB
$elsewhen 5000000 "$SPILLWAY" persist w >daemon.out 2>daemon.err &
daemon=$!
started+=("$daemon")
until_true grep -qx ready daemon.out
$elsewhen 100 "$SPILLWAY" sub w --count 30000 >live.out 2>live.err </dev/null &
live=$!
started+=("$live")
has_reader() { spillway stat w --json | grep -q '"state": "live"'; }
until_true has_reader
expect 0 $elsewhen 2500000 "$SPILLWAY" pub w --no-persist --ack durable --deadline 120 <input
ends_with 0 "$live"
same live.out input
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null
expect 0 spillway pub w --ack durable <<<"taken over"
expect 0 $elsewhen 7000000 "$SPILLWAY" sub w --from earliest --until-end
{ cat input && echo taken over; } | cmp -s - out || fail "the log is not what was published"
