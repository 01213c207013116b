#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"

namespace {

// Its configuration space is the size of a file. Once it has served a request
// it does not survive the news that the file has grown: it dies after it has
// asked to have that told, and before that can have happened.
class Growing final : public holdfast::VirtioDevice {
 public:
  static holdfast::VirtioSpec Spec() {
    return holdfast::VirtioSpec(holdfast::virtio::kDeviceIdRng)
        .ConfigSize(sizeof(uint64_t))
        .Resource("file", "whose size is shown")
        .Queue("requestq", /*max_size=*/256);
  }

  explicit Growing(holdfast::VirtioContext& context)
      : context_(context), size_(Measure()) {}

  absl::Status OnRequest(holdfast::Request& request,
                         holdfast::Txn& txn) override {
    served_ = true;
    txn.Complete(request, request.Write("."));
    return absl::OkStatus();
  }

  void ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const override {
    std::memcpy(out.data(), reinterpret_cast<const uint8_t*>(&size_) + offset,
                out.size());
  }

  void OnResourceChanged() override {
    const uint64_t size = Measure();
    if (size == size_) return;
    size_ = size;
    context_.NotifyConfigChange();
    volatile uintptr_t nowhere = 8;  // Else gcc sees it, and warns.
    if (served_) *reinterpret_cast<volatile int*>(nowhere) = 1;
  }

 private:
  uint64_t Measure() const {
    return static_cast<uint64_t>(
        lseek(context_.Resource("file").get(), 0, SEEK_END));
  }

  holdfast::VirtioContext& context_;
  uint64_t size_;
  std::atomic<bool> served_{false};
};

}  // namespace

HOLDFAST_DEVICE_MAIN(Growing)
