/* Lap detection: a producer that overwrites the ring in place, and a reader that copies and then looks at reserved_end.
   Mirrors ExclusiveWriter::reserve_to and append_slow, and PartitionReader::read_live. The ring has CAP cells of two words; a
   record takes one or two: commit word, meta, and two words of payload if it has two. Word by word, because a record of one lap
   does not begin where one of the next does.

   Memory is weak on both sides, as on ARM. The producer's stores wait in a buffer and become visible in any order, but for: two to
   one word; a release store after all before it; whatever a release fence stands between. The reader's loads are satisfied in any
   order, but for: those behind an acquire load after it; those behind an acquire fence after those before it. Memory itself is one
   for all (multi-copy atomic), as on every machine that Spillway runs on.

   Asserted: what is delivered is one committed record, whole, of this lap; and reserved_end is never seen behind the reader's own
   offset, where the unsigned difference would wrap.

   Not here: where a lapped reader goes on. It is let on at the committed_end it sees once that has passed it; that this comes soon
   follows from the size of claims, a quarter of the ring at most.

   Weaker versions, each of which fails (tests/model/model_test.sh):
     EARLY=1    reserved_end is looked at before the copy
     PFENCE=0   no release fence between reserved_end and the first byte behind it
     RFENCE=0   no acquire fence between the copy and reserved_end
     RELEASE=0  the commit word is stored relaxed
     ACQUIRE=0  the commit word is loaded relaxed */
#ifndef EARLY
#define EARLY 0
#endif
#ifndef PFENCE
#define PFENCE 1
#endif
#ifndef RFENCE
#define RFENCE 1
#endif
#ifndef RELEASE
#define RELEASE 1
#endif
#ifndef ACQUIRE
#define ACQUIRE 1
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef CHUNK
#define CHUNK 1
#endif
#ifndef MAXO
#define MAXO 5
#endif
#ifndef BUFFER
#define BUFFER 5
#endif

#define COMMIT(o) (64 + (o))
#define META(o, n) (128 + 2 * (o) + (n) - 1)
#define PAYLOAD(o) (1 + (o))
#define WORD(o, i) ((2 * ((o) % CAP) + (i)) % (2 * CAP))
#define RESERVED (2 * CAP)
#define COMMITTED (2 * CAP + 1)
#define FENCE 255

byte mem[2 * CAP + 2];                                   /* what everybody sees */
byte loc[BUFFER], val[BUFFER], waiting = 0; bool rel[BUFFER]; /* the producer's stores, oldest first */
byte size_of[MAXO + 2];                                  /* ghost: the record that begins here */

inline store(l, v, r) {
  atomic { waiting < BUFFER -> loc[waiting] = l; val[waiting] = v; rel[waiting] = r; waiting++ }
}
/* A fence with nothing before it orders nothing. */
inline fence() {
  if :: atomic { waiting == 0 -> skip } :: atomic { waiting > 0 && waiting < BUFFER -> loc[waiting] = FENCE; waiting++ } fi
}

proctype producer() {
  byte e = 0, n = 0, want = 0, chunk_end = 0;
  do
  :: e < MAXO ->
     atomic {
       if :: n = 1 :: e % CAP + 2 <= CAP && e + 2 <= MAXO -> n = 2 fi;
       size_of[e] = n;
       want = 0;
       if :: e + n > chunk_end -> want = e + CHUNK;
             if :: want < e + n -> want = e + n :: else fi;
             if :: want > (e / CAP + 1) * CAP -> want = (e / CAP + 1) * CAP :: else fi
          :: else fi }
     if :: want > 0 ->
           store(COMMITTED, e, true);
           store(RESERVED, want, false);
#if PFENCE
           fence();
#endif
           chunk_end = want
        :: else fi;
     if :: n == 2 -> store(WORD(e, 2), PAYLOAD(e), false); store(WORD(e, 3), PAYLOAD(e), false) :: else fi;
     store(WORD(e, 1), META(e, n), false);
     store(WORD(e, 0), COMMIT(e), RELEASE);
     atomic { e = e + n; n = 0; want = 0 }
  :: else -> break
  od
}

