#!/usr/bin/env bash
# Retention by age: what is too old goes, also where nobody writes any more; a cursor holds what it needs, but not against the
# limit of size. Neither a wall clock that leaps nor another time namespace makes young data old or old data young.
# Method: on a topic that keeps an hour nothing may go while, under the same persister, what one that keeps a second had goes,
# is written anew, and goes again: between the two the first was looked at.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

small="--ring 64KiB --segment 64KiB"
records 8000 >input
segments() { find "$SPILLWAY_DATA/$1/0" -name '*.log' | wc -l; }
is_short() { [ "$(segments "$1")" -eq 1 ]; }
lets_go() { until_true is_short "$1"; }
[ "$(stat -c %s input)" -gt $((4 * 64 * 1024)) ] || fail "the input fills too few segments"
# What `second` keeps goes, twice, under a daemon for all topics.
watch_second_go() {
  expect 0 spillway pub second --ack durable <input
  in_background daemon persist
  until_true grep -qx ready daemon.out
  lets_go second
  expect 0 spillway pub second --ack durable <input
  lets_go second
  kill -KILL "$daemon" # unshare passes nothing else on
  wait "$daemon" 2>/dev/null
}

# shellcheck disable=SC2086
{
  expect 0 spillway create second $small --retain-age 1
  silent err # it does not keep every record
  expect 0 spillway create hour $small --retain-age 3600
  expect 0 spillway create held $small --retain-age 1
  expect 0 spillway create sized $small --retain-age 1 --retain 128KiB
  expect 0 spillway create no_age $small
}
expect 0 spillway create second --retain-age 1
expect 0 spillway create second
expect 2 spillway create second --retain-age 2
says 'retain-age 1 \(2 was asked for\)'
expect 2 spillway create no_age --retain-age 2
expect 2 spillway create memory --ephemeral --retain-age 1
says 'ephemeral'
expect 2 spillway create bad --retain-age soon
expect 2 spillway create bad --retain-age 4294967296
equal "$(spillway describe second --json | values retain_age_s)" 1
equal "$(spillway describe no_age --json | values retain_age_s)" null
spillway describe hour | grep -qE '^retain-age +3600 s$' || fail "describe does not show the age"

# The cursors stand at the first record's end.
for topic in held sized; do
  expect 0 spillway pub $topic --ack durable <<<first
  expect 0 spillway sub $topic --cursor place --until-end
  expect 0 spillway pub $topic --ack durable <input
done
expect 0 spillway pub hour --ack durable <input
watch_second_go
begin=$(stat_of second retained_begin)
equal "$(stat_of hour retained_begin)" 0
equal "$(stat_of held retained_begin)" 0
[ "$(segments sized)" -le 2 ] || fail "a cursor holds more than the limit of size"
expect 3 spillway sub second --from 0 --until-end
equal "$(cat err)" "gap partition=0 from=0 to=$begin bytes=$begin cause=expired"
expect 0 spillway sub second --from earliest --until-end
tail -n "$(wc -l <out)" input | cmp -s - out || fail "what is retained is not the newest"
expect 3 spillway sub sized --cursor place --until-end
says 'cause=expired'
# What was acknowledged may go.
expect 0 spillway sub held --cursor place --until-end
same out input
in_background daemon persist held
lets_go held
kill -TERM "$daemon"
ends_with 0 "$daemon"
for topic in second hour held sized; do expect 0 spillway verify $topic; done

# The wall clock leaps by decades, back and forth.
own=$SPILLWAY
library=${SPILLWAY_TEST_PROGRAMS:?names the directory of the tests\' programs}/leaping_clock.so
run_behind env LD_PRELOAD="$library" ASAN_OPTIONS=verify_asan_link_order=0
expect 0 spillway pub hour --ack durable <input
watch_second_go
# Who takes the role looks at ages at once: one in four times at a clock by which an hour has passed.
for i in $(seq 30); do expect 0 spillway pub hour --ack durable <<<"$i"; done
equal "$(stat_of hour retained_begin)" 0

# Made while the clock stood two years back; then it is set right, the log goes on, and the ring is lost. Nothing is two years old.
SPILLWAY=$own
# shellcheck disable=SC2086
expect 0 spillway create early $small --retain-age 3600
run_behind env LD_PRELOAD="$library" CLOCK_OFF_BY=-63072000 ASAN_OPTIONS=verify_asan_link_order=0
expect 0 spillway pub early --ack durable <input
SPILLWAY=$own
expect 0 spillway pub early --ack durable <input
rm -r "$SPILLWAY_SHM/early"
expect 0 spillway pub early --ack durable <<<"once more"
watch_second_go
equal "$(stat_of early retained_begin)" 0
expect 0 spillway sub early --from earliest --until-end
{ cat input input && echo once more; } | cmp -s - out || fail "the log of the early clock is not whole"

# The persister's uptime is another one, by weeks.
SPILLWAY=$own
elsewhen="unshare --time --fork --kill-child --boottime"
$elsewhen 1000000 true 2>/dev/null || elsewhen="unshare --map-root-user --time --fork --kill-child --boottime"
if ! $elsewhen 1000000 true 2>err; then
  echo "left out: time namespaces ($(cat err))"
  exit 0
fi
run_behind "$elsewhen" 5000000
watch_second_go
equal "$(stat_of hour retained_begin)" 0
SPILLWAY=$own
expect 0 spillway pub hour --ack durable <<<"here again"
expect 0 spillway sub hour --from earliest --until-end
{ cat input input && seq 30 && echo here again; } | cmp -s - out || fail "the hour's log is not whole"
