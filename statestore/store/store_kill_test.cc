// kill -9 of the active child, hundreds of times, of the real holdfast-store's
// real processes: who takes over, with what, and how soon.

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"
#include "statestore/store/message_io_sys.h"
#include "statestore/store/testing/fake_device_sys.h"
#include "statestore/store/testing/store_process_sys.h"

namespace holdfast::store {
namespace {

using testing::Command;
using testing::FakeDevice;
using testing::MakeToken;
using testing::NewProgress;
using testing::Note;
using testing::Progress;
using testing::ReadToken;
using testing::StoreProcess;
using testing::WaitForEvent;

constexpr char kStore[] = "statestore/store/holdfast-store";
constexpr InstanceId kInstance = 7;
constexpr int kPromotions = 300;
constexpr int kEscrowKills = 2000;

void SleepMicroseconds(long us) {
  timespec time = {us / 1000000, us % 1000000 * 1000};
  nanosleep(&time, nullptr);
}

void PrintHistogram(const char* what, std::vector<uint64_t> ns) {
  std::sort(ns.begin(), ns.end());
  const auto at = [&ns](size_t percent) {
    return ns[std::min(ns.size() - 1, ns.size() * percent / 100)] / 1000;
  };
  std::printf("%s: n=%zu min %llu p50 %llu p90 %llu p99 %llu max %llu us\n",
              what, ns.size(),
              static_cast<unsigned long long>(ns.front() / 1000),
              static_cast<unsigned long long>(at(50)),
              static_cast<unsigned long long>(at(90)),
              static_cast<unsigned long long>(at(99)),
              static_cast<unsigned long long>(ns.back() / 1000));
}

// An instance whose active child is always followed by a ready standby.
class StoreKill : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(client().CreateInstance(kInstance, "disk", MakeToken(99), true));
    active_ = Spawn();
    ASSERT_TRUE(active_->AwaitEvent(ChildEvent::Kind::kPromote).has_value());
    WaitForEvent(client(), Type::kPromoted);
    standby_ = SpawnReady();
  }
  Client& client() { return store_.client(); }

  std::unique_ptr<FakeDevice> Spawn() {
    auto device = std::make_unique<FakeDevice>(++last_id_, progress_);
    EXPECT_OK(device->child().AddTo(client(), kInstance));
    return device;
  }
  std::unique_ptr<FakeDevice> SpawnReady() {
    auto device = Spawn();
    EXPECT_TRUE(WaitForEvent(client(), Type::kChildReady).has_value());
    return device;
  }
  // The standby's promotion after the active one has been killed.
  std::optional<Note> Succeed() {
    std::optional<Note> note = standby_->AwaitEvent(ChildEvent::Kind::kPromote);
    EXPECT_TRUE(WaitForEvent(client(), Type::kPromoted).has_value());
    active_ = std::move(standby_);
    standby_ = SpawnReady();
    return note;
  }

  Progress* const progress_ = NewProgress();
  StoreProcess store_{kStore};
  ChildId last_id_ = 0;
  std::unique_ptr<FakeDevice> active_, standby_;
};

TEST_F(StoreKill, EveryDeathPromotesTheStandbyWithEveryDescriptor) {
  std::vector<std::pair<Slot, uint64_t>> expected;
  for (Slot slot = kSlotFirstResource; slot < kSlotEndResource; ++slot) {
    ASSERT_OK(client().SetResource(kInstance, slot, MakeToken(1000 + slot)));
    expected.push_back({slot, 1000 + slot});
  }
  for (Slot slot : {16, 31, 32, 33, 100, 190, 191}) {
    ASSERT_TRUE(active_->Escrow(slot, 1000 + slot));
    expected.push_back({slot, 1000 + slot});
  }
  const size_t descriptors = store_.CountDescriptors();
  std::vector<uint64_t> store_ns, whole_ns;
  for (int i = 0; i < kPromotions; ++i) {
    const uint64_t killed = MonotonicNs();
    active_->child().Kill();
    const std::optional<Note> note = Succeed();
    ASSERT_TRUE(note.has_value()) << i;
    EXPECT_EQ(note->epoch, static_cast<uint64_t>(i) + 2);
    for (const auto& [slot, token] : expected) {
      ASSERT_EQ(note->held[slot], token) << "slot " << slot << " kill " << i;
    }
    store_ns.push_back(note->seen_ns - note->death_ns);
    whole_ns.push_back(note->seen_ns - killed);
  }
  EXPECT_TRUE(store_.AwaitDescriptors(descriptors));
  PrintHistogram("death seen -> standby awake", store_ns);
  PrintHistogram("kill -9 -> standby awake   ", whole_ns);
}

