#!/usr/bin/env bash
# io_uring refused by a container's seccomp profile, alone and with the other calls that older profiles don't know: pwrite,
# fences and short sleeps instead, the same bytes, and `stat` and `doctor` say so.
# Method: the whole job behind a filter that answers EPERM, as such profiles do.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

refusing=${SPILLWAY_TEST_PROGRAMS:?names the directory of the tests\' programs}/refusing
"$refusing" io_uring true 2>err || skip "$(cat err)"
records 15000 >input
own=$SPILLWAY
for group in io_uring newer; do
  SPILLWAY=$own
  run_behind "$refusing" $group
  expect 0 spillway create $group --ring 64KiB --segment 128KiB --sync every_batch
  the_job $group input
  equal "$job_path" pwrite
  expect 0 spillway doctor
  grep -A 2 '^advice *io_uring *refused' out | grep -q 'cause: .*pwrite' || fail "doctor does not say what is done instead"
  grep -A 2 '^advice *io_uring *refused' out | grep -q 'cure: .*seccomp' || fail "doctor has no cure"
done
grep -q '^advice *membarrier *refused' out || fail "doctor does not say that membarrier is refused"
grep -q 'futex_waitv in its seccomp profile' out || fail "doctor has no cure for futex_waitv"
# What was written the one way is read and gone on with the other.
SPILLWAY=$own
expect 0 spillway pub newer --ack durable <input
run_behind "$refusing" io_uring
expect 0 spillway pub newer --ack durable <input
expect 0 spillway sub newer --from earliest --until-end
cat input input input | cmp -s - out || fail "the log is not what was published"
