#include "devices/bus/random_sys.h"

#include <sys/random.h>

namespace holdfast {

void FillRandom(absl::Span<uint8_t> out) {
  while (!out.empty()) {
    const ssize_t n = getrandom(out.data(), out.size(), 0);
    if (n > 0) out.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace holdfast
