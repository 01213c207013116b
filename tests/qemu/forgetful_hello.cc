// hello_virtio that keeps its counter in its process: the negative control of
// the test that kills it.
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

class ForgetfulHello final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256);
  }

  explicit ForgetfulHello(holdfast::VirtioContext&) {}

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

HOLDFAST_DEVICE_MAIN(ForgetfulHello)
