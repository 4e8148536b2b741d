#!/usr/bin/env bash
# Every row of an ORDER table has a litmus test that names it, and every row that a litmus test names is there.
#
# A row begins with its tag, or tags, in the comment that begins with `// ORDER.`:      //   S1, S3  ...
# A test case names its rows in the comment right above it, some in each line:          // ROW: space.cpp S1, S3; repair.cpp R7
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Prints "<file name> <tag>" for each row of the tables in the files given.
rows_of_tables() {
  awk '
    FNR == 1 { inside = 0 }
    /^\/\/ ORDER\./ { inside = 1; next }
    !/^\/\// { inside = 0 }
    inside && match($0, /^\/\/   [A-Z][0-9]*(, [A-Z][0-9]*)* /) {
      name = FILENAME; sub(/.*\//, "", name)
      count = split(substr($0, 6, RLENGTH - 6), tags, ", ")
      for (i = 1; i <= count; ++i) print name, tags[i]
    }' "$@"
}

# The same for each row that a test case names. A ROW comment with no test case under it is reported.
rows_of_tests() {
  awk '
    function orphan() { if (pending != "") print "nowhere:", pending; pending = "" }
    /^\/\/ ROW: / {
      line = $0; sub(/^\/\/ ROW: /, "", line)
      count = split(line, files, "; ")
      for (i = 1; i <= count; ++i) {
        name = files[i]; sub(/ .*/, "", name)
        list = files[i]; sub(/^[^ ]* /, "", list)
        n = split(list, tags, ", ")
        for (j = 1; j <= n; ++j) rows = rows name " " tags[j] "\n"
      }
      pending = FILENAME ":" FNR
      next
    }
    /^TEST_CASE/ { printf "%s", rows; rows = ""; pending = "" }
    !/^\/\// { orphan(); rows = "" }
    END { orphan() }' "$@"
}

mapfile -t tables < <(grep -l '^// ORDER\.' core/*.cpp ipc/*.cpp persist/*.cpp tools/*.cpp 2>/dev/null || true)
wanted=$(rows_of_tables "${tables[@]}" | sort -u)
named=$(rows_of_tests tests/litmus/*.cpp | sort -u)
problems=$(
  comm -23 <(echo "$wanted") <(echo "$named") | sed 's/$/: this row of its ORDER table has no litmus test/'
  comm -13 <(echo "$wanted") <(echo "$named") | sed 's/$/: named by a litmus test, and no ORDER table has it/'
)
if [ -n "$problems" ]; then
  echo "$problems"
  exit 1
fi
count=$(grep -c . <<<"$wanted")
echo "$count rows in ${#tables[@]} ORDER tables, each with its litmus test"
[ "$count" -ge 30 ]  # a table that is not understood is not one without rows
