#!/usr/bin/env bash
# A thousand topics in one domain, all persisted by one daemon: made, written to, read live, listed and stopped cleanly. What
# they take of /dev/shm and of descriptors is no more than the machine's ordinary limits give.
# Method: rings of 64 KiB, so that all of it fits into 300 MiB, and the soft limit of open files of an ordinary login, 1024.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

count=$((1000 / ${SPILLWAY_TRIED_LESS:-1})) # by sanitizers, which take their time to start a process, an eighth
ulimit -S -n 1024
# One for each processor and one more, because making a topic waits for the disk.
each() { seq "$count" | xargs -P $(($(nproc) + 1)) -I N "$@" >each.out 2>each.err; }
export SPILLWAY
each "$SPILLWAY" create topicN --ring 64KiB --segment 64KiB || fail "not all could be made: $(head -n 3 each.err)"
expect 0 spillway list
equal "$(wc -l <out)" "$count"
in_background daemon persist
until_true grep -qx ready daemon.out
silent daemon.err
# Some are read live, more than a lap.
records 15000 >input
names="1 $((count / 4)) $((count / 2)) $((count / 4 * 3)) $count"
for n in $names; do
  in_background "live$n" sub "topic$n" --from earliest --count 15001 </dev/null
  until_true grep -q "/topic$n/0.ring\$" "/proc/$!/maps"
done
# shellcheck disable=SC2016
each sh -c 'echo "record of topicN" | "$SPILLWAY" pub topicN --no-persist --ack durable --deadline 120' || fail "not all could be written: $(head -n 3 each.err)"
taken=$(du -sk "$SPILLWAY_SHM" | cut -f 1)
[ "$taken" -le $((300 * 1024)) ] || fail "the rings take $taken KiB"
for n in $names; do
  expect 0 spillway pub "topic$n" --no-persist --ack durable <input
  { echo "record of topic$n" && cat input; } >both
  pid=live$n
  ends_with 0 "${!pid}"
  same "live$n.out" both
  expect 0 spillway sub "topic$n" --from earliest --until-end
  same out both
done
expect 0 spillway stat --json
equal "$(values topic <out | sort -u | wc -l)" "$count"
equal "$(values durable_end <out | grep -cv '^0$')" "$count"
equal "$(values pid <out | sort -u)" "$daemon"
expect 0 spillway doctor
grep -q "$count, nothing held up" out || fail "doctor finds something"
kill -TERM "$daemon"
ends_with 0 "$daemon"
silent daemon.err
# Everything was written: it is there once the rings are gone.
rm -r "$SPILLWAY_SHM"
for n in $names $(seq 2 20 "$count"); do
  expect 0 spillway sub "topic$n" --from earliest --count 1
  equal "$(cat out)" "record of topic$n"
  expect 0 spillway verify "topic$n"
done
