#!/usr/bin/env bash
# 64 KiB of memlock, and none at all: the persister can't register its buffers, and everything works all the same.
# Method: the whole job by an ordinary user, because root may lock what it likes, under `ulimit -l`.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

records 15000 >input
ordinary=
if [ "$(id -u)" -eq 0 ]; then
  ordinary="setpriv --reuid 64001 --regid 64001 --clear-groups --inh-caps=-all --bounding-set=-all"
  $ordinary true 2>/dev/null || skip "root can't become an ordinary user here"
  chmod 755 "$work" "$rings" && mkdir -m 777 data "$rings/shm"
  umask 000 # what this script writes into is read by that user
fi
own=$SPILLWAY
for limit in 64 0; do
  SPILLWAY=$own
  # shellcheck disable=SC2016
  run_behind $ordinary sh -c "'ulimit -l $limit && exec \"\$@\"'" sh
  equal "$($ordinary sh -c "ulimit -l $limit && ulimit -l")" "$limit"
  expect 0 spillway create "t$limit" --ring 64KiB --segment 64KiB
  the_job "t$limit" input
  expect 0 spillway doctor
  grep -A 2 'memlock' out | grep -q 'cause: .*register' || fail "doctor does not say what it costs"
  grep -A 2 'memlock' out | grep -q 'cure: .*ulimit -l' || fail "doctor has no cure"
done
