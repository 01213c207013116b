// Whatever a guest writes to configuration space, registers, MSI-X table and
// memory, in any width and at any offset: constants stay, BARs keep their size,
// no vector is signalled that a driver has not enabled; a successor that takes
// over at any point answers as the predecessor would have, and an access
// repeated under its name changes nothing.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "devices/bus/testing/fuzz_access.h"
#include "devices/bus/testing/pci_guest.h"

namespace {

using ::holdfast::AccessId;
using ::holdfast::kBar64;
using ::holdfast::kPciConfigRegion;
using ::holdfast::kPciIntxIrq;
using ::holdfast::kPciMsiIrq;
using ::holdfast::kPciMsixIrq;
using ::holdfast::kReadOnly;
using ::holdfast::kReadToClear;
using ::holdfast::kReadWrite;
using ::holdfast::kWriteOneToClear;
using ::holdfast::kWriteOnly;
using ::holdfast::PciContext;
using ::holdfast::PciDevice;
using ::holdfast::PciId;
using ::holdfast::PciSpec;
using ::holdfast::PciTxn;
using ::holdfast::Reg16;
using ::holdfast::Reg32;
using ::holdfast::Reg64;
using ::holdfast::RegWrite;
using ::holdfast::testing::AccessTwice;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::FuzzStep;
using ::holdfast::testing::PciClassOf;
using ::holdfast::testing::PciGuest;
using ::holdfast::testing::Require;
using ::holdfast::testing::TakeStep;

constexpr Reg32 kData{"data", 0x00, kReadWrite};
constexpr Reg16 kEvents{"events", 0x04, kReadToClear};
constexpr Reg16 kFlags{"flags", 0x06, kWriteOneToClear, 0xffff};
constexpr Reg32 kInterrupt{"interrupt", 0x08, kWriteOnly};
constexpr Reg32 kWork{"work", 0x0c, kWriteOnly};
constexpr Reg64 kWorked{"worked", 0x10, kReadOnly};

class Target final : public PciDevice {
 public:
  static PciSpec Spec() {
    return PciSpec(PciId{0x1234, 0x5678})
        .Bar(0, {kData, kEvents, kFlags, kInterrupt, kWork, kWorked})
        .MemoryBar(2, 4096, kBar64)
        .Intx()
        .Msi(4)
        .Msix(3)
        .PowerManagement()
        .Express()
        .Vendor({1, 2, 3}, 5);
  }
  explicit Target(PciContext&) {}

  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    if (write.Is(kData)) txn.Set(kEvents, txn.Get(kEvents) + 1);
    if (write.Is(kInterrupt)) txn.Interrupt(write.value() % 3);
    if (write.Is(kInterrupt) && write.value() > 99) txn.SetIntx(false);
    if (write.Is(kWork)) txn.Order(write.value() % 64);
    if (write.value() == 0x66) return absl::InvalidArgumentError("no");
    return absl::OkStatus();
  }
  absl::Status OnWork(uint32_t work, PciContext& context) override {
    (void)context.dma().Write(holdfast::GuestAddress{work}, {1, 2, 3});
    return context.Update([work](PciTxn& txn) {
      txn.Set(kWorked, txn.Get(kWorked) * 3 + work);
      txn.Done(work);
      return absl::OkStatus();
    });
  }
};

// As far as configuration space is not empty.
constexpr size_t kConfig = 256;

std::vector<uint8_t> All(PciGuest& guest) {
  std::vector<uint8_t> all(kConfig + 64);
  // Names nothing, and reads nothing that changes.
  Require(guest.function()
              .Read(AccessId::kNone, kPciConfigRegion, 0,
                    absl::MakeSpan(all).first(kConfig))
              .ok());
  Require(guest.function()
              .Read(AccessId::kNone, 5, 0, absl::MakeSpan(all).subspan(kConfig))
              .ok());
  return all;
}

void CheckInvariants(PciGuest& guest, const std::vector<uint8_t>& all) {
  const auto word = [&](size_t at) {
    uint32_t value;
    std::memcpy(&value, &all[at], 4);
    return value;
  };
  Require(word(0x00) == 0x56781234);
  Require(word(0x08) == 0xff000000);
  Require((word(0x10) & 31) == 0);
  Require(word(0x14) == 0);
  Require((word(0x18) & 0xfff) == 4);
  Require((word(0x24) & 0xfff) == 0);
  Require(word(0x64) == 5 && word(0x68) == (0x800 | 5));
  Require((word(0x60) >> 16 & 0x7ff) == 2);
  Require(all[0x34] == 0x40);
  for (uint32_t v = 3; v < PciGuest::kMaxVectors; ++v) {
    Require(guest.signals(kPciMsixIrq, v) == 0);
    Require(guest.signals(kPciMsiIrq, v) == 0);
    Require(guest.signals(kPciIntxIrq, v) == 0);
  }
}

// A guest that enables nothing but by this access gets nothing by messages.
bool MessagesPossible(const std::vector<uint8_t>& all) {
  return (all[0x04] & 4) != 0 &&
         ((all[0x4a] & 1) != 0 || (all[0x63] & 0x80) != 0);
}

uint64_t Messages(const PciGuest& guest) {
  uint64_t sum = 0;
  for (uint32_t v = 0; v < PciGuest::kMaxVectors; ++v) {
    sum += guest.signals(kPciMsiIrq, v) + guest.signals(kPciMsixIrq, v);
  }
  return sum;
}

constexpr uint32_t kRegions[] = {kPciConfigRegion, 0, 5, 2, 0,
                                 kPciConfigRegion, 1, 9};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Made once, as inputs are many: each begins with the memory of a new device.
  static auto* const guest = new PciGuest(PciClassOf<Target>());
  static const auto* const image =
      new std::vector<uint8_t>(guest->memory().begin(), guest->memory().end());
  FuzzInput input(data, size);
  std::copy(image->begin(), image->end(), guest->memory().begin());
  guest->Attach(guest->memory());
  std::vector<uint8_t> all = All(*guest);
  for (uint64_t i = 1; i <= 8 && !input.empty(); ++i) {
    const FuzzStep step = TakeStep(input, kRegions, 256);
    const uint64_t messages = Messages(*guest);
    const bool possible = MessagesPossible(all);
    const bool accepted = AccessTwice(guest->function(), AccessId{i}, step,
                                      [] { return Messages(*guest); });
    std::vector<uint8_t> now = All(*guest);
    Require(accepted || now == all);
    Require(possible || MessagesPossible(now) || Messages(*guest) == messages);
    CheckInvariants(*guest, now);
    const bool more = guest->function().work_pending() || step.kind % 64 == 63;
    while (guest->function().work_pending()) {
      (void)guest->function().RunWork();
    }
    if (step.kind % 64 == 63) Require(guest->function().Reset().ok());
    all = more ? All(*guest) : std::move(now);
    if (step.kind % 8 >= 6) guest->Attach(guest->memory());
  }
  // What the process kept is lost: nothing that anybody sees was there.
  if (size % 64 == 63) {
    guest->Restart();
    Require(All(*guest) == all);
  }
  return 0;
}
