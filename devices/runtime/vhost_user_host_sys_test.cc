#include "devices/runtime/vhost_user_host_sys.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/runtime/testing/process_rig_sys.h"
#include "devices/vhost_user/testing/front_end.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FrontEnd;
using ::holdfast::testing::ProcessRig;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using vhost_user::BytesOf;
using vhost_user::RequestType;
using vhost_user::VringState;

std::vector<FrontEnd::Buffer> Ask(char first) {
  return {FrontEnd::Buffer::Readable({static_cast<uint8_t>(first)}),
          FrontEnd::Buffer::Writable(8)};
}

class VhostUserHostTest : public ::testing::Test {
 protected:
  void Begin(const FrontEnd::Options& options = {}) {
    // 'G' waits until the test lets it go.
    rig_.on_request = [this](uint8_t first) {
      if (first != 'G') return;
      std::unique_lock<std::mutex> lock(mutex_);
      ++held_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return open_; });
    };
    ASSERT_OK(rig_.Run());
    vmm_ = rig_.Connect(options);
    ASSERT_OK(vmm_->Start());
  }
  void TearDown() override {
    LetGo();
    if (vmm_ == nullptr) return;
    EXPECT_THAT(vmm_->driver(0).violations(), IsEmpty());
  }

  void HoldOne() {
    ASSERT_TRUE(vmm_->driver(0).Post(Ask('G')).has_value());
    ASSERT_OK(vmm_->Kick(0));
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return held_ > 0; });
  }
  void LetGo() {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void ExpectServed(uint16_t queue = 0) {
    const auto answer = vmm_->Transact(queue, Ask('a'));
    ASSERT_OK(answer);
    EXPECT_EQ(answer->written, 1u);
    EXPECT_EQ(answer->data[0], 'a');
  }
  // In whatever order two workers do that.
  void ExpectAllAnswered() {
    for (int i = 0; i < 5000 && vmm_->driver(0).outstanding() > 0; ++i) {
      vmm_->driver(0).Collect();
      usleep(1000);
    }
    EXPECT_EQ(vmm_->driver(0).outstanding(), 0u);
  }
  // The next process takes over from the segment and the keeper alone.
  void Succeed() {
    rig_.Die();
    ASSERT_OK(rig_.Run());
  }
  // Runs `command` while a request is held: it must not end before that does.
  template <typename Command>
  void ExpectWaitsForTheHeld(Command command) {
    HoldOne();
    auto done = std::async(std::launch::async, command);
    EXPECT_EQ(done.wait_for(std::chrono::milliseconds(50)),
              std::future_status::timeout);
    EXPECT_EQ(vmm_->driver(0).outstanding(), 1u);
    LetGo();
    done.get();
    EXPECT_EQ(vmm_->driver(0).Collect().size(), 1u);
  }
  absl::Status Enable(uint16_t queue, uint32_t on) {
    return vmm_->Command(RequestType::kSetVringEnable,
                         BytesOf(VringState{queue, on}));
  }
  bool IsTakenWithin20Milliseconds(char first) {
    EXPECT_TRUE(vmm_->driver(0).Post(Ask(first)).has_value());
    EXPECT_OK(vmm_->Kick(0));
    usleep(20'000);
    return !vmm_->driver(0).Collect().empty();
  }

  ProcessRig rig_;
  std::unique_ptr<FrontEnd> vmm_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int held_ = 0;
  bool open_ = false;
};

// ---- Queues ----

TEST_F(VhostUserHostTest, GetVringBaseWaitsForWhatIsInFlight) {
  Begin();
  ExpectServed();
  ExpectWaitsForTheHeld(
      [&] { EXPECT_THAT(vmm_->StopQueue(0), testing::IsOkAndHolds(2)); });
  EXPECT_FALSE(IsTakenWithin20Milliseconds('b'));
  ASSERT_OK(vmm_->StartQueue(0));
  ExpectServed();
  ExpectAllAnswered();
}

TEST_F(VhostUserHostTest, DisablingWaitsForWhatIsInFlight) {
  Begin();
  ExpectWaitsForTheHeld([&] { EXPECT_OK(Enable(0, 0)); });
  EXPECT_FALSE(IsTakenWithin20Milliseconds('b'));
  Succeed();  // Disabled it stays.
  EXPECT_FALSE(IsTakenWithin20Milliseconds('c'));
  ASSERT_OK(Enable(0, 1));
  ExpectServed();
  ExpectAllAnswered();
}

TEST_F(VhostUserHostTest, AKickDescriptorMayBeReplacedInFlight) {
  Begin();
  const UniqueFd kick(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ExpectWaitsForTheHeld([&] {
    EXPECT_OK(vmm_->Command(RequestType::kSetVringKick, BytesOf(uint64_t{0}),
                            {kick.get()}));
  });
  ASSERT_TRUE(vmm_->driver(0).Post(Ask('b')).has_value());
  eventfd_write(kick.get(), 1);
  ASSERT_OK(vmm_->WaitForCall(0));
  while (vmm_->driver(0).Collect().empty()) usleep(200);
}

// Without a stop: only the new one is signalled from then on.
TEST_F(VhostUserHostTest, ACallDescriptorMayBeReplacedInFlight) {
  Begin();
  HoldOne();
  ASSERT_OK(vmm_->ReplaceCall(0));  // Does not wait.
  ASSERT_OK(vmm_->WaitForCall(0));  // The old one may have been missed.
  vmm_->driver(0).EnableInterrupts();
  LetGo();
  ASSERT_OK(vmm_->WaitForCall(0));
  EXPECT_EQ(vmm_->driver(0).Collect().size(), 1u);
}

TEST_F(VhostUserHostTest, ResetStopsAllAndTellsTheDevice) {
  Begin();
  ExpectServed();
  ASSERT_OK(vmm_->Command(RequestType::kResetDevice));
  EXPECT_EQ(rig_.resets, 1);
  EXPECT_FALSE(IsTakenWithin20Milliseconds('b'));
}

// ---- Memory ----

TEST_F(VhostUserHostTest, MemoryMayGoAndComeUnderARunningQueue) {
  FrontEnd::Options options;
  options.memory_by_slots = true;
  Begin(options);
  ExpectServed();
  const vhost_user::SingleMemoryRegion region{
      0,
      {FrontEnd::kGuestAddress, vmm_->memory().size(), FrontEnd::kUserAddress,
       0}};
  ASSERT_OK(vmm_->Command(RequestType::kRemMemReg, BytesOf(region)));
  EXPECT_FALSE(IsTakenWithin20Milliseconds('b'));
  ASSERT_OK(vmm_->ShareMemory());
  ExpectServed();
  ExpectAllAnswered();
}

TEST_F(VhostUserHostTest, MemoryIsSharedAgainWhileRequestsAreInFlight) {
  Begin();
  ExpectWaitsForTheHeld([&] { EXPECT_OK(vmm_->ShareMemory()); });
  ExpectServed();
}

// ---- Successors ----

TEST_F(VhostUserHostTest, ASuccessorGoesOnWithoutAWord) {
  Begin();
  for (int i = 0; i < 5; ++i) {
    ExpectServed();
    Succeed();
  }
  ExpectServed();
  EXPECT_THAT(rig_.keeper().closed(), IsEmpty());
}

TEST_F(VhostUserHostTest, ASuccessorFindsWhatWasPostedMeanwhile) {
  Begin();
  rig_.Die();
  ASSERT_TRUE(vmm_->driver(0).Post(Ask('b')).has_value());
  ASSERT_OK(rig_.Run());
  ASSERT_OK(vmm_->WaitForCall(0));
  while (vmm_->driver(0).Collect().empty()) usleep(200);
}

TEST_F(VhostUserHostTest, ASuccessorToldTheFeaturesAgain) {
  Begin();
  EXPECT_EQ(rig_.features, vmm_->features());
  rig_.features = 0;
  Succeed();
  EXPECT_EQ(rig_.features, vmm_->features());
}

TEST_F(VhostUserHostTest, AMessageThatCameMeanwhileIsAnswered) {
  Begin();
  rig_.Die();
  auto answer = std::async(std::launch::async, [&] {
    return vmm_->AskNumber(RequestType::kGetQueueNum);
  });
  ASSERT_OK(rig_.Run());
  EXPECT_THAT(answer.get(), testing::IsOkAndHolds(1u));
}

// ---- Connections ----

TEST_F(VhostUserHostTest, AnEndedConnectionLeavesNothing) {
  Begin();
  ExpectServed();
  EXPECT_GT(rig_.keeper().session_slots(), 0u);
  vmm_.reset();
  while (rig_.keeper().closed().empty()) usleep(200);
  EXPECT_THAT(rig_.keeper().closed(), ElementsAre(1u));
  EXPECT_EQ(rig_.keeper().session_slots(), 0u);
  EXPECT_EQ(rig_.resets, 1);
  vmm_ = rig_.Connect();
  ASSERT_OK(vmm_->Start());
  ExpectServed();
}

TEST_F(VhostUserHostTest, AConnectionThatEndsInFlightEndsAfterIt) {
  Begin();
  HoldOne();
  vmm_.reset();
  usleep(20'000);
  EXPECT_THAT(rig_.keeper().closed(), IsEmpty());
  LetGo();
  while (rig_.keeper().closed().empty()) usleep(200);
}

TEST_F(VhostUserHostTest, AnEndThatNobodySawIsSeenByTheSuccessor) {
  Begin();
  rig_.Die();
  vmm_.reset();
  ASSERT_OK(rig_.Run());
  while (rig_.keeper().closed().empty()) usleep(200);
  EXPECT_EQ(rig_.keeper().session_slots(), 0u);
}

// Descriptors that the session no longer names are not kept for ever.
TEST_F(VhostUserHostTest, ReplacedDescriptorsAreGivenUp) {
  Begin();
  const size_t before = rig_.keeper().session_slots();
  for (int i = 0; i < 50; ++i) {
    ASSERT_OK(vmm_->ReplaceCall(0));
  }
  EXPECT_EQ(rig_.keeper().session_slots(), before);
}

// ---- Configuration space ----

TEST_F(VhostUserHostTest, ConfigurationIsReadAndWritten) {
  Begin();
  ASSERT_OK(vmm_->SetConfig(0, {0x11, 0x22}));
  EXPECT_EQ(rig_.config & 0xffff, 0x2211u);
  EXPECT_THAT(vmm_->GetConfig(0, 2),
              testing::IsOkAndHolds(ElementsAre(0x11, 0x22)));
}

TEST_F(VhostUserHostTest, AChangeIsTold) {
  Begin();
  rig_.config = 5;
  rig_.NotifyConfigChange();
  const auto told = vmm_->ReceiveBackendRequest();
  ASSERT_OK(told);
  EXPECT_EQ(
      told->header.request,
      static_cast<uint32_t>(vhost_user::BackendRequestType::kConfigChange));
}

// What the driver has written itself is no news to it, for nobody.
TEST_F(VhostUserHostTest, OnlyNewsAreToldByASuccessor) {
  Begin();
  ASSERT_OK(vmm_->SetConfig(0, {7}));
  Succeed();
  ExpectServed();
  rig_.Die();
  rig_.config = 9;
  ASSERT_OK(rig_.Run());
  ASSERT_OK(vmm_->ReceiveBackendRequest());
  Succeed();
  ExpectServed();
  pollfd poll = {vmm_->backend_channel().get(), POLLIN, 0};
  EXPECT_EQ(::poll(&poll, 1, 0), 0);
}

// ---- Many queues ----

TEST(ManyQueues, AreServedAndTakenOver) {
  ProcessRig::Options options;
  options.queues = 16;
  ProcessRig rig(options);
  ASSERT_OK(rig.Run());
  FrontEnd::Options vmm_options;
  vmm_options.queues = 16;
  const auto vmm = rig.Connect(vmm_options);
  ASSERT_OK(vmm->Start());
  for (int life = 0; life < 2; ++life) {
    for (uint16_t queue = 0; queue < 16; ++queue) {
      ASSERT_OK(vmm->Transact(queue, Ask('a')));
    }
    rig.Die();
    ASSERT_OK(rig.Run());
  }
  for (uint16_t queue = 0; queue < 16; ++queue) {
    EXPECT_THAT(vmm->StopQueue(queue), testing::IsOkAndHolds(2));
    EXPECT_THAT(vmm->driver(queue).violations(), IsEmpty());
  }
}

}  // namespace
}  // namespace holdfast
