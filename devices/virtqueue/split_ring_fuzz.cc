// The input is a program: a driver that scribbles anywhere in the rings, the
// in-flight region and the memory, at any time, and a device that calls in any
// order and uses what it is given. Everything is allocated to the byte, so that
// AddressSanitizer sees any access beside it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "devices/bus/guest_memory.h"
#include "devices/virtqueue/chain.h"
#include "devices/virtqueue/split_ring.h"
#include "devices/virtqueue/vring_layout.h"
#include "statestore/inflight.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;

struct Area {
  explicit Area(size_t bytes) : size(bytes), bytes(new uint8_t[bytes]()) {}

  size_t size;
  std::unique_ptr<uint8_t[]> bytes;
};

class Program {
 public:
  explicit Program(FuzzInput& input)
      : input_(input),
        size_(1 << (input.Take<uint8_t>() % 5)),
        options_(input.Take<uint8_t>()),
        log_(1) {
    const bool event_idx = (options_ & 1) != 0;
    areas_.emplace_back(vring::DescriptorBytes(size_));
    areas_.emplace_back(vring::AvailableBytes(size_, event_idx));
    areas_.emplace_back(vring::UsedBytes(size_, event_idx));
    areas_.emplace_back(InflightRegionSize(size_));
    areas_.emplace_back(kRegionSize);
    areas_.emplace_back(kRegionSize);
    memory_ = *GuestMemory::Create(
        {{GuestAddress{0x1000}, kRegionSize, UserAddress{0x1000}, At(4)},
         {GuestAddress{0x1000 + kRegionSize}, kRegionSize, UserAddress{0x9000},
          At(5)}});
    if ((options_ & 8) != 0) memory_.SetLog({log_.bytes.get(), log_.size});
    Boot();
  }

  void Run() {
    while (!input_.empty()) Step();
  }

 private:
  static constexpr size_t kRegionSize = 512;

  uint8_t* At(size_t area) { return areas_[area].bytes.get(); }

  // A new device process.
  void Boot() {
    SplitRingConfig config;
    config.size = size_;
    config.descriptors = At(0);
    config.available = At(1);
    config.used = At(2);
    config.event_idx = (options_ & 1) != 0;
    config.indirect = (options_ & 2) != 0;
    absl::optional<InflightTable> table;
    if ((options_ & 4) != 0) {
      table = *InflightTable::Attach({At(3), areas_[3].size}, size_);
    }
    ring_ = std::make_unique<SplitRing>(
        *SplitRing::Create(config, &memory_, table));
    if ((options_ & 8) != 0) ring_->SetUsedLog(GuestAddress{0x4000});
    heads_.clear();
  }

  void Step() {
    switch (input_.Take<uint8_t>() % 8) {
      case 0:
        return Pop();
      case 1:
        return Read(input_.Take<uint16_t>());
      case 2:
        return PublishAnything();
      case 3:
        return Scribble();
      case 4:
        ring_->EnableKicks();
        return;
      case 5:
        return Recover();
      case 6:
        return Answer();
      default:
        ring_->NeedsInterrupt();
        ring_->DisableKicks();
    }
  }

  void Pop() {
    const Popped popped = ring_->Pop();
    Require((popped.result == PopResult::kBroken) ==
            (ring_->broken() != nullptr));
    Require(ring_->in_flight() <= size_);
    if (popped.result != PopResult::kRequest) return;
    Require(popped.head < size_);
    heads_.push_back(popped.head);
    Require(heads_.size() == ring_->in_flight());
    Read(popped.head);
  }

  void Read(uint16_t head) {
    if (!ring_->ReadChain(head, chain_).ok()) {
      Require(chain_.readable().empty() && chain_.writable().empty());
      return;
    }
    uint64_t total = 0;
    uint8_t sum = 0;
    for (const ChainSegment& segment : chain_.readable()) {
      Require(segment.size != 0);
      sum ^= segment.data[0] ^ segment.data[segment.size - 1];
      total += segment.size;
    }
    Require(total == chain_.readable_size());
    for (const ChainSegment& segment : chain_.writable()) {
      Require(segment.size != 0);
      segment.data[0] = segment.data[segment.size - 1] = sum;
      total += segment.size;
    }
    Require(total == uint64_t{chain_.readable_size()} + chain_.writable_size());
    ring_->MarkDirty(chain_);
  }

  void PublishAnything() {
    std::vector<Completion> batch(input_.Take<uint8_t>() % 4);
    for (Completion& done : batch) {
      done = {input_.Take<uint16_t>(), input_.Take<uint32_t>()};
    }
    const uint16_t before = ring_->in_flight();
    const bool published = ring_->Publish(batch).ok();
    Require(ring_->in_flight() == before - (published ? batch.size() : 0));
    if (!published) return;
    for (const Completion& done : batch) Forget(done.head);
  }

  void Forget(uint16_t head) {
    for (size_t i = 0; i < heads_.size(); ++i) {
      if (heads_[i] != head) continue;
      heads_.erase(heads_.begin() + i);
      return;
    }
    std::abort();
  }

  // Answers the oldest request.
  void Answer() {
    if (heads_.empty()) return;
    Require(ring_->Publish({{heads_[0], 1}}).ok());
    heads_.erase(heads_.begin());
  }

  void Recover() {
    Boot();
    const auto recovered = ring_->Recover(input_.Take<uint16_t>());
    if (!recovered.ok()) {
      Require(ring_->Pop().result == PopResult::kBroken);
      return;
    }
    Require(recovered->size() == ring_->in_flight());
    for (const InflightRequest& request : *recovered) {
      Require(request.head < size_);
      heads_.push_back(request.head);
    }
  }

  void Scribble() {
    Area& area = areas_[input_.Take<uint8_t>() % areas_.size()];
    const size_t offset = input_.Take<uint16_t>() % area.size;
    const size_t bytes = size_t{1} << (input_.Take<uint8_t>() % 4);
    const uint64_t value = input_.Take<uint64_t>();
    std::memcpy(area.bytes.get() + offset, &value,
                std::min(bytes, area.size - offset));
  }

  FuzzInput& input_;
  uint16_t size_;
  uint8_t options_;          // Event index, indirect, in-flight table, log.
  std::vector<Area> areas_;  // The rings, the region, the memory.
  Area log_;
  GuestMemory memory_;
  std::unique_ptr<SplitRing> ring_;
  std::vector<uint16_t> heads_;  // In flight.
  Chain chain_;
};

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::testing::FuzzInput input(data, size);
  holdfast::Program(input).Run();
  return 0;
}
