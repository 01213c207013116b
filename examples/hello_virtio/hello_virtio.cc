#include "absl/strings/str_cat.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

// Survives kill -9 and upgrades: it lives in the segment, not in this process.
// A field keeps its name and type forever.
struct HelloState {
  static constexpr holdfast::SchemaId kSchema{"hello", /*version=*/1};
  holdfast::Cell<uint64_t> greetings{"greetings"};  // Requests answered.
};

class Hello final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .Queue("requestq", /*max_size=*/256)
        .State<HelloState>();
  }

  explicit Hello(holdfast::VirtioContext& context)
      : state_(context.State<HelloState>()) {}

  // Runs on the queue's thread. After a crash the same request may come again;
  // what `txn` records takes effect exactly once.
  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    const uint64_t n = txn.Get(state_.greetings) + 1;
    const size_t written = request.Write(absl::StrCat("hello #", n, "\n"));
    txn.Set(state_.greetings, n);
    txn.Complete(request, written);  // Used ring and state commit together.
    return absl::OkStatus();         // An error aborts the transaction.
  }

 private:
  const HelloState state_;
};

}  // namespace

HOLDFAST_DEVICE_MAIN(Hello)
