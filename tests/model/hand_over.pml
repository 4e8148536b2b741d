/* The persister's role: taken, lost by death, handed over to a daemon that asks, taken over with a dead holder's I/O under way.
   Mirrors PartitionPersister (step, settle, publish, release), take_over.cpp and Role. Offsets are records, two to a 4 KiB block; a
   segment is one block; the ring has CAP records. A producer overwrites what is given back.

   A write carries a block's first one or two records, and zeros. It lands when it likes, also after its process died: then the
   segment's lock is held by the kernel until the last one has. A sync covers what had landed when it was submitted; one that fails
   may lose of each block what no sync before it had covered, and it says so once. A holder may be killed between any two steps;
   the last of the NP processes is a daemon, which asks for the role, and only it is not asked to let go.

   Asserted: a record of the ring is overwritten only when its segment holds it (where the topic syncs: for certain); no write takes
   durable bytes back; a watermark is true when it is stored, and only its holder stores it; one process at a time has writes under
   way in a segment; what is taken from the ring is still there.

   SYNC=0 is the policy none: space is given back at written_end, a new holder syncs what it finds and goes on there, and what a
   failed sync may have lost is marked so. Left out there: a holder that is killed between a sync that failed and the mark. Left out
   at all: the index, the horizon, recycling (segment_recycle.pml).

   Weaker versions, each of which fails (tests/model/model_test.sh):
     WAIT=0     a new holder does not wait for segment locks
     START=1    it goes on from written_end although the topic syncs
     RELEASE=1  the role is let go with I/O under way
     GIVE=1     space is given back at written_end although the topic syncs
     ROUND=0    space is given back up to the last record, not to a whole block
     COVER=1    a sync is taken to cover what was written when it was over
     MARK=0     what a sync that fails inside settling may have lost is not marked (SYNC=0) */
#ifndef SYNC
#define SYNC 1
#endif
#ifndef WAIT
#define WAIT 1
#endif
#ifndef START
#define START 0
#endif
#ifndef RELEASE
#define RELEASE 0
#endif
#ifndef GIVE
#define GIVE 0
#endif
#ifndef ROUND
#define ROUND 1
#endif
#ifndef COVER
#define COVER 0
#endif
#ifndef MARK
#define MARK 1
#endif
#ifndef NP
#define NP 3
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef MAXO
#define MAXO 4
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef FAILURES
#define FAILURES 1
#endif

#define BLOCKS (MAXO / 2)
#define DAEMON (NP - 1)
byte committed = 0, ring[CAP];                           /* offset + 1 */
byte written_end = 0, durable_end = 0, reclaimable_end = 0, role = 0; bool request = false;
byte landed[BLOCKS], sure[BLOCKS], covered[BLOCKS];      /* records of a block: on disk, for certain, when the sync was submitted */
byte under_way[BLOCKS * NP], locked[BLOCKS];             /* writes, by process; segment locks: process + 1 */
bool files_open[NP], lost[MAXO];
byte deaths = DEATHS, failures = FAILURES;

#define UNDER_WAY(b, p) under_way[(b) * NP + (p)]
#define MINE(b) (locked[b] == 0 || locked[b] == p + 1)
#define QUIET(b) ((b) < durable / 2 || MINE(b))
#define LEAST(a, b) ((a) < (b) -> (a) : (b))
#define RECORDS_BEFORE(o, b) ((o) <= 2 * (b) -> 0 : ((o) >= 2 * (b) + 2 -> 2 : (o) - 2 * (b)))
#define SAFE (SYNC && !GIVE -> durable : written)
#if ROUND
#define GIVEN_BACK(o) ((o) - (o) % 2)
#else
#define GIVEN_BACK(o) (o)
#endif

/* Every record before `end` is in its segment (`where`: landed or sure), or known to be lost. */
#define CHECK_TRUE(where, end) \
  i = 0; do :: i < end -> assert(where[i / 2] > i % 2 || lost[i]); i++ :: else -> break od; i = 0
