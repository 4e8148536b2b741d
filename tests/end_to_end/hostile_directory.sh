#!/usr/bin/env bash
# What others may have put where our files belong: a stranger's directory or link under the name that everybody can foresee, and
# links, pipes, devices, sockets and directories in the place of each file. Each is refused by its name, nothing is followed,
# nobody hangs, and what lies behind a link stays as it was.
# Method: a /dev/shm and a home of the test's own; the stranger is a number. One row per thing, place and command.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"
own_namespaces --mount

rmdir "$rings" # nobody could once it is covered
mount -t tmpfs -o mode=1777 none /dev/shm 2>err || skip "can't mount a tmpfs: $(cat err)"
uid=$(id -u)
mkdir precious home
echo treasure >precious/file
chmod 666 precious/file && chmod 777 precious
untouched() { [ "$(ls precious) $(cat precious/file)" = "file treasure" ] || fail "what a link led to was changed: $1" 1; }
# answered COMMAND...: it ends by itself; the minute is for one that hangs.
answered() {
  timeout 60 "$SPILLWAY" "$@" <input >out 2>err
  got=$?
  [ $got -ne 124 ] && [ $got -lt 126 ] || fail "$* hangs or crashes ($got)" 1
}
echo x >input

# ---- The default directory of rings, made by somebody else before its owner came. Nothing is made in it.
unset SPILLWAY_SHM
shm=/dev/shm/spillway-$uid
stranger() { setpriv --reuid 64002 --regid 64002 --clear-groups "$@"; }
if [ "$uid" -eq 0 ] && stranger true 2>/dev/null; then
  chmod 711 "$work"
  foreign() { # NAME, with $shm made
    for command in "create t" "create t --ephemeral" "pub t" "sub t --from earliest --until-end" "persist t" "stat" "list" \
      "clean --yes" "delete t --yes" "verify t" "doctor"; do
      # shellcheck disable=SC2086
      answered $command
      equal "$got" 4
      grep -qF "$shm" out err || fail "$1: $command does not name $shm"
      grep -qE "user 64002|another user" out err || fail "$1: $command does not say whose it is"
    done
    [ -L "$shm" ] || equal "$(ls -A "$shm")" ""
    [ ! -e data ] || equal "$(ls -A data)" ""
    untouched "$1"
    rm -rf "$shm"
  }
  for mode in 700 755 777 1777; do
    stranger mkdir -m $mode "$shm"
    foreign "a directory of mode $mode"
  done
  stranger ln -s "$work/precious" "$shm"
  foreign "a link"
  # A topic in a directory of our own, exchanged for a link, because its owner once let others write there.
  mkdir -m 755 "$shm"
  expect 0 spillway create t --ring 64KiB --segment 64KiB
  expect 0 spillway pub t <<<first
  for directory in "$shm/t" data/t; do
    mv "$directory" aside
    ln -s "$work/precious" "$directory" && chown -h 64002 "$directory"
    for command in "pub t" "sub t --from earliest --until-end" "persist t" "stat t" "describe t" "verify t" "delete t --yes" \
      "create t"; do
      # shellcheck disable=SC2086
      answered $command
      [ $got -ne 0 ] || fail "$command works through a stranger's link at $directory"
      says "$(basename "$(dirname "$directory")")/t is a symbolic link of another user"
      untouched "a topic's link, $command"
    done
    rm "$directory" && mv aside "$directory"
  done
  expect 0 spillway sub t --from earliest --until-end
  equal "$(cat out)" first
  expect 0 spillway delete t --yes
  rm -r "$shm"
else
  echo "left out: strangers, whom only root can be"
fi
for thing in "ln -s $work/nowhere" "ln -s $work/precious/file" mkfifo "touch"; do
  $thing "$shm"
  for command in "create t" "pub t" "stat" "list" "doctor"; do
    # shellcheck disable=SC2086
    answered $command
    [ $got -ne 0 ] || fail "$command works with $shm, which is no directory"
    grep -qF "$shm" out err || fail "$command does not name $shm"
  done
  untouched "$thing"
  rm "$shm"
