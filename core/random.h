// Random numbers from the kernel, for identities that must not repeat (incarnations, salts).
#pragma once

#include <cstdint>

namespace spillway {

std::uint64_t random_u64();  // never 0

}  // namespace spillway
