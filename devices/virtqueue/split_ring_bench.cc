// What in-flight tracking costs a split ring: pop, chain walk, publish and the
// question about interrupts, with and without a table, in interleaved rounds.
// The ratio is the median of the rounds' ratios. Run with -c opt.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "devices/virtqueue/chain.h"
#include "devices/virtqueue/split_ring.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "devices/virtqueue/vring_layout.h"
#include "statestore/inflight.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FakeDriver;

constexpr uint16_t kSize = 256;
constexpr int kRounds = 51;
constexpr int kRequestsARound = 200000;

// A ring with kSize requests of three buffers, which the driver makes available
// again and again without touching anything but the index.
class Bench {
 public:
  Bench(bool tracked, size_t batch) : driver_(Options()), batch_(batch) {
    for (uint16_t i = 0; i < kSize; ++i) {
      using Buffer = FakeDriver::Buffer;
      driver_.Post({Buffer::Readable(std::vector<uint8_t>(16)),
                    Buffer::Writable(4096), Buffer::Writable(1)});
    }
    driver_.avail_index() = 0;
    absl::optional<InflightTable> table;
    if (tracked) table = *InflightTable::Attach(absl::MakeSpan(region_), kSize);
    ring_ = std::make_unique<SplitRing>(
        *SplitRing::Create(driver_.config(), &driver_.memory(), table));
    if (!ring_->Recover(0).ok()) std::abort();
  }

  // Nanoseconds a request.
  double Run() {
    const auto start = std::chrono::steady_clock::now();
    for (int done = 0; done < kRequestsARound; done += batch_) Turn();
    const std::chrono::duration<double, std::nano> took =
        std::chrono::steady_clock::now() - start;
    return took.count() / kRequestsARound;
  }

 private:
  static FakeDriver::Options Options() {
    FakeDriver::Options options;
    options.size = kSize;
    options.indirect = true;
    options.memory_size = 4 << 20;
    return options;
  }

  void Turn() {
    __atomic_store_n(&driver_.avail_index(),
                     static_cast<uint16_t>(driver_.avail_index() + batch_),
                     __ATOMIC_RELEASE);
    for (size_t i = 0; i < batch_; ++i) {
      const Popped popped = ring_->Pop();
      if (popped.result != PopResult::kRequest ||
          !ring_->ReadChain(popped.head, chain_).ok()) {
        std::abort();
      }
      completions_[i] = {popped.head, chain_.writable_size()};
    }
    if (!ring_->Publish({completions_.data(), batch_}).ok()) std::abort();
    ring_->NeedsInterrupt();
  }

  FakeDriver driver_;
  alignas(64) std::array<uint8_t, InflightRegionSize(kSize)> region_ = {};
  std::unique_ptr<SplitRing> ring_;
  Chain chain_;
  std::array<Completion, kSize> completions_;
  size_t batch_;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2,
                   values.end());
  return values[values.size() / 2];
}

void Compare(size_t batch) {
  Bench tracked(true, batch);
  Bench plain(false, batch);
  std::vector<double> with, without, ratio;
  for (int round = 0; round < kRounds; ++round) {
    with.push_back(tracked.Run());
    without.push_back(plain.Run());
    ratio.push_back(with.back() / without.back());
  }
  std::printf("%5zu %10.1f / %6.1f %10.1f / %6.1f %9.3f\n", batch,
              Median(without),
              *std::min_element(without.begin(), without.end()), Median(with),
              *std::min_element(with.begin(), with.end()), Median(ratio));
}

}  // namespace
}  // namespace holdfast

int main() {
  std::printf("ns a request (median / min), ring of %d, %d rounds\n",
              holdfast::kSize, holdfast::kRounds);
  std::printf("batch          untracked             tracked     ratio\n");
  for (size_t batch : {1, 8, 32}) holdfast::Compare(batch);
}
