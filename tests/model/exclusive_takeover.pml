/* The exclusive producer: reserved_end in chunks, batches, death and take-over, and a reader that copies and then looks at
   reserved_end. Mirrors ipc/exclusive_producer.cpp, settle_exclusive in ipc/repair.cpp and PartitionReader::read_live. Offsets are
   records, the ring has CAP of them; the persister stands for the disk: what it has passed may be overwritten.

   Asserted: a reader is given what was committed and only that, the persister too, and who is told "lapped" finds it on disk.

   Weaker versions, each of which fails (tests/model/model_test.sh):
     PART=1      what a dead producer left is padded record by record instead of as a whole
     CLIP=0      a chunk may pass the limit
     REORDER=1   no release fence after reserved_end: bytes may be seen before it (ARM)
     FIRSTLAP=1  on the first lap nothing is reserved before it is written */
#ifndef PART
#define PART 0
#endif
#ifndef CLIP
#define CLIP 1
#endif
#ifndef REORDER
#define REORDER 0
#endif
#ifndef FIRSTLAP
#define FIRSTLAP 0
#endif
#ifndef CAP
#define CAP 3
#endif
#ifndef CHUNK
#define CHUNK 2
#endif
#ifndef MAXO
#define MAXO 6
#endif
#ifndef DEATHS
#define DEATHS 1
#endif

byte reserved = 0, written = 0;                               /* reserved_end; the persister's written_end */
byte word[CAP], size[CAP], value[CAP]; bool padding[CAP];     /* the ring; word and value are offset + 1 */
bool was_committed[MAXO + 8];                                 /* ghost */
byte deaths = DEATHS;

#define MAY_DIE if :: deaths > 0 -> deaths--; goto died :: true fi

proctype producer() {
  byte e, n, j, want, limit; bool late;
attach: atomic { e = written; n = 0; j = 0; want = 0; limit = 0; late = false }
  /* settle: walk to the end of what is committed, and pad the rest of the chunk */
  do :: atomic { e < reserved && word[e % CAP] == e + 1 -> e = e + size[e % CAP] }
     :: atomic { !(e < reserved && word[e % CAP] == e + 1) -> break } od;
  atomic { MAY_DIE;
    if :: e < reserved ->
#if PART
          size[e % CAP] = 1;
#else
          size[e % CAP] = reserved - e;
#endif
          padding[e % CAP] = true; word[e % CAP] = e + 1
       :: else fi }
#if PART
  if :: e < reserved -> e = e + 1; goto attach_again :: else fi;
  goto run_on;
attach_again: goto attach;
run_on: skip;
#else
  atomic { if :: reserved > e -> e = reserved :: else fi };
#endif
append:
  atomic { if :: e >= MAXO -> goto out :: else fi; if :: n = 1 :: e + 2 <= MAXO -> n = 2 fi; limit = written + CAP }
  if :: e + n > limit -> atomic { (written + CAP >= e + n) -> limit = written + CAP } :: else fi;
  late = false;
  if :: (e + n > reserved
#if FIRSTLAP
         && e + n > CAP
#endif
        ) -> atomic { want = e + CHUNK;
               if :: want < e + n -> want = e + n :: else fi;
#if CLIP
               if :: want > limit -> want = limit :: else fi
#endif
             }
#if REORDER
             if :: atomic { MAY_DIE; reserved = want } :: late = true fi
#else
             atomic { MAY_DIE; reserved = want }
#endif
     :: else fi;
  j = n;
  do :: j > 0 -> j--;
          atomic { MAY_DIE; value[(e + j) % CAP] = e + j + 1 };
          atomic { MAY_DIE; word[(e + j) % CAP] = e + j + 1; size[(e + j) % CAP] = 1; padding[(e + j) % CAP] = false;
                   if :: j == 0 -> was_committed[e] = true; if :: n == 2 -> was_committed[e + 1] = true :: else fi :: else fi }
          if :: late -> reserved = want; late = false :: else fi
     :: else -> break od;
  e = e + n; goto append;
died: atomic { if :: late -> reserved = want :: else fi; goto attach }   /* what was stored will be seen */
out: skip
}

proctype persister() {
  byte l, k;
end: do :: atomic { written < MAXO && word[written % CAP] == written + 1 -> l = size[written % CAP];
        if :: padding[written % CAP] -> k = 0; do :: k < l -> assert(!was_committed[written + k]); k++ :: else -> break od
           :: else -> assert(was_committed[written]) fi;
        written = written + l; k = 0; l = 0 } od
}

proctype reader() {
  byte o, v, l; bool p;
again:
end: atomic { o < MAXO && (word[o % CAP] == o + 1 || reserved > o + CAP) }
  atomic { if :: word[o % CAP] != o + 1 -> goto lapped :: else fi }
  l = size[o % CAP]; p = padding[o % CAP]; v = value[o % CAP];
  if :: reserved > o + CAP -> goto lapped :: else fi;
  if :: !p -> assert(v == o + 1); assert(was_committed[o]) :: else fi;
  atomic { o = o + l; l = 0; p = false; v = 0; goto again }
lapped: atomic { assert(o < written); o = written; l = 0; p = false; v = 0; goto again }
}

init { atomic { run producer(); run persister(); run reader() } }
