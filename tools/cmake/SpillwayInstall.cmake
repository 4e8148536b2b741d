# What `cmake --install` puts where: headers, libraries, the command, the CMake package, the systemd unit, documents.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/spillway")

foreach(layer IN ITEMS core ipc persist)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/${layer}/" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/spillway/${layer}"
    FILES_MATCHING PATTERN "*.h")
endforeach()
install(FILES "${PROJECT_SOURCE_DIR}/persist/spillway.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/spillway")

install(TARGETS spillway_core spillway_ipc spillway_persist EXPORT spillwayTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(EXPORT spillwayTargets NAMESPACE spillway:: DESTINATION "${package_dir}")
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/spillwayConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/spillwayConfig.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/spillwayConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)  # no promise about the C++ interface between minor versions before 1.0
install(FILES
  "${PROJECT_BINARY_DIR}/spillwayConfig.cmake"
  "${PROJECT_BINARY_DIR}/spillwayConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/FindISAL.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/Findconcurrentqueue.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/Findliburing.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/FindxxHash.cmake"
  DESTINATION "${package_dir}")

if(TARGET spillway)
  install(TARGETS spillway RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  # Filled in by the installation, because `cmake --install --prefix` may choose another prefix than the build knew.
  install(CODE "
    set(CMAKE_INSTALL_FULL_BINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
    set(CMAKE_INSTALL_FULL_DOCDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DOCDIR}\")
    configure_file(\"${PROJECT_SOURCE_DIR}/tools/spillway.service.in\" \"${PROJECT_BINARY_DIR}/spillway.service\" @ONLY)")
  install(FILES "${PROJECT_BINARY_DIR}/spillway.service" DESTINATION lib/systemd/system)
  install(FILES "${PROJECT_SOURCE_DIR}/tools/spillway.sysusers" DESTINATION lib/sysusers.d RENAME spillway.conf)
endif()

install(FILES
  "${PROJECT_SOURCE_DIR}/README.md" "${PROJECT_SOURCE_DIR}/ARCHITECTURE.md"
  "${PROJECT_SOURCE_DIR}/CHANGELOG.md" "${PROJECT_SOURCE_DIR}/LICENSE"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}")
