// A PCI function whose registers betray every access that is lost, done twice
// or done out of order.
//
// BAR 0:  0x00  count   read: how often it was read, this time included
//         0x04  sum     write: sum = 31 * sum + value; read: the sum
//         0x08  writes  read: how often the sum was written
//         0x0c  raise   write: interrupts
//         0x10  latch   read: what was set since, and nothing is set any more
//         0x14  set     write: sets bits of the latch
//         0x18  poison  read or written: the process crashes
#include "devices/runtime/device_main.h"

namespace {

constexpr holdfast::Reg32 kCount{"count", 0x00, holdfast::kReadOnly};
constexpr holdfast::Reg32 kSum{"sum", 0x04, holdfast::kReadWrite};
constexpr holdfast::Reg32 kWrites{"writes", 0x08, holdfast::kReadOnly};
constexpr holdfast::Reg32 kRaise{"raise", 0x0c, holdfast::kWriteOnly};
constexpr holdfast::Reg32 kLatch{"latch", 0x10, holdfast::kReadToClear};
constexpr holdfast::Reg32 kSet{"set", 0x14, holdfast::kWriteOnly};
constexpr holdfast::Reg32 kPoison{"poison", 0x18, holdfast::kReadWrite};

class RegisterTorture final : public holdfast::PciDevice {
 public:
  static holdfast::PciSpec Spec() {
    return holdfast::PciSpec(holdfast::PciId{0x1b36, 0x00fe})
        .Bar(0, holdfast::RegisterFile{kCount, kSum, kWrites, kRaise, kLatch,
                                       kSet, kPoison}
                    .Size(4096))
        .Msix(/*vectors=*/1);
  }

  explicit RegisterTorture(holdfast::PciContext&) {}

  absl::Status OnRead(const holdfast::RegRead& read,
                      holdfast::PciTxn& txn) override {
    if (read.Is(kPoison)) __builtin_trap();
    if (read.Is(kCount)) txn.Set(kCount, txn.Get(kCount) + 1);
    return absl::OkStatus();
  }

  absl::Status OnWrite(const holdfast::RegWrite& write,
                       holdfast::PciTxn& txn) override {
    if (write.Is(kPoison)) __builtin_trap();
    const auto written = static_cast<uint32_t>(write.written());
    if (write.Is(kSum)) {
      txn.Set(kSum, 31 * static_cast<uint32_t>(write.old()) + written);
      txn.Set(kWrites, txn.Get(kWrites) + 1);
    }
    if (write.Is(kRaise)) txn.Interrupt(0);
    if (write.Is(kSet)) txn.Set(kLatch, txn.Get(kLatch) | written);
    return absl::OkStatus();
  }
};

}  // namespace

HOLDFAST_DEVICE_MAIN(RegisterTorture)
