#!/usr/bin/env bash
# pub and sub: what goes in comes out, byte by byte, with keys, offsets, frames and cursors.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

expect 0 spillway create t --ring 64KiB --segment 64KiB

# The newline is not stored; empty lines are records; the last line may lack its newline; any byte but the newline is data.
printf 'one\n\n\0\xff\r\ttwo\nlast' >lines
expect 0 spillway pub t <lines
expect 0 spillway sub t --from earliest --until-end
printf 'one\n\n\0\xff\r\ttwo\nlast\n' | cmp -s - out || fail "what came out is not what went in"
expect 0 spillway sub t --until-end
equal "$(cat out)" ""
expect 0 spillway sub t --from earliest --count 2
equal "$(cat out)" one
expect 0 spillway sub t --from earliest --count 0
equal "$(cat out)" ""
expect 0 spillway pub t </dev/null
expect 2 spillway pub t <"$work"
says 'standard input is a directory; give it a file'

# Offsets: printed in order, and the place where each record is found again. Inside a record means the next one.
expect 0 spillway pub t --offsets --ack durable < <(printf 'a\nb\nc\n')
cp out offsets
equal "$(cut -d ' ' -f 1 offsets | sort -u)" 0
second=$(sed -n '2s/.* //p' offsets)
expect 0 spillway sub t --partition 0 --from "$second" --until-end
equal "$(cat out)" $'b\nc'
expect 0 spillway sub t --from $((second - 1)) --until-end
equal "$(cat out)" $'b\nc'
expect 0 spillway sub t --from $((second + 1)) --until-end --offsets
equal "$(cat out)" "$(sed -n 3p offsets)"$'\tc'
expect 2 spillway sub t --from 1000000000 --until-end
says 'beyond the end' && says '; name an offset up to that'
expect 2 spillway sub t --from -1
expect 2 spillway sub t --from noon
for number in -1 +1 0x1 ' 1' ''; do
  expect 2 spillway sub t --from earliest --until-end --count "$number"
  expect 2 spillway pub t --partition "$number" </dev/null
done
expect 2 spillway sub t --partition 1
expect 2 spillway pub t --partition 1 <lines
expect 2 spillway sub nothing
expect 2 spillway pub nothing <lines
[ ! -e "$SPILLWAY_DATA/nothing" ] || fail "pub created a topic"

# Keys: to one partition each; a record without the separator has none.
expect 0 spillway create keyed --partitions 4 --ring 64KiB --segment 64KiB
for i in 1 2 3 4 5; do printf 'x=%s\ny==%s\nnone%s\n=%s\n' $i $i $i $i; done >keyed.in
expect 0 spillway pub keyed --key-separator = --offsets <keyed.in
equal "$(wc -l <out)" 20
expect 0 spillway sub keyed --from earliest --until-end --key-separator =
sort out >a && sort keyed.in >b && same a b
expect 0 spillway sub keyed --from earliest --until-end --offsets --key-separator =
for key in x y; do
  equal "$(grep -a $'\t'"$key=" out | cut -d ' ' -f 1 | sort -u | wc -l)" 1
  equal "$(grep -a $'\t'"$key=" out | grep -o '.$' | tr -d '\n')" 12345
done
expect 2 spillway sub keyed --from 0 --until-end
expect 0 spillway create round --partitions 2 --ring 64KiB --segment 64KiB
expect 0 spillway pub round --offsets < <(seq 10)
equal "$(cut -d ' ' -f 1 out | sort | uniq -c | xargs)" "5 0 5 1"
expect 0 spillway pub t --key-separator '\t' < <(printf 'k\tv\n')
expect 2 spillway pub t --key-separator '' <lines
expect 2 spillway pub t --key-separator ab <lines

# Frames, out and in again.
expect 0 spillway sub keyed --from earliest --until-end --frames --keys
cp out frames
expect 0 spillway create framed --ring 64KiB --segment 64KiB
expect 0 spillway pub framed --frames --keys <frames
expect 0 spillway sub framed --from earliest --until-end --frames --keys
same out frames
printf '\3\0\0\0abc\0\0\0\0\5\0\0\0ab' >cut
expect 2 spillway pub framed --frames --offsets <cut
says 'frame 3'
equal "$(wc -l <out)" 2
expect 0 spillway sub framed --from earliest --until-end
equal "$(tail -n 2 out)" $'abc'
expect 2 spillway pub framed --frames < <(printf '\xff\xff\xff\xff')
expect 2 spillway pub framed --frames --key-separator =
expect 2 spillway pub framed --keys
expect 2 spillway sub framed --keys

