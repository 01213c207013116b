// The registers of register_torture in the memory of the process, as servers
// have them that know of no segment: the negative control.
#include <cstdint>

#include "devices/runtime/device_main.h"

namespace {

constexpr holdfast::Reg32 kCount{"count", 0x00, holdfast::kReadOnly};
constexpr holdfast::Reg32 kSum{"sum", 0x04, holdfast::kReadWrite};
constexpr holdfast::Reg32 kWrites{"writes", 0x08, holdfast::kReadOnly};
constexpr holdfast::Reg32 kLatch{"latch", 0x10, holdfast::kReadToClear};
constexpr holdfast::Reg32 kSet{"set", 0x14, holdfast::kWriteOnly};

class ForgetfulRegisters final : public holdfast::PciDevice {
 public:
  static holdfast::PciSpec Spec() {
    return holdfast::PciSpec(holdfast::PciId{0x1b36, 0x00fe})
        .Bar(0,
             holdfast::RegisterFile{kCount, kSum, kWrites, kLatch, kSet}.Size(
                 4096));
  }

  explicit ForgetfulRegisters(holdfast::PciContext&) {}

  absl::Status OnRead(const holdfast::RegRead& read,
                      holdfast::PciTxn& txn) override {
    if (read.Is(kCount)) txn.Set(kCount, ++count_);
    if (read.Is(kSum)) txn.Set(kSum, sum_);
    if (read.Is(kWrites)) txn.Set(kWrites, writes_);
    if (read.Is(kLatch)) txn.Set(kLatch, latch_);
    if (read.Is(kLatch)) latch_ = 0;
    return absl::OkStatus();
  }

  absl::Status OnWrite(const holdfast::RegWrite& write,
                       holdfast::PciTxn&) override {
    const auto written = static_cast<uint32_t>(write.written());
    if (write.Is(kSet)) latch_ |= written;
    if (!write.Is(kSum)) return absl::OkStatus();
    sum_ = 31 * sum_ + written;
    ++writes_;
    return absl::OkStatus();
  }

 private:
  uint32_t count_ = 0, sum_ = 0, writes_ = 0, latch_ = 0;
};

}  // namespace

HOLDFAST_DEVICE_MAIN(ForgetfulRegisters)
