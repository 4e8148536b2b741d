#include "spillway/core/error.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace spillway {

std::string_view name_of(Code code) noexcept {
  switch (code) {
    case Code::invalid_argument: return "invalid_argument";
    case Code::not_found: return "not_found";
    case Code::conflict: return "conflict";
    case Code::busy: return "busy";
    case Code::no_slot: return "no_slot";
    case Code::no_space: return "no_space";
    case Code::no_permission: return "no_permission";
    case Code::io: return "io";
    case Code::corrupt: return "corrupt";
    case Code::unsupported: return "unsupported";
    case Code::ring_elsewhere: return "ring_elsewhere";
    case Code::ring_stale: return "ring_stale";
    case Code::gone: return "gone";
    case Code::forked: return "forked";
  }
  return "unknown";
}

Error::Error(Code code, std::string sentence, int errno_value)
    : std::runtime_error(std::move(sentence)), code_(code), errno_(errno_value) {}

Error system_error(int errno_value, const std::string& what_failed) {
  Code code = Code::io;
  const char* cure = "";
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
      code = Code::no_space;
      cure = "; free some space or choose a smaller size";
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = Code::no_permission;
      cure = "; check the owner and mode of the directory, or choose another one";
      break;
    case ENOENT: code = Code::not_found; break;
    case ELOOP:
      code = Code::no_permission;
      cure = " (a symbolic link stands there, and links are not followed); remove it, and put the file itself there";
      break;
    case EISDIR: cure = " (a directory stands where a file should be); remove it, and put the file back"; break;
    case ENXIO: cure = "; a pipe, a socket or a device stands there; remove it"; break;
    case ENOTDIR: cure = "; what stands above it is a file; remove that, or choose another directory"; break;
    case EFBIG: cure = "; raise the limit of file sizes (ulimit -f)"; break;
    case EMFILE:
    case ENFILE: cure = "; raise the limit of open files (ulimit -n)"; break;
    case ENOMEM:
      code = Code::no_space;
      cure = "; not enough memory";
      break;
    default: break;
  }
  return Error(code, what_failed + ": " + std::strerror(errno_value) + cure, errno_value);
}

void detail::assert_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "spillway: bug: %s does not hold at %s:%d; stopping before harm is done\n", expression, file,
               line);
  std::abort();
}

}  // namespace spillway
