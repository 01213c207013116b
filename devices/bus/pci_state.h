#ifndef HOLDFAST_DEVICES_BUS_PCI_STATE_H_
#define HOLDFAST_DEVICES_BUS_PCI_STATE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/bus/access_keeper.h"
#include "devices/bus/pci_spec.h"
#include "devices/bus/register_bank.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast {

namespace pci {

// What the framework remembers of a function beside configuration space:
// registers that no guest sees, in a file of their own, with those of
// access_keeper.h.
inline constexpr uint32_t kInternal = access::kBank;
inline constexpr Reg64 kWorkOrdered =
    Reg64{"work_ordered", 0x08, kReadWrite}.InBar(kInternal);
inline constexpr Reg64 kWorkRunning =
    Reg64{"work_running", 0x10, kReadWrite}.InBar(kInternal);
inline constexpr Reg64 kResets =
    Reg64{"resets", 0x18, kReadWrite}.InBar(kInternal);
inline constexpr Reg8 kIntxLevel =
    Reg8{"intx_level", 0x21, kReadWrite}.InBar(kInternal);
// Interrupts that may not have been signalled: bit 0 of the first word is INTx,
// bits 32 on are MSI; then MSI-X.
inline constexpr size_t kUnsentWords = 1 + kMaxMsixVectors / 64;
inline constexpr Reg64 kUnsent =
    Reg64{"unsent", 0x80, kReadWrite}.Array(kUnsentWords).InBar(kInternal);

}  // namespace pci

// All registers of a function, and where they are in the segment. Immutable
// once bound.
class PciState {
 public:
  // Errors: PciSpec::Resolve, RegisterBank::AddFields.
  static absl::StatusOr<PciState> Create(const PciSpec& spec);

  // As PciSpec::Resolve made it.
  const PciSpec& spec() const { return spec_; }
  // Of a new segment: what the device declared, then all registers.
  const Schema& schema() const { return schema_; }
  // Errors: RegisterBank::Bind. CheckCompatible is the caller's.
  absl::Status Bind(const Schema& stored);

  // The registers of a BAR or of configuration space; null: it has none.
  const RegisterBank* bank(uint32_t region) const {
    return region < banks_.size() ? banks_[region].get() : nullptr;
  }

  // For the device itself. A register that the spec does not declare fails the
  // transaction.
  uint64_t Get(StateTxn& txn, const Register& reg, uint32_t index = 0) const;
  void Set(StateTxn& txn, const Register& reg, uint64_t value,
           uint32_t index = 0) const;

  // What a reset does to registers: all of the guest's are new, no interrupt is
  // left and no work.
  void Reset(StateTxn& txn) const;

 private:
  explicit PciState(PciSpec spec) : spec_(std::move(spec)) {}
  absl::Status AddBank(const char* file, uint32_t region,
                       const RegisterFile& registers);

  PciSpec spec_;
  Schema schema_;
  std::array<std::unique_ptr<RegisterBank>, pci::kInternal + 1> banks_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PCI_STATE_H_