done

# ---- In the place of each file, with directories that are ours.
export SPILLWAY_SHM=/dev/shm/ours
export SPILLWAY_DATA=/dev/shm/data # in memory, because the scene is set anew for each row
expect 0 spillway create p --ring 64KiB --segment 64KiB
expect 0 spillway pub p <<<first
expect 0 spillway sub p --cursor c --until-end
expect 0 spillway create e --ephemeral --ring 64KiB
expect 0 spillway pub e <<<first
cp -a /dev/shm/data /dev/shm/data.good && cp -a /dev/shm/ours /dev/shm/good
put() { # THING PATH
  rm -rf "$2"
  case $1 in
    link) ln -s "$work/precious/file" "$2" ;;
    dangling) ln -s "$work/precious/new" "$2" ;;
    pipe) mkfifo "$2" ;;
    device) mknod "$2" c 1 5 ;; # it would be an endless file
  esac
}
things="link dangling pipe"
mknod null c 1 3 2>/dev/null && : 2>/dev/null <null && things+=" device"
rows=0
# try PLACE COMMANDS...: each thing in that place; every command answers, and those that need the file name it.
try() {
  local place=$1 thing command
  shift
  for thing in $things; do
    for command in "$@"; do
      [ -f "$place" ] || fail "the scene is not set: $place"
      put "$thing" "$place"
      # shellcheck disable=SC2086
      answered $command
      untouched "$thing at $place, $command"
      if [ $got -eq 0 ]; then
        # Then it was not needed, or a whole new file stands there.
        case $command in
          stat* | list* | doctor* | clean* | delete* | *--until-end) ;;
          *) [ -f "$place" ] && [ ! -L "$place" ] || fail "$command works with a $thing at $place" ;;
        esac
      else
        # A producer waits for its persister, who shows in stat what is the matter; a reader is told what it can't have.
        grep -qE "$(basename "$place")|the disk .* fails|cause=damaged|topic p can't be read" out err || fail "$command does not name $place, which is a $thing"
      fi
      rows=$((rows + 1))
      rm -rf /dev/shm/data /dev/shm/ours && cp -a /dev/shm/data.good /dev/shm/data && cp -a /dev/shm/good /dev/shm/ours
    done
  done
}
for file in ring control consumers; do
  try /dev/shm/ours/p/0.$file "pub p" "sub p --from earliest --until-end" "stat p" "doctor" "clean --yes" "delete p --yes"
  try /dev/shm/ours/e/0.$file "pub e" "sub e --until-end"
done
try /dev/shm/data/p/topic.json "pub p" "sub p --from earliest --until-end" "stat" "list" "create p" "doctor"
try /dev/shm/ours/e/topic.json "pub e" "sub e --until-end" "create e --ephemeral"
things="link pipe"
for file in writers mode slots role repair; do
  try /dev/shm/data/p/0/lock/$file "pub p --deadline 0.3" "delete p --yes"
done
try /dev/shm/data/p/0/lock/consumers "sub p --from earliest --until-end" "delete p --yes"
try /dev/shm/data/p/0/horizon "pub p" "sub p --from earliest --until-end" "verify p"
try /dev/shm/data/p/0/00000000000000000000.log "pub p --deadline 0.3" "sub p --from earliest --until-end" "verify p"
try /dev/shm/data/p/cursors/c "sub p --cursor c --until-end" "verify p"
# Without a ring, as after a reboot: what recovery reads.
rm -r /dev/shm/good /dev/shm/ours && mkdir /dev/shm/good /dev/shm/ours
for file in horizon 00000000000000000000.log lock/writers; do
  try /dev/shm/data/p/0/$file "pub p --deadline 0.3" "sub p --from earliest --until-end" "persist p nothing"
done
[ $rows -gt 80 ] || fail "only $rows rows"