# Too large: refused by name and number, and what came before it is stored and acknowledged.
limit=$((16 * 1024 - 16))
{ echo before && head -c $limit /dev/zero | tr '\0' x && echo && head -c $((limit + 1)) /dev/zero | tr '\0' y; } >large
expect 0 spillway create large --ring 64KiB --segment 64KiB
expect 2 spillway pub large --offsets <large
says "line 3" && says "$limit"
equal "$(wc -l <out)" 2
expect 0 spillway sub large --from earliest --until-end
head -n 2 large | cmp -s - out || fail "the lines before the large one are not there"
expect 2 spillway pub large --key-separator : < <(head -c 70000 /dev/zero | tr '\0' k && echo :v)

# Nothing that was written to descriptor 3 waits to be read any more.
all_read() { ! read -r -t 0 -u 3; }

# Lines are published as soon as they are read, though more may come.
mkfifo slow && exec 3<>slow
in_background writer pub t --offsets --deadline 120 <slow
in_background reader sub t
until_true uses t "$reader"
echo now >&3
until_true has_lines 1 writer.out
until_true has_lines 1 reader.out
equal "$(cat reader.out)" now

# SIGTERM: pub and sub end by themselves, with 0. Half a line is not a record, which is said.
printf 'half' >&3
until_true all_read
kill -TERM "$writer" "$reader"
ends_with 0 "$writer"
grep -q 'unfinished line of 4 bytes was not sent' writer.err || fail "the half line is dropped without a word"
ends_with 0 "$reader"
expect 0 spillway sub t --from earliest --until-end
equal "$(tail -n 1 out)" now

# A reader that goes away is success, also while idle.
seq 100000 >many
expect 0 spillway create m --ring 64KiB --segment 64KiB
expect 0 spillway pub m <many
"$SPILLWAY" sub m --from earliest 2>err | head -n 3 >head.out
equal "${PIPESTATUS[0]} $(xargs <head.out)" "0 1 2 3"
mkfifo pipe
"$SPILLWAY" sub m 2>err >pipe &
idle_pipe=$!
started+=("$idle_pipe")
exec 4<pipe
until_true uses m "$idle_pipe"
exec 4<&-
ends_with 0 "$idle_pipe"
expect 0 spillway sub m --from earliest --until-end
same out many

# A reader that is there and takes nothing does not hold up a stop. What it did not take comes again.
mkfifo stuck && exec 5<>stuck
"$SPILLWAY" sub m --cursor stuck >stuck 2>err &
stuck=$!
started+=("$stuck")
until_true uses m "$stuck"
kill -TERM "$stuck"
ends_with 0 "$stuck"
exec 5<&-
expect 0 spillway sub m --cursor stuck --until-end
equal "$(tail -n 1 out)" 100000

# Nor does one of pub's offsets, but then not all are printed, and the exit code tells.
mkfifo full && exec 6<>full
dd if=/dev/zero of=full bs=4096 count=1000 oflag=nonblock 2>err && fail "the pipe took all of it"
end=$(stat_of m committed_end)
"$SPILLWAY" pub m --offsets --deadline 120 <slow >full 2>full.err &
full=$!
started+=("$full")
echo 100001 >&3
more_than() { [ "$(stat_of "$1" "$2")" -gt "$3" ]; }
until_true more_than m committed_end "$end"
kill -TERM "$full"
ends_with 4 "$full"
grep -q 'not all offsets were printed' full.err || fail "the exit is not explained"
exec 6<&-
expect 0 spillway sub m --from earliest --until-end
tail -n 1 out | grep -qx 100001 || fail "what was not printed is not there"
seq 100001 >many

# What can't be written out is an environment's failure, and moves no cursor.
if [ -e /dev/full ]; then
  "$SPILLWAY" sub m --cursor full --until-end >/dev/full 2>err
  equal $? 4
  expect 0 spillway sub m --cursor full --until-end
  same out many
fi
"$SPILLWAY" sub m --from earliest --until-end >&- 2>err
equal $? 4
"$SPILLWAY" pub m <&- 2>err
equal $? 4
"$SPILLWAY" pub m >&- 2>err <lines
equal $? 0
