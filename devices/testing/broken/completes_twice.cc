// Several workers whose requests end in any order, and no in-flight table: a
// successor goes on at used->idx, answers some requests twice and others
// never. Negative control of the conformance suite.

#include <atomic>
#include <chrono>

#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

class Unordered final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256, /*workers=*/4);
  }

  explicit Unordered(holdfast::VirtioContext&) {}

  // Every fourth request takes long. Busy, because the steady filter has no
  // call to sleep with.
  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    const auto begin = std::chrono::steady_clock::now();
    const std::chrono::milliseconds length(count_++ % 4 == 0 ? 30 : 0);
    while (std::chrono::steady_clock::now() - begin < length) {
    }
    txn.Complete(request, request.Write("."));
    return absl::OkStatus();
  }

 private:
  std::atomic<uint64_t> count_{0};
};

}  // namespace

int main(int argc, char** argv) {
  holdfast::VirtioClass device_class = holdfast::VirtioClassOf<Unordered>();
  device_class.in_flight = holdfast::InFlight::kForgotten;
  return holdfast::DeviceMain(argc, argv,
                              holdfast::OverVhostUser(device_class));
}
