#ifndef HOLDFAST_DEVICES_BUS_RANDOM_SYS_H_
#define HOLDFAST_DEVICES_BUS_RANDOM_SYS_H_

#include <cstdint>

#include "absl/types/span.h"

namespace holdfast {

// Fills `out` with random bytes of the kernel's generator (getrandom(2)).
// Thread-safe; blocks only before the machine has gathered entropy at boot.
void FillRandom(absl::Span<uint8_t> out);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_RANDOM_SYS_H_
