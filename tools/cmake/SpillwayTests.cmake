# Registers the test cases of a Catch2 executable with ctest. Catch2's own module can't give tests a list of
# labels, and differs between 2 and 3.

set(spillway_list_tests_script "${CMAKE_CURRENT_LIST_DIR}/list_tests.cmake")

# The cases of `target` become the tests <folder>/<case>, found by running it once it is built.
function(spillway_discover_tests target folder)
  set(tests_file "${CMAKE_CURRENT_BINARY_DIR}/${target}_tests.cmake")
  set(include_file "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake")
  if(Catch2_VERSION VERSION_LESS 3)
    set(list_arguments --list-test-names-only)
    set(run_arguments --warn NoTests)
  else()
    set(list_arguments --list-tests --verbosity quiet)
    set(run_arguments --warn UnmatchedTestSpec)
  endif()
  add_custom_command(TARGET ${target} POST_BUILD
    BYPRODUCTS "${tests_file}"
    COMMAND "${CMAKE_COMMAND}"
      "-DEXECUTABLE=$<TARGET_FILE:${target}>" "-DLIST_ARGUMENTS=${list_arguments}" "-DRUN_ARGUMENTS=${run_arguments}"
      "-DFOLDER=${folder}" "-DTIMEOUT=${test_timeout}" "-DOUTPUT=${tests_file}" -P "${spillway_list_tests_script}"
    COMMENT "" VERBATIM)
  file(WRITE "${include_file}"
    "if(EXISTS \"${tests_file}\")\n  include(\"${tests_file}\")\n"
    "else()\n  add_test(${target}_not_built ${target}_not_built)\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${include_file}")
endfunction()
