/* Shared producers: note, claim, confirm, commit; death at any step; repair; slots taken by new owners.
   Mirrors ipc/shared_producer.cpp, ipc/repair.cpp and OwnedSlot::acquire, step by step: each `atomic` is one access to shared
   memory (or one question to the kernel) and what a process works out from it by itself. Offsets are records, the ring has CAP of
   them, and no claim crosses its end. Memory is sequentially consistent; the litmus tests look at the rest.

   SWITCH=1 lets producers leave, and when all have left or died and everything is settled, an exclusive one takes the partition:
   its chunk is no dead producer's claim, whatever notes are still there (ProducerSession::store_mode).

   Asserted: nothing committed is closed or delivered twice, nothing that was never committed is delivered, a repairer writes over
   dead claims only, and no dead claim is left for ever; nobody waits where nobody will wake him.

   Weaker versions, each of which fails (tests/model/model_test.sh):
     PART=1     a dead claim is closed to its first record only
     LAPCHK=0   committed_end is not looked at again before closing
     GUESS=1    a dead tentative note is closed without a sign that a claim starts where it ends
     TLATE=1    reserved_end is loaded after the notes instead of before
     UNSETTLED=1  a slot is reused whatever its note says
     ANYMODE=1  (SWITCH=1) a repairer does not look at the mode */
#ifndef PART
#define PART 0
#endif
#ifndef LAPCHK
#define LAPCHK 1
#endif
#ifndef GUESS
#define GUESS 0
#endif
#ifndef TLATE
#define TLATE 0
#endif
#ifndef UNSETTLED
#define UNSETTLED 0
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef MAXO
#define MAXO 4
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef SWITCH
#define SWITCH 0
#endif
#ifndef ANYMODE
#define ANYMODE 0
#endif
#define NP 2
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef RDEATHS
#define RDEATHS 0
#endif
#ifndef REUSES
#define REUSES 0
#endif

#define NONE 0
#define TENT 1
#define CONF 2

byte reserved = 0, committed = 0;             /* committed_end: moved by the walker below */
byte word[CAP], size[CAP]; bool padding[CAP];  /* the ring; word is offset + 1 */
byte state[NP], start[NP], end_[NP];          /* the notes */
bool alive[NP];                               /* the slots' locks */
#if SWITCH
bool exclusive = false, repair_lock = false;  /* the mode; who may close a claim or store the mode */
#define LOCK !repair_lock
#define SHARED !exclusive
#define LOCKED repair_lock = true
#define UNLOCKED repair_lock = false
#else
#define SHARED true
#define LOCK true
#define LOCKED skip
#define UNLOCKED skip
#endif
byte deaths = DEATHS, rdeaths = RDEATHS, reuses = REUSES;
byte owner[CAP];                              /* ghost: whose offset a place is (+ 1) */
bool was_committed[MAXO + 2], was_dead[MAXO + 2], delivered[MAXO + 2];

#define MAY_DIE if :: deaths > 0 -> deaths--; goto died :: true fi

proctype producer(byte i) {
  byte t, n, j; bool mine = false, done = false;
again:
  atomic { mine = false; done = false; MAY_DIE; t = reserved;
    if :: t >= MAXO || SWITCH -> goto out :: t < MAXO -> skip fi;
    if :: n = 1 :: BATCH > 1 && t + 2 <= MAXO && t % CAP + 2 <= CAP -> n = 2 fi;   /* at the ring's end: 1, a record or padding */
    if :: t + n > committed + CAP -> goto no_room :: else fi;
    end_[i] = t + n }
  atomic { MAY_DIE; start[i] = t; state[i] = TENT }
  atomic { MAY_DIE;
    if :: reserved == t -> reserved = t + n; mine = true;
          j = 0; do :: j < n -> owner[(t + j) % CAP] = t + j + 1; j++ :: else -> break od; j = 0
       :: else -> state[i] = NONE; goto again fi }
  atomic { MAY_DIE; state[i] = CONF }
  j = n;
  do :: j > 0 -> atomic { MAY_DIE; j--;
          assert(owner[(t + j) % CAP] == t + j + 1);
          word[(t + j) % CAP] = t + j + 1; size[(t + j) % CAP] = 1; padding[(t + j) % CAP] = false;
          if :: j == 0 -> done = true;
                do :: j < n -> was_committed[t + j] = true; j++ :: else -> break od; j = 0
             :: else fi }
     :: else -> break od;
  atomic { MAY_DIE; state[i] = NONE; goto again }
no_room: atomic { (reserved < committed + CAP) -> t = 0; n = 0; goto again }
died: atomic { alive[i] = false;
    if :: mine && !done -> j = 0; do :: j < n -> was_dead[t + j] = true; j++ :: else -> break od :: else fi;
    t = 0; n = 0; j = 0; mine = false; done = false }
end_free: atomic { (reuses > 0 && !alive[i]) -> reuses--; alive[i] = true }   /* a new owner locks the slot ... */
  atomic {                                                                /* ... and keeps it if its note is settled */
    if :: UNSETTLED || state[i] == NONE || committed > start[i] || (state[i] == TENT && reserved == start[i]) ->
          state[i] = NONE; goto again
       :: else -> alive[i] = false; goto end_free fi }
out: atomic { if :: SWITCH -> alive[i] = false :: else fi }
}

