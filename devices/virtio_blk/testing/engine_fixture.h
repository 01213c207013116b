#ifndef HOLDFAST_DEVICES_VIRTIO_BLK_TESTING_ENGINE_FIXTURE_H_
#define HOLDFAST_DEVICES_VIRTIO_BLK_TESTING_ENGINE_FIXTURE_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/testing/matchers.h"
#include "devices/block/block_engine.h"
#include "devices/block/topology.h"
#include "devices/testing/fake_context.h"
#include "devices/virtio_blk/protocol.h"
#include "devices/virtio_blk/virtio_blk.h"
#include "gtest/gtest.h"

namespace holdfast::virtio_blk {

inline constexpr uint64_t kDiskSize = 1 << 20;
inline constexpr char kOk = 0, kIoError = 1, kUnsupported = 2;

inline std::string Header(RequestType type, uint64_t sector) {
  const RequestHeader header = {static_cast<uint32_t>(type), 0, sector};
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header));
}

inline std::string Range(uint64_t sector, uint32_t count, uint32_t flags) {
  const RangeSegment segment = {sector, count, flags};
  return std::string(reinterpret_cast<const char*>(&segment), sizeof(segment));
}

// An engine that says what it was asked for and answers what the test wants.
class RecordingEngine final : public block::BlockEngine {
 public:
  uint32_t BlockSize() const override { return block_size; }
  absl::StatusOr<uint64_t> Size() const override { return size; }
  absl::Status Read(uint64_t offset, absl::Span<const Buffer> to) override {
    calls.push_back(Call("read", offset, Total(to)));
    // Half of it comes even when the rest fails.
    if (!to.empty()) std::memset(to[0].data, 'r', to[0].size);
    return result;
  }
  absl::Status Write(uint64_t offset, absl::Span<const Buffer> from) override {
    calls.push_back(Call("write", offset, Total(from)));
    return result;
  }
  absl::Status Flush() override {
    calls.push_back("flush");
    return flush_result;
  }
  absl::Status Discard(uint64_t offset, uint64_t bytes) override {
    calls.push_back(Call("discard", offset, bytes));
    return result;
  }
  absl::Status WriteZeroes(uint64_t offset, uint64_t bytes,
                           bool unmap) override {
    calls.push_back(Call(unmap ? "unmap" : "zeroes", offset, bytes));
    return result;
  }

  uint32_t block_size = 512;
  absl::StatusOr<uint64_t> size = kDiskSize;
  absl::Status result, flush_result;
  std::vector<std::string> calls;

 private:
  static uint64_t Total(absl::Span<const Buffer> buffers) {
    uint64_t total = 0;
    for (const Buffer& buffer : buffers) total += buffer.size;
    return total;
  }
  static std::string Call(const char* what, uint64_t offset, uint64_t bytes) {
    return std::string(what) + " " + std::to_string(offset) + "+" +
           std::to_string(bytes);
  }
};

// A disk over such an engine.
class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : context_(*VirtioBlk::Spec(DeviceOptions())) { Make(); }

  void Make(uint64_t capacity = kDiskSize, bool read_only = false,
            std::string serial = "s", uint32_t block_size = 512,
            const block::Topology& topology = {}) {
    auto engine = std::make_unique<RecordingEngine>();
    engine_ = engine.get();
    engine_->block_size = block_size;
    device_ = std::make_unique<VirtioBlk>(context_, std::move(engine), capacity,
                                          read_only, std::move(serial),
                                          /*queue_count=*/3,
                                          /*queue_size=*/128, topology);
    device_->OnFeatures(kFeatureFlush);
  }
  // Its status; what was written is in `written_`.
  int Run(std::vector<std::string> readable, std::vector<size_t> writable) {
    holdfast::testing::FakeRequest request(std::move(readable),
                                           std::move(writable));
    const auto result = context_.Run(*device_, request.request());
    EXPECT_OK(result.status);
    written_ = result.written;
    data_ = request.written();
    return data_.back();
  }
  int Ranges(RequestType type, const std::string& ranges) {
    return Run({Header(type, 0), ranges}, {1});
  }

  holdfast::testing::FakeContext context_;
  std::unique_ptr<VirtioBlk> device_;
  RecordingEngine* engine_;
  size_t written_ = 0;
  std::string data_;
};

}  // namespace holdfast::virtio_blk

#endif  // HOLDFAST_DEVICES_VIRTIO_BLK_TESTING_ENGINE_FIXTURE_H_
