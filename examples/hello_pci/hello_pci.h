#ifndef HOLDFAST_EXAMPLES_HELLO_PCI_HELLO_PCI_H_
#define HOLDFAST_EXAMPLES_HELLO_PCI_HELLO_PCI_H_

#include "devices/bus/pci_device.h"

namespace hello {

// BAR 0. This table is the register file: the framework lays it out in the
// segment, checks width and access, and answers plain reads by itself.
constexpr holdfast::Reg32 kId{"id", 0x00, holdfast::kConstant, 0x00001e55};
constexpr holdfast::Reg32 kOperand{"operand", 0x04, holdfast::kReadWrite};
constexpr holdfast::Reg32 kResult{"result", 0x08, holdfast::kReadOnly};
constexpr holdfast::Reg32 kStatus{"status", 0x0c, holdfast::kWriteOneToClear};

// Squares numbers, and interrupts when it has.
class Squarer final : public holdfast::PciDevice {
 public:
  static holdfast::PciSpec Spec() {
    return holdfast::PciSpec(holdfast::PciId{0x1b36, 0x00ff, /*revision=*/1})
        .Bar(0, holdfast::RegisterFile{kId, kOperand, kResult, kStatus})
        .Msix(/*vectors=*/1);
  }

  explicit Squarer(holdfast::PciContext&) {}

  // Runs when the new value of the written register is in `txn`. All that it
  // sets becomes true together with the write, which is never half done.
  absl::Status OnWrite(const holdfast::RegWrite& write,
                       holdfast::PciTxn& txn) override {
    if (!write.Is(kOperand)) return absl::OkStatus();
    txn.Set(kResult, static_cast<uint32_t>(write.value() * write.value()));
    txn.Set(kStatus, 1u);
    txn.RaiseMsix(0);  // At least once: may repeat after a crash, never lost.
    return absl::OkStatus();
  }
};

}  // namespace hello

#endif  // HOLDFAST_EXAMPLES_HELLO_PCI_HELLO_PCI_H_
