#include "devices/testing/conformance.h"

namespace holdfast::testing {

const ConformanceCheck* FindCheck(absl::string_view name) {
  for (const auto checks : {CommandLineChecks(), ProtocolChecks(),
                            SessionChecks(), CrashChecks()}) {
    for (const ConformanceCheck& check : checks) {
      if (name == check.name) return &check;
    }
  }
  return nullptr;
}

}  // namespace holdfast::testing
