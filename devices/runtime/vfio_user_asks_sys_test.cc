// DMA by message: a device whose VMM gives no file of its memory, in one
// process. That it outlives real deaths is the subject of tests/recovery.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/matchers.h"
#include "devices/pci_edu/pci_edu.h"
#include "devices/runtime/testing/edu_rig_sys.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::vfio_user::Command;

constexpr uint64_t kBase = 0x10000;

class VfioUserAsksTest : public testing::EduRig {
 protected:
  VfioUserAsksTest() {
    for (size_t i = 0; i < memory_.size(); ++i) {
      memory_[i] = static_cast<uint8_t>(i * 7 + i / 256);
    }
    Connect();
    EXPECT_OK(client_->MapByMessage(kBase, absl::MakeSpan(memory_)));
  }

  // Asks are answered while it waits.
  void AwaitEnd() {
    while ((Read(0x98) & 1) != 0 && !HasFailure()) usleep(100);
  }
  void Transfer(uint64_t address, bool from_buffer) {
    Order(address, from_buffer);
    AwaitEnd();
  }
  // Waits, answering nothing, until a request has come.
  void AwaitHeld() {
    while (client_->held() == 0 && !HasFailure()) {
      Read(0x00);
      usleep(100);
    }
  }
  bool Same(uint64_t a, uint64_t b) {
    return std::memcmp(&memory_[a], &memory_[b], 4096) == 0;
  }

  std::vector<uint8_t> memory_ = std::vector<uint8_t>(64 << 10);
};

TEST_F(VfioUserAsksTest, TransfersThereAndBack) {
  ASSERT_FALSE(Same(0x1000, 0x5000));
  Transfer(kBase + 0x1000, false);
  EXPECT_EQ(client_->asks(), 1u);
  Transfer(kBase + 0x5000, true);
  EXPECT_EQ(client_->asks(), 2u);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

TEST_F(VfioUserAsksTest, AccessesAreAnsweredWhileWorkWaits) {
  client_->HoldAnswers(true);
  Order(kBase, false);
  AwaitHeld();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Read(0x00), edu::kVersion);
  EXPECT_EQ(Read(0x98) & 1, 1u);
  client_->HoldAnswers(false);
  ASSERT_OK(client_->AnswerHeld());
  AwaitEnd();
  EXPECT_EQ(client_->asks(), 1u);
}

// As QEMU does, which cannot answer before the reset is over.
TEST_F(VfioUserAsksTest, AResetDoesNotWaitForTheAnswer) {
  client_->HoldAnswers(true);
  Order(kBase, false);
  AwaitHeld();
  ASSERT_OK(client_->Ask(Command::kDeviceReset, {}));
  EXPECT_EQ(Read(0x98) & 1, 0u);
  ASSERT_OK(client_->Write(kPciConfigRegion, 0x04, 0x0006, 2));
  // What is asked next waits for the answer that nobody wants any more.
  Order(kBase + 0x2000, false);
  for (int i = 0; i < 20; ++i) Read(0x00);
  EXPECT_EQ(client_->held(), 1u);
  client_->HoldAnswers(false);
  ASSERT_OK(client_->AnswerHeld());
  AwaitEnd();
  EXPECT_EQ(client_->asks(), 2u);
  Transfer(kBase + 0x8000, true);
  EXPECT_TRUE(Same(0x2000, 0x8000));
}

TEST_F(VfioUserAsksTest, AWindowCanBeTakenAwayWhileItIsAskedFor) {
  client_->HoldAnswers(true);
  Order(kBase, false);
  AwaitHeld();
  ASSERT_OK(client_->Unmap(kBase, memory_.size()));
  client_->HoldAnswers(false);
  ASSERT_OK(client_->AnswerHeld());
  AwaitEnd();
  // And nothing more is asked for.
  Transfer(kBase, true);
  EXPECT_EQ(client_->asks(), 1u);
}

TEST_F(VfioUserAsksTest, WhatTheClientRefusesIsNotMoved) {
  Transfer(kBase + 0x1000, false);
  const std::vector<uint8_t> before = memory_;
  client_->RefuseAsks(EFAULT);
  Transfer(kBase + 0x5000, true);
  EXPECT_EQ(memory_, before);
  client_->RefuseAsks(0);
  Transfer(kBase + 0x5000, true);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

TEST_F(VfioUserAsksTest, TheClientMayLeaveWithoutAnAnswer) {
  client_->HoldAnswers(true);
  Order(kBase, false);
  AwaitHeld();
  client_.reset();
  while (rig_.keeper().closed().empty()) usleep(500);
  Connect();
  ASSERT_OK(client_->MapByMessage(kBase, absl::MakeSpan(memory_)));
  Transfer(kBase + 0x1000, false);
  Transfer(kBase + 0x5000, true);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

// Who ends in order serves the client until its work is done.
TEST_F(VfioUserAsksTest, WorkIsFinishedBeforeAProcessRests) {
  client_->HoldAnswers(true);
  Order(kBase + 0x1000, false);
  AwaitHeld();
  client_->HoldAnswers(false);
  std::thread dying([this] { rig_.Die(); });
  EXPECT_OK(client_->AnswerHeld());
  dying.join();
  ASSERT_OK(rig_.Run());
  AwaitEnd();
  Transfer(kBase + 0x5000, true);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

// Answers that nobody asked for, of every kind, between accesses.
TEST_F(VfioUserAsksTest, UnaskedAnswersAreDropped) {
  using vfio_user::Bytes;
  using vfio_user::ErrorMessage;
  using vfio_user::Join;
  using vfio_user::ReplyMessage;
  const vfio_user::DmaAccess access{kBase, 4};
  for (uint16_t id = 0; id < 20; ++id) {
    for (const Bytes& answer :
         {ReplyMessage(Command::kDmaRead, Join(access, uint32_t{5}), id),
          ReplyMessage(Command::kDmaRead, Join(access), id),
          ReplyMessage(Command::kDmaRead, Bytes(7), id),
          ReplyMessage(Command::kDmaWrite, {}, id),
          ReplyMessage(Command::kDmaWrite, Bytes(900), id),
          ErrorMessage(Command::kDmaRead, EIO, id),
          ReplyMessage(Command{77}, Bytes(3), id)}) {
      ASSERT_EQ(write(client_->socket().get(), answer.data(), answer.size()),
                static_cast<ssize_t>(answer.size()));
    }
    EXPECT_EQ(Read(0x00), edu::kVersion);
  }
  Transfer(kBase + 0x1000, false);
  Transfer(kBase + 0x5000, true);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

}  // namespace
}  // namespace holdfast
