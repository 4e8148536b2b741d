#!/usr/bin/env bash
# The protocols of claiming, repair and take-over hold in every interleaving of the models beside this file, and each weaker
# version fails: so the models can. Skipped (77) where there is no spin.
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

check holds exclusive_takeover -DDEATHS=2
for weaker in PART=1 CLIP=0 REORDER=1 FIRSTLAP=1; do
  check fails exclusive_takeover "-D$weaker"
done

check holds shared_claim -DMAXO=3 -DRDEATHS=1
check holds shared_claim -DMAXO=3 -DREUSES=1 -DBATCH=1
check fails shared_claim -DMAXO=3 -DPART=1
check fails shared_claim -DMAXO=3 -DLAPCHK=0
check fails shared_claim -DMAXO=3 -DGUESS=1 -DDEATHS=2
check fails shared_claim -DMAXO=3 -DTLATE=1
check fails shared_claim -DMAXO=3 -DUNSETTLED=1 -DREUSES=1 -DBATCH=1
exit $failed
