// The registers of register_torture.h, and one more:
//
// BAR 0:  0x18  poison  read or written: the process crashes
#include "tests/recovery/register_torture.h"

#include "devices/runtime/device_main.h"

namespace {

constexpr holdfast::Reg32 kPoison{"poison", 0x18, holdfast::kReadWrite};

class PoisonedTorture final : public holdfast::RegisterTorture {
 public:
  static holdfast::PciSpec Spec() {
    return SpecOf({kCount, kSum, kWrites, kRaise, kLatch, kSet, kPoison});
  }

  using RegisterTorture::RegisterTorture;

  absl::Status OnRead(const holdfast::RegRead& read,
                      holdfast::PciTxn& txn) override {
    if (read.Is(kPoison)) __builtin_trap();
    return RegisterTorture::OnRead(read, txn);
  }

  absl::Status OnWrite(const holdfast::RegWrite& write,
                       holdfast::PciTxn& txn) override {
    if (write.Is(kPoison)) __builtin_trap();
    return RegisterTorture::OnWrite(write, txn);
  }
};

}  // namespace

HOLDFAST_DEVICE_MAIN(PoisonedTorture)
