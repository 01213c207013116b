#include "sandbox/rlimits_sys.h"

#include <cerrno>

namespace holdfast::sandbox {

bool CutToHardLimit(Limit& limit) {
  rlimit own;
  const auto resource = static_cast<__rlimit_resource>(limit.resource);
  if (getrlimit(resource, &own) != 0 || limit.value <= own.rlim_max) {
    return false;
  }
  limit.value = own.rlim_max;
  return true;
}

int ApplyLimits(const Limit* limits, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const rlimit value = {limits[i].value, limits[i].value};
    if (setrlimit(static_cast<__rlimit_resource>(limits[i].resource), &value) !=
        0) {
      return errno;
    }
  }
  return 0;
}

}  // namespace holdfast::sandbox
