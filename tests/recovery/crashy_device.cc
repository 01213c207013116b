#include <cstdint>
#include <string>

#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

// Answers every request with one byte, except those that begin with 'X' or 'Y':
// these it does not survive, the latter after it has written all of the answer.
class Crashy final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256, /*workers=*/3);
  }

  explicit Crashy(holdfast::VirtioContext&) {}

  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    uint8_t first = 0;
    request.Read({&first, 1});
    if (first == 'Y') {
      request.Write(std::string(request.writable_size(), 'Y'));
    }
    if (first == 'X' || first == 'Y') {
      volatile uintptr_t nowhere = 8;  // Else gcc sees it, and warns.
      *reinterpret_cast<volatile int*>(nowhere) = 1;
    }
    txn.Complete(request, request.Write("."));
    return absl::OkStatus();
  }
};

}  // namespace

HOLDFAST_DEVICE_MAIN(Crashy)