#if SWITCH
proctype next_generation() {
  byte t = 0, n = 0;
end:
  atomic { (!alive[0] && !alive[NP - 1] && committed == reserved && reserved < MAXO) }
  atomic { LOCK -> exclusive = true }
  atomic { t = reserved; n = (t % CAP + 2 <= CAP && t + 2 <= MAXO -> 2 : 1);
    reserved = t + n; owner[t % CAP] = t + 1; if :: n == 2 -> owner[(t + 1) % CAP] = t + 2 :: else fi }
  do :: n > 0 -> atomic { assert(owner[t % CAP] == t + 1);
          word[t % CAP] = t + 1; size[t % CAP] = 1; padding[t % CAP] = false; was_committed[t] = true; t++; n-- }
     :: else -> break od
}
#endif

/* Walks over committed claims: moves committed_end, and stands for every reader, whom it delivers to. */
proctype walker() {
  byte k, l;
end: do
  :: atomic { committed < MAXO && word[committed % CAP] == committed + 1 -> l = size[committed % CAP];
      assert(l > 0 && committed + l <= MAXO);
      if :: padding[committed % CAP] -> k = 0;
            do :: k < l -> assert(!was_committed[committed + k]); assert(was_dead[committed + k]); k++ :: else -> break od
         :: else -> assert(was_committed[committed]); assert(!delivered[committed]); delivered[committed] = true fi;
      committed = committed + l; k = 0; l = 0 }
  od
}

#define R_MAY_DIE if :: rdeaths > 0 -> rdeaths--; goto look :: true fi

/* In two stores: who dies between them has shown nothing. */
inline close(a, b) {
  atomic { R_MAY_DIE;
  assert(owner[(a) % CAP] == (a) + 1);   /* not over a newer lap */
  assert(was_dead[a]);                   /* not over a live or committed claim */
#if PART
  size[(a) % CAP] = 1;
#else
  size[(a) % CAP] = (b) - (a);
#endif
  padding[(a) % CAP] = true }
  atomic { R_MAY_DIE; word[(a) % CAP] = (a) + 1; goto look }
}

proctype repairer() {
  byte T, h, b, i; byte st[NP], from[NP], to[NP]; bool dead[NP]; bool found, starts, all_dead;
look:
  atomic { UNLOCKED; T = 0; h = 0; b = 0; found = false; starts = false; all_dead = true;
    i = 0; do :: i < NP -> st[i] = 0; from[i] = 0; to[i] = 0; dead[i] = false; i++ :: else -> break od; i = 0 }
#if TLATE
end: atomic { LOCK && committed < MAXO && word[committed % CAP] != committed + 1 -> LOCKED; h = committed }
#else
end: atomic { LOCK && committed < reserved && word[committed % CAP] != committed + 1 -> LOCKED; h = committed }
#endif
#if SWITCH && !ANYMODE
  atomic { if :: exclusive -> goto look :: else fi }
#endif
#if !TLATE
  atomic { T = reserved; if :: h >= T -> goto look :: else fi }
#endif
  do :: i < NP ->
        atomic { st[i] = state[i]; from[i] = start[i] }
        atomic { to[i] = end_[i] }
        atomic { dead[i] = !alive[i]; if :: alive[i] -> all_dead = false :: else fi }
        atomic { if :: state[i] != st[i] || start[i] != from[i] -> goto look :: else fi;
                 if :: st[i] == NONE -> from[i] = 0; to[i] = 0 :: else fi; i++ }
     :: else -> break od;
#if TLATE
  atomic { T = reserved; if :: h >= T -> goto look :: else fi }
#endif
  atomic { if :: word[h % CAP] == h + 1 -> goto look :: else fi }
#if LAPCHK
  atomic { if :: committed != h -> goto look :: else fi }
#endif
  atomic { i = 0;
    do :: i < NP -> if :: st[i] != NONE && from[i] == h && !dead[i] -> goto look :: else fi; i++ :: else -> break od;
    i = 0; b = 0;
    do :: i < NP -> if :: st[i] == CONF && from[i] == h -> b = to[i]; found = true :: else fi; i++ :: else -> break od;
    i = 0 }
  if :: found -> close(h, b) :: else fi;
  b = h + 1;
  do :: b <= T ->
      atomic { i = 0; found = false; starts = (b == T);
        do :: i < NP -> if :: st[i] == TENT && from[i] == h && to[i] == b -> found = true :: else fi;
                        if :: st[i] != NONE && from[i] == b -> starts = true :: else fi; i++ :: else -> break od;
        if :: found && (GUESS || starts || b % CAP == 0 || word[b % CAP] == b + 1) -> goto guessed :: else -> b++ fi }
     :: else -> break od;
  atomic {
    assert(!(all_dead && SHARED && committed == h));   /* everybody dead and the hole left open: stuck for ever */
    i = 0; found = false;
    do :: i < NP -> if :: state[i] != NONE && start[i] == h -> found = true :: else fi; i++ :: else -> break od;
    assert(found || !was_dead[h] || committed != h);   /* a dead claim whose note is lost: stuck for ever, too */
    goto look }
guessed: close(h, b)
}

init { byte i; atomic { i = 0; do :: i < NP -> alive[i] = true; run producer(i); i++ :: else -> break od; run walker(); run repairer();
#if SWITCH
  run next_generation();
#endif
  } }
