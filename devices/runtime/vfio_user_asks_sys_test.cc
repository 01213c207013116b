// DMA by message: a device whose VMM gives no file of its memory, in one
// process. That it outlives real deaths is the subject of tests/recovery.
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/matchers.h"
#include "devices/pci_edu/pci_edu.h"
#include "devices/runtime/testing/edu_rig_sys.h"
#include "devices/runtime/twin_channel_sys.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/session_state.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::vfio_user::Command;

constexpr uint64_t kBase = 0x10000;

// Whether the requests have a socket of their own.
class VfioUserAsksTest : public testing::EduRig,
                         public ::testing::WithParamInterface<bool> {
 protected:
  VfioUserAsksTest() {
    for (size_t i = 0; i < memory_.size(); ++i) {
      memory_[i] = static_cast<uint8_t>(i * 7 + i / 256);
    }
    ConnectAsWished();
  }

  void ConnectAsWished() {
    Connect(GetParam());
    EXPECT_EQ(client_->twin().valid(), GetParam());
    EXPECT_OK(client_->MapByMessage(kBase, absl::MakeSpan(memory_)));
  }
  BorrowedFd answers_socket() {
    return GetParam() ? client_->twin() : client_->socket();
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

TEST_P(VfioUserAsksTest, TransfersThereAndBack) {
  ASSERT_FALSE(Same(0x1000, 0x5000));
  Transfer(kBase + 0x1000, false);
  EXPECT_EQ(client_->asks(), 1u);
  Transfer(kBase + 0x5000, true);
  EXPECT_EQ(client_->asks(), 2u);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

TEST_P(VfioUserAsksTest, AccessesAreAnsweredWhileWorkWaits) {
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
TEST_P(VfioUserAsksTest, AResetDoesNotWaitForTheAnswer) {
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

TEST_P(VfioUserAsksTest, AWindowCanBeTakenAwayWhileItIsAskedFor) {
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

TEST_P(VfioUserAsksTest, WhatTheClientRefusesIsNotMoved) {
  Transfer(kBase + 0x1000, false);
  const std::vector<uint8_t> before = memory_;
  client_->RefuseAsks(EFAULT);
  Transfer(kBase + 0x5000, true);
  EXPECT_EQ(memory_, before);
  client_->RefuseAsks(0);
  Transfer(kBase + 0x5000, true);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

TEST_P(VfioUserAsksTest, TheClientMayLeaveWithoutAnAnswer) {
  client_->HoldAnswers(true);
  Order(kBase, false);
  AwaitHeld();
  client_.reset();
  while (rig_.keeper().closed().empty()) usleep(500);
  ConnectAsWished();
  Transfer(kBase + 0x1000, false);
  Transfer(kBase + 0x5000, true);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

// Who ends in order serves the client until its work is done.
TEST_P(VfioUserAsksTest, WorkIsFinishedBeforeAProcessRests) {
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
TEST_P(VfioUserAsksTest, UnaskedAnswersAreDropped) {
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
      ASSERT_EQ(write(answers_socket().get(), answer.data(), answer.size()),
                static_cast<ssize_t>(answer.size()));
    }
    EXPECT_EQ(Read(0x00), edu::kVersion);
  }
  Transfer(kBase + 0x1000, false);
  Transfer(kBase + 0x5000, true);
  EXPECT_TRUE(Same(0x1000, 0x5000));
}

INSTANTIATE_TEST_SUITE_P(Sockets, VfioUserAsksTest, ::testing::Bool(),
                         [](const auto& info) {
                           return std::string(info.param ? "Two" : "One");
                         });

// ---- The second socket ----

class TwinSocketTest : public testing::EduRig {
 protected:
  TwinSocketTest() { Connect(/*twin=*/true); }

  void Transfers() {
    memory_[0x1000] = 77;
    memory_[0x5000] = 0;
    ASSERT_OK(client_->MapByMessage(kBase, absl::MakeSpan(memory_)));
    for (const bool from_buffer : {false, true}) {
      Order(kBase + (from_buffer ? 0x5000 : 0x1000), from_buffer);
      while ((Read(0x98) & 1) != 0 && !HasFailure()) usleep(100);
    }
    EXPECT_EQ(memory_[0x5000], 77);
  }
  void AwaitHangUp(size_t connections) {
    while (rig_.keeper().closed().size() < connections) usleep(500);
  }

  std::vector<uint8_t> memory_ = std::vector<uint8_t>(64 << 10);
};

TEST_F(TwinSocketTest, OutlivesTheProcess) {
  ASSERT_TRUE(client_->twin().valid());
  for (int i = 0; i < 4; ++i) {
    if (i == 0) Transfers();
    Order(kBase + 0x1000, false);
    while ((Read(0x98) & 1) != 0 && !HasFailure()) usleep(100);
    rig_.Die();
    ASSERT_OK(rig_.Run());
  }
  EXPECT_EQ(client_->asks(), 6u);
}

// The client's end is kept until it has it, and no longer.
TEST_F(TwinSocketTest, ItsEndsAreKept) {
  EXPECT_EQ(Read(0x00), edu::kVersion);
  EXPECT_EQ(Read(0x00), edu::kVersion);
  EXPECT_TRUE(rig_.keeper().Holds(vfio_user::kTwinSlot));
  EXPECT_FALSE(rig_.keeper().Holds(vfio_user::kTwinClientSlot));
  client_.reset();
  AwaitHangUp(1);
  EXPECT_FALSE(rig_.keeper().Holds(vfio_user::kTwinSlot));
}

TEST_F(TwinSocketTest, WhoWantsNoneGetsNone) {
  client_.reset();
  AwaitHangUp(1);
  Connect();
  EXPECT_FALSE(client_->twin().valid());
  Transfers();
}

// Sockets are made at the start only.
TEST_F(TwinSocketTest, WhenTheyAreUsedUpOneSocketServes) {
  for (size_t i = 1; i <= TwinChannel::kSpares + 1; ++i) {
    EXPECT_EQ(client_->twin().valid(), i <= TwinChannel::kSpares);
    Transfers();
    client_.reset();
    AwaitHangUp(i);
    Connect(/*twin=*/true);
  }
  rig_.Die();
  ASSERT_OK(rig_.Run());
  client_.reset();
  AwaitHangUp(TwinChannel::kSpares + 2);
  Connect(/*twin=*/true);
  EXPECT_TRUE(client_->twin().valid());
  Transfers();
}

TEST_F(TwinSocketTest, OnlyAnswersBelongThere) {
  const auto command = vfio_user::CommandMessage(
      Command::kRegionRead, vfio_user::Join(vfio_user::RegionAccess{0, 0, 4}));
  ASSERT_EQ(write(client_->twin().get(), command.data(), command.size()),
            static_cast<ssize_t>(command.size()));
  AwaitHangUp(1);
  Connect(/*twin=*/true);
  Transfers();
}

TEST_F(TwinSocketTest, AClientThatClosesItIsHungUpOn) {
  shutdown(client_->twin().get(), SHUT_RDWR);
  AwaitHangUp(1);
  Connect(/*twin=*/true);
  Transfers();
}

// A part of an answer, and the rest when it pleases.
TEST_F(TwinSocketTest, AnAnswerMayComeInPieces) {
  ASSERT_OK(client_->MapByMessage(kBase, absl::MakeSpan(memory_)));
  const auto answer = vfio_user::ReplyMessage(Command::kDmaRead, {}, 999);
  for (const uint8_t byte : answer) {
    ASSERT_EQ(write(client_->twin().get(), &byte, 1), 1);
    EXPECT_EQ(Read(0x00), edu::kVersion);
    if (byte == answer[4]) {
      rig_.Die();
      ASSERT_OK(rig_.Run());
    }
  }
  Order(kBase, false);
  while ((Read(0x98) & 1) != 0 && !HasFailure()) usleep(100);
  EXPECT_EQ(client_->asks(), 1u);
}

}  // namespace
}  // namespace holdfast
