/* Waiting for a watermark: two fences, one on each side, and a futex.
   Mirrors the drawing "Progress" of ARCHITECTURE.md: wait_progress in ipc/space.h and tell_progress in ipc/space.cpp. Each of two
   tellers moves a watermark of its own ROUNDS times (written_end is the role's holder's, committed_end may be a producer's); each
   of NW waiters waits for every step of one of them. All use the same two words.

   Stores wait in their processor's buffer and become visible when they like, watermarks of one teller in order; a fence empties
   the buffer, and so does the step of the futex word, a release.

   Asserted: nobody sleeps whose watermark is there, with all tellers past their tell_progress and none killed inside one since it
   fell asleep. (Then the sleep ends after some milliseconds, which is all that its bound is for.)

   Weaker versions, each of which fails (tests/model/model_test.sh):
     TFENCE=0   no fence between the watermark and the look at waiters
     WFENCE=0   no fence between waiters and the look at the watermark
     LATE=1     the futex word is read after the watermark
     CLEAR=1    waiters is cleared after the futex word was stepped */
#ifndef TFENCE
#define TFENCE 1
#endif
#ifndef WFENCE
#define WFENCE 1
#endif
#ifndef LATE
#define LATE 0
#endif
#ifndef CLEAR
#define CLEAR 0
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef NW
#define NW 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif

#define NT 2
byte issued[NT], visible[NT], progress = 0, deaths = DEATHS; bool waiters = false;
bool clear_waits[NT], announce_waits[NW];   /* in the buffers: waiters = 0, waiters = 1 */
bool telling[NT], in_futex[NW], excused[NW];
byte wanted[NW];                            /* by a waiter: so far must the watermark be */

#define THERE(w) (visible[(w) % NT] >= wanted[w])
inline drain(t) { visible[t] = issued[t]; if :: clear_waits[t] -> waiters = false; clear_waits[t] = false :: else fi }
inline wake() { i = 0; do :: i < NW -> in_futex[i] = false; i++ :: else -> break od; i = 0 }
#define MAY_DIE if :: deaths > 0 -> deaths--; goto died :: true fi

proctype teller(byte t) {
  byte i; bool seen = false;
  do
  :: issued[t] < ROUNDS ->
     atomic { telling[t] = true; issued[t]++; MAY_DIE }
#if TFENCE
     atomic { drain(t) }
#endif
     atomic { seen = waiters && !clear_waits[t]; MAY_DIE }
     if :: seen ->
#if !CLEAR
           atomic { clear_waits[t] = true; MAY_DIE }
#endif
           atomic { drain(t); progress++; MAY_DIE }
#if CLEAR
           atomic { clear_waits[t] = true; MAY_DIE }
#endif
           atomic { drain(t); wake() }
        :: else fi;
     atomic { seen = false; telling[t] = false }
  :: else -> break
  od;
  goto out;
died:
  atomic { drain(t); telling[t] = false; seen = false;
    i = 0; do :: i < NW -> excused[i] = true; i++ :: else -> break od; i = 0 }
out: skip
}

proctype waiter(byte w) {
  byte seen = 0;
  wanted[w] = 1;
  do
  :: wanted[w] > ROUNDS -> break
  :: atomic { wanted[w] <= ROUNDS -> seen = progress; excused[w] = false }
     atomic { announce_waits[w] = true }
#if WFENCE
     atomic { if :: announce_waits[w] -> waiters = true; announce_waits[w] = false :: else fi }
#endif
     if :: atomic { THERE(w) -> wanted[w]++ }
        :: atomic { !THERE(w) -> skip }
#if LATE
           seen = progress;
#endif
           atomic { in_futex[w] = (progress == seen) }
end:       atomic { !in_futex[w] -> skip }
     fi;
     seen = 0
  od
}

#define MARK_SHOWS(t) atomic { visible[t] < issued[t] -> visible[t]++ }
#define CLEAR_SHOWS(t) atomic { clear_waits[t] -> waiters = false; clear_waits[t] = false }
#define ANNOUNCE_SHOWS(w) atomic { announce_waits[w] -> waiters = true; announce_waits[w] = false }
proctype buffers() {
end: do
  :: MARK_SHOWS(0) :: MARK_SHOWS(1) :: CLEAR_SHOWS(0) :: CLEAR_SHOWS(1) :: ANNOUNCE_SHOWS(0) :: ANNOUNCE_SHOWS(NW - 1)
  od
}

#define LOST(w) (in_futex[w] && !excused[w] && THERE(w) && !telling[0] && !telling[1])
proctype monitor() { end: do :: atomic { LOST(0) || LOST(NW - 1) -> assert(false) } od }

init { byte i; atomic {
  i = 0; do :: i < NT -> run teller(i); i++ :: else -> break od;
  i = 0; do :: i < NW -> run waiter(i); i++ :: else -> break od; i = 0;
  run buffers(); run monitor() } }
