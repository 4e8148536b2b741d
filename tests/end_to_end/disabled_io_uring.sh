#!/usr/bin/env bash
# [serial] io_uring refused by the machine's administrator: pwrite instead, the same bytes, and `stat` and `doctor` say so.
# Method: the whole job while kernel.io_uring_disabled is 2. That is the whole machine's, so nothing else runs beside this test,
# and it is put back whatever happens.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

setting=/proc/sys/kernel/io_uring_disabled
[ -e $setting ] || skip "this kernel has no $setting (Linux 6.6 has)"
before=$(cat $setting)
put_back() { [ "$(cat $setting)" = "$before" ] || echo "$before" >$setting; }
trap 'put_back; clean_up' EXIT
trap 'exit 1' INT TERM HUP
{ echo 2 >$setting; } 2>/dev/null || skip "this user can't write to $setting"

records 15000 >input
expect 0 spillway create t --ring 64KiB --segment 128KiB
the_job t input
equal "$job_path" pwrite
expect 0 spillway doctor
grep -A 2 '^advice *io_uring *refused' out | grep -q 'cause: .*pwrite' || fail "doctor does not say what is done instead"
grep -A 2 '^advice *io_uring *refused' out | grep -q 'cure: .*sysctl kernel.io_uring_disabled=0' || fail "doctor has no cure"
# The cure cures, and the log goes on.
put_back
if [ "$before" = 0 ]; then
  expect 0 spillway create u --ring 64KiB --segment 128KiB
  the_job u input
  equal "$job_path" io_uring
fi
expect 0 spillway pub t --ack durable <input
expect 0 spillway sub t --from earliest --until-end
cat input input | cmp -s - out || fail "the log is not what was published"
