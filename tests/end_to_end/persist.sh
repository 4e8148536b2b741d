#!/usr/bin/env bash
# persist: takes the role, of new topics too; tells systemd; stops cleanly; and is taken over from when it dies.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

expect 2 spillway persist nothing
expect 0 spillway create e --ephemeral
expect 2 spillway persist e

expect 0 spillway create t --ring 64KiB --segment 64KiB --retain 1MiB
in_background daemon persist
until_true grep -qx ready daemon.out
equal "$(head -n 1 daemon.out)" ready
until_true stat_is t pid "$daemon"

# Nobody else persists, and yet it is written.
expect 0 spillway pub t --no-persist --ack durable --offsets < <(seq 10000)
equal "$(wc -l <out)" 10000
expect 0 spillway sub t --from earliest --until-end
seq 10000 | cmp -s - out || fail "what was published did not come out"
stat_is t pid "$daemon" || fail "a producer took the role from the daemon"

# A directory that it may not look into, or a name that no topic has, is nobody's topic and stops nobody.
if [ "$(id -u)" -eq 0 ] && setpriv --reuid 65534 --regid 65534 --clear-groups true 2>/dev/null; then
  chmod 755 "$work" "$rings"
  mkdir -m 777 "$work/shared" "$rings/shared"
  install -m 755 "$SPILLWAY" "$work/spillway"  # the one in the tree may lie where only its owner can go
  as_nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups env SPILLWAY_DATA="$work/shared" SPILLWAY_SHM="$rings/shared")
  "${as_nobody[@]}" "$work/spillway" persist >nobody.out 2>nobody.err &
  nobody=$!
  started+=("$nobody")
  until_true grep -qx ready nobody.out
  mkdir -m 700 "$work/shared/lost+found"
  mkdir "$work/shared/"$'\xff' && : >"$work/shared/"$'\xff/topic.json'
  for command in list "stat --json" doctor clean; do
    # shellcheck disable=SC2086
    expect 0 "${as_nobody[@]}" "$work/spillway" $command
  done
  expect 0 "${as_nobody[@]}" "$work/spillway" create beside
  until_true grep -q '^beside 0 ' nobody.out
  silent nobody.err
  # One whose directory can't be listed any more goes on with the topics that it has, and stops cleanly.
  chmod 700 "$work/shared"
  until_true grep -q 'ermission' nobody.err
  chmod 777 "$work/shared"
  kill -TERM "$nobody"
  ends_with 0 "$nobody"
fi

# New topics are picked up.
expect 0 spillway create later --ring 64KiB --segment 64KiB
until_true stat_is later pid "$daemon"
expect 0 spillway pub later --no-persist --ack written <<<x
expect 2 spillway delete later --yes
says "$daemon"

# Killed, with nobody else there: a producer without --no-persist writes by itself; the next daemon goes on.
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null
expect 0 spillway pub t --ack durable < <(seq 10)
expect 4 spillway pub t --no-persist --ack written --deadline 0.3 <<<x
says 'nobody writes it to disk'
in_background daemon persist t
until_true grep -qx ready daemon.out
expect 0 spillway pub t --no-persist --ack written <<<x

# A daemon gets the role from a process that is none.
mkfifo in && exec 3<>in
kill -TERM "$daemon"
ends_with 0 "$daemon"
in_background writer pub t <in
echo x >&3
until_true stat_is t pid "$writer"
in_background daemon persist t
until_true grep -qx ready daemon.out
until_true stat_is t pid "$daemon"

# The last one to leave stops the log cleanly: its end is not a gap for who comes back after the ring is gone.
exec 3>&-
kill -TERM "$writer"
ends_with 0 "$writer"
kill -TERM "$daemon"
ends_with 0 "$daemon"
expect 0 spillway sub t --from earliest --until-end
cp out everything
rm -r "$SPILLWAY_SHM"
expect 0 spillway pub t <<<again
expect 0 spillway sub t --from earliest --until-end
{ cat everything && echo again; } | cmp -s - out || fail "the log is another one after a clean stop"

# A ring that is deleted under it: what it held is written, and a new one is made.
in_background daemon persist
until_true grep -qx ready daemon.out
expect 0 spillway pub t --no-persist --ack committed <<<before
rm -r "$SPILLWAY_SHM/t"
until_true grep -q 'ring_deleted' daemon.out
until_true test -e "$SPILLWAY_SHM/t/0.ring"
expect 0 spillway pub t --no-persist --ack written <<<after
expect 0 spillway sub t --from earliest --until-end
equal "$(tail -n 2 out)" $'before\nafter'
kill -INT "$daemon"
ends_with 0 "$daemon"
