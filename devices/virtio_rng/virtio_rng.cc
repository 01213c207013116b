#include <algorithm>

#include "devices/bus/random_sys.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

// An entropy device (VIRTIO 1.2, section 5.4): fills what the driver posts with
// random bytes. It has no state; a request that a crash interrupted is filled
// with other random bytes.
class VirtioRng final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256);
  }

  explicit VirtioRng(holdfast::VirtioContext&) {}

  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    // One request must not keep the queue for long: the driver asks again.
    constexpr size_t kMaxBytes = 64 * 1024;
    size_t written = 0;
    for (const holdfast::Buffer& buffer : request.writable()) {
      const size_t n = std::min(buffer.size, kMaxBytes - written);
      holdfast::FillRandom({buffer.data, n});
      written += n;
    }
    txn.Complete(request, written);
    return absl::OkStatus();
  }
};

}  // namespace

HOLDFAST_DEVICE_MAIN(VirtioRng)