/* Makes any store visible that nothing holds back. */
proctype buffer() {
  byte i = 0, j = 0;
end: do
  :: atomic { waiting > 0 ->
       do :: i + 1 < waiting -> i++ :: break od;
       j = 0;
       do :: j < i && loc[j] != FENCE && loc[j] != loc[i] && !rel[i] -> j++ :: else -> break od;
       if :: j == i && loc[i] != FENCE -> mem[loc[i]] = val[i]; loc[i] = 0
          :: else -> i = 0; j = 0; goto end fi;
       do :: i + 1 < waiting -> loc[i] = loc[i + 1]; val[i] = val[i + 1]; rel[i] = rel[i + 1]; i++ :: else -> break od;
       waiting--; loc[waiting] = 0; val[waiting] = 0; rel[waiting] = false;
       do :: waiting > 0 && loc[0] == FENCE -> i = 0;
               do :: i + 1 < waiting -> loc[i] = loc[i + 1]; val[i] = val[i + 1]; rel[i] = rel[i + 1]; i++ :: else -> break od;
               waiting--; loc[waiting] = 0; val[waiting] = 0; rel[waiting] = false
          :: else -> break od;
       i = 0; j = 0 }
  od
}

/* The loads, by bit: 1 the commit word, 2 meta, 4 and 8 payload, 16 reserved_end. COPY_AFTER is what meta and payload wait for. */
#define COPIED 14
#if ACQUIRE && EARLY
#define COPY_AFTER 17
#elif ACQUIRE
#define COPY_AFTER 1
#elif EARLY
#define COPY_AFTER 16
#else
#define COPY_AFTER 0
#endif
#if EARLY && ACQUIRE
#define RESERVED_AFTER 1
#elif EARLY
#define RESERVED_AFTER 0
#elif RFENCE
#define RESERVED_AFTER 15
#elif ACQUIRE
#define RESERVED_AFTER 1
#else
#define RESERVED_AFTER 0
#endif
#define AFTER(set) ((done & (set)) == (set))

proctype reader() {
  byte o = 0, commit = 0, meta = 0, p2 = 0, p3 = 0, reserved = 0, done = 0;
end: do
  :: o >= MAXO -> break
  :: o < MAXO && !(done & 1) -> atomic { commit = mem[WORD(o, 0)]; done = done | 1 }
  :: o < MAXO && !(done & 2) && AFTER(COPY_AFTER) -> atomic { meta = mem[WORD(o, 1)]; done = done | 2 }
  :: o < MAXO && !(done & 4) && AFTER(COPY_AFTER) -> atomic { p2 = mem[WORD(o, 2)]; done = done | 4 }
  :: o < MAXO && !(done & 8) && AFTER(COPY_AFTER) -> atomic { p3 = mem[WORD(o, 3)]; done = done | 8 }
  :: o < MAXO && !(done & 16) && AFTER(RESERVED_AFTER) -> atomic { reserved = mem[RESERVED]; done = done | 16 }
  :: atomic { done == 31 ->
       assert(reserved >= o);
       if :: reserved > o + CAP -> goto lapped
          :: reserved <= o + CAP && commit == COMMIT(o) ->
             assert(meta == META(o, size_of[o]));
             assert(size_of[o] == 1 || (p2 == PAYLOAD(o) && p3 == PAYLOAD(o)));
             o = o + size_of[o]
          :: else fi;
       commit = 0; meta = 0; p2 = 0; p3 = 0; reserved = 0; done = 0 }
  od;
  goto out;
lapped: atomic { mem[COMMITTED] > o -> o = mem[COMMITTED]; commit = 0; meta = 0; p2 = 0; p3 = 0; reserved = 0; done = 0; goto end }
out: skip
}

init { atomic { run producer(); run buffer(); run reader() } }
