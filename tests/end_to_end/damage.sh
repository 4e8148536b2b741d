#!/usr/bin/env bash
# A truncated, zero-filled, random, huge or foreign file in the place of each file: a message, an exit code that is neither a
# crash's nor a hang's, and nothing created by who only looks.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

run() { timeout 60 "$SPILLWAY" "$@" >out 2>err </dev/null; }

# Every command ends by itself with one of the codes, and, if not 0, says why.
all_commands_survive() {
  local what=$1 code
  shift
  for command in "stat t" "describe t" "list" "verify t" "doctor" "clean" "sub t --from earliest --until-end --on-gap report" \
    "sub t --cursor c --until-end --on-gap report" "pub t --deadline 2"; do
    # shellcheck disable=SC2086
    run $command
    code=$?
    [ $code -le 4 ] || fail "with $what: spillway $command exited $code"
    [ $code -eq 0 ] || [ -s err ] || fail "with $what: spillway $command exited $code without a message"
  done
}

make_topic() {
  rm -rf "$SPILLWAY_DATA" "$SPILLWAY_SHM"
  expect 0 spillway create t --ring 64KiB --segment 64KiB
  expect 0 spillway pub t --ack durable < <(seq 30000)
  expect 0 spillway sub t --cursor c --count 100
}

truncated() { truncate -s $(($(stat -c %s "$1") / 2)) "$1"; }
emptied() { : >"$1"; }
zeroed() { head -c "$(stat -c %s "$1")" /dev/zero >zeros && cat zeros >"$1"; }
random() { head -c "$(stat -c %s "$1")" /dev/urandom >noise && cat noise >"$1"; }
huge() { truncate -s 1T "$1" 2>/dev/null || truncate -s 1G "$1"; }
a_directory() { rm "$1" && mkdir "$1"; }
a_link() { mv "$1" "$1.away" && ln -s "$1.away" "$1"; }
missing() { rm "$1"; }

make_topic
last=$(find "$SPILLWAY_DATA/t/0" -name '*.log' -printf '%f\n' | sort | tail -n 1)
first=$(find "$SPILLWAY_DATA/t/0" -name '*.log' -printf '%f\n' | sort | head -n 1)
for file in "$SPILLWAY_SHM/t/0.ring" "$SPILLWAY_SHM/t/0.control" "$SPILLWAY_SHM/t/0.consumers" "$SPILLWAY_DATA/t/topic.json" \
  "$SPILLWAY_DATA/t/0/horizon" "$SPILLWAY_DATA/t/0/$first" "$SPILLWAY_DATA/t/0/$last" "$SPILLWAY_DATA/t/cursors/c"; do
  for damage in truncated emptied zeroed random huge a_directory a_link missing; do
    [ $((RANDOM % ${SPILLWAY_TRIED_LESS:-1})) -eq 0 ] || continue
    make_topic
    [ -e "$file" ] || fail "there is no $file"
    $damage "$file"
    all_commands_survive "$damage ${file#"$work"/}"
  done
done

# A damaged header of the newest segment, which the next persister has to go on from: it is named, and not the disk blamed, and
# nobody waits for it to mend itself.
make_topic
printf 'X' | dd of="$SPILLWAY_DATA/t/0/$last" bs=1 seek=16 conv=notrunc status=none
expect 4 spillway pub t --deadline 1 <<<x
says "$last has a damaged header" && says 'spillway verify t'
expect 4 spillway clean --yes
says "$last has a damaged header"
in_background daemon persist t
until_true grep -q "failed: .*$last has a damaged header" daemon.out daemon.err
expect 0 spillway stat t
grep -q "error: .*$last has a damaged header" out || fail "stat does not name the segment"
spillway doctor >out 2>err
grep -q "cause: .*$last has a damaged header" out || fail "doctor does not name the segment"
grep -q "cure: .*spillway verify t" out || fail "doctor has no cure"
kill -TERM "$daemon"
wait "$daemon"
# The cure cures: what is in the ring goes into a new segment.
mv "$SPILLWAY_DATA/t/0/$last" away
expect 0 spillway pub t <<<cured
expect 0 spillway sub t --from earliest --until-end --on-gap report
equal "$(tail -n 1 out)" cured

# A partition's directory that is missing or empty is no empty log: who reads or writes it is told which.
for what in missing empty; do
  make_topic
  rm -r "$SPILLWAY_DATA/t/0"
  [ $what = missing ] || mkdir "$SPILLWAY_DATA/t/0"
  for command in "sub t --from earliest --until-end" "sub t --cursor c --until-end" "pub t" "persist t" "stat t" "verify t"; do
    # shellcheck disable=SC2086
    expect 1 run $command
    grep -qE "data/t/0 of partition 0 of topic t is $what" out err || fail "$command does not name the $what directory"
  done
  expect 4 run doctor
  grep -q "cause: .*data/t/0 of partition 0 of topic t is $what" out || fail "doctor does not name the $what directory"
  [ $what = empty ] || [ ! -e "$SPILLWAY_DATA/t/0" ] || fail "it was made anew"
done

# A lock file that is missing: doctor says that nobody can run so, and who needs it names it and the cure.
for lock in slots role; do
  make_topic
  rm "$SPILLWAY_DATA/t/0/lock/$lock"
  expect 4 run doctor
  grep -q "cause: .*0/lock/$lock is missing" out || fail "doctor does not name the lock file"
  grep -q 'cure: .*make it again' out || fail "doctor has no cure"
done
expect 2 run pub t
says '0/lock/role is missing' && says 'make it again'
: >"$SPILLWAY_DATA/t/0/lock/role"
expect 0 run pub t
expect 0 run doctor

# A ring that can't be used is no damage on disk: verify says that it looks without it.
make_topic
truncate -s 100 "$SPILLWAY_SHM/t/0.ring"
expect 0 spillway verify t
says '0.ring'
# A file beside the records is not told as damage of them.
echo garbage >"$SPILLWAY_DATA/t/cursors/c"
expect 1 spillway verify t
says 'beside its records' && ! grep -q 'gap `damaged`' err || fail "a cursor is told as damaged records"

# A damaged byte in the middle: verify names the range, and sub leaves out no more than that.
make_topic
expect 0 spillway sub t --from earliest --until-end
cp out whole
rm -r "$SPILLWAY_SHM"
expect 0 spillway verify t
printf 'X' | dd of="$SPILLWAY_DATA/t/0/$first" bs=1 seek=20000 conv=notrunc status=none
expect 1 spillway verify t
grep -q "^damaged partition=0 from=" out || fail "verify does not name the range"
grep -q "$first" out || fail "verify does not name the file"
expect 1 spillway verify t --json
equal "$(values sound <out)" false
[ ! -e "$SPILLWAY_SHM" ] || fail "verify made a directory"
expect 3 spillway sub t --from earliest --until-end
grep -q 'cause=damaged$' err || fail "the gap is not told"
expect 0 spillway sub t --from earliest --until-end --on-gap report
equal "$(tail -n 1 out)" 30000
equal "$(sort out | comm -23 - <(sort whole) | wc -l)" 0
[ "$(wc -l <out)" -gt 10000 ] || fail "too much was left out"
