#ifndef HOLDFAST_DEVICES_BUS_PCI_STATE_H_
#define HOLDFAST_DEVICES_BUS_PCI_STATE_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "devices/bus/pci_spec.h"
#include "devices/bus/register_banks.h"
#include "devices/bus/registers.h"
#include "statestore/transaction.h"

namespace holdfast {

namespace pci {

// What the framework remembers of a function beside configuration space:
// registers that no guest sees, in a file of their own, with those of
// access_keeper.h and work_keeper.h.
inline constexpr uint32_t kInternal = RegisterBanks::kOwn;
inline constexpr Reg8 kIntxLevel =
    Reg8{"intx_level", 0x21, kReadWrite}.InBar(kInternal);
// Interrupts that may not have been signalled: bit 0 of the first word is INTx,
// bits 32 on are MSI; then MSI-X.
inline constexpr size_t kUnsentWords = 1 + kMaxMsixVectors / 64;
inline constexpr Reg64 kUnsent =
    Reg64{"unsent", 0x80, kReadWrite}.Array(kUnsentWords).InBar(kInternal);

}  // namespace pci

// All registers of a function, and where they are in the segment.
class PciState : public RegisterBanks {
 public:
  // Errors: PciSpec::Resolve, RegisterBanks::Add.
  static absl::StatusOr<PciState> Create(const PciSpec& spec);

  // As PciSpec::Resolve made it.
  const PciSpec& spec() const { return spec_; }

  // What a reset does to registers: all of the guest's are new, and no
  // interrupt is left. Work is a WorkKeeper's.
  void Reset(StateTxn& txn) const;

 private:
  explicit PciState(PciSpec spec) : spec_(std::move(spec)) {}

  PciSpec spec_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PCI_STATE_H_
