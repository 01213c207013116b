#include "devices/runtime/message_dma_sys.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/testing/matchers.h"
#include "devices/bus/dma_windows.h"
#include "devices/vfio_user/ask_journal.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/sending_io.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::holdfast::vfio_user::Answer;
using ::holdfast::vfio_user::AskMemory;
using ::holdfast::vfio_user::Command;
using ::holdfast::vfio_user::MessageHeader;
using ::testing::_;
using Sent = MessageDma::Sent;

constexpr uint64_t kBase = 0x10000;
constexpr uint32_t kAny = 1 << 20;

// A VMM's end: takes whole messages, and answers them when it is told to.
class Vmm final : public vfio_user::SendingIo {
 public:
  std::vector<uint8_t> ram = std::vector<uint8_t>(1 << 20);

  struct Message {
    MessageHeader header;
    vfio_user::DmaAccess access;
    std::vector<uint8_t> data;
  };
  // Takes the whole messages out of the stream.
  std::vector<Message> TakeMessages() {
    std::vector<Message> messages;
    for (;;) {
      Message message;
      if (stream.size() < sizeof(message.header)) return messages;
      std::memcpy(&message.header, stream.data(), sizeof(message.header));
      if (stream.size() < message.header.size) return messages;
      std::memcpy(&message.access, stream.data() + 16, 16);
      message.data.assign(stream.begin() + 32,
                          stream.begin() + message.header.size);
      stream.erase(stream.begin(), stream.begin() + message.header.size);
      messages.push_back(message);
    }
  }
  bool Serve(const Message& message, MessageDma& dma) {
    Answer answer;
    answer.id = message.header.id;
    answer.command = Command{message.header.command};
    uint8_t* const at = ram.data() + (message.access.address - kBase);
    if (answer.command == Command::kDmaRead) {
      answer.data = {at, message.access.count};
    } else {
      std::memcpy(at, message.data.data(), message.data.size());
    }
    return dma.Take(answer);
  }
};

class MessageDmaTest : public ::testing::Test {
 protected:
  MessageDmaTest() {
    dma_->SetMemory(*memory_);
    EXPECT_OK(dma_->Resume());
    DmaWindow window;
    window.address = GuestAddress{kBase};
    window.size = vmm_.ram.size();
    EXPECT_OK(windows_->Add(window));
  }

  absl::StatusOr<Sent> Send(uint32_t max_bytes = kAny) {
    return dma_->Send(vmm_, *windows_, max_bytes);
  }
  // Until a thread waits.
  void AwaitEvent() {
    pollfd poll_fd = {dma_->event().get(), POLLIN, 0};
    ASSERT_EQ(poll(&poll_fd, 1, -1), 1);
    dma_->ClearEvent();
  }
  std::thread ReadAside(uint64_t offset, absl::Span<uint8_t> out,
                        absl::Status* status) {
    return std::thread([this, offset, out, status] {
      *status = windows_->Read(GuestAddress{kBase + offset}, out);
    });
  }

  std::unique_ptr<AskMemory> memory_ = std::make_unique<AskMemory>();
  std::unique_ptr<MessageDma> dma_ = std::make_unique<MessageDma>();
  std::unique_ptr<DmaWindows> windows_ =
      std::make_unique<DmaWindows>(dma_.get());
  Vmm vmm_;
};

TEST_F(MessageDmaTest, ATransferIsAskedForInPieces) {
  std::vector<uint8_t> out(40000);
  for (size_t i = 0; i < out.size(); ++i) {
    vmm_.ram[i + 5] = static_cast<uint8_t>(i * 3);
  }
  absl::Status status;
  std::thread thread = ReadAside(5, absl::MakeSpan(out), &status);
  AwaitEvent();
  EXPECT_TRUE(dma_->waiting());
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kAsked));
  const auto messages = vmm_.TakeMessages();
  EXPECT_EQ(messages.size(), 3u);  // Together, before any is answered.
  for (const auto& message : messages) EXPECT_TRUE(vmm_.Serve(message, *dma_));
  thread.join();
  EXPECT_OK(status);
  EXPECT_TRUE(std::equal(out.begin(), out.end(), vmm_.ram.begin() + 5));
  EXPECT_FALSE(dma_->waiting());
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kNothing));
}

TEST_F(MessageDmaTest, NoMoreIsAskedAtOnceThanTheClientTakes) {
  std::vector<uint8_t> out(100);
  absl::Status status;
  std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  for (size_t asked = 0; asked < 34;) {
    (void)Send(/*max_bytes=*/3);
    const auto messages = vmm_.TakeMessages();
    ASSERT_LE(messages.size(), vfio_user::kMaxAsks);
    for (const auto& message : messages) {
      EXPECT_LE(message.access.count, 3u);
      EXPECT_TRUE(vmm_.Serve(message, *dma_));
    }
    asked += messages.size();
  }
  thread.join();
  EXPECT_OK(status);
}

