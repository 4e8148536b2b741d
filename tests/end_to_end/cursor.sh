#!/usr/bin/env bash
# Cursors: begin at earliest, go on where they stopped, never skip what was not written out, and have one owner at a time.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

expect 0 spillway create t --partitions 3 --ring 64KiB --segment 64KiB
seq 1 1000 >first
expect 0 spillway pub t <first
expect 0 spillway sub t --cursor c --count 400
cp out seen
expect 0 spillway sub t --cursor c --until-end
cat out >>seen
sort -n seen >sorted && same sorted first
expect 0 spillway sub t --cursor c --until-end
equal "$(cat out)" ""

# What is added while --until-end runs belongs to the next one: nothing twice, nothing missing.
for round in 1 2 3 4 5; do
  seq $((round * 1000 + 1)) $((round * 1000 + 1000)) >>first
  "$SPILLWAY" pub t --deadline 120 < <(seq $((round * 1000 + 1)) $((round * 1000 + 1000))) &
  expect 0 spillway sub t --cursor c --until-end
  cat out >>seen
  wait $!
done
expect 0 spillway sub t --cursor c --until-end
cat out >>seen
sort -n seen >sorted && same sorted first

# One owner at a time, who is named.
in_background owner sub t --cursor c
until_true uses t "$owner"
expect 2 spillway sub t --cursor c --until-end
says "$owner"
# Killed: what it wrote out and had not acknowledged comes again, but nothing is missing.
expect 0 spillway pub t < <(seq 1000000 1000100)
until_true has_lines 101 owner.out
kill -KILL "$owner"
wait "$owner" 2>/dev/null
expect 0 spillway sub t --cursor c --until-end
cat owner.out out | sort -nu >seen
seq 1000000 1000100 >expected && same seen expected

# SIGTERM saves it.
in_background owner sub t --cursor c
expect 0 spillway pub t < <(seq 5)
until_true has_lines 5 owner.out
kill -TERM "$owner"
ends_with 0 "$owner"
expect 0 spillway sub t --cursor c --until-end
equal "$(cat out)" ""

expect 2 spillway sub t --cursor c --from earliest
expect 2 spillway sub t --cursor c --partition 1
expect 2 spillway sub t --cursor ''
expect 2 spillway sub t --cursor ../c --until-end
expect 2 spillway sub t --cursor a/b --until-end
expect 0 spillway create e --ephemeral
expect 2 spillway sub e --cursor c --until-end
