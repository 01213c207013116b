#include "devices/keeper/shadow_pump_sys.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/keeper/shadow_session.h"
#include "devices/keeper/testing/shadow_worker.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/inflight.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::FakeDriver;
using testing::ShadowWorker;
using Buffer = FakeDriver::Buffer;

constexpr uint16_t kSize = 16;
constexpr uint16_t kQueue = 3;

bool Comes(BorrowedFd event) {
  pollfd poll_fd = {event.get(), POLLIN, 0};
  if (poll(&poll_fd, 1, 20'000) != 1) return false;
  eventfd_t count;
  return eventfd_read(event.get(), &count) == 0;
}

// A guest's ring with a driver, and a back-end's.
class ShadowPumpTest : public ::testing::Test {
 protected:
  ShadowPumpTest() : driver_(OptionsOf()) { Begin(); }

  static FakeDriver::Options OptionsOf() {
    FakeDriver::Options options;
    options.size = kSize;
    return options;
  }
  ShadowPump::Ends Ends(bool takes = true) {
    return {BorrowedFd(kick_), BorrowedFd(call_), takes};
  }
  void Begin(bool on_trial = false) {
    auto guest = SplitRing::Create(
        driver_.config(), &driver_.memory(),
        *InflightTable::Attach({reinterpret_cast<uint8_t*>(table_.data()),
                                table_.size() * sizeof(uint64_t)},
                               kSize));
    ASSERT_OK(guest);
    auto queue = ShadowQueue::Begin(
        *std::move(guest),
        ShadowRing(bytes(), bytes() + 1024, kSize, /*event_idx=*/false), 0);
    ASSERT_OK(queue);
    queue->Give(on_trial);
    const auto held = pump_.Hold();
    pump_.Set(kQueue, *std::move(queue));
    pump_.Run(kQueue, Ends());
  }
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(memory_.data()); }
  BorrowedFd kick() const { return pump_.Get(ShadowKickSlot(kQueue)); }
  BorrowedFd call() const { return pump_.Get(ShadowCallSlot(kQueue)); }
  void Post() {
    ASSERT_TRUE(driver_.Post({Buffer::Writable(4)}).has_value());
    eventfd_write(kick_.get(), 1);
  }
  std::vector<uint16_t> Taken(size_t count) {
    std::vector<uint16_t> heads;
    while (heads.size() < count && Comes(kick())) {
      for (const uint16_t head : worker_.Take()) heads.push_back(head);
    }
    return heads;
  }
  void Answer(uint32_t id) {
    worker_.Answer(id, 4);
    eventfd_write(call().get(), 1);
  }
  size_t Answered(size_t count) {
    size_t answers = 0;
    while (answers < count && Comes(call_)) answers += driver_.Collect().size();
    return answers;
  }

  FakeDriver driver_;
  std::vector<uint64_t> table_ =
      std::vector<uint64_t>(InflightRegionSize(kSize) / 8);
  std::vector<uint64_t> memory_ = std::vector<uint64_t>(512);
  UniqueFd kick_{eventfd(0, EFD_NONBLOCK)};
  UniqueFd call_{eventfd(0, EFD_NONBLOCK)};
  ShadowWorker worker_{bytes(), bytes() + 1024, kSize};
  ShadowPump pump_;  // Ends before what it works on.
};

TEST_F(ShadowPumpTest, MovesWhatThereIs) {
  for (int i = 0; i < 1000; ++i) {
    Post();
    const std::vector<uint16_t> heads = Taken(1);
    ASSERT_EQ(heads.size(), 1u);
    Answer(heads[0]);
    ASSERT_EQ(Answered(1), 1u);
  }
  EXPECT_THAT(driver_.violations(), ::testing::IsEmpty());
}

TEST_F(ShadowPumpTest, HasDescriptorsOfItsOwnOnly) {
  EXPECT_TRUE(kick().valid());
  EXPECT_NE(kick().get(), call().get());
  EXPECT_FALSE(pump_.Get(store::kSlotConnection).valid());
}

TEST_F(ShadowPumpTest, WhoHoldsItIsAlone) {
  Post();
  const std::vector<uint16_t> heads = Taken(1);
  ASSERT_EQ(heads.size(), 1u);
  const auto held = pump_.Hold();
  worker_.Answer(heads[0], 4);
  eventfd_write(call().get(), 1);
  EXPECT_EQ(pump_.ring(kQueue)->in_flight(), 1);
  EXPECT_EQ(driver_.outstanding(), 1u);
  pump_.Drop(kQueue);
  EXPECT_EQ(pump_.ring(kQueue), nullptr);
}

TEST_F(ShadowPumpTest, TakesNothingWhileItIsToldSo) {
  {
    const auto held = pump_.Hold();
    pump_.Change(kQueue, Ends(/*takes=*/false));
  }
  (void)Comes(kick());  // Of the beginning.
  Post();
  {
    const auto held = pump_.Hold();
    EXPECT_EQ(pump_.ring(kQueue)->in_flight(), 0);
    pump_.Change(kQueue, Ends());
  }
  EXPECT_EQ(Taken(1).size(), 1u);
}

TEST_F(ShadowPumpTest, SaysWhatIsOnTrial) {
  Post();
  Post();
  const std::vector<uint16_t> heads = Taken(2);
  ASSERT_EQ(heads.size(), 2u);
  EXPECT_FALSE((pump_.Hold(), pump_.Alone()).has_value());
  {
    const auto held = pump_.Hold();
    pump_.Drop(kQueue);
  }
  Begin(/*on_trial=*/true);
  worker_ = ShadowWorker(bytes(), bytes() + 1024, kSize);
  EXPECT_EQ(Taken(1), std::vector<uint16_t>({heads[0]}));
  const auto held = pump_.Hold();
  const std::optional<Suspect> alone = pump_.Alone();
  ASSERT_TRUE(alone.has_value());
  EXPECT_EQ(alone->queue, kQueue);
  EXPECT_EQ(alone->head, heads[0]);
}

TEST_F(ShadowPumpTest, ALieIsNews) {
  Post();
  ASSERT_EQ(Taken(1).size(), 1u);
  Answer(kSize);
  ASSERT_TRUE(Comes(pump_.news()));
  const auto held = pump_.Hold();
  const absl::Status lie = pump_.TakeNews();
  EXPECT_THAT(std::string(lie.message()), ::testing::HasSubstr("ring 3: it"));
  EXPECT_OK(pump_.TakeNews());
}

// Descriptors that are full, and wait: neither keeps the control thread
// waiting.
TEST_F(ShadowPumpTest, WhoFillsADescriptorHarmsItself) {
  for (const int event : {call_.get(), kick().get()}) {
    ASSERT_EQ(fcntl(event, F_SETFL, 0), 0);
    eventfd_t count;
    pollfd full = {event, POLLIN, 0};
    if (poll(&full, 1, 0) == 1) eventfd_read(event, &count);
    ASSERT_EQ(eventfd_write(event, UINT64_MAX - 1), 0);
  }
  for (int i = 0; i < 100; ++i) {
    if (i < kSize) Post();
    const auto held = pump_.Hold();
    pump_.Change(kQueue, Ends());
  }
}

}  // namespace
}  // namespace holdfast::keeper
