# Run by the build after a test executable is linked: asks it for its cases and writes OUTPUT, which ctest includes.
# In: EXECUTABLE, LIST_ARGUMENTS, RUN_ARGUMENTS, FOLDER, TIMEOUT, OUTPUT.
cmake_minimum_required(VERSION 3.25)

# The names of the cases that match `spec` (all visible ones when it is empty).
function(list_cases spec result_variable)
  execute_process(COMMAND "${EXECUTABLE}" ${spec} ${LIST_ARGUMENTS}
    OUTPUT_VARIABLE names ERROR_VARIABLE errors RESULT_VARIABLE result)
  if(NOT result MATCHES "^[0-9]+$" OR errors MATCHES "rror")
    message(FATAL_ERROR "${EXECUTABLE} could not list its test cases (${result}):\n${errors}${names}")
  endif()
  if(names MATCHES ";")
    message(FATAL_ERROR "${EXECUTABLE}: a test case's name contains a semicolon, which CMake takes for a list")
  endif()
  string(REGEX MATCHALL "[^\n]+" names "${names}")
  set(${result_variable} "${names}" PARENT_SCOPE)
endfunction()

list_cases("" cases)
list_cases("[threads]" threads)
list_cases("[serial]" serial)

list(JOIN RUN_ARGUMENTS " " run_arguments)  # they make a pattern that matches nothing a failure
set(script "")
foreach(case IN LISTS cases)
  set(labels "${FOLDER}")
  if(case IN_LIST threads)
    string(APPEND labels ";threads")
  endif()
  set(run_serial OFF)
  if(case IN_LIST serial)
    set(run_serial ON)
  endif()
  # Catch2 reads its argument as a pattern: what would be syntax there is escaped.
  string(REGEX REPLACE "([][,\\\\])" "\\\\\\1" pattern "${case}")
  string(APPEND script
    "add_test([==[${FOLDER}/${case}]==] [==[${EXECUTABLE}]==] [==[${pattern}]==] ${run_arguments})\n"
    "set_tests_properties([==[${FOLDER}/${case}]==] PROPERTIES LABELS [==[${labels}]==] TIMEOUT ${TIMEOUT} "
    "SKIP_RETURN_CODE 77 RUN_SERIAL ${run_serial})\n")
endforeach()
file(WRITE "${OUTPUT}" "${script}")
