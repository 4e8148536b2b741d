#!/usr/bin/env bash
# create, list, describe, delete: what they promise, and what they refuse.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

expect 0 spillway list
equal "$(cat out)" ""
[ ! -e "$SPILLWAY_DATA" ] && [ ! -e "$SPILLWAY_SHM" ] || fail "list made a directory"

expect 0 spillway create orders --partitions 2 --ring 64KiB --segment 128KiB --sync every_batch --on-full block
says 'keeps every record'
equal "$(cat out)" ""

# Idempotent: what was not given is not compared, and a difference shows both sides.
expect 0 spillway create orders
expect 0 spillway create orders --ring 64KiB --partitions 2
expect 2 spillway create orders --ring 128KiB
says '64KiB' && says '128KiB'
expect 2 spillway create orders --ring 128KiB --segment 256KiB --sync none
says 'ring 64KiB .128KiB' && says 'segment 128KiB .256KiB' && says 'sync every_batch .none'
expect 2 spillway create orders --partitions 3
expect 2 spillway create orders --ephemeral
expect 2 spillway create orders --sync none
expect 2 spillway create orders --on-full drop_new
expect 2 spillway create orders --wakeups off
expect 2 spillway create orders --segment 256KiB
expect 2 spillway create orders --retain 1GiB
# Nor do the defaults of what was not given have to go with what was.
expect 0 spillway create tiny --ring 64KiB --segment 64KiB
expect 0 spillway create tiny --segment 64KiB
expect 0 spillway delete tiny --yes
# Two sizes that look the same when rounded are told apart.
expect 0 spillway create odd --ring 64KiB --segment 64KiB --retain 200000001
expect 2 spillway create odd --retain 200000002
says '200000001 bytes' && says '200000002 bytes'
expect 0 spillway delete odd --yes

expect 0 spillway create quotes --ephemeral --wakeups off
silent err
expect 0 spillway create kept --retain 128MiB
silent err

expect 0 spillway list
equal "$(cat out)" "$(printf 'kept\norders\nquotes')"
expect 0 spillway list --json
equal "$(values topic <out | xargs)" "kept orders quotes"

# Defaults: the largest ring within 16 MiB for all partitions, at least 1 MiB; a segment of at least 64 MiB.
defaults() { spillway create "$1" --partitions "$2" 2>/dev/null && spillway describe "$1" --json | values '(ring|segment)_bytes' | xargs; }
equal "$(defaults p1 1)" "16777216 67108864"
equal "$(defaults p3 3)" "4194304 67108864"
equal "$(defaults p64 64)" "1048576 67108864"
expect 0 spillway create big --ring 128MiB
equal "$(spillway describe big --json | values segment_bytes)" 134217728

expect 0 spillway describe orders
grep -q '^partitions *2$' out || fail "describe does not show the partitions"
expect 0 spillway describe orders --json
equal "$(values '(topic|ephemeral|retain_bytes|sync)' <out | xargs)" "orders false null every_batch"
for command in describe stat verify "delete --yes"; do
  # shellcheck disable=SC2086
  expect 2 spillway $command nothing
  says 'no topic nothing' && says 'spillway list' && ! grep -q 'create' err || fail "$command wants a topic created"
done

for size in 0 100 64 65535 96KiB 64kb -1 1e6 64QiB '' 99999999999TiB; do
  expect 2 spillway create bad --ring "$size"
done
expect 2 spillway create bad --segment 64KiB
expect 2 spillway create bad --ring 64KiB --segment 192KiB
expect 2 spillway create bad --ring 64KiB --segment 64KiB --retain 64KiB
expect 2 spillway create bad --partitions 0
expect 2 spillway create bad --partitions -1
expect 2 spillway create bad --partitions 100000
expect 2 spillway create bad --partitions two
expect 2 spillway create bad --on-full explode
expect 2 spillway create bad --sync sometimes
expect 2 spillway create bad --sync-interval-ms 0
expect 2 spillway create bad --wakeups maybe
expect 2 spillway create bad --ephemeral --sync interval
expect 2 spillway create bad --ephemeral --retain 1GiB
expect 2 spillway create bad --ephemeral --retain-age 1
expect 2 spillway create bad --no-such-flag
for number in '' ' 2' +2 0x2 2.0 2x; do
  expect 2 spillway create bad --partitions "$number"
  expect 2 spillway create bad --sync-interval-ms "$number"
done
expect 0 spillway create ten --partitions 010 --ring 64KiB
equal "$(spillway describe ten --json | values partitions)" 10
expect 0 spillway delete ten --yes
for name in '' . .. .hidden a/b ../up /abs 'two words' "$(printf 'x%.0s' {1..300})" $'new\nline' $'\xff\xfe'; do
  expect 2 spillway create "$name"
  equal "$(wc -l <err)" 1
