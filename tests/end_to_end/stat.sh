#!/usr/bin/env bash
# stat: watermarks, who uses a topic, who holds it up, who persists it. It only looks.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

expect 0 spillway stat
expect 0 spillway stat --json
expect 2 spillway stat nothing
expect 0 spillway create t --ring 64KiB --segment 64KiB
expect 0 spillway stat t
[ ! -e "$SPILLWAY_SHM/t/0.ring" ] || fail "stat made a ring"

expect 0 spillway pub t --ack durable < <(seq 1000)
everything() { find "$SPILLWAY_DATA" "$SPILLWAY_SHM" -type f -exec cksum {} + | sort; }
everything >before
expect 0 spillway stat t --json
for name in retained_begin durable_end written_end committed_end reserved_end horizon; do
  [ -n "$(values $name <out)" ] || fail "there is no $name"
done
equal "$(values committed_end <out)" "$(values durable_end <out)"
equal "$(values held <out | tail -n 1)" null
expect 0 spillway stat
expect 0 spillway verify t
expect 0 spillway doctor
expect 0 spillway list
expect 0 spillway describe t
expect 2 spillway clean
everything >after && same before after

# Who uses it: by pid, with how far behind.
mkfifo in && exec 3<>in
in_background writer pub t <in
in_background reader sub t
until_true uses t "$writer"
until_true uses t "$reader"
expect 0 spillway stat t
grep -q "producer .*pid $writer, shared" out || fail "the producer is not shown"
grep -q "consumer .*pid $reader, live" out || fail "the consumer is not shown"
grep -q "persister .*pid $writer" out || fail "the persister is not shown"

# A paused persister is named; a paused consumer holds nobody up.
kill -STOP "$writer"
until_true stat_is t paused true
expect 0 spillway stat t
grep -q "process pid $writer PAUSED" out || fail "the paused persister is not named"
expect 0 spillway doctor
grep -q "kill -CONT $writer" out || fail "doctor has no cure for the paused persister"
kill -CONT "$writer"
kill -TERM "$writer" "$reader"
ends_with 0 "$writer"
ends_with 0 "$reader"

# With no ring it shows what is on disk.
rm -r "$SPILLWAY_SHM"
expect 0 spillway stat t --json
equal "$(values ring <out)" false
[ "$(values committed_end <out)" -gt 0 ] || fail "there is nothing on disk"
[ ! -e "$SPILLWAY_SHM" ] || fail "stat made a directory"

# A ring that was deleted under a living writer: opening is refused, and stat and doctor show why.
expect 0 spillway create deleted --ring 64KiB --segment 64KiB
in_background writer pub deleted <in
until_true uses deleted "$writer"
rm "$SPILLWAY_SHM/deleted/0.ring"
expect 2 spillway pub deleted <<<x
says 'not .*/deleted/0.ring'
expect 0 spillway stat deleted
grep -q 'RING ELSEWHERE' out || fail "stat does not show that the ring was deleted under a writer"
expect 0 spillway stat deleted --json
equal "$(values ring_elsewhere <out)" true
expect 4 spillway doctor
says 'deleted under them' && grep -q 'cure: .*stop them' out || fail "doctor has no cure"
kill -TERM "$writer"
wait "$writer"
expect 0 spillway delete deleted --yes

# --watch goes on until a signal; a closed pipe ends it.
in_background watcher stat --watch --json
until_true has_lines 2 watcher.out
kill -INT "$watcher"
ends_with 0 "$watcher"
"$SPILLWAY" stat t --watch 2>err | head -n 1 >/dev/null
equal "${PIPESTATUS[0]}" 0

# A damaged topic doesn't hide the others.
expect 0 spillway create broken
echo garbage >"$SPILLWAY_DATA/broken/topic.json"
expect 1 spillway stat
grep -q '^t ' out || fail "the other topic is not shown"
expect 1 spillway describe broken
expect 1 spillway pub broken <<<x
