#!/usr/bin/env bash
# A producer that is paused, not dead, while it holds a claim: the one thing that may hold a shared log up. The first look of
# `stat` and of `doctor` names it, everything before its claim stays readable and becomes durable, and when it goes on, or is
# ended, everything behind the claim follows.
# Method: claim_holder appends 1000 records, claims and waits; the command does all else. Once persistent, once ephemeral; once
# the holder commits in the end, once it is killed.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

holder_program=${SPILLWAY_TEST_PROGRAMS:?names the directory of the tests\' programs}/claim_holder
stopped() { grep -q '^State:.T' "/proc/$1/status"; }
holds_no_more() { spillway stat t --json | grep -q '"held": null'; }
# pause: $holder, $slot and $offset of a paused holder of a claim, with more records committed behind it.
pause() {
  mkfifo in && exec 3<>in
  : >holder.out
  "$holder_program" t 1000 <in 3>&- >holder.out 2>holder.err & # or it would keep its own input open
  holder=$!
  started+=("$holder")
  until_true grep -q '^holding ' holder.out
  read -r _ slot offset <holder.out
  kill -STOP "$holder"
  until_true stopped "$holder"
}
named() {
  expect 0 spillway stat t --json
  grep -A 6 '"held": {' out >held || fail "stat does not say that the log is held up" 1
  equal "$(values by <held) $(values cause <held) $(values offset <held) $(values pid <held) $(values paused <held)" \
    "producer held_by_live $offset $holder true"
  equal "$(grep -B 1 "\"pid\": $holder," out | values slot | head -n 1)" "$slot"
  expect 0 spillway stat t
  grep -q "HELD UP  *at $offset by producer pid $holder PAUSED" out || fail "stat does not name the paused producer" 1
  expect 0 spillway doctor
  grep -q "cause: .*producer pid $holder, which is paused" out || fail "doctor does not name the paused producer" 1
  grep -q "cure: .*kill -CONT $holder" out || fail "doctor has no cure" 1
}
for i in $(seq 1000); do echo "early $i"; done >early
records 500 >behind

for kind in persistent ephemeral; do
  for fate in goes_on is_killed; do
    if [ $kind = persistent ]; then
      expect 0 spillway create t --ring 256KiB --segment 256KiB
      in_background daemon persist t
      until_true grep -qx ready daemon.out
    else
      # An ephemeral topic is repaired by any writer that has it open.
      expect 0 spillway create t --ring 256KiB --ephemeral
      mkfifo stay && exec 4<>stay
      in_background daemon pub t <stay
      until_true uses t "$daemon"
    fi
    pause
    # At the first look, and again once others have gone on behind the claim.
    named
    expect 0 spillway pub t --no-persist --ack committed <behind
    named
    # Everything before the claim is readable, for who was there and who comes now, and nothing behind it.
    in_background live sub t --from earliest </dev/null
    until_true has_lines 1000 live.out
    expect 0 spillway sub t --from earliest --until-end
    same out early
    cp behind after
    if [ $kind = persistent ]; then
      # And becomes durable. Who waits for the disk, or for room, is told who is in the way: a claim is never lapped.
      until_true stat_is t durable_end "$offset"
      expect 0 spillway sub t --from earliest --read-up-to durable --until-end
      same out early
      expect 4 spillway pub t --no-persist --ack durable --deadline 0.5 <<<waiting
      says "pid $holder"
      expect 4 spillway pub t --no-persist --ack committed --deadline 0.5 < <(yes "$(head -c 1000 /dev/zero | tr '\0' y)" | head -n 1000)
      says "pid $holder"
      named
    fi
    same live.out early
    if [ $fate = goes_on ]; then
      kill -CONT "$holder"
      echo >&3
      until_true grep -qx committed holder.out
      { cat early && echo late && cat behind; } >log
    else
      kill -KILL "$holder"
      wait "$holder" 2>/dev/null
      cat early behind >log
    fi
    until_true holds_no_more
    expect 0 spillway pub t --no-persist $([ $kind = ephemeral ] || echo --ack durable) <<<end
    until_true grep -qx end live.out
    if [ $kind = persistent ]; then
      echo waiting >>log
      grep '^yy*$' live.out >>log
    fi
    echo end >>log
    same live.out log
    expect 0 spillway doctor
    kill -TERM "$live" "$daemon"
    ends_with 0 "$live"
    ends_with 0 "$daemon"
    if [ $kind = persistent ]; then
      expect 0 spillway sub t --from earliest --until-end
      same out log
      expect 0 spillway verify t
    fi
    exec 3>&- 4>&-
    [ $fate = is_killed ] || wait "$holder"
    expect 0 spillway delete t --yes
    rm -f in stay
  done
done
