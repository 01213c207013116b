// hello_virtio with its counter in the process: what a device must not do.
// Negative control of the conformance suite.

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

class LosesState final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256);
  }

  explicit LosesState(holdfast::VirtioContext&) {}

  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    txn.Complete(request,
                 request.Write(absl::StrCat("hello #", ++greetings_, "\n")));
    return absl::OkStatus();
  }

 private:
  uint64_t greetings_ = 0;
};

}  // namespace

HOLDFAST_DEVICE_MAIN(LosesState)
