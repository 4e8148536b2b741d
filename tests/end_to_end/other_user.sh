#!/usr/bin/env bash
# Other users: without rights, with the group's right to read, with the group's right to write.
# Method: an owner, a member of the group (whose own first group is another) and a stranger, by number; the owner makes one topic
# of each sharing. The kernel says what is mapped how: /proc/PID/maps of a consumer of each kind.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

[ "$(id -u)" -eq 0 ] || skip "only root can become other users"
setpriv --reuid 64001 --regid 64001 --clear-groups true 2>err || skip "root can't become another user: $(cat err)"
group=64100
as() { # UID GROUPS COMMAND...: without a right that root had
  local uid=$1 groups=$2
  shift 2
  setpriv --reuid "$uid" --regid "$uid" --groups "$groups" --inh-caps=-all --bounding-set=-all "$@"
}
owner() { as 64001 $group "$SPILLWAY" "$@"; }
member() { as 64002 $group "$SPILLWAY" "$@"; }
stranger() { as 64003 64003 "$SPILLWAY" "$@"; }
umask 077
chmod 711 "$work" "$rings"
# in_background_as WHO NAME ARGUMENTS...: as in_background.
in_background_as() {
  local who=$1 name=$2 uid groups=$group
  shift 2
  : >"$name.out"
  case $who in owner) uid=64001 ;; member) uid=64002 ;; stranger) uid=64003 groups=64003 ;; esac
  setpriv --reuid $uid --regid $uid --groups $groups --inh-caps=-all --bounding-set=-all "$SPILLWAY" "$@" \
    <&0 >"$name.out" 2>"$name.err" &
  printf -v "$name" '%s' $!
  started+=($!)
}
records 15000 >input
lines=$(wc -l <input)
# A domain directory of the group's: setgid, so that what is made in it is the group's too.
mkdir data "$rings/shm"
chown 64001:$group data "$rings/shm"
chmod 2750 data "$rings/shm"
everything() { find data "$rings/shm" -type f -exec cksum {} + -o -printf '%p %u %g %m\n' | sort; }
# mapped PID SUFFIX: how the process maps such files, as the kernel tells it.
mapped() { grep -E "$2\$" "/proc/$1/maps" | cut -d ' ' -f 2 | sort -u | xargs; }

# ---- No rights. Owner-only is the default: nothing of the topic can be read, and every command says so.
expect 0 owner create private --ring 64KiB --segment 64KiB
expect 0 owner pub private --ack durable <input
equal "$(find data/private "$rings/shm/private" ! -type d ! -perm 600 -o -type d ! -perm 700 -a ! -perm 2700)" ""
for who in member stranger; do
  everything >before
  for command in "sub private --from earliest --until-end" "sub private --cursor mine" "pub private" "stat private" "describe private" \
    "verify private" "persist private" "delete private --yes" "create private" "create private2"; do
    # shellcheck disable=SC2086
    expect 4 $who $command <<<x
    says 'ermission|belongs to' && says "$work/data|$rings/shm"
  done
  # Over all topics: those of others are not there, and nothing is touched.
  "$who" list >out 2>err
  ! grep -q private out || fail "$who lists what it may not look into"
  "$who" doctor >out 2>err
  equal $? 4
  "$who" clean --yes >out 2>err
  everything >after && same before after
done

# ---- The group may read: it observes and consumes, live and from the disk, and can't write a byte.
expect 0 owner create read --ring 64KiB --segment 64KiB --sharing group_read
in_background_as owner daemon persist read
until_true grep -qx ready daemon.out
in_background_as member live sub read --from earliest --count "$lines"
in_background_as member slow sub read --from earliest --count "$lines"
in_background_as owner own sub read
# Without a slot they are not in stat; that they have come is seen in what they map.
for pid in "$live" "$slow" "$own"; do until_true grep -q '/read/0.ring$' "/proc/$pid/maps"; done
kill -STOP "$slow"
expect 0 owner pub read --no-persist --ack durable <input
ends_with 0 "$live"
same live.out input
equal "$(mapped "$slow" '/read/0\.(ring|control|consumers)')" r--s
equal "$(mapped "$own" '/read/0\.(ring|control)')" r--s
equal "$(mapped "$own" '/read/0\.consumers')" rw-s
kill -CONT "$slow"
ends_with 0 "$slow"
same slow.out input
kill -KILL "$own"
expect 0 member sub read --from earliest --until-end
same out input
expect 0 member stat read
grep -q 'no right to open the lock files' out || fail "stat does not say what it can't know"
expect 0 member describe read
expect 0 member list
equal "$(cat out)" read
everything >before
for command in "pub read" "sub read --cursor mine" "persist read" "delete read --yes"; do
  # shellcheck disable=SC2086
  expect 4 member $command <<<x
  says 'ermission' && says "$work/data|$rings/shm"
done
expect 4 stranger sub read --from earliest --until-end
everything >after && same before after
# The owner has noticed nothing.
expect 0 owner pub read --no-persist --ack durable <<<more
kill -TERM "$daemon"
ends_with 0 "$daemon"

# ---- The group may write: the member makes the ring, persists and appends, and the owner goes on with what the member made.
chmod g+w data "$rings/shm"
expect 0 owner create write --ring 64KiB --segment 64KiB --sharing group_write
expect 0 member pub write --ack durable <input
expect 0 owner sub write --from earliest --until-end
same out input
expect 0 owner pub write --ack durable <input
cat input input >twice
expect 0 member sub write --from earliest --until-end
same out twice
equal "$(find data/write "$rings/shm/write" ! -group $group -o -type f ! -perm 660)" ""
# Each takes the role from the other when that is killed, and finds the other's cursor.
in_background_as owner first persist write
until_true grep -qx ready first.out
in_background_as member second persist write
expect 0 member sub write --cursor shared --count 15000
same out input
kill -KILL "$first"
until_true grep -qx ready second.out
expect 0 owner pub write --no-persist --ack durable <<<again
expect 0 owner sub write --cursor shared --until-end
{ cat input && echo again; } | cmp -s - out || fail "the owner does not go on where the member stopped"
kill -TERM "$second"
ends_with 0 "$second"
rm -r "$rings/shm/write"
expect 0 member pub write --ack durable <<<last
expect 0 owner pub write --ack durable <<<"the very last"
expect 0 owner sub write --from earliest --until-end
{ cat twice && echo again && echo last && echo the very last; } | cmp -s - out || fail "the log is not what both wrote"
expect 0 member verify write
expect 4 stranger pub write <<<x
says 'ermission|belongs to'
