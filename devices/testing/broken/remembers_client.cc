// A platform device that counts, where no reset comes, how often it was read:
// the next client finds what the last one left. Negative control of the
// conformance suite.

#include "devices/bus/platform_device.h"
#include "devices/runtime/device_main.h"

namespace {

constexpr holdfast::Reg32 kReads{"reads", 0x00, holdfast::kReadOnly};

struct RemembersState {
  static constexpr holdfast::SchemaId kSchema{"remembers", /*version=*/1};
  holdfast::Cell<uint32_t> reads{"reads"};
};

class RemembersClient final : public holdfast::PlatformDevice {
 public:
  static holdfast::PlatformSpec Spec() {
    return holdfast::PlatformSpec().Region({kReads}).State<RemembersState>();
  }
  explicit RemembersClient(holdfast::PlatformContext& context)
      : state_(context.State<RemembersState>()) {}

  absl::Status OnRead(const holdfast::RegRead&,
                      holdfast::PlatformTxn& txn) override {
    txn.Set(state_.reads, txn.Get(state_.reads) + 1);
    txn.Set(kReads, txn.Get(state_.reads));
    return absl::OkStatus();
  }

 private:
  const RemembersState state_;
};

}  // namespace

HOLDFAST_DEVICE_MAIN(RemembersClient)
