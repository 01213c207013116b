// Whatever a guest writes to a platform device, in any width and at any offset:
// an access repeated under its name changes nothing, one that is refused has
// not happened, lines are signalled only as the device drives them, and a
// successor that takes over at any point answers as the predecessor would have.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "devices/bus/testing/fuzz_access.h"
#include "devices/bus/testing/platform_guest.h"

namespace {

using ::holdfast::AccessId;
using ::holdfast::GuestAddress;
using ::holdfast::kConstant;
using ::holdfast::kReadOnly;
using ::holdfast::kReadToClear;
using ::holdfast::kReadWrite;
using ::holdfast::kWriteOneToClear;
using ::holdfast::kWriteOnly;
using ::holdfast::PlatformContext;
using ::holdfast::PlatformDevice;
using ::holdfast::PlatformSpec;
using ::holdfast::PlatformTxn;
using ::holdfast::Reg16;
using ::holdfast::Reg32;
using ::holdfast::Reg64;
using ::holdfast::RegWrite;
using ::holdfast::testing::AccessTwice;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::FuzzStep;
using ::holdfast::testing::PlatformClassOf;
using ::holdfast::testing::PlatformGuest;
using ::holdfast::testing::Require;
using ::holdfast::testing::TakeStep;

constexpr Reg32 kVersion{"version", 0x00, kConstant, 0x12345678};
constexpr Reg16 kEvents{"events", 0x04, kReadToClear};
constexpr Reg16 kFlags{"flags", 0x06, kWriteOneToClear, 0xffff};
constexpr Reg32 kLevel{"level", 0x08, kReadWrite};
constexpr Reg32 kPulse{"pulse", 0x0c, kWriteOnly};
constexpr Reg32 kWork{"work", 0x10, kWriteOnly};
constexpr Reg64 kWorked{"worked", 0x18, kReadOnly};
constexpr Reg64 kTable = Reg64{"table", 0, kReadWrite}.Array(4).InBar(1);

class Target final : public PlatformDevice {
 public:
  static PlatformSpec Spec() {
    return PlatformSpec()
        .Region({kVersion, kEvents, kFlags, kLevel, kPulse, kWork, kWorked})
        .Region({kTable})
        .LevelLine()
        .EdgeLine()
        .LevelLine();  // Never driven.
  }
  explicit Target(PlatformContext&) {}

  absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) override {
    if (write.Is(kLevel)) txn.SetLine(0, write.value() % 2 != 0);
    if (write.Is(kPulse)) txn.Pulse(1);
    if (write.Is(kPulse)) txn.Set(kEvents, txn.Get(kEvents) + 1);
    if (write.Is(kWork)) txn.Order(write.value() % 64);
    if (write.value() == 0x66) return absl::InvalidArgumentError("no");
    return absl::OkStatus();
  }
  absl::Status OnWork(uint32_t work, PlatformContext& context) override {
    (void)context.dma().Write(GuestAddress{work}, {1, 2, 3});
    return context.Update([work](PlatformTxn& txn) {
      txn.Set(kWorked, txn.Get(kWorked) * 3 + work);
      txn.Done(work);
      return absl::OkStatus();
    });
  }
};

// All that reading does not change.
std::vector<uint8_t> All(PlatformGuest& guest) {
  const auto fields =
      holdfast::testing::CommittedFields(guest.state(), guest.layout().schema);
  return {fields.begin(), fields.end()};
}

constexpr uint32_t kRegions[] = {0, 1, 2};
constexpr uint32_t kOffsets = 40;

bool LevelOf(PlatformGuest& guest) {
  uint32_t level = 0;
  Require(guest.function()
              .Read(AccessId::kNone, 0, kLevel.offset(),
                    {reinterpret_cast<uint8_t*>(&level), sizeof(level)})
              .ok());
  return level % 2 != 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Made once, as inputs are many: each begins with the memory of a new device.
  static auto* const guest = new PlatformGuest(PlatformClassOf<Target>());
  static const auto* const image =
      new std::vector<uint8_t>(guest->memory().begin(), guest->memory().end());
  FuzzInput input(data, size);
  std::copy(image->begin(), image->end(), guest->memory().begin());
  guest->Attach(guest->memory());
  for (uint64_t i = 1; i <= 8 && !input.empty(); ++i) {
    const FuzzStep step = TakeStep(input, kRegions, kOffsets);
    const std::vector<uint8_t> before = All(*guest);
    const uint64_t signals = guest->signals(0);
    const bool was = LevelOf(*guest);
    const bool accepted = AccessTwice(guest->function(), AccessId{i}, step, [] {
      return std::make_pair(All(*guest), guest->signals(1));
    });
    Require(accepted || All(*guest) == before);
    Require(guest->signals(0) - signals == (!was && LevelOf(*guest) ? 1u : 0u));
    guest->Work();
    if (step.kind % 64 == 63) Require(guest->function().Reset().ok());
    if (step.kind % 8 >= 6) guest->Attach(guest->memory());
    Require(guest->signals(2) == 0);
  }
  const std::vector<uint8_t> last = All(*guest);
  const bool level = LevelOf(*guest);
  const uint64_t signals = guest->signals(0);
  // What the process kept is lost: nothing that anybody sees was there.
  if (size % 16 == 15) {
    guest->Restart();
    Require(All(*guest) == last && LevelOf(*guest) == level);
    Require(guest->signals(0) - signals == (level ? 1u : 0u));
  }
  return 0;
}
