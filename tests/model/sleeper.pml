/* The sleeper's handshake, with its two shortcuts: no fence where a producer commits, and one wake a millisecond.
   Mirrors the drawing "Waking" of ARCHITECTURE.md (P1 to P4, S1 to S5), Waker::wake and Sleeper::sleep. NP producers commit
   RECORDS records in turn, the last of them a process that is not registered for membarriers and fences instead (a repairer, or
   one whose registration failed) if FENCED; NS sleepers want them in order.

   A producer's stores wait in its processor's buffer and become visible when they like, commits in order among themselves: that
   is P1 after P3. So does a sleeper's announcement. The membarrier empties the buffers one after the other, the step of the
   sequence (a release) its own. A clock of half milliseconds goes on when it likes, so everybody is as slow as can be,
   but for one thing: between its two looks, at the clock and at last_wake_ns, a waker is paused for PAUSE of them at most. Who is
   killed has left its core, which empties the buffer.

   Asserted: nobody is in a long sleep with its record committed, every producer past its notify, and nobody having died inside
   one since it fell asleep. In that case the sleep ends after 100 ms, which is all that the bound is for.

   Weaker versions, each of which fails (tests/model/model_test.sh):
     BARRIER=0  no membarrier before a long sleep
     LATESEQ=1  the sequence is read after the commit word
     FENCE=0    who is not registered does not fence either
     QUIET=0    a long sleep at once, without a short one in which nobody was woken
     CLEAR=1    the waker clears the announcement after it stepped the sequence */
#ifndef BARRIER
#define BARRIER 1
#endif
#ifndef LATESEQ
#define LATESEQ 0
#endif
#ifndef FENCE
#define FENCE 1
#endif
#ifndef QUIET
#define QUIET 1
#endif
#ifndef CLEAR
#define CLEAR 0
#endif
#ifndef FENCED
#define FENCED 1
#endif
#ifndef NP
#define NP 2
#endif
#ifndef NS
#define NS 1
#endif
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef PAUSE
#define PAUSE 4
#endif

#define MS 2
#define AGE_MAX (PAUSE + MS)
byte sequence = 0, deaths = DEATHS; bool asleep = false;
byte last_age = MS;              /* how long ago what last_wake_ns says is; MS: so long or longer */
byte age[NP], ahead[NP];         /* of the time a waker has read; by how much that is ahead of last_wake_ns (MS: or behind it) */
bool timing[NP], timed[NP];      /* it has read it, and is about to look at last_wake_ns; or has */
byte slept[NS];                  /* how long a sleeper sleeps */
byte issued[NP], visible[NP];                     /* commits: stored, and seen by all */
bool clear_waits[NP], announce_waits[NS];         /* in the buffers: asleep = 0, asleep = 1 */
bool notifying[NP];
byte at[NS]; bool in_futex[NS], in_long[NS], excused[NS]; /* the sleepers: the next record, and whether they wait for it */

#define COMMITTED(r) ((r) < RECORDS && visible[(r) % NP] > (r) / NP)
#define UNREGISTERED(p) (FENCED && (p) == NP - 1)

inline drain(p) {
  visible[p] = issued[p];
  if :: clear_waits[p] -> asleep = false; clear_waits[p] = false :: else fi
}
#define CLIP(x, most) ((x) < (most) -> (x) : (most))
#define OTHER(p) (NP - 1 - (p))
inline store_last(p) {
  last_age = CLIP(age[p], MS);
  if :: NP > 1 && timing[OTHER(p)] -> ahead[OTHER(p)] = (age[p] >= age[OTHER(p)] -> CLIP(age[p] - age[OTHER(p)], MS) : MS) :: else fi;
  age[p] = 0; timed[p] = false
}
#define MAY_DIE if :: deaths > 0 -> deaths--; goto died :: true fi

