#ifndef HOLDFAST_TESTS_RECOVERY_REGISTER_TORTURE_H_
#define HOLDFAST_TESTS_RECOVERY_REGISTER_TORTURE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "devices/bus/pci_device.h"

namespace holdfast {

// A PCI function whose registers betray every access that is lost, done twice
// or done out of order.
//
// BAR 0:  0x00  count   read: how often it was read, this time included
//         0x04  sum     write: sum = 31 * sum + value; read: the sum
//         0x08  writes  read: how often the sum was written
//         0x0c  raise   write: interrupts
//         0x10  latch   read: what was set since, and nothing is set any more
//         0x14  set     write: sets bits of the latch
class RegisterTorture : public PciDevice {
 public:
  static constexpr Reg32 kCount{"count", 0x00, kReadOnly};
  static constexpr Reg32 kSum{"sum", 0x04, kReadWrite};
  static constexpr Reg32 kWrites{"writes", 0x08, kReadOnly};
  static constexpr Reg32 kRaise{"raise", 0x0c, kWriteOnly};
  static constexpr Reg32 kLatch{"latch", 0x10, kReadToClear};
  static constexpr Reg32 kSet{"set", 0x14, kWriteOnly};

  static PciSpec Spec() {
    return SpecOf({kCount, kSum, kWrites, kRaise, kLatch, kSet});
  }

  explicit RegisterTorture(PciContext&) {}

  absl::Status OnRead(const RegRead& read, PciTxn& txn) override {
    if (read.Is(kCount)) txn.Set(kCount, txn.Get(kCount) + 1);
    return absl::OkStatus();
  }

  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    const auto written = static_cast<uint32_t>(write.written());
    if (write.Is(kSum)) {
      txn.Set(kSum, 31 * static_cast<uint32_t>(write.old()) + written);
      txn.Set(kWrites, txn.Get(kWrites) + 1);
    }
    if (write.Is(kRaise)) txn.Interrupt(0);
    if (write.Is(kSet)) txn.Set(kLatch, txn.Get(kLatch) | written);
    return absl::OkStatus();
  }

 protected:
  static PciSpec SpecOf(RegisterFile file) {
    return PciSpec(PciId{0x1b36, 0x00fe})
        .Bar(0, file.Size(4096))
        .Msix(/*vectors=*/1);
  }
};

}  // namespace holdfast

#endif  // HOLDFAST_TESTS_RECOVERY_REGISTER_TORTURE_H_
