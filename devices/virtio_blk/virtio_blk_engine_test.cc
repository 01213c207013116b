// The seam between device and engine, with an engine whose operations end when
// and how the test wants, under the queue's own threads.
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/block/block_engine.h"
#include "devices/runtime/testing/queue_rig_sys.h"
#include "devices/testing/fake_context.h"
#include "devices/virtio_blk/protocol.h"
#include "devices/virtio_blk/virtio_blk.h"
#include "gtest/gtest.h"

namespace holdfast::virtio_blk {
namespace {

using ::holdfast::testing::FakeContext;
using ::holdfast::testing::FakeDriver;
using ::holdfast::testing::QueueRig;
using ::testing::IsEmpty;

constexpr uint64_t kDiskSize = 1 << 20;

// Every operation waits until the test ends it.
class LateEngine final : public block::BlockEngine {
 public:
  uint32_t BlockSize() const override { return 512; }
  absl::StatusOr<uint64_t> Size() const override { return kDiskSize; }
  absl::Status Read(uint64_t offset, absl::Span<const Buffer> to) override {
    const absl::Status result = Wait(offset);
    // A read that fails may have come to any byte.
    const size_t fill = result.ok() ? 512 : 100;
    for (const Buffer& buffer : to) {
      std::memset(buffer.data, Letter(offset), std::min(fill, buffer.size));
    }
    return result;
  }
  absl::Status Write(uint64_t offset, absl::Span<const Buffer>) override {
    return Wait(offset);
  }
  absl::Status Flush() override { return Wait(kFlush); }
  absl::Status Discard(uint64_t offset, uint64_t) override {
    return Wait(offset);
  }
  absl::Status WriteZeroes(uint64_t offset, uint64_t, bool) override {
    return Wait(offset);
  }

  static constexpr uint64_t kFlush = ~uint64_t{0};
  static uint8_t Letter(uint64_t offset) {
    return static_cast<uint8_t>('a' + offset / 512 % 26);
  }

  void AwaitBegun(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return begun_.size() == count; });
  }
  void End(uint64_t offset, absl::Status result = absl::OkStatus()) {
    std::lock_guard<std::mutex> lock(mutex_);
    results_[offset] = std::move(result);
    changed_.notify_all();
  }

 private:
  absl::Status Wait(uint64_t offset) {
    std::unique_lock<std::mutex> lock(mutex_);
    begun_.insert(offset);
    changed_.notify_all();
    changed_.wait(lock, [&] { return results_.count(offset) > 0; });
    const absl::Status result = results_[offset];
    results_.erase(offset);
    begun_.erase(offset);
    return result;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<uint64_t> begun_;
  std::map<uint64_t, absl::Status> results_;
};

class BlockEngineTest : public ::testing::Test {
 protected:
  BlockEngineTest() : context_(*VirtioBlk::Spec(DeviceOptions())) {
    auto engine = std::make_unique<LateEngine>();
    engine_ = engine.get();
    device_ = std::make_unique<VirtioBlk>(
        context_, std::move(engine), kDiskSize, /*read_only=*/false, "s",
        /*queue_count=*/1, QueueRig::kRingSize);
    device_->OnFeatures(kFeatureFlush);
    runner_ = rig_.Runner(*device_, /*workers=*/4);
    EXPECT_OK(rig_.Start(*runner_));
  }
  void TearDown() override {
    runner_->Stop();
    EXPECT_THAT(rig_.driver().violations(), IsEmpty());
    EXPECT_EQ(rig_.driver().outstanding(), 0u);
  }

