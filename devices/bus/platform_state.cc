#include "devices/bus/platform_state.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/bus/work_keeper.h"

namespace holdfast {

absl::Status PlatformSpec::Check() const {
  if (regions_.empty() || regions_.size() > kMaxRegions ||
      lines_.size() > kMaxLines) {
    return absl::InvalidArgumentError(absl::StrCat(
        "platform spec: ", regions_.size(), " regions and ", lines_.size(),
        " lines, limits are 1 to ", kMaxRegions, " and ", kMaxLines));
  }
  if (work_threads_ == 0 || work_threads_ > kMaxWorks) {
    return absl::InvalidArgumentError(
        absl::StrCat("platform spec: work on ", work_threads_,
                     " threads, 1 to ", kMaxWorks));
  }
  return areas_.Check("platform spec");
}

absl::StatusOr<PlatformState> PlatformState::Create(const PlatformSpec& spec) {
  RETURN_IF_ERROR(spec.Check());
  PlatformState state(spec);
  RETURN_IF_ERROR(state.SetSchema(spec.schema()));
  RETURN_IF_ERROR(state.Add(
      "platform", platform::kInternal,
      {access::kName, work::kOrdered, work::kRunning, work::kResets,
       platform::kLevels, platform::kUnsent, access::kReady, access::kAnswer}));
  for (uint32_t i = 0; i < spec.regions().size(); ++i) {
    RETURN_IF_ERROR(state.Add(absl::StrCat("region", i), i, spec.regions()[i]));
  }
  RETURN_IF_ERROR(ValidateSchema(state.schema()));
  return state;
}

}  // namespace holdfast
