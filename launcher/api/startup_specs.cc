#include "launcher/api/startup_specs.h"

#include "base/status_macros.h"
#include "launcher/api/spec_text.h"
#include "launcher/api/translate.h"

namespace holdfast::launcher {
namespace {

absl::StatusOr<LaunchSpec> Read(const SpecFile& file) {
  ASSIGN_OR_RETURN(const v1::LaunchSpec proto,
                   ParseSpecText(file.text, file.name));
  return FromProto(proto);
}

}  // namespace

absl::StatusOr<bool> ReadNextSpec(SpecSource& core) {
  ASSIGN_OR_RETURN(const SpecFile file, core.NextSpec());
  if (file.name.empty()) return false;
  const absl::Status status = core.SpecIsRead(file.name, Read(file));
  // Not found: the last words of an api before this one were read meanwhile.
  if (!status.ok() && !absl::IsNotFound(status)) return status;
  return true;
}

}  // namespace holdfast::launcher