done
expect 2 spillway create
expect 2 spillway
expect 2 spillway no-such-command
says '`no-such-command` is no subcommand'
expect 2 spillway stat ''
expect 2 spillway persist ''
expect 2 spillway list --data ''
expect 2 spillway --shm '' list
expect 0 spillway list
equal "$(grep -c bad out)" 0
expect 0 spillway --help
expect 0 spillway pub --help
expect 0 spillway --version
if [ -e /dev/full ]; then
  "$SPILLWAY" --help >/dev/full 2>err
  equal $? 4
fi
"$SPILLWAY" --version >&- 2>err
equal $? 4

# What could not be created leaves nothing behind.
: >"$work/file"
expect 2 spillway create lost --data "$work/file/data" --shm "$rings/lost"
[ ! -e "$rings/lost/lost" ] || fail "a failed create left its rings' directory"
: >"$rings/file"
expect 2 spillway create lost --data "$work/lost" --shm "$rings/file/shm"
[ -d "$work/lost" ] && equal "$(ls -A "$work/lost")" "" || fail "there is no directory to look into"
expect 4 spillway doctor --data "$work/file/data"
grep -q "cause: $work/file is not a directory" out || fail "doctor does not name the file"

# A shared topic in directories that are closed to the group: the cure is said.
expect 0 spillway create shared --sharing group_read
says "chmod g\\+rx $SPILLWAY_DATA" && says "chmod g\\+rx $SPILLWAY_SHM"
expect 0 spillway delete shared --yes

# Names of subcommands are names like others; --data and --shm may stand before the subcommand too.
expect 0 spillway --data "$work/elsewhere" --shm "$rings/elsewhere" create list
expect 0 spillway list --data "$work/elsewhere" --shm "$rings/elsewhere"
equal "$(cat out)" list
expect 2 spillway create other --data "$work/same" --shm "$work/same"

# delete shows first, and deletes only then.
expect 0 spillway pub orders <<<x
expect 2 spillway delete orders
says '--yes'
grep -q topic.json out || fail "the plan does not show topic.json"
expect 0 spillway describe orders
expect 0 spillway delete orders --yes
expect 2 spillway describe orders
[ ! -e "$SPILLWAY_DATA/orders" ] && [ ! -e "$SPILLWAY_SHM/orders" ] || fail "delete left files"
expect 2 spillway delete orders --yes

# Not while somebody uses it, who is named.
in_background reader sub kept --from earliest
expect 0 spillway pub kept <<<x
until_true has_lines 1 reader.out
expect 2 spillway delete kept --yes
says "pid $reader"
kill -TERM "$reader"
ends_with 0 "$reader"
expect 0 spillway delete kept --yes

# A consumer without a ring is a user too.
for options in "" --ephemeral; do
  # shellcheck disable=SC2086
  expect 0 spillway create early $options
  in_background reader sub early
  names_reader() { grep -q 'in use by a consumer that waits' <(spillway delete early 2>&1); }
  until_true names_reader
  expect 2 spillway delete early --yes
  expect 0 spillway pub early <<<x
  until_true has_lines 1 reader.out
  kill -TERM "$reader"
  ends_with 0 "$reader"
  expect 0 spillway delete early --yes
done
# Deleted by other means, it says so instead of waiting for what can't come.
expect 0 spillway create early
in_background reader sub early
until_true names_reader
rm -r "$SPILLWAY_DATA/early" "$SPILLWAY_SHM/early"
ends_with 4 "$reader"
grep -q 'early was deleted' reader.err || fail "the topic that was deleted is not named"

# list tells the topics that can't be read.
expect 0 spillway create broken
echo garbage >"$SPILLWAY_DATA/broken/topic.json"
expect 1 spillway list
says 'broken/topic.json'
grep -qx broken out || fail "a broken topic is not listed"
expect 4 spillway doctor
grep -A 2 'topic broken can.t be used' out | grep -q 'cure: *restore it from a copy$' || fail "doctor takes a part of the cause for the cure"
rm -r "$SPILLWAY_DATA/broken"

# A lost topic.json: the cure that clean names brings the log back, and other settings than the log's are refused.
expect 0 spillway create lost --ring 64KiB --segment 64KiB --partitions 2
expect 0 spillway pub lost < <(seq 20000)
rm "$SPILLWAY_DATA/lost/topic.json"
expect 2 spillway sub lost --from earliest --until-end
spillway clean >out 2>err
grep -q "keep: .*data/lost has no topic.json.*create the topic again with the same settings" out || fail "clean has no cure"
expect 2 spillway create lost --ring 128KiB
says 'ring 64KiB .128KiB was asked for' && says 'lost/0/'
expect 0 spillway create lost --ring 64KiB --segment 64KiB --partitions 2
expect 0 spillway sub lost --from earliest --until-end
sort -n out | cmp -s - <(seq 20000) || fail "the log can't be read"
expect 0 spillway pub lost <<<on
expect 0 spillway verify lost