TEST_F(StoreKill, AcknowledgedDepositsSurviveDeathAtAnyInstant) {
  std::mt19937 random(7);
  progress_->silent_forwards = true;
  size_t old = 0, newer = 0;
  const size_t descriptors = store_.CountDescriptors();
  for (int i = 0; i < kEscrowKills; ++i) {
    Command churn;
    churn.kind = Command::Kind::kChurn;
    active_->Start(churn);
    // Once for long, with more forwards than sockets hold: all must keep up.
    SleepMicroseconds(i == 50 ? 60000 : random() % 400);
    active_->child().Kill();
    const std::optional<Note> note = Succeed();
    ASSERT_TRUE(note.has_value()) << i;
    for (Slot index = 0; index < Progress::kChurnSlots; ++index) {
      const Slot slot = kSlotFirstSession + index;
      const uint64_t token = note->held[slot];
      const uint64_t begun = progress_->begun[index];
      const uint64_t acknowledged = progress_->acknowledged[index];
      ASSERT_TRUE(token == acknowledged || token == begun)
          << "slot " << slot << " kill " << i << ": " << token << ", not "
          << acknowledged << " or " << begun;
      if (begun != acknowledged) ++(token == begun ? newer : old);
      // What the successor has is the truth from now on.
      progress_->begun[index] = progress_->acknowledged[index] = token;
      if (token == 0) continue;
      const auto held = client().GetSlot(kInstance, slot);
      ASSERT_OK(held);
      ASSERT_EQ(ReadToken(*held), token) << "the store and the standby differ";
    }
  }
  std::printf("%llu deposits, %d kills; cut short: %zu old, %zu new\n",
              static_cast<unsigned long long>(progress_->next), kEscrowKills,
              old, newer);
  EXPECT_TRUE(
      store_.AwaitAtMostDescriptors(descriptors + Progress::kChurnSlots));
}

// Negative control of the test above: a device that does not wait for the
// acknowledgement loses what it sent. The store stands still while it dies, so
// that the death and the deposit are there together.
TEST_F(StoreKill, DepositThatNobodyAcknowledgedCanBeLost) {
  progress_->trust_sending = true;
  kill(store_.pid(), SIGSTOP);
  Command churn;
  churn.kind = Command::Kind::kChurn;
  active_->Start(churn);
  active_->child().Reap();
  kill(store_.pid(), SIGCONT);
  const std::optional<Note> note = Succeed();
  ASSERT_TRUE(note.has_value());
  const Slot index = 1;  // Of the first token.
  EXPECT_EQ(progress_->acknowledged[index], 1u);
  EXPECT_EQ(note->held[kSlotFirstSession + index], 0u);
}

TEST_F(StoreKill, KilledStandbysAreReplacedWithoutALeak) {
  ASSERT_TRUE(active_->Escrow(40, 4040));
  const size_t descriptors = store_.CountDescriptors();
  for (int i = 0; i < 50; ++i) {
    standby_->child().Kill();
    ASSERT_TRUE(WaitForEvent(client(), Type::kChildLost).has_value());
    standby_ = SpawnReady();
  }
  EXPECT_TRUE(store_.AwaitDescriptors(descriptors));
  active_->child().Kill();
  EXPECT_EQ(Succeed()->held[40], 4040u);
}

}  // namespace
}  // namespace holdfast::store
