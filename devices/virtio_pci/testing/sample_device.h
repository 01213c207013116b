#ifndef HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_SAMPLE_DEVICE_H_
#define HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_SAMPLE_DEVICE_H_

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "devices/bus/virtio_device.h"

namespace holdfast::testing {

// A device that tells what it was told. Two queues, 12 bytes of configuration
// of which the driver may write the last two, some state.
class SampleDevice final : public VirtioDevice {
 public:
  static constexpr uint64_t kFeature = 1u << 3;
  static constexpr uint32_t kConfigSize = 12;

  struct State {
    static constexpr SchemaId kSchema{"sample", 1};
    Cell<uint64_t> served{"served"};
  };

  static VirtioSpec Spec() {
    return VirtioSpec(virtio::kDeviceIdBlock)
        .Queue("first", 256)
        .Queue("second", 64)
        .Features(kFeature)
        .ConfigSize(kConfigSize)
        .State<State>();
  }

  absl::Status OnRequest(Request&, Txn&) override { return absl::OkStatus(); }
  void ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const override {
    std::memcpy(out.data(), config + offset, out.size());
  }
  absl::Status WriteConfig(uint32_t offset,
                           absl::Span<const uint8_t> bytes) override {
    if (offset != kConfigSize - 2 || bytes.size() != 2) {
      return absl::PermissionDeniedError("read-only");
    }
    std::memcpy(config + offset, bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  void OnFeatures(uint64_t accepted) override {
    absl::StrAppend(&said, "features:", absl::Hex(accepted), " ");
  }
  void Reset() override {
    said += "reset ";
    std::memset(config + kConfigSize - 2, 0, 2);
  }

  uint8_t config[kConfigSize] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0};
  std::string said;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_SAMPLE_DEVICE_H_