// Answers in any order, room that comes and goes, many threads.
TEST_F(MessageDmaTest, ManyThreadsAtOnce) {
  constexpr int kThreads = 6;
  constexpr size_t kShare = 64 << 10;
  std::atomic<int> done{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      std::vector<uint8_t> wrote(kShare), got(kShare);
      for (int i = 0; i < 30; ++i) {
        const size_t size = 1 + random() % kShare;
        for (size_t j = 0; j < size; ++j) {
          wrote[j] = static_cast<uint8_t>(random());
        }
        const GuestAddress at{kBase + static_cast<uint64_t>(t) * kShare};
        const bool ok = windows_->Write(at, {wrote.data(), size}).ok() &&
                        windows_->Read(at, {got.data(), size}).ok();
        if (!ok || std::memcmp(wrote.data(), got.data(), size) != 0) ++wrong;
      }
      ++done;
    });
  }
  std::mt19937 random(99);
  std::vector<Vmm::Message> waiting;
  while (done != kThreads) {
    vmm_.room = random() % 30000;
    ASSERT_OK(Send(1 + random() % 20000));
    for (auto& message : vmm_.TakeMessages()) waiting.push_back(message);
    ASSERT_LE(waiting.size(), vfio_user::kMaxAsks);
    if (waiting.empty()) {
      usleep(20);
      continue;
    }
    const size_t chosen = random() % waiting.size();
    EXPECT_TRUE(vmm_.Serve(waiting[chosen], *dma_));
    waiting.erase(waiting.begin() + static_cast<ptrdiff_t>(chosen));
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(MessageDmaTest, WhatIsNoLongerGrantedIsNotAskedFor) {
  std::vector<uint8_t> out(100);
  absl::Status status;
  std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  // It waits, and pins nothing.
  EXPECT_OK(windows_->Remove(GuestAddress{kBase}, vmm_.ram.size()));
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kNothing));
  thread.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kOutOfRange, _));
  EXPECT_TRUE(vmm_.stream.empty());
}

TEST_F(MessageDmaTest, ARefusalIsAnErrorAndEndsTheRest) {
  std::vector<uint8_t> out(40000);
  absl::Status status;
  std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  ASSERT_OK(Send());
  const auto messages = vmm_.TakeMessages();
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_TRUE(
      dma_->Take({messages[1].header.id, Command::kDmaRead, EPERM, {}}));
  thread.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, _));
  // The other answers are awaited before anything else is asked.
  std::thread next = ReadAside(7, absl::MakeSpan(out), &status);
  AwaitEvent();
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kNothing));
  EXPECT_TRUE(vmm_.Serve(messages[0], *dma_));
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kNothing));
  EXPECT_TRUE(vmm_.Serve(messages[2], *dma_));
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kAsked));
  for (const auto& message : vmm_.TakeMessages()) vmm_.Serve(message, *dma_);
  next.join();
  EXPECT_OK(status);
}

TEST_F(MessageDmaTest, ASuccessorWaitsForThePredecessorsAnswers) {
  std::vector<uint8_t> out(100);
  absl::Status status;
  std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  ASSERT_OK(Send());
  const auto old = vmm_.TakeMessages();
  MessageDma successor;
  successor.SetMemory(*memory_);
  ASSERT_OK(successor.Resume());
  DmaWindows windows(&successor);
  DmaWindow window;
  window.address = GuestAddress{kBase};
  window.size = 4096;
  ASSERT_OK(windows.Add(window));
  absl::Status again;
  std::vector<uint8_t> got(100);
  std::thread asks(
      [&] { again = windows.Read(GuestAddress{kBase}, absl::MakeSpan(got)); });
  while (!successor.waiting()) usleep(100);
  EXPECT_THAT(successor.Send(vmm_, windows, kAny),
              IsOkAndHolds(Sent::kNothing));
  EXPECT_TRUE(vmm_.Serve(old[0], successor));
  EXPECT_THAT(successor.Send(vmm_, windows, kAny), IsOkAndHolds(Sent::kAsked));
  const auto renewed = vmm_.TakeMessages();
  ASSERT_EQ(renewed.size(), 1u);
  EXPECT_NE(renewed[0].header.id, old[0].header.id);
  EXPECT_TRUE(vmm_.Serve(renewed[0], successor));
  asks.join();
  EXPECT_OK(again);
  dma_->Refuse();  // What is left of the predecessor.
  thread.join();
}

TEST_F(MessageDmaTest, WhileItRefusesTransfersFail) {
  std::vector<uint8_t> out(100);
  absl::Status status;
  std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  ASSERT_OK(Send());
  dma_->Refuse();
  thread.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, _));
  ReadAside(0, absl::MakeSpan(out), &status).join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, _));
  dma_->Forget();
  dma_->Accept();
  std::thread next = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kAsked));
  dma_->Forget();
  next.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, _));
}

// ---- Answers that nobody wants any more ----

