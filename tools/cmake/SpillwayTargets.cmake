# How a target of this project is compiled, and how a layer of it becomes a library.

set(SPILLWAY_INCLUDE_ROOT "${PROJECT_BINARY_DIR}/include")

set(spillway_warnings
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor
  -Woverloaded-virtual -Wcast-align -Wcast-qual -Wformat=2 -Wunused -Wundef -Wdouble-promotion
  -Wimplicit-fallthrough -Wextra-semi -Wmissing-declarations)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND spillway_warnings -Wduplicated-cond -Wlogical-op)
  if(SPILLWAY_SANITIZE)
    # The instrumentation hides initializations from g++'s flow analysis; the plain builds still check it.
    list(APPEND spillway_warnings -Wno-maybe-uninitialized)
  endif()
endif()

# Gives `target` our standard, warnings and options. Nothing here reaches whoever links it.
function(spillway_compile_as_ours target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${target} PRIVATE
    ${spillway_warnings}
    $<$<BOOL:${SPILLWAY_WERROR}>:-Werror>
    $<$<BOOL:${SPILLWAY_NATIVE}>:-march=native>
    # An assertion names its file as a reader of the source knows it, not by where it was built.
    "-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/="
    "-fmacro-prefix-map=${SPILLWAY_INCLUDE_ROOT}/=")
endfunction()

# Large headers that most of `target`'s sources include are parsed once. Not with ccache, which would then keep less.
function(spillway_precompile target)
  if(NOT SPILLWAY_CCACHE)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()

# The library spillway_<name> (alias spillway::<name>) from the current folder's sources. Its headers are
# included as spillway/<name>/..., in the tree through a link in the build folder, and once installed for real.
function(spillway_add_layer name)
  file(MAKE_DIRECTORY "${SPILLWAY_INCLUDE_ROOT}/spillway")
  file(CREATE_LINK "${CMAKE_CURRENT_SOURCE_DIR}" "${SPILLWAY_INCLUDE_ROOT}/spillway/${name}" SYMBOLIC)

  file(GLOB sources CONFIGURE_DEPENDS *.cpp *.h)
  set(target spillway_${name})
  add_library(${target} STATIC CMakeLists.txt ${sources})
  add_library(spillway::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} LINKER_LANGUAGE CXX)
  spillway_compile_as_ours(${target})
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC
    "$<BUILD_INTERFACE:${SPILLWAY_INCLUDE_ROOT}>"
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
endfunction()