inline let_segments_go() {
  i = 0; files_open[p] = false;
  do :: i < BLOCKS -> if :: locked[i] == p + 1 && UNDER_WAY(i, p) == 0 -> locked[i] = 0 :: else fi; i++ :: else -> break od; i = 0
}
/* Of what no sync has covered any part may be gone, block by block. */
inline lose() {
  i = 0; failures--;
  do :: i < BLOCKS -> if :: landed[i] > sure[i] -> landed[i] = sure[i] :: true fi; i++ :: else -> break od; i = 0
}
inline none_under_way() {
  i = 0; idle = true; do :: i < BLOCKS -> idle = idle && UNDER_WAY(i, p) == 0; i++ :: else -> break od; i = 0
}

proctype producer() {
end: do
  :: atomic { committed < MAXO && committed < reclaimable_end + CAP ->
       if :: committed >= CAP ->
#if SYNC
             assert(sure[(committed - CAP) / 2] > (committed - CAP) % 2)
#else
             assert(landed[(committed - CAP) / 2] > (committed - CAP) % 2 || lost[committed - CAP])
#endif
          :: else fi;
       ring[committed % CAP] = committed + 1; committed++ }
  od
}

#define LANDS(b, p) atomic { UNDER_WAY(b, p) > 0 -> n = UNDER_WAY(b, p); UNDER_WAY(b, p) = 0; \
    assert(n >= RECORDS_BEFORE(durable_end, b)); \
    landed[b] = n; sure[b] = LEAST(sure[b], n); covered[b] = LEAST(covered[b], n); \
    if :: !files_open[p] && locked[b] == p + 1 -> locked[b] = 0 :: else fi; n = 0 }
proctype disk() {
  byte n = 0;
end: do
  :: LANDS(0, 0) :: LANDS(0, 1) :: LANDS(BLOCKS - 1, 0) :: LANDS(BLOCKS - 1, 1)
#if NP > 2
  :: LANDS(0, 2) :: LANDS(BLOCKS - 1, 2)
#endif
#if BLOCKS > 2
  :: LANDS(1, 0) :: LANDS(1, 1)
#if NP > 2
  :: LANDS(1, 2)
#endif
#endif
  od
}

#define MAY_DIE if :: deaths > 0 -> deaths--; goto died :: true fi

