/* A segment's file that is used again under a reader of history.
   Mirrors WriterRow::let_go and SegmentFile::recycle, and SegmentHistory::step, read_data and missing. A segment is one range of
   two blocks and one index entry. ROOM segments are retained; the next one is made out of the oldest one's file: retained_begin
   past it, its name gone, its header anew, the new name, then bytes and entry in any order, then written_end.

   The reader opens a segment once and keeps it open; it reads entry and blocks in any order, each when it likes, and hands one
   block out at a time: what it read for the first may be what it uses for the second. A CRC that should not match may do so by
   chance, so that what is asserted rests on the order of things alone. A store may be delayed in its processor's buffer unless it
   is seq_cst; system calls are as they are.

   Asserted: what is delivered is the segment's own; a segment that expired is never called damaged or missing; offsets only grow.

   NAMED=1 is the reader without a ring, who instead of retained_begin looks whether the file still has its name.

   Weaker versions, each of which fails (tests/model/model_test.sh):
     EARLY=1   retained_begin (the name) is looked at before the bytes are read, or there is no fence between the two
     LATE=1    retained_begin is stored after the rename
     BUFFERED=1  retained_begin is stored so that system calls may overtake it
     RENAME=0  (NAMED=1) the old name goes only when the new content is there */
#ifndef EARLY
#define EARLY 0
#endif
#ifndef LATE
#define LATE 0
#endif
#ifndef BUFFERED
#define BUFFERED 0
#endif
#ifndef NAMED
#define NAMED 0
#endif
#ifndef RENAME
#define RENAME 1
#endif
#ifndef ROOM
#define ROOM 2
#endif
#ifndef SEGMENTS
#define SEGMENTS 5
#endif

#define NONE 255
byte file_of[SEGMENTS];                       /* the directory */
byte entry[ROOM], block0[ROOM], block1[ROOM]; /* the files: whose they are, segment + 1 */
byte retained = 0, buffered = 0, written = 0;

inline let_go(s) {
#if LATE
  file_of[s] = NONE; retained = s + 1
#elif BUFFERED
  buffered = s + 1; file_of[s] = NONE
#else
  retained = s + 1; file_of[s] = NONE
#endif
}

proctype writer() {
  byte s = 0, missing = 0;
  do
  :: s < SEGMENTS ->
     if :: s >= ROOM && RENAME -> let_go(s - ROOM) :: else fi;
     file_of[s] = s % ROOM;
     atomic { missing = 7 }
     do :: missing & 1 -> atomic { entry[s % ROOM] = s + 1; missing = missing - 1 }
        :: missing & 2 -> atomic { block0[s % ROOM] = s + 1; missing = missing - 2 }
        :: missing & 4 -> atomic { block1[s % ROOM] = s + 1; missing = missing - 4 }
        :: missing == 0 -> break od;
     if :: s >= ROOM && !RENAME -> let_go(s - ROOM) :: else fi;
     atomic { s++; written = s }
  :: else -> break
  od
}

/* The writer's store buffer. */
proctype buffer() {
end: do :: atomic { buffered > retained -> retained = buffered; buffered = 0 } od
}

/* What was read, by bit: 1 the entry, 2 and 4 the blocks, 8 whether the segment is still what it was. */
#if EARLY
#define LOOK_AFTER 0
#define READ_AFTER 8
#else
#define LOOK_AFTER 7
#define READ_AFTER 0
#endif
#define AFTER(set) ((done & (set)) == (set))
#if NAMED
#define GONE(s) (file_of[s] != fd)
#else
#define GONE(s) (retained > (s))
#endif

proctype reader() {
  byte s = 0, fd = NONE, e = 0, b0 = 0, b1 = 0, done = 0, oldest = 0; bool second = false, gone = false;
next:
end:
  atomic { (s >= SEGMENTS || retained > s || written > s);
    if :: s >= SEGMENTS -> goto out :: else fi;
#if !NAMED
    if :: retained > s && fd == NONE -> s = retained; second = false; goto next :: else fi
#endif
  }
  atomic { (written > s) }
  if :: fd == NONE ->
        atomic { fd = file_of[s] }
        if :: fd == NONE -> goto missing :: else fi
     :: else fi;
  do
  :: !(done & 1) && AFTER(READ_AFTER) -> atomic { e = entry[fd]; done = done | 1 }
  :: !(done & 2) && AFTER(READ_AFTER) -> atomic { b0 = block0[fd]; done = done | 2 }
  :: !(done & 4) && AFTER(READ_AFTER) -> atomic { b1 = block1[fd]; done = done | 4 }
  :: !(done & 8) && AFTER(LOOK_AFTER) -> atomic { gone = GONE(s); done = done | 8 }
  :: done == 15 -> break
  od;
  if :: gone -> goto missing :: else fi;
  if :: true ->                           /* the CRC holds: it should, or by chance */
        atomic {
          if :: !second -> assert(b0 == s + 1); second = true
             :: second -> assert(b1 == s + 1); second = false; s++; fd = NONE fi;
          e = 0; done = 0 }
        if :: fd != NONE -> done = 6 :: fd != NONE -> b0 = 0; b1 = 0 :: fd == NONE -> b0 = 0; b1 = 0 fi;  /* kept, or read again */
        goto next
     :: !(e == s + 1 && b0 == s + 1 && b1 == s + 1) ->
        assert(false)                     /* told as damage */
  fi;
missing:                                  /* forget() and refresh(), then the oldest is looked at */
  atomic { fd = NONE; e = 0; b0 = 0; b1 = 0; done = 0; gone = false; second = false;
#if NAMED
    oldest = 0; do :: oldest < SEGMENTS && file_of[oldest] == NONE -> oldest++ :: else -> break od;
#else
    oldest = retained;
#endif
    assert(oldest > s);
    s = oldest; oldest = 0; goto next }
out: skip
}

init { byte i; atomic {
  i = 0; do :: i < SEGMENTS -> file_of[i] = NONE; i++ :: else -> break od; i = 0;
  run writer(); run buffer(); run reader() } }
