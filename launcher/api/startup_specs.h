#ifndef HOLDFAST_LAUNCHER_API_STARTUP_SPECS_H_
#define HOLDFAST_LAUNCHER_API_STARTUP_SPECS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launcher/core_protocol.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// Who has the text specs of --spec-dir: the core, see CoreClient.
class SpecSource {
 public:
  virtual ~SpecSource() = default;
  virtual absl::StatusOr<SpecFile> NextSpec() = 0;
  virtual absl::Status SpecIsRead(const std::string& file,
                                  const absl::StatusOr<LaunchSpec>& spec) = 0;
};

// Reads the next text spec for the core, which can not: it has no protobuf.
// Whether there was one, so that there may be more; an error when the core did
// not answer as it should, not when a spec is bad. Pure.
absl::StatusOr<bool> ReadNextSpec(SpecSource& core);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_STARTUP_SPECS_H_