  // Posts a request; `room` bytes for data and one for the status.
  uint64_t Post(RequestType type, uint64_t sector, size_t payload,
                uint32_t room) {
    const RequestHeader header = {static_cast<uint32_t>(type), 0, sector};
    std::vector<uint8_t> bytes(sizeof(header) + payload, 'w');
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::vector<QueueRig::DriverBuffer> chain = {
        QueueRig::DriverBuffer::Readable(std::move(bytes))};
    if (room > 0) chain.push_back(QueueRig::DriverBuffer::Writable(room));
    chain.push_back(QueueRig::DriverBuffer::Writable(1));
    const auto number = rig_.driver().Post(chain);
    EXPECT_TRUE(number.has_value());
    rig_.Kick();
    return number.value_or(0);
  }
  uint64_t PostRead(uint64_t sector) {
    return Post(RequestType::kIn, sector, 0, 512);
  }
  FakeDriver::Answer Answer() {
    std::vector<FakeDriver::Answer> answers;
    while ((answers = rig_.driver().Collect()).empty()) usleep(200);
    EXPECT_EQ(answers.size(), 1u);
    return answers[0];
  }
  void ExpectRead(const FakeDriver::Answer& answer, uint64_t sector) {
    std::vector<uint8_t> right(513, LateEngine::Letter(sector * 512));
    right.back() = 0;
    EXPECT_EQ(answer.written, 513u);
    EXPECT_EQ(answer.data, right);
  }

  QueueRig rig_;
  FakeContext context_;
  LateEngine* engine_;
  std::unique_ptr<VirtioBlk> device_;
  std::unique_ptr<QueueRunner> runner_;
};

TEST_F(BlockEngineTest, AnswersComeAsTheEngineEnds) {
  std::vector<uint64_t> numbers;
  for (uint64_t sector : {0, 1, 2, 3}) numbers.push_back(PostRead(sector));
  engine_->AwaitBegun(4);
  EXPECT_THAT(rig_.driver().Collect(), IsEmpty());
  for (uint64_t sector : {2, 0, 3, 1}) {
    engine_->End(sector * 512);
    const FakeDriver::Answer answer = Answer();
    EXPECT_EQ(answer.request, numbers[sector]);
    ExpectRead(answer, sector);
  }
}

// As many as there are workers are in the engine; the others wait for one.
TEST_F(BlockEngineTest, TheRestWaitsForAFreeWorker) {
  for (uint64_t sector = 0; sector < 6; ++sector) PostRead(sector);
  engine_->AwaitBegun(4);
  engine_->End(3 * 512);
  ExpectRead(Answer(), 3);
  engine_->AwaitBegun(4);
  for (uint64_t sector : {4, 2, 5, 1, 0}) {
    engine_->End(sector * 512);
    ExpectRead(Answer(), sector);
  }
}

TEST_F(BlockEngineTest, AFailureMeetsItsOwnRequestOnly) {
  const uint64_t first = PostRead(0);
  const uint64_t write = Post(RequestType::kOut, 8, 512, 0);
  const uint64_t second = PostRead(1);
  engine_->AwaitBegun(3);
  engine_->End(0, absl::UnknownError("EIO after 100 bytes"));
  FakeDriver::Answer answer = Answer();
  EXPECT_EQ(answer.request, first);
  EXPECT_EQ(answer.written, 1u);
  EXPECT_EQ(answer.data.back(), static_cast<uint8_t>(RequestStatus::kIoError));
  engine_->End(8 * 512, absl::ResourceExhaustedError("disk full"));
  answer = Answer();
  EXPECT_EQ(answer.request, write);
  EXPECT_EQ(answer.data.back(), static_cast<uint8_t>(RequestStatus::kIoError));
  engine_->End(512);
  answer = Answer();
  EXPECT_EQ(answer.request, second);
  ExpectRead(answer, 1);
}

// What is durable is up to the engine: a flush says so when it ends, however
// long it takes, and holds nobody up.
TEST_F(BlockEngineTest, AFlushThatIsLateHoldsNobodyUp) {
  const uint64_t flush = Post(RequestType::kFlush, 0, 0, 0);
  PostRead(5);
  engine_->AwaitBegun(2);
  engine_->End(5 * 512);
  ExpectRead(Answer(), 5);
  engine_->End(LateEngine::kFlush);
  EXPECT_EQ(Answer().request, flush);
}

}  // namespace
}  // namespace holdfast::virtio_blk
