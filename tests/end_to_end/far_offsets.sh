#!/usr/bin/env bash
# Offsets across 2^31, 2^32 (4 GiB) and far beyond: written, read live, replayed, sought and recovered there as anywhere.
# Method: a topic whose horizon says that so many bytes have come and gone begins a little before the boundary (begin_at), so that
# the whole job runs across it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

begin_at=${SPILLWAY_TEST_PROGRAMS:?names the directory of the tests\' programs}/begin_at
records 15000 >input
for power in 31 32 40 61; do
  boundary=$((1 << power))
  topic=across$power
  expect 0 spillway create $topic --ring 64KiB --segment 64KiB
  expect 0 "$begin_at" $topic $((boundary - 4 * 65536))
  the_job $topic input
  [ "$(stat_of $topic begin)" -lt $boundary ] && [ "$(stat_of $topic committed_end)" -gt $boundary ] ||
    fail "the log does not lie across $boundary"
  # Each record is found again at its own offset, in the ring and on the disk, those beside the boundary, too.
  expect 0 spillway sub $topic --from earliest --until-end --offsets
  cp out numbered
  # Compared as text, because awk counts in doubles; they have as many digits as each other.
  awk -v boundary=$boundary '{ at = $2 "" } at < boundary "" { before = at } at >= boundary "" { print before; print at; exit }' \
    numbered >beside
  equal "$(wc -l <beside)" 2
  while read -r offset; do
    expect 0 spillway sub $topic --from "$offset" --until-end --offsets
    awk -v offset="$offset" '$2 "" == offset "" { from = 1 } from' numbered | cmp -s - out || fail "a seek to $offset finds something else"
  done <beside
  expect 0 spillway sub $topic --from $boundary --count 1 --offsets
  equal "$(cut -f 1 out | cut -d ' ' -f 2)" "$(tail -n 1 beside)"
  # The ring goes: the log ends where it ended, and goes on behind.
  rm -r "$SPILLWAY_SHM/$topic"
  expect 0 spillway pub $topic --ack durable <<<more
  expect 0 spillway sub $topic --from earliest --until-end
  { cat input && echo more; } | cmp -s - out || fail "the log is not what was published"
  expect 0 spillway verify $topic
  expect 0 spillway delete $topic --yes
done

# The end of all offsets, 2^62: refused with the reason, and what is there stays readable.
expect 0 spillway create last --ring 64KiB --segment 64KiB
expect 0 "$begin_at" last $(((1 << 62) - 65536))
expect 4 spillway pub last <<<x
says 'used up its offsets'