proctype persister(byte p) {
  byte at, written, durable, taken, sync_end, i; bool syncing, releasing, broken, idle;
free:
end:
  if :: atomic { role == 0 && (p != DAEMON || request) -> role = p + 1; files_open[p] = true; broken = false;
          if :: p == DAEMON -> request = false :: else fi; MAY_DIE }
     :: atomic { p == DAEMON && !request && committed > 0 -> request = true; goto free }
  fi;
settle:
  atomic { at = (SYNC && !START -> durable_end : written_end); durable = durable_end; syncing = false; taken = 0; written = 0 }
#if WAIT
  /* All segments that are to be made durable, and all from `at` on, are quiet. */
  atomic { QUIET(0) && QUIET(1) && QUIET(BLOCKS - 1) -> MAY_DIE }
#endif
  atomic { if :: at < MAXO -> locked[at / 2] = p + 1 :: else fi; MAY_DIE }
  if :: atomic { true -> i = durable / 2; do :: i < BLOCKS && 2 * i < at -> sure[i] = landed[i]; i++ :: else -> break od; i = 0 }
     :: atomic { failures > 0 -> lose(); broken = true;
#if MARK && !SYNC
          i = durable; do :: i < at -> lost[i] = true; i++ :: else -> break od; i = 0;
#endif
          goto settle }
  fi;
  atomic {
    if :: !broken -> durable = at :: else fi;
    written = at; taken = at; broken = false;
    i = at - at % 2; do :: i < at -> assert(ring[i % CAP] == i + 1); i++ :: else -> break od; i = 0;
    MAY_DIE }
end_working:
  do
  /* a piece: the rest of a block, or a part of it */
  :: atomic { !releasing && !broken && taken < committed && UNDER_WAY(taken / 2, p) == 0 && (MINE(taken / 2) || !WAIT) ->
       MAY_DIE; at = taken / 2; locked[at] = p + 1;
       i = 0; do :: i < NP -> assert(i == p || UNDER_WAY(at, i) == 0); i++ :: else -> break od; i = 0;
       do :: assert(ring[taken % CAP] == taken + 1); taken++;
             if :: taken < committed && taken % 2 == 1 -> skip :: break fi od;
       UNDER_WAY(at, p) = taken - 2 * at; at = 0 }
  /* what has landed */
  :: atomic { !broken && written < taken && UNDER_WAY(written / 2, p) == 0 ->
       do :: written < taken && UNDER_WAY(written / 2, p) == 0 -> written = LEAST(written - written % 2 + 2, taken) :: else -> break od }
  /* watermarks, larger ones first */
  :: atomic { !broken && written_end < written -> MAY_DIE;
       assert(role == p + 1); CHECK_TRUE(landed, written); written_end = written }
  :: atomic { !broken && written_end >= written && durable_end < durable -> MAY_DIE;
       assert(role == p + 1); CHECK_TRUE(sure, durable); durable_end = durable }
  :: atomic { !broken && written_end >= written && durable_end >= durable && reclaimable_end < GIVEN_BACK(SAFE) -> MAY_DIE;
       assert(role == p + 1); reclaimable_end = GIVEN_BACK(SAFE) }
  :: atomic { !releasing && !broken && !syncing && written > durable -> MAY_DIE; syncing = true; sync_end = written;
       i = 0; do :: i < BLOCKS -> covered[i] = landed[i]; i++ :: else -> break od; i = 0 }
  :: atomic { syncing ->
       if :: i = 0; do :: i < BLOCKS -> if :: covered[i] > sure[i] -> sure[i] = covered[i] :: else fi; i++ :: else -> break od; i = 0;
             durable = (COVER -> written : sync_end)
          :: failures > 0 -> lose();
#if SYNC
             broken = true
#else
             i = durable; do :: i < taken -> lost[i] = true; i++ :: else -> break od; i = 0
#endif
       fi;
       syncing = false; sync_end = 0;
       i = 0; do :: i < BLOCKS -> covered[i] = 0; i++ :: else -> break od; i = 0 }
  :: atomic { broken && !releasing && !syncing -> none_under_way();
       if :: idle -> idle = false; goto settle :: else -> idle = false fi }
  :: atomic { p != DAEMON && request && !releasing -> releasing = true;
#if RELEASE
       role = 0; let_segments_go()
#endif
     }
  :: atomic { releasing && !syncing -> none_under_way();
       if :: idle && (broken || (written == taken && written_end >= written && durable_end >= durable)) -> idle = false; break
          :: else -> idle = false fi }
  :: atomic { deaths > 0 -> deaths--; goto died }
  od;
  atomic { let_segments_go(); if :: role == p + 1 -> role = 0 :: else fi;
    written = 0; durable = 0; taken = 0; at = 0; releasing = false; broken = false; goto free }
died:
  atomic { if :: syncing && SYNC && failures > 0 -> lose() :: true fi;
    let_segments_go();
    if :: role == p + 1 -> role = 0 :: else fi;
    if :: p == DAEMON -> request = false :: else fi;
    i = 0; do :: i < BLOCKS -> covered[i] = 0; i++ :: else -> break od; i = 0;
    at = 0; written = 0; durable = 0; taken = 0; sync_end = 0; syncing = false; releasing = false; broken = false; idle = false }
}

init { byte i; atomic {
  i = 0; do :: i < NP -> run persister(i); i++ :: else -> break od; i = 0;
  run producer(); run disk() } }
