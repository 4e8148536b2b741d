#!/usr/bin/env bash
# The protocols hold in every interleaving of the models beside this file, at the bounds named here, and each weaker version
# fails: so the models can. Skipped (77) where there is no spin. SPILLWAY_MODEL_LARGE=1 adds larger bounds, some minutes and up to
# 2 GB of memory.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
failed=0

# check WANTED MODEL FLAG...: WANTED is `holds` or `fails`.
check() {
  local wanted=$1 code
  shift
  "$here/run" "$@"
  code=$?
  [ $code -ne 77 ] || exit 77
  case $wanted:$code in
    holds:0 | fails:1) ;;
    *)
      echo "model_test: $* was expected to be one that $wanted" >&2
      failed=1
      ;;
  esac
}

# The same for few states, where compiling is what takes the time.
holds_soon() {
  local -x SPILLWAY_MODEL_OPTIMIZE=-O0
  check holds "$@"
}

# weaker MODEL BOUND... -- MUTATION...: each mutation alone fails at that bound, and soon.
weaker() {
  local -x SPILLWAY_MODEL_OPTIMIZE=-O0
  local -a bound=()
  while [ "$1" != -- ]; do
    bound+=("$1")
    shift
  done
  shift
  local mutation
  for mutation in "$@"; do
    check fails "${bound[@]}" "-D$mutation"
  done
}

check holds exclusive_takeover -DDEATHS=2
weaker exclusive_takeover -DDEATHS=2 -- PART=1 CLIP=0 REORDER=1 FIRSTLAP=1

check holds shared_claim -DMAXO=3 -DRDEATHS=1
check holds shared_claim -DMAXO=2 -DREUSES=1
check holds shared_claim -DMAXO=2 -DSWITCH=1
check fails shared_claim -DMAXO=2 -DSWITCH=1 -DANYMODE=1
check fails shared_claim -DCAP=3 -DMAXO=3 -DPART=1
weaker shared_claim -DMAXO=3 -- LAPCHK=0 TLATE=1
check fails shared_claim -DMAXO=3 -DGUESS=1 -DDEATHS=2
check fails shared_claim -DMAXO=2 -DUNSETTLED=1 -DREUSES=1 -DBATCH=1

check holds lap -DCAP=2 -DMAXO=5 -DCHUNK=1 -DBUFFER=7
check holds lap -DCAP=3 -DMAXO=6 -DCHUNK=2 -DBUFFER=6
weaker lap -DCAP=2 -DMAXO=5 -DCHUNK=1 -DBUFFER=7 -- EARLY=1 PFENCE=0 RFENCE=0 RELEASE=0 ACQUIRE=0

holds_soon segment_recycle -DSEGMENTS=5 -DROOM=2
holds_soon segment_recycle -DSEGMENTS=5 -DROOM=2 -DNAMED=1
weaker segment_recycle -DSEGMENTS=5 -DROOM=2 -- EARLY=1 LATE=1 BUFFERED=1
weaker segment_recycle -DSEGMENTS=5 -DROOM=2 -DNAMED=1 -- EARLY=1 RENAME=0

check holds sleeper -DNP=2 -DNS=1 -DRECORDS=2 -DDEATHS=1
check holds sleeper -DNP=1 -DNS=1 -DRECORDS=4 -DDEATHS=1 -DFENCED=0
weaker sleeper -DNP=2 -DNS=1 -DRECORDS=2 -DDEATHS=1 -- BARRIER=0 LATESEQ=1 FENCE=0 QUIET=0 CLEAR=1

holds_soon progress -DNW=2 -DROUNDS=1 -DDEATHS=1
check holds progress -DNW=1 -DROUNDS=3 -DDEATHS=1
weaker progress -DNW=2 -DROUNDS=2 -DDEATHS=0 -- TFENCE=0 WFENCE=0 LATE=1 CLEAR=1

holds_soon hand_over -DNP=3 -DCAP=2 -DMAXO=4 -DDEATHS=2 -DFAILURES=1
check holds hand_over -DNP=3 -DCAP=2 -DMAXO=4 -DDEATHS=2 -DFAILURES=1 -DSYNC=0
weaker hand_over -DNP=3 -DCAP=2 -DMAXO=4 -DDEATHS=2 -DFAILURES=1 -- WAIT=0 START=1 RELEASE=1 GIVE=1 ROUND=0 COVER=1
weaker hand_over -DNP=3 -DCAP=2 -DMAXO=4 -DDEATHS=2 -DFAILURES=1 -DSYNC=0 -- WAIT=0 RELEASE=1 MARK=0

if [ -n "${SPILLWAY_MODEL_LARGE:-}" ]; then
  check holds shared_claim -DMAXO=3 -DREUSES=1 -DBATCH=1
  check holds shared_claim -DMAXO=3 -DSWITCH=1
  check holds lap -DCAP=3 -DMAXO=7 -DCHUNK=2 -DBUFFER=7
  check holds sleeper -DNP=1 -DNS=2 -DRECORDS=2 -DDEATHS=1
  check holds progress -DNW=2 -DROUNDS=2 -DDEATHS=1
  check holds hand_over -DNP=3 -DCAP=4 -DMAXO=6 -DDEATHS=2 -DFAILURES=1
fi
exit $failed
