// Telling systemd (Type=notify) how a service stands.
#pragma once

#include <string_view>

namespace spillway::command {

// Sends `state` ("READY=1", "STOPPING=1") to $NOTIFY_SOCKET. Does nothing where there is none, and never fails: a service
// works without being watched.
void notify_service_manager(std::string_view state) noexcept;

}  // namespace spillway::command
