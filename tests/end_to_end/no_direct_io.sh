#!/usr/bin/env bash
# A file system without O_DIRECT: segments are written through the page cache, and everything works all the same.
# Method: the whole job with its data on a ramfs (tmpfs has O_DIRECT since Linux 6.6), by io_uring and by pwrite.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"
own_namespaces --mount

mkdir data
mount -t ramfs none data 2>err || skip "can't mount a ramfs: $(cat err)"
records 15000 >input
for path in uring pwrite; do
  SPILLWAY_IO=$path
  export SPILLWAY_IO
  expect 0 spillway create $path --ring 64KiB --segment 128KiB --retain 1GiB
  the_job $path input
done
unset SPILLWAY_IO
expect 0 spillway doctor
grep -A 2 '^advice *O_DIRECT' out | grep -q 'cause: .*page cache' || fail "doctor does not say what it costs"
grep -A 2 '^advice *O_DIRECT' out | grep -q 'cure: ' || fail "doctor has no cure"
# Rings on a ramfs, which has no limit and tells no room.
mkdir data/rings
SPILLWAY_SHM=$work/data/rings
expect 0 spillway create elsewhere --ring 64KiB --segment 64KiB
the_job elsewhere input
expect 0 spillway doctor
# The ring goes, as with a reboot: what was durable is found on the disk.
rm -r "$SPILLWAY_SHM"
expect 0 spillway sub elsewhere --from earliest --until-end
same out input
