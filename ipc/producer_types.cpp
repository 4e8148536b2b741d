#include "spillway/ipc/producer_types.h"

namespace spillway {

std::string_view name_of(AppendStatus status) noexcept {
  switch (status) {
    case AppendStatus::ok: return "ok";
    case AppendStatus::full: return "full";
    case AppendStatus::dropped: return "dropped";
    case AppendStatus::too_large: return "too_large";
    case AppendStatus::no_horizon: return "no_horizon";
    case AppendStatus::gone: return "gone";
    case AppendStatus::corrupt: return "corrupt";
    case AppendStatus::closed: return "closed";
    case AppendStatus::forked: return "forked";
  }
  return "unknown";
}

std::string_view name_of(Blocked cause) noexcept {
  switch (cause) {
    case Blocked::none: return "none";
    case Blocked::disk_behind: return "disk_behind";
    case Blocked::no_persister: return "no_persister";
    case Blocked::no_space: return "no_space";
    case Blocked::io_error: return "io_error";
    case Blocked::damaged: return "damaged";
    case Blocked::no_horizon: return "no_horizon";
    case Blocked::held_by_dead: return "held_by_dead";
    case Blocked::held_by_live: return "held_by_live";
    case Blocked::gated: return "gated";
  }
  return "unknown";
}

}  // namespace spillway