proctype producer(byte p) {
  byte i; bool wake = false;
  do
  :: issued[p] * NP + p < RECORDS ->
     atomic { notifying[p] = true; issued[p]++; MAY_DIE }               /* P1 */
     if :: UNREGISTERED(p) && FENCE -> atomic { drain(p) } :: else fi;  /* P2 */
     atomic { wake = asleep && !clear_waits[p]; MAY_DIE }               /* P3 */
     if :: wake ->                                                      /* P4 */
           atomic { timing[p] = true; ahead[p] = last_age }
           atomic { wake = ahead[p] >= MS; timing[p] = false; ahead[p] = 0; timed[p] = wake;
                    if :: !wake -> age[p] = 0 :: else fi }
        :: else fi;
     if :: wake ->
#if !CLEAR
           atomic { clear_waits[p] = true; MAY_DIE }
#endif
           atomic { drain(p); sequence++; MAY_DIE }
#if CLEAR
           atomic { clear_waits[p] = true; MAY_DIE }
#endif
           atomic { i = 0; do :: i < NS -> in_futex[i] = false; i++ :: else -> break od; i = 0; drain(p) }
           atomic { store_last(p) }   /* whenever it shows: one that shows later makes for a wake too many */
        :: else fi;
     atomic { wake = false; notifying[p] = false }
  :: else -> break
  od;
  goto out;
died:
  atomic { drain(p); notifying[p] = false; timed[p] = false; age[p] = 0; wake = false;
    i = 0; do :: i < NS -> excused[i] = true; i++ :: else -> break od; i = 0 }
out: skip
}

/* What waits in a buffer shows at some moment; in any order, but for commits among themselves. */
#define COMMIT_SHOWS(p) atomic { visible[p] < issued[p] -> visible[p]++ }
#define CLEAR_SHOWS(p) atomic { clear_waits[p] -> asleep = false; clear_waits[p] = false }
#define ANNOUNCE_SHOWS(s) atomic { announce_waits[s] -> asleep = true; announce_waits[s] = false }
proctype buffers() {
end: do
  :: COMMIT_SHOWS(0) :: CLEAR_SHOWS(0) :: ANNOUNCE_SHOWS(0)
#if NP > 1
  :: COMMIT_SHOWS(1) :: CLEAR_SHOWS(1)
#endif
#if NS > 1
  :: ANNOUNCE_SHOWS(1)
#endif
  od
}

#define GROW(x, most) x = CLIP(x + 1, most)
#define GROW_OF(p) if :: timing[p] || timed[p] -> GROW(age[p], AGE_MAX) :: else fi
#define MAY_WAIT(p) (!timing[p] || age[p] < PAUSE)
proctype clock() {
end: do
  :: atomic { MAY_WAIT(0) && MAY_WAIT(NP - 1) ->
       GROW(last_age, MS);
       GROW_OF(0);
#if NP > 1
       GROW_OF(1);
#endif
       if :: in_futex[0] -> GROW(slept[0], MS) :: else fi;
#if NS > 1
       if :: in_futex[1] -> GROW(slept[1], MS) :: else fi
#endif
     }
  od
}

proctype sleeper(byte s) {
  byte seq = 0, before = 255, i = 0; bool quiet = false, whole = false;
  do
  :: at[s] >= RECORDS -> break
  :: atomic { COMMITTED(at[s]) -> at[s]++; quiet = false }
  :: atomic { at[s] < RECORDS -> seq = sequence; excused[s] = false }   /* S1 */
     atomic { announce_waits[s] = true;                                 /* S2 */
       whole = !QUIET || (quiet && seq == before) }
     if :: whole && BARRIER ->                                          /* S3 */
           atomic { if :: announce_waits[s] -> asleep = true; announce_waits[s] = false :: else fi }
           do :: i < NP -> atomic { if :: !UNREGISTERED(i) -> drain(i) :: else fi; i++ } :: else -> break od;
           i = 0
        :: else fi;
     if :: atomic { COMMITTED(at[s]) -> quiet = false }                 /* S4 */
        :: atomic { !COMMITTED(at[s]) -> skip }
#if LATESEQ
           seq = sequence;
#endif
           atomic { in_futex[s] = (sequence == seq); in_long[s] = whole }   /* S5 */
end:       atomic { (!in_futex[s] || (!whole && slept[s] >= MS)) ->
             in_futex[s] = false; in_long[s] = false;
             quiet = whole || slept[s] >= MS; slept[s] = 0; before = seq }
     fi;
     atomic { whole = false; seq = 0 }
  od
}

#define LOST(s) (in_futex[s] && in_long[s] && !excused[s] && COMMITTED(at[s]) && !notifying[0] && !notifying[NP - 1])
proctype monitor() { end: do :: atomic { LOST(0) || LOST(NS - 1) -> assert(false) } od }

init { byte i; atomic {
  i = 0; do :: i < NP -> run producer(i); i++ :: else -> break od;
  i = 0; do :: i < NS -> run sleeper(i); i++ :: else -> break od; i = 0;
  run buffers(); run clock(); run monitor() } }
