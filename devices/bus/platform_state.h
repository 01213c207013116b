#ifndef HOLDFAST_DEVICES_BUS_PLATFORM_STATE_H_
#define HOLDFAST_DEVICES_BUS_PLATFORM_STATE_H_

#include <utility>

#include "absl/status/statusor.h"
#include "devices/bus/platform_spec.h"
#include "devices/bus/register_banks.h"
#include "devices/bus/registers.h"
#include "statestore/transaction.h"

namespace holdfast {

namespace platform {

// What the framework remembers of a device: registers that no guest sees, in a
// file of their own, with those of access_keeper.h and work_keeper.h.
inline constexpr uint32_t kInternal = RegisterBanks::kOwn;
inline constexpr Reg32 kLevels =
    Reg32{"levels", 0x20, kReadWrite}.InBar(kInternal);
// Lines that may not have been signalled.
inline constexpr Reg32 kUnsent =
    Reg32{"unsent", 0x24, kReadWrite}.InBar(kInternal);

}  // namespace platform

// All registers of a platform device, and where they are in the segment.
class PlatformState : public RegisterBanks {
 public:
  // Errors: PlatformSpec::Check, RegisterBanks::Add.
  static absl::StatusOr<PlatformState> Create(const PlatformSpec& spec);

  const PlatformSpec& spec() const { return spec_; }

 private:
  explicit PlatformState(PlatformSpec spec) : spec_(std::move(spec)) {}

  PlatformSpec spec_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PLATFORM_STATE_H_
