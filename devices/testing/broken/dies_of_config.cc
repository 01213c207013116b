// Believes that configuration space is read in whole words, and does not
// survive anything else. Negative control of the conformance suite.

#include <cstdlib>

#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

class WordsOnly final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256)
        .ConfigSize(8);
  }

  explicit WordsOnly(holdfast::VirtioContext&) {}

  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    txn.Complete(request, request.Write("."));
    return absl::OkStatus();
  }
  void ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const override {
    if (offset % 4 != 0 || out.size() % 4 != 0) std::abort();
    for (uint8_t& byte : out) byte = 7;
  }
};

}  // namespace

HOLDFAST_DEVICE_MAIN(WordsOnly)
