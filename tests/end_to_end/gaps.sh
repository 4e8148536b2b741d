#!/usr/bin/env bash
# Gaps: exact, on standard error, and the cursor stays before one unless told otherwise. Losses of pub are told, too.
source "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

# Retention: the oldest segments go; who wanted them gets a gap.
expect 0 spillway create r --ring 64KiB --segment 64KiB --retain 128KiB
expect 0 spillway pub r < <(seq 100000)
expect 0 spillway sub r --from earliest --until-end
begin=$(stat_of r retained_begin)
[ "$begin" -gt 0 ] || fail "nothing expired"
equal "$(tail -n 1 out)" 100000
seq "$(head -n 1 out)" 100000 | cmp -s - out || fail "what is retained has holes"
cp out retained
expect 3 spillway sub r --from 0 --until-end
equal "$(cat err)" "gap partition=0 from=0 to=$begin bytes=$begin cause=expired"
equal "$(cat out)" ""
expect 0 spillway sub r --from 0 --until-end --on-gap report
equal "$(cat err)" "gap partition=0 from=0 to=$begin bytes=$begin cause=expired"
same out retained

# A cursor stays before the gap it stopped at, and passes it when told to report.
expect 0 spillway create c --ring 64KiB --segment 64KiB --retain 128KiB
expect 0 spillway pub c < <(seq 10)
expect 0 spillway sub c --cursor k --until-end
expect 0 spillway pub c < <(seq 11 100000)
expect 3 spillway sub c --cursor k --until-end
grep -q 'cause=expired' err || fail "the gap is not told"
cp err first
expect 3 spillway sub c --cursor k --until-end
equal "$(sed 's/ to=.*//' err)" "$(sed 's/ to=.*//' first)"
expect 0 spillway sub c --cursor k --until-end --on-gap report
equal "$(tail -n 1 out)" 100000
expect 0 spillway sub c --cursor k --until-end
equal "$(cat out err)" ""

# drop_new: dropped records are told, in their place, and the exit is 3. Without a persister the ring fills up.
expect 0 spillway create d --ring 64KiB --segment 64KiB --on-full drop_new
expect 3 spillway pub d --no-persist --ack committed --offsets < <(seq 10000)
says 'dropped'
equal "$(wc -l <out)" 10000
kept=$(grep -vc -- '-$' out)
[ "$kept" -lt 10000 ] && [ "$kept" -gt 0 ] || fail "$kept of 10000 were kept"
expect 0 spillway sub d --from earliest --until-end
equal "$(wc -l <out)" "$kept"
equal "$(stat_of d dropped)" $((10000 - kept))

# overwrite: only an exclusive producer may; what was overwritten before it was written is told by pub and by sub.
expect 0 spillway create o --ring 64KiB --segment 64KiB --on-full overwrite
expect 2 spillway pub o <<<x
says '--exclusive'
expect 0 spillway pub o --exclusive --ack committed --no-persist < <(seq 10000)
expect 0 spillway pub o --exclusive <<<last
expect 3 spillway sub o --from earliest --until-end
grep -q 'cause=overwritten' err || fail "the gap is not told"
expect 0 spillway sub o --from earliest --until-end --on-gap report
equal "$(tail -n 1 out)" last
spillway pub o --exclusive --offsets < <(seq 300000) >out 2>err
code=$?
lost=$(grep -c -- '-$' out)
equal "$(wc -l <out)" 300000
equal "$code" "$((lost > 0 ? 3 : 0))"
grep -v -- '-$' out | cut -d ' ' -f 2 >acknowledged
expect 0 spillway sub o --from earliest --until-end --on-gap report --offsets
cut -f 1 out | cut -d ' ' -f 2 | sort >there
equal "$(sort acknowledged | comm -23 - there | wc -l)" 0

# Ephemeral: the ring is all there is.
expect 0 spillway create e --ephemeral --ring 64KiB --on-full overwrite
expect 2 spillway pub e --exclusive --ack written <<<x
expect 2 spillway pub e --exclusive --ack durable <<<x
expect 2 spillway sub e --read-up-to durable --until-end
expect 0 spillway create unsynced --ring 64KiB --segment 64KiB --sync none
expect 2 spillway sub unsynced --read-up-to durable --until-end
says 'sync none'
expect 2 spillway verify e
expect 0 spillway pub e --exclusive < <(seq 100000)
expect 3 spillway sub e --from 0 --until-end
grep -q 'cause=overwritten' err || fail "the gap is not told"
expect 0 spillway create b --ephemeral --ring 64KiB
expect 0 spillway pub b < <(seq 100000)
expect 2 spillway sub r --gating --until-end
expect 2 spillway sub e --gating --until-end
