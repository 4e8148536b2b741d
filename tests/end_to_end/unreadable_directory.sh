#!/usr/bin/env bash
# A directory whose names can't be read: nobody takes what was read of it for the whole, and so for gone what is not in it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

refusing=${SPILLWAY_TEST_PROGRAMS:?names the directory of the tests\' programs}/refusing
"$refusing" listing true 2>err || skip "$(cat err)"
expect 0 spillway create t --ring 64KiB --segment 64KiB
expect 0 spillway pub t < <(seq 30000)
rm -r "$SPILLWAY_SHM/t"
own=$SPILLWAY
run_behind "$refusing" listing
for command in list "sub t --from earliest --until-end" "pub t" "verify t" "clean --yes"; do
  # shellcheck disable=SC2086
  expect 4 spillway $command </dev/null
  says "can't list"
  equal "$(cat out)" ""
done
SPILLWAY=$own
expect 0 spillway sub t --from earliest --until-end
seq 30000 | cmp -s - out || fail "something is gone"
expect 0 spillway verify t
