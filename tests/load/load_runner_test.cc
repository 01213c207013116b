#include "tests/load/load_runner.h"

#include <algorithm>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/load/report.h"

namespace holdfast::load {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr uint64_t kBlocks = 256;
constexpr uint32_t kDepth = 8;
constexpr uint32_t kMaxBlocks = 4;
constexpr double kTick = 0.25;  // Seconds a round takes.

// A disk in memory whose requests complete in another order than they came; a
// round of waiting lets the clock tick.
class FakeQueue : public IoQueue {
 public:
  FakeQueue()
      : disk_(kBlocks * kBlockSize),
        buffers_(kDepth, std::vector<uint8_t>(kMaxBlocks * kBlockSize)) {}

  absl::Span<uint8_t> buffer(uint32_t slot) override {
    return absl::MakeSpan(buffers_[slot]);
  }
  void Add(uint32_t slot, const LoadRequest& request) override {
    added_.push_back({slot, request});
    most_in_flight_ = std::max(most_in_flight_, queued_.size() + added_.size());
  }
  absl::Status Submit() override {
    queued_.insert(queued_.end(), added_.begin(), added_.end());
    added_.clear();
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<Completion>> Wait(int) override {
    now_ += kTick;
    std::vector<Completion> completions;
    if (spurious_slot_.has_value()) completions.push_back({*spurious_slot_});
    if (queued_.empty()) return completions;
    const auto next = queued_.begin() + executed_ % queued_.size();
    const Entry entry = *next;
    queued_.erase(next);
    if (executed_++ == swallow_) return completions;
    Execute(entry);
    completions.push_back({entry.slot, executed_ - 1 != fail_});
    return completions;
  }

  double now() const { return now_; }
  size_t most_in_flight() const { return most_in_flight_; }
  int executed() const { return executed_; }
  std::vector<uint8_t>& disk() { return disk_; }

  // Which request, counted from 0, is never answered or fails.
  void Swallow(int request) { swallow_ = request; }
  void Fail(int request) { fail_ = request; }
  void CompleteWithoutRequest(uint32_t slot) { spurious_slot_ = slot; }

 private:
  struct Entry {
    uint32_t slot;
    LoadRequest request;
  };

  void Execute(const Entry& entry) {
    uint8_t* place = &disk_[entry.request.first_block * kBlockSize];
    uint8_t* data = buffers_[entry.slot].data();
    if (entry.request.kind == LoadRequest::Kind::kWrite) {
      std::copy_n(data, entry.request.bytes(), place);
    } else {
      std::copy_n(place, entry.request.bytes(), data);
    }
  }

  std::vector<uint8_t> disk_;
  std::vector<std::vector<uint8_t>> buffers_;
  std::vector<Entry> added_;
  std::vector<Entry> queued_;
  double now_ = 100;
  size_t most_in_flight_ = 0;
  int executed_ = 0;
  int swallow_ = -1;
  int fail_ = -1;
  absl::optional<uint32_t> spurious_slot_;
};

class LoadRunnerTest : public ::testing::Test {
 protected:
  static LoadOptions Load() {
    LoadOptions options;
    options.blocks = kBlocks;
    options.max_request_blocks = kMaxBlocks;
    options.flushes_in_256 = 8;
    return options;
  }
  static RunnerOptions Runner() {
    RunnerOptions options;
    options.depth = kDepth;
    options.gap_threshold = 2 * kTick;
    options.lost_after = 10;
    return options;
  }
  absl::Status RunFor(int requests) {
    return runner_.Run([&] { return queue_.executed() >= requests; });
  }

  FakeQueue queue_;
  VerifiedLoad load_{Load()};
  LoadRunner runner_{&load_, &queue_, [this] { return queue_.now(); },
                     Runner()};
};

TEST_F(LoadRunnerTest, KeepsTheDepthAndEndsWithNothingInFlight) {
  EXPECT_OK(RunFor(1000));
  EXPECT_EQ(queue_.most_in_flight(), kDepth);
  EXPECT_EQ(runner_.in_flight(), 0u);
  EXPECT_GE(load_.counts().operations(), 1000u);
  EXPECT_OK(runner_.ReadBack());
  EXPECT_TRUE(IsClean(load_.counts(), absl::OkStatus()));
}

TEST_F(LoadRunnerTest, ReadBackFindsADiskThatChanged) {
  EXPECT_OK(RunFor(1000));
  std::fill(queue_.disk().begin(), queue_.disk().end(), 0);
  EXPECT_OK(runner_.ReadBack());
  EXPECT_FALSE(IsClean(load_.counts(), absl::OkStatus()));
}

TEST_F(LoadRunnerTest, ARequestThatNeverCompletesIsLost) {
  queue_.Swallow(500);
  EXPECT_THAT(RunFor(1000), StatusIs(absl::StatusCode::kDeadlineExceeded,
                                     HasSubstr("did not complete")));
  EXPECT_GE(runner_.lost_requests().size(), 1u);
  EXPECT_THAT(runner_.lost_requests(), SizeIs(runner_.in_flight()));
}

TEST_F(LoadRunnerTest, ARequestThatFailsIsAnErrorAndTheLoadGoesOn) {
  queue_.Fail(500);
  EXPECT_OK(RunFor(1000));
  EXPECT_EQ(load_.counts().errors, 1u);
}

TEST_F(LoadRunnerTest, ACompletionWithoutARequestEndsTheLoad) {
  queue_.CompleteWithoutRequest(kDepth);
  EXPECT_THAT(RunFor(10),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("slot 8")));
}

TEST_F(LoadRunnerTest, PausesAreMeasuredOnTheGivenClock) {
  queue_.Swallow(2);  // One round without a completion.
  EXPECT_FALSE(RunFor(1000).ok());
  EXPECT_EQ(runner_.gaps().longest_gap(), 2 * kTick);
  EXPECT_THAT(runner_.gaps().gaps(), SizeIs(1));
}

TEST(ReportJson, NamesEveryCount) {
  LoadCounts counts;
  counts.reads = 3;
  counts.writes = 4;
  counts.bad[static_cast<int>(BlockVerdict::kTorn)] = 2;
  GapRecorder gaps(1, 0);
  gaps.Completed(0, 0.5);
  EXPECT_EQ(ReportJson(counts, gaps, absl::InternalError("a \"b\""), 1.5, true),
            "{\"clean\":false,\"status\":\"INTERNAL: a \\\"b\\\"\","
            "\"seconds\":1.5,\"operations\":7,\"reads\":3,\"writes\":4,"
            "\"flushes\":0,\"bytes\":0,\"checked_blocks\":0,\"read_back\":true,"
            "\"errors\":0,\"bad_blocks\":2,\"empty\":0,\"foreign\":0,"
            "\"torn\":2,\"misplaced\":0,\"stale\":0,\"future\":0,"
            "\"longest_gap_ms\":500,\"longest_request_ms\":500}");
}

}  // namespace
}  // namespace holdfast::load
