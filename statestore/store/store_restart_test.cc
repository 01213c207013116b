// A store that dies again and again under children that deposit: what was
// acknowledged is with the next store and with the next active child.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "gtest/gtest.h"
#include "statestore/store/testing/store_fixture.h"

namespace holdfast::store {
namespace {

using testing::Command;
using testing::FakeDevice;
using testing::kDisk;

using testing::Progress;

constexpr int kRestarts = 200;

size_t CountDescriptorsOf(pid_t pid) {
  const std::filesystem::path fds = "/proc/" + std::to_string(pid) + "/fd";
  const std::filesystem::directory_iterator all(fds);
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

// As the kernel names it: 'S' sleeps until something happens.
char StateOf(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  const std::string line(std::istreambuf_iterator<char>(stat), {});
  const size_t name_end = line.rfind(')');
  return name_end + 2 < line.size() ? line[name_end + 2] : '?';
}

class StoreRestarts : public testing::StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    progress_->silent_forwards = true;
    active_ = Add(++last_id_, kDisk, progress_);
    standby_ = Add(++last_id_, kDisk, progress_);
  }

  // The active child deposits until the store dies under it.
  void DieUnderDeposits(bool with_active) {
    const uint64_t next = progress_->next;
    progress_->end = next + 200;
    Command churn;
    churn.kind = Command::Kind::kChurn;
    active_->Start(churn);
    while (progress_->next < next + random_() % 150) usleep(10);
    if (with_active && random_() % 2 == 0) active_->child().Kill();
    store_->Kill();
    if (with_active) active_->child().Kill();
    with_active ? active_->child().Reap() : active_->Finish();
    store_ = std::make_unique<testing::StoreProcess>(testing::kStoreBinary);
    Create(kDisk);
  }

  // A value that was on its way may be the old one or the new one, once; from
  // then on it is what is held.
  void Settle(uint64_t token, Slot index, bool exact) {
    const uint64_t acknowledged = progress_->acknowledged[index];
    const uint64_t begun = progress_->begun[index];
    EXPECT_TRUE(token == acknowledged || (!exact && token == begun))
        << "slot " << index << " holds " << token << ", acknowledged "
        << acknowledged << ", begun " << begun;
    progress_->acknowledged[index] = progress_->begun[index] = token;
  }

  Progress* const progress_ = testing::NewProgress();
  std::mt19937 random_{11};
  ChildId last_id_ = 0;
  uint64_t epoch_ = 1;
  std::unique_ptr<FakeDevice> active_, standby_;
};

TEST_F(StoreRestarts, NothingAcknowledgedIsLostOverManyOfThem) {
  const size_t own = CountDescriptorsOf(getpid());
  int successions = 0;
  for (int i = 0; i < kRestarts && !HasFailure(); ++i) {
    SCOPED_TRACE(i);
    const bool with_active = i % 4 == 3;
    DieUnderDeposits(with_active);
    if (with_active) {
      Reattach(*standby_, kAddReattached, epoch_);
      const auto note = standby_->AwaitEvent(ChildEvent::Kind::kPromote);
      ASSERT_TRUE(note.has_value());
      EXPECT_GT(note->epoch, epoch_);
      epoch_ = note->epoch;
      ++successions;
      for (Slot s = 0; s < Progress::kChurnSlots; ++s) {
        Settle(note->held[kSlotFirstSession + s], s, /*exact=*/false);
      }
      active_ = std::move(standby_);
      standby_ = Add(++last_id_, kDisk, progress_);
    } else {
      Reattach(*active_, kAddReattached | kAddActive, epoch_);
      Reattach(*standby_, kAddReattached, epoch_);
    }
    for (Slot s = 0; s < Progress::kChurnSlots; ++s) {
      // The one that deposited says what it holds.
      Settle(TokenInStore(kSlotFirstSession + s), s, /*exact=*/true);
    }
    // Standard ones, the channel, two sets, two ends to each closing thread;
    // segment; two children; the slots.
    EXPECT_TRUE(
        store_->AwaitAtMostDescriptors(10 + 1 + 2 * 4 + Progress::kChurnSlots));
    EXPECT_LE(CountDescriptorsOf(active_->child().pid()),
              5u + 2 * Progress::kChurnSlots);
  }
  std::printf("%d restarts, %d successions, %llu deposits\n", kRestarts,
              successions, static_cast<unsigned long long>(progress_->next));
  EXPECT_LE(CountDescriptorsOf(getpid()), own + 1);
}

class StoreLastWords : public StoreRestarts {
 protected:
  // The store acknowledges a deposit and dies before the standby, which stands
  // still, has read what it was forwarded; then the depositor dies. What the
  // standby holds when it is promoted by the next store.
  uint64_t HeldBySuccessor(bool forget_last_words) {
    const pid_t pid = standby_->child().pid();
    // Where it waits for the store and for us: had it still to look whether
    // the store has said something, it would do that first when it goes on.
    EXPECT_TRUE(PollUntil([pid] { return StateOf(pid) == 'S'; }));
    kill(pid, SIGSTOP);
    // Only from then on does it read nothing.
    EXPECT_EQ(waitpid(pid, nullptr, WUNTRACED), pid);
    EXPECT_TRUE(active_->Escrow(40, 4040));
    store_->Kill();
    active_->child().Kill();
    active_->child().Reap();
    store_ = std::make_unique<testing::StoreProcess>(testing::kStoreBinary);
    Create(kDisk);
    Command command;
    command.kind = Command::Kind::kReattach;
    command.value = forget_last_words ? 1 : 0;
    const UniqueFd channel = standby_->child().NewChannel();
    EXPECT_OK(standby_->child().AddTo(client(), kDisk, kAddReattached, 1));
    standby_->Start(command, channel);
    kill(pid, SIGCONT);
    const auto note = standby_->AwaitEvent(ChildEvent::Kind::kPromote);
    return note.has_value() ? note->held[40] : ~uint64_t{0};
  }
};

TEST_F(StoreLastWords, OfTheOldStoreAreHeardBeforeTheNew) {
  EXPECT_EQ(HeldBySuccessor(/*forget_last_words=*/false), 4040u);
}

// The control: without them an acknowledged deposit is lost.
TEST_F(StoreLastWords, ThatAreNotHeardAreLost) {
  EXPECT_EQ(HeldBySuccessor(/*forget_last_words=*/true), 0u);
}

}  // namespace
}  // namespace holdfast::store