class ForgottenTest : public MessageDmaTest {
 protected:
  // A transfer is asked for and cut off.
  void CutOff() {
    std::vector<uint8_t> out(100);
    absl::Status status;
    std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
    AwaitEvent();
    EXPECT_THAT(Send(), IsOkAndHolds(Sent::kAsked));
    dma_->Refuse();
    thread.join();
    dma_->Accept();
    messages_ = vmm_.TakeMessages();
    ASSERT_EQ(messages_.size(), 1u);
    EXPECT_TRUE(dma_->is_owed());
  }
  // Waits for its end on a thread, as work does; begun when this returns.
  void BeginWait() {
    waiter_ = std::thread([this] {
      status_ = windows_->AwaitForgotten();
      over_.store(true);
    });
    while (!dma_->waiting()) usleep(100);
    EXPECT_FALSE(over_.load());
  }
  absl::Status EndWait() {
    waiter_.join();
    EXPECT_FALSE(dma_->waiting());
    return status_;
  }

  std::vector<Vmm::Message> messages_;
  std::thread waiter_;
  absl::Status status_;
  std::atomic<bool> over_{false};
};

TEST_F(ForgottenTest, IsWaitedForUntilItIsAnswered) {
  CutOff();
  BeginWait();
  EXPECT_TRUE(vmm_.Serve(messages_[0], *dma_));
  EXPECT_OK(EndWait());
  EXPECT_FALSE(dma_->is_owed());
}

TEST_F(ForgottenTest, IsWaitedForByASuccessorToo) {
  CutOff();
  windows_.reset();
  dma_ = std::make_unique<MessageDma>();
  windows_ = std::make_unique<DmaWindows>(dma_.get());
  dma_->SetMemory(*memory_);
  ASSERT_OK(dma_->Resume());
  EXPECT_TRUE(dma_->is_owed());
  BeginWait();
  EXPECT_TRUE(vmm_.Serve(messages_[0], *dma_));
  EXPECT_OK(EndWait());
}

TEST_F(ForgottenTest, IsNotWaitedForOverAReset) {
  CutOff();
  BeginWait();
  dma_->Refuse();
  // Even if it is over before the thread has looked.
  dma_->Accept();
  EXPECT_THAT(EndWait(), StatusIs(absl::StatusCode::kUnavailable, _));
  dma_->Refuse();
  std::thread([this] { status_ = windows_->AwaitForgotten(); }).join();
  EXPECT_THAT(status_, StatusIs(absl::StatusCode::kUnavailable, _));
}

TEST_F(ForgottenTest, EndsWithTheConnection) {
  CutOff();
  BeginWait();
  dma_->Forget();
  EXPECT_OK(EndWait());
  EXPECT_FALSE(dma_->is_owed());
}

// What somebody waits for is that one's business.
TEST_F(ForgottenTest, IsNotWhatSomebodyWaitsFor) {
  std::vector<uint8_t> out(100);
  absl::Status status;
  std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kAsked));
  EXPECT_TRUE(dma_->is_owed());
  std::thread([this] { status_ = windows_->AwaitForgotten(); }).join();
  EXPECT_OK(status_);
  for (const auto& message : vmm_.TakeMessages()) vmm_.Serve(message, *dma_);
  thread.join();
  EXPECT_THAT(windows_->AwaitForgotten(),
              StatusIs(absl::StatusCode::kFailedPrecondition, _))
      << "the control thread would wait for itself";
}

TEST_F(MessageDmaTest, WithoutRoomItIsAskedForLater) {
  std::vector<uint8_t> out(100);
  absl::Status status;
  std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  vmm_.room = 0;
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kFull));
  EXPECT_FALSE(dma_->unfinished());
  vmm_.room = 10;
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kFull));
  EXPECT_TRUE(dma_->unfinished());
  vmm_.room = 100;
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kAsked));
  for (const auto& message : vmm_.TakeMessages()) vmm_.Serve(message, *dma_);
  thread.join();
  EXPECT_OK(status);
}

TEST_F(MessageDmaTest, AClosedSocketIsReported) {
  std::vector<uint8_t> out(100);
  absl::Status status;
  std::thread thread = ReadAside(0, absl::MakeSpan(out), &status);
  AwaitEvent();
  vmm_.closed = true;
  EXPECT_THAT(Send(), IsOkAndHolds(Sent::kClosed));
  dma_->Forget();
  thread.join();
  EXPECT_FALSE(dma_->unfinished());
}

TEST_F(MessageDmaTest, TheControlThreadDoesNotWaitForItself) {
  uint8_t byte;
  EXPECT_THAT(windows_->Read(GuestAddress{kBase}, {&byte, 1}),
              StatusIs(absl::StatusCode::kFailedPrecondition, _));
}

TEST_F(MessageDmaTest, WithoutAJournalNothingIsAsked) {
  MessageDma none;
  DmaWindows windows(&none);
  DmaWindow window;
  window.address = GuestAddress{kBase};
  window.size = 4096;
  ASSERT_OK(windows.Add(window));
  ASSERT_OK(none.Resume());
  absl::Status status;
  std::thread([&] {
    uint8_t byte;
    status = windows.Read(GuestAddress{kBase}, {&byte, 1});
  }).join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_THAT(none.Send(vmm_, windows, kAny), IsOkAndHolds(Sent::kNothing));
  EXPECT_FALSE(none.Take({0, Command::kDmaRead, 0, {}}));
}

}  // namespace
}  // namespace holdfast
