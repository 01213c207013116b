// hello_virtio's relative that serves every --compat-version, known or not.
// Negative control of the conformance suite.

#include <cstring>
#include <vector>

#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

class Plain final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256);
  }

  explicit Plain(holdfast::VirtioContext&) {}

  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    txn.Complete(request, request.Write("."));
    return absl::OkStatus();
  }
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<char*> arguments;
  for (int i = 0; i < argc; ++i) {
    if (std::strncmp(argv[i], "--compat-version", 16) != 0) {
      arguments.push_back(argv[i]);
    }
  }
  return holdfast::DeviceMain(static_cast<int>(arguments.size()),
                              arguments.data(),
                              holdfast::DeviceClassOf<Plain>());
}
