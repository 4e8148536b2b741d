#!/usr/bin/env bash
# Full disks, no permission, io_uring refused, little memlock, no way forward: a message and exit 4, nothing lost.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

# No progress within the deadline: the cause is said.
expect 0 spillway create t --ring 64KiB --segment 64KiB
expect 4 spillway pub t --no-persist --deadline 0.5 < <(seq 100000)
says 'no progress' && says 'nobody writes it to disk'
# What was appended is not lost: whoever writes next brings it to disk.
expect 0 spillway pub t </dev/null
expect 0 spillway sub t --from earliest --until-end
seq "$(wc -l <out)" | cmp -s - out || fail "what had been appended is not all there"
[ -s out ] || fail "nothing had been appended"
# The deadline counts while the input is open and idle, too.
expect 0 spillway create i --ring 64KiB --segment 64KiB
for offsets in "" --offsets; do
  mkfifo idle && exec 3<>idle
  # shellcheck disable=SC2086
  in_background waiting pub i $offsets --no-persist --deadline 0.5 <idle
  echo x >&3
  ends_with 4 "$waiting"
  grep -q 'no progress acknowledging' waiting.err || fail "the cause is not said"
  exec 3>&- && rm idle
done
expect 2 spillway pub t --deadline nan </dev/null
expect 2 spillway pub t --deadline inf </dev/null
expect 2 spillway pub t --deadline -1 </dev/null
expect 2 spillway pub t --deadline soon </dev/null

# A gating consumer that is stopped holds producers up, is named, and is void once it is dead.
expect 0 spillway create g --ephemeral --ring 64KiB
expect 0 spillway pub g <<<first
in_background gate sub g --gating
until_true uses g "$gate"
kill -STOP "$gate"
expect 4 spillway pub g --deadline 0.5 < <(seq 100000)
says 'gating' && says "$gate"
expect 0 spillway doctor
grep -q "kill -CONT $gate" out || fail "doctor has no cure for the gate"
# Large records, which stop while there is room for smaller ones.
expect 0 spillway create large --ephemeral --ring 64KiB
in_background other sub large --gating
until_true uses large "$other"
kill -STOP "$other"
expect 4 spillway pub large --deadline 0.5 < <(yes "$(head -c 15000 /dev/zero | tr '\0' x)" | head -n 10)
says "gating consumer .pid $other, which is paused"
expect 0 spillway stat large
grep -q "HELD UP .*consumer pid $other PAUSED" out || fail "stat does not name the gate"
expect 0 spillway doctor
grep -q "cure: .*kill -CONT $other" out || fail "doctor has no cure for the gate of large records"
kill -KILL "$gate"
wait "$gate" 2>/dev/null
expect 0 spillway pub g < <(seq 100000)
# One that comes before the ring does gate from the first record on, although it was stopped before the producer came.
expect 0 spillway create early --ephemeral --ring 64KiB
in_background gate sub early --gating
until_true uses early "$gate"
kill -STOP "$gate"
expect 4 spillway pub early --deadline 0.5 < <(seq 100000)
says 'gating' && says "$gate"
kill -CONT "$gate"
expect 0 spillway pub early <<<last
until_true grep -qx last gate.out
equal "$(head -n 1 gate.out)" 1
silent gate.err # of a gap, say
kill -TERM "$gate"
ends_with 0 "$gate"

# The other way of writing to disk.
expect 0 env SPILLWAY_IO=pwrite "$SPILLWAY" pub t --ack durable --deadline 120 < <(seq 1000)
expect 0 spillway verify t
expect 0 bash -c 'ulimit -l 64 && exec "$SPILLWAY" pub t --ack durable --deadline 120' < <(seq 1000)

# A limit of file sizes that is smaller than a segment is an error with its cause and its cure, and ends nobody by a signal.
expect 0 spillway create limited --ring 64KiB --segment 256KiB
expect 4 bash -c 'ulimit -f 128 && exec "$SPILLWAY" pub limited --deadline 1' <<<x
says 'File too large' && says 'ulimit -f'
expect 0 spillway pub limited <<<y
expect 0 spillway sub limited --from earliest --until-end
equal "$(xargs <out)" "x y"
"$SPILLWAY" sub t --from earliest --until-end >large 2>err
[ "$(stat -c %s large)" -gt 2048 ] || fail "the log is too short for this test"
bash -c 'ulimit -f 1 && exec "$SPILLWAY" sub t --from earliest --until-end >limited' 2>err
equal $? 4
says "can't write to standard output: File too large"

# A full /dev/shm and a full disk, each a small file system of its own.
mkdir small
if mount -t tmpfs -o size=1m none small 2>/dev/null; then
  expect 0 spillway create s --shm "$work/small/shm" --data "$work/d" --ring 16MiB
  expect 4 spillway pub s --shm "$work/small/shm" --data "$work/d" <<<x
  says 'small'
  expect 0 spillway doctor --shm /dev/shm/none --data "$work/d"
  expect 4 spillway doctor --shm "$work/small/shm" --data "$work/d"
  umount small
  mount -t tmpfs -o size=1m none small
  expect 0 spillway create f --data "$work/small/data" --ring 64KiB --segment 128KiB
  expect 4 spillway pub f --data "$work/small/data" --deadline 1 < <(seq 1000000)
  says 'full'
  expect 0 spillway sub f --data "$work/small/data" --from earliest --until-end
  cp out before
  mount -o remount,size=64m small
  expect 0 spillway pub f --data "$work/small/data" <<<after
  expect 0 spillway sub f --data "$work/small/data" --from earliest --until-end
  { cat before && echo after; } | cmp -s - out || fail "the log is not what was acknowledged"
  umount small
fi

# Another user's directories, if we can be another user.
if [ "$(id -u)" -eq 0 ] && setpriv --reuid 65534 --regid 65534 --clear-groups true 2>/dev/null; then
  chmod 755 "$work" "$rings"
  nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$SPILLWAY" "$@"; }
  expect 4 nobody pub t <<<x
  says 'ermission|belongs to'
  expect 4 nobody create mine
  expect 4 nobody sub t --from earliest --until-end
fi
