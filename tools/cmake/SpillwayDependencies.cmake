# Finds what the parts that are switched on need, and names every missing Debian package at once.
# tools/install_dependencies reads that line, so a library counts as present exactly when CMake finds it.
set(spillway_missing "")

# find_package, of which `debian_package` is the usual origin.
macro(spillway_find debian_package)
  find_package(${ARGN} QUIET)
  if(NOT ${ARGV1}_FOUND)
    list(APPEND spillway_missing ${debian_package})
  endif()
endmacro()

if(POLICY CMP0167)  # Boost's own package file instead of CMake's find module, where CMake has dropped the latter
  cmake_policy(SET CMP0167 NEW)
endif()

find_package(Threads REQUIRED)
spillway_find(libboost-dev Boost 1.74)
spillway_find(libisal-dev ISAL)
spillway_find(libxxhash-dev xxHash)
spillway_find(libconcurrentqueue-dev concurrentqueue)
spillway_find(liburing-dev liburing)
spillway_find(nlohmann-json3-dev nlohmann_json 3.9)
if(SPILLWAY_BUILD_TOOLS)
  spillway_find(libcli11-dev CLI11 2.1)
  spillway_find(libfmt-dev fmt 8)
endif()
if(SPILLWAY_BUILD_TESTS)
  find_package(Catch2 3 QUIET)
  if(NOT Catch2_FOUND)
    spillway_find(catch2 Catch2 2.13)
  endif()
endif()
if(SPILLWAY_BUILD_BENCH)
  spillway_find(libbenchmark-dev benchmark)
endif()

if(spillway_missing)
  list(JOIN spillway_missing " " spillway_missing)
  message(NOTICE "missing packages: ${spillway_missing}")
  message(FATAL_ERROR "tools/install_dependencies installs them, or give their place in CMAKE_PREFIX_PATH.")
endif()
