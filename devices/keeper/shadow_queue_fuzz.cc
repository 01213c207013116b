// The input is a back-end that writes anything into its ring, and a driver that
// writes anything into the guest's: nothing outside of them is touched
// (AddressSanitizer), every turn ends, and no request is answered twice.
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "devices/bus/guest_memory.h"
#include "devices/keeper/shadow_queue.h"
#include "devices/virtqueue/vring_layout.h"
#include "statestore/inflight.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;

class Program {
 public:
  explicit Program(FuzzInput& input)
      : input_(input), size_(1 << (input.Take<uint8_t>() % 5)) {
    const bool event_idx = (input_.Take<uint8_t>() & 1) != 0;
    config_.size = size_;
    config_.event_idx = event_idx;
    config_.descriptors = Allocate(vring::DescriptorBytes(size_));
    config_.available = Allocate(vring::AvailableBytes(size_, event_idx));
    config_.used = Allocate(vring::UsedBytes(size_, event_idx));
    available_ = Allocate(vring::AvailableBytes(size_, event_idx));
    used_ = Allocate(vring::UsedBytes(size_, event_idx));
    table_ = Allocate(InflightRegionSize(size_));
    Begin();
  }

  void Run() {
    while (!input_.empty() && queue_.has_value()) Step();
  }

 private:
  uint8_t* Allocate(size_t bytes) {
    sizes_.push_back(bytes);
    areas_.emplace_back(new uint8_t[bytes]());
    return areas_.back().get();
  }
  void Begin() {
    queue_.reset();
    auto guest = SplitRing::Create(
        config_, &memory_,
        *InflightTable::Attach({table_, InflightRegionSize(size_)}, size_));
    Require(guest.ok());
    auto queue = ShadowQueue::Begin(
        *std::move(guest),
        ShadowRing(available_, used_, size_, config_.event_idx),
        input_.Take<uint16_t>());
    if (!queue.ok()) return;
    queue_.emplace(*std::move(queue));
    const uint8_t how = input_.Take<uint8_t>();
    if ((how & 2) != 0) {
      const uint16_t head = input_.Take<uint8_t>();
      (void)queue_->Refuse({0, head, input_.Take<uint8_t>()}, KickBack::kScsi);
    }
    queue_->Give((how & 1) != 0);
  }
  // Anything, anywhere in a ring; mostly near its beginning.
  void Scribble(size_t area) {
    const size_t at = input_.Take<uint8_t>() % sizes_[area];
    areas_[area][at] = input_.Take<uint8_t>();
  }
  void Step() {
    const uint8_t what = input_.Take<uint8_t>();
    switch (what % 8) {
      case 0:
        return Scribble(1);  // The guest's available ring.
      case 1:
        return Scribble(2);  // Its used ring, which is ours.
      case 2:
        return Scribble(3);  // What was given to the back-end.
      case 3:
        return Scribble(4);  // What it answers.
      case 4:
        return Begin();
      case 5:
        (void)queue_->Rest((what & 8) != 0);
        return;
      default:
        Turn((what & 8) != 0);
    }
  }
  void Turn(bool takes) {
    const uint16_t before = queue_->in_flight();
    const auto turn = queue_->Turn(takes);
    Require(queue_->in_flight() <= size_);
    if (!turn.ok()) Require(queue_->in_flight() == before);
    if (!takes) Require(queue_->in_flight() <= before);
  }

  FuzzInput& input_;
  const uint16_t size_;
  std::vector<std::unique_ptr<uint8_t[]>> areas_;
  std::vector<size_t> sizes_;
  SplitRingConfig config_;
  uint8_t* available_;
  uint8_t* used_;
  uint8_t* table_;
  GuestMemory memory_;
  std::optional<ShadowQueue> queue_;
};

}  // namespace
}  // namespace holdfast::keeper

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::testing::FuzzInput input(data, size);
  holdfast::keeper::Program(input).Run();
  return 0;
}
