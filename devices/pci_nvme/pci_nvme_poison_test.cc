// A command that crashes whoever executes it, in processes of their own.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "devices/block/block_engine.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::NvmeClass;
using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::testing::PciClass;
using ::holdfast::testing::PciGuest;

constexpr uint64_t kBadBlock = 5;
constexpr int kCrashed = 42;  // Exit status.

// Dies of `signal` when it reads the bad block, or flushes.
class BadEngine final : public block::BlockEngine {
 public:
  explicit BadEngine(int signal) : signal_(signal) {}
  uint32_t BlockSize() const override { return 512; }
  absl::StatusOr<uint64_t> Size() const override { return 0x4000; }
  absl::Status Read(uint64_t offset, absl::Span<const Buffer>) override {
    if (offset == kBadBlock * 512) Die();
    return absl::OkStatus();
  }
  absl::Status Write(uint64_t, absl::Span<const Buffer>) override {
    return absl::OkStatus();
  }
  absl::Status Flush() override {
    Die();
    return absl::OkStatus();
  }
  absl::Status Discard(uint64_t, uint64_t) override { return absl::OkStatus(); }
  absl::Status WriteZeroes(uint64_t, uint64_t, bool) override {
    return absl::OkStatus();
  }

 private:
  void Die() {
    if (signal_ != 0) kill(getpid(), signal_);
  }
  const int signal_;
};

PciClass BadNvme(int signal) {
  return NvmeClass({{"num-queues", "1"}}, [signal](PciContext&) {
    return std::make_unique<BadEngine>(signal);
  });
}

PciFunction* function_of_child = nullptr;
void OnSignal(int) {
  function_of_child->OnWorkCrash();
  _exit(kCrashed);
}

class PoisonTest : public ::testing::Test {
 protected:
  PoisonTest() {
    PciGuest guest(BadNvme(0), NvmeGuest(), PciGuest::Detached());
    const size_t size = guest.MemorySize();
    void* const at = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(at, MAP_FAILED);
    memory_ = {static_cast<uint8_t*>(at), size};
    guest.Format(memory_);
    guest.Attach(memory_);
    NvmeDriver driver(guest, rings_);
    driver.Enable();
    driver.CreateQueue(1);
    driver.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
    driver.RingTail(0);
    rings_ = driver.rings();
  }
  ~PoisonTest() override { munmap(memory_.data(), memory_.size()); }

  // Commands that the next process finds.
  void Submit(uint16_t queue, std::vector<Command> commands) {
    PciGuest guest(BadNvme(0), NvmeGuest(), PciGuest::Detached());
    guest.Attach(memory_);
    guest.set_next_id(guest.record().done);
    NvmeDriver driver(guest, rings_);
    for (const Command& command : commands) driver.Submit(queue, command);
    // The access alone: nobody does the work that it orders.
    const uint8_t tail[4] = {static_cast<uint8_t>(driver.ring(queue).tail)};
    EXPECT_TRUE(
        guest.function()
            .Write(AccessId::kNone, 0, kDoorbells.offset() + 8 * queue, tail)
            .ok());
    rings_ = driver.rings();
  }
  void SubmitReads() {
    Submit(1, {NvmeDriver::Io(IoOpcode::kRead, kBadBlock, 1),
               NvmeDriver::Io(IoOpcode::kRead, 1, 1)});
  }

  // How a process ends that takes the device over.
  int Victim(int signal, bool blames = true) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      PciGuest guest(BadNvme(signal), NvmeGuest(), PciGuest::Detached());
      function_of_child = &guest.function();
      if (blames) ::signal(SIGSEGV, OnSignal);
      guest.Attach(memory_);
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status;
  }

  // The completions that this process makes, by a device that would die, too.
  std::vector<Completion> Completions(int signal, uint16_t queue = 1) {
    PciGuest guest(BadNvme(signal), NvmeGuest(), PciGuest::Detached());
    guest.Attach(memory_);
    NvmeDriver driver(guest, rings_);
    std::vector<Completion> completions;
    while (const auto completion = driver.Poll(queue)) {
      completions.push_back(*completion);
    }
    rings_ = driver.rings();
    return completions;
  }

  absl::Span<uint8_t> memory_;
  NvmeDriver::Rings rings_;
};

TEST_F(PoisonTest, ACommandThatCrashedTwiceFailsForGoodAndNoOther) {
  SubmitReads();
  for (int i = 0; i < 2; ++i) {
    const int status = Victim(SIGSEGV);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), kCrashed);
  }
  const std::vector<Completion> completions = Completions(SIGSEGV);
  ASSERT_EQ(completions.size(), 2u);
  EXPECT_EQ(completions[0].cid, 1);
  EXPECT_EQ(completions[0].status >> 1, 0x4006) << "internal; do not retry";
  EXPECT_EQ(completions[1].cid, 2);
  EXPECT_EQ(completions[1].status >> 1, 0);
  const std::vector<Completion> events = Completions(0, 0);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].result, 0x010400u) << "transient internal error";
}

// The entry of the table is used again, by a command that is none of that.
TEST_F(PoisonTest, TheNextCommandInItsPlaceIsInnocent) {
  SubmitReads();
  for (int i = 0; i < 2; ++i) Victim(SIGSEGV);
  ASSERT_EQ(Completions(SIGSEGV).size(), 2u);
  SubmitReads();
  EXPECT_EQ(WEXITSTATUS(Victim(SIGSEGV)), kCrashed);
  const std::vector<Completion> completions = Completions(0);
  ASSERT_EQ(completions.size(), 2u);
  EXPECT_EQ(completions[0].status >> 1, 0);
}

TEST_F(PoisonTest, AnAdminCommandIsBlamedToo) {
  Submit(0, {NvmeDriver::Admin(AdminOpcode::kSetFeatures,
                               static_cast<uint32_t>(Feature::kWriteCache))});
  for (int i = 0; i < 2; ++i) EXPECT_EQ(WEXITSTATUS(Victim(SIGSEGV)), kCrashed);
  const std::vector<Completion> completions = Completions(SIGSEGV, 0);
  ASSERT_EQ(completions.size(), 2u);
  EXPECT_EQ(completions[0].status >> 1, 0x4006);
  EXPECT_EQ(completions[1].result, 0x010400u);
}

TEST_F(PoisonTest, OneCrashIsForgiven) {
  SubmitReads();
  Victim(SIGSEGV);
  const std::vector<Completion> completions = Completions(0);
  ASSERT_EQ(completions.size(), 2u);
  EXPECT_EQ(completions[0].status >> 1, 0);
  EXPECT_TRUE(Completions(0, 0).empty()) << "no event";
}

TEST_F(PoisonTest, KillsFromOutsideBlameNobody) {
  SubmitReads();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(WIFSIGNALED(Victim(SIGKILL)));
  const std::vector<Completion> completions = Completions(0);
  ASSERT_EQ(completions.size(), 2u);
  EXPECT_EQ(completions[0].status >> 1, 0);
}

// The control: without the handler's blame it would crash for ever.
TEST_F(PoisonTest, WithoutBlameItIsExecutedEachTime) {
  SubmitReads();
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(WIFSIGNALED(Victim(SIGSEGV, /*blames=*/false))) << i;
  }
}

}  // namespace
}  // namespace holdfast::nvme
