#!/usr/bin/env bash
# /dev/shm of 8 MiB and of 50 MiB: what fits works, what doesn't is refused with the cause and the cure, and nobody gets a
# SIGBUS; what was there before goes on. Then the same sizes as the disk.
# Method: a tmpfs of each size, seen by this script only; topics until it is full, then the whole job on one of them.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"
own_namespaces --mount

records 15000 >input
mkdir small
SPILLWAY_SHM=$work/small/shm
free_bytes() { echo $(($(stat -f -c '%a * %S' small))); }

# fill OPTIONS...: topics with these options get a ring each until one is refused; then $refused is its name.
fill() {
  local i
  for ((i = 0; i < 100; ++i)); do
    refused=full$i
    expect 0 spillway create "$refused" "$@"
    "$SPILLWAY" pub "$refused" <<<"record of $refused" >out 2>err || break
  done
  [ "$i" -lt 100 ] || fail "a hundred rings fit into $(df -h small | tail -n 1)" 1
  expect 4 spillway pub "$refused" <<<x
  says "$work/small/shm/$refused" && says 'No space left' && says "free of" && says 'free some space'
  [ -z "$(find small -name '*.tmp-*')" ] || fail "what did not fit was left behind" 1
}

for size in 8 50; do
  mount -t tmpfs -o size=${size}m none small 2>err || skip "can't mount a tmpfs: $(cat err)"
  head -c $((size * 2 / 5))m /dev/zero >small/ballast # it goes when there is to be room again
  SPILLWAY_DATA=$work/data$size
  expect 0 spillway create first --ring 64KiB --segment 64KiB
  expect 0 spillway pub first </dev/null
  if [ $size -eq 8 ]; then
    # The default ring is larger than all there is.
    expect 0 spillway create default
    expect 4 spillway pub default <<<x
    says 'allocate 16' && says 'free of 8' && says 'smaller size'
    expect 4 spillway doctor
    grep -A 2 '^prevents *rings' out | grep -q 'cause: .*no room' || fail "doctor does not name the cause"
    grep -A 2 '^prevents *rings' out | grep -q 'cure: .*--shm-size' || fail "doctor has no cure"
    fill --ring 1MiB --segment 1MiB
  else
    expect 0 spillway doctor
    grep -A 2 '^advice *rings' out | grep -q 'cause: .*few rings' || fail "doctor does not warn"
    fill --segment 16MiB
    equal "$refused" full1
  fi
  # What has its ring has its room: the job needs nothing more of /dev/shm.
  the_job first input
  expect 0 spillway sub full0 --from earliest --until-end
  equal "$(cat out)" "record of full0"
  # The cure cures: with some room the refused one works, and none of its records was taken before.
  rm small/ballast
  expect 0 spillway pub "$refused" <<<"at last"
  expect 0 spillway sub "$refused" --from earliest --until-end
  equal "$(cat out)" "at last"
  umount small
  rm -rf "$SPILLWAY_DATA"
done

# As the disk: with retention the log goes on for ever in what there is; without, it stops with the cause, and goes on with room.
SPILLWAY_SHM=$rings/shm
SPILLWAY_DATA=$work/small/data
for size in 8 50; do
  mount -t tmpfs -o size=${size}m none small
  head -c $((size * 2 / 5))m /dev/zero >small/ballast
  expect 0 spillway create bounded$size --ring 64KiB --segment 256KiB --retain 2MiB
  records 100000 >many
  expect 0 spillway pub bounded$size --ack durable <many
  expect 0 spillway verify bounded$size
  expect 0 spillway sub bounded$size --from earliest --until-end --on-gap report
  [ -s out ] || fail "nothing was retained"
  tail -n "$(wc -l <out)" many | cmp -s - out || fail "what is retained is not the newest"
  expect 0 spillway create growing$size --ring 64KiB --segment 1MiB
  expect 4 spillway pub growing$size --deadline 1 < <(yes "$(head -c 1000 /dev/zero | tr '\0' x)" | head -n 100000)
  says 'full'
  # doctor tells it of the topic that has no room for another segment, and not of the one that takes its oldest file.
  expect 4 spillway doctor
  grep -A 2 "^prevents .*partition 0 of topic growing$size has no room for another segment" out >room || fail "doctor is fine with a full disk"
  grep -q 'cause: .*a segment takes 1' room && grep -q 'cure: .*free some space' room || fail "doctor names no cause or no cure"
  ! grep -q "topic bounded$size has no room" out || fail "doctor takes a bounded topic for one that has no room"
  expect 0 spillway stat growing$size
  expect 0 spillway sub growing$size --from earliest --until-end
  cp out before
  rm small/ballast
  expect 0 spillway pub growing$size --ack durable <<<after
  expect 0 spillway sub growing$size --from earliest --until-end
  { cat before && echo after; } | cmp -s - out || fail "the log is not what was appended"
  expect 0 spillway verify growing$size
  umount small
done
