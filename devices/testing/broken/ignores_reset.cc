// A device whose driver can write its configuration, and which has no Reset():
// the next driver finds what the last one wrote. Negative control of the
// conformance suite. Its state survives kills, as it should.

#include <cstring>

#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

class IgnoresReset final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256)
        .ConfigSize(sizeof(config_));
  }

  explicit IgnoresReset(holdfast::VirtioContext&) {}

  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    txn.Complete(request, request.Write("."));
    return absl::OkStatus();
  }
  void ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const override {
    std::memcpy(out.data(), config_ + offset, out.size());
  }
  absl::Status WriteConfig(uint32_t offset,
                           absl::Span<const uint8_t> bytes) override {
    std::memcpy(config_ + offset, bytes.data(), bytes.size());
    return absl::OkStatus();
  }

 private:
  uint8_t config_[8] = {};
};

}  // namespace

HOLDFAST_DEVICE_MAIN(IgnoresReset)
