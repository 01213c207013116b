// Requests that end every life which executes them, and those that only seem
// to.

#include <sys/socket.h>

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/keeper/testing/fake_backend.h"
#include "devices/keeper/testing/shadow_fixture.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/backend_resources.h"

namespace holdfast::keeper {
namespace {

using ::testing::ElementsAre;
using testing::FakeBackend;
using testing::ShadowTest;
using ::testing::SizeIs;
using testing::Work;

BackendTraits With(KickBack kick_back, std::chrono::milliseconds hang = {}) {
  BackendTraits traits;
  traits.kick_back = kick_back;
  traits.hang_limit = hang;
  return traits;
}

class KeeperPoisonTest : public ShadowTest {
 protected:
  explicit KeeperPoisonTest(
      const BackendTraits& traits = With(KickBack::kBlock))
      : ShadowTest(traits) {}

  void StartAll() {
    FakeBackend& life = NewLife();
    Start();
    ASSERT_TRUE(Whole(life));
    work_.emplace(life);
  }
  // A life, and what it takes; there are so many.
  std::vector<uint16_t> LifeTakes(size_t count) {
    FakeBackend& life = NewLife();
    EXPECT_TRUE(Whole(life));
    work_.emplace(life);
    return work_->Take(count);
  }
  void Ends() {
    lives_.back()->End();
    AwaitVerdict();
  }
  // As the launcher says it, before there is another one.
  void EndsByItsOwnFault() {
    Ends();
    store::BackendVerdict word = {};
    word.life = life_;
    word.kind = store::BackendVerdict::kFault;
    ASSERT_EQ(send(verdicts_.get(), &word, sizeof(word), 0),
              static_cast<ssize_t>(sizeof(word)));
  }
  // Of requests in the order of their answers: the status byte.
  std::vector<std::pair<uint64_t, int>> Statuses(size_t count) {
    std::vector<std::pair<uint64_t, int>> statuses;
    while (statuses.size() < count && vmm_->WaitForCall(0).ok()) {
      for (const auto& answer : vmm_->driver(0).Collect()) {
        statuses.emplace_back(answer.request, answer.data.back());
      }
    }
    return statuses;
  }
  static std::pair<uint64_t, int> Status(uint64_t request, int status) {
    return {request, status};
  }

  std::optional<Work> work_;  // Of the last life.
};

TEST_F(KeeperPoisonTest, WhatEndsItsLivesIsRefusedAndTheRestGoesOn) {
  StartAll();
  const uint64_t poison = Post();
  const uint64_t innocent = Post();
  const std::vector<uint16_t> heads = work_->Take(2);
  ASSERT_THAT(heads, SizeIs(2));
  EndsByItsOwnFault();
  EXPECT_EQ(LifeTakes(2), heads) << "one death proves nothing";
  EndsByItsOwnFault();
  // On trial.
  EXPECT_THAT(LifeTakes(1), ElementsAre(heads[0]));
  EXPECT_FALSE(work_->HasMore());
  EndsByItsOwnFault();
  EXPECT_THAT(LifeTakes(1), ElementsAre(heads[1]));
  store::BackendVerdict verdict = {};
  AwaitWord(/*life=*/0, store::BackendVerdict::kRefused, verdict);
  EXPECT_THAT(Statuses(1), ElementsAre(Status(poison, 1)));
  work_->Answer(heads[1]);
  EXPECT_THAT(Statuses(1), ElementsAre(Status(innocent, 0)));
  // And as ever.
  const uint64_t next = Post();
  const uint64_t last = Post();
  const std::vector<uint16_t> more = work_->Take(2);
  ASSERT_THAT(more, SizeIs(2));
  for (const uint16_t head : more) work_->Answer(head);
  EXPECT_THAT(Answers(2), ElementsAre(next, last));
  EXPECT_THAT(vmm_->driver(0).violations(), SizeIs(0));
}

// The one that is first on trial may be another one.
TEST_F(KeeperPoisonTest, TheInnocentAreAcquitted) {
  StartAll();
  const uint64_t innocent = Post();
  const uint64_t poison = Post();
  const std::vector<uint16_t> heads = work_->Take(2);
  ASSERT_THAT(heads, SizeIs(2));
  EndsByItsOwnFault();
  LifeTakes(2);
  EndsByItsOwnFault();
  EXPECT_THAT(LifeTakes(1), ElementsAre(heads[0]));
  work_->Answer(heads[0]);
  EXPECT_THAT(Statuses(1), ElementsAre(Status(innocent, 0)));
  EXPECT_THAT(work_->Take(1), ElementsAre(heads[1]));
  EndsByItsOwnFault();
  ASSERT_TRUE(Whole(NewLife()));
  EXPECT_THAT(Statuses(1), ElementsAre(Status(poison, 1)));
}

// However often somebody ends its lives.
TEST_F(KeeperPoisonTest, NobodyIsToBlameForWhatOthersDo) {
  StartAll();
  const uint64_t number = Post();
  const std::vector<uint16_t> heads = work_->Take(1);
  for (int i = 0; i < 6; ++i) {
    Ends();
    ASSERT_EQ(LifeTakes(1), heads) << i;
  }
  work_->Answer(heads.at(0));
  EXPECT_THAT(Statuses(1), ElementsAre(Status(number, 0)));
}

// On trial, too.
TEST_F(KeeperPoisonTest, NobodyIsConvictedForWhatOthersDo) {
  StartAll();
  const uint64_t number = Post();
  const std::vector<uint16_t> heads = work_->Take(1);
  for (int i = 0; i < 2; ++i) {
    EndsByItsOwnFault();
    ASSERT_EQ(LifeTakes(1), heads);
  }
  Ends();
  ASSERT_EQ(LifeTakes(1), heads);
  work_->Answer(heads.at(0));
  EXPECT_THAT(Statuses(1), ElementsAre(Status(number, 0)));
}

TEST_F(KeeperPoisonTest, TheNextKeeperKnowsWhoIsSuspect) {
  StartAll();
  Post();
  Post();
  const std::vector<uint16_t> heads = work_->Take(2);
  ASSERT_THAT(heads, SizeIs(2));
  EndsByItsOwnFault();
  LifeTakes(2);
  EndsByItsOwnFault();
  EXPECT_THAT(LifeTakes(1), SizeIs(1));
  rig_.Die();
  ASSERT_OK(rig_.Run());
  AwaitGivenUp();
  EXPECT_THAT(LifeTakes(1), ElementsAre(heads[0]));
  EXPECT_FALSE(work_->HasMore());
}

class HangingTest : public KeeperPoisonTest {
 protected:
  HangingTest()
      : KeeperPoisonTest(
            With(KickBack::kBlock, std::chrono::milliseconds(40))) {}
};

// The launcher kills those, and says nothing of a fault.
TEST_F(HangingTest, WhatHangsItsLivesIsRefused) {
  StartAll();
  const uint64_t poison = Post();
  EXPECT_THAT(work_->Take(1), SizeIs(1));
  for (int i = 0; i < 3; ++i) {
    AwaitGivenUp();
    ASSERT_TRUE(Whole(NewLife()));
  }
  EXPECT_THAT(Statuses(1), ElementsAre(Status(poison, 1)));
}

class NobodyIsRefused : public KeeperPoisonTest {
 protected:
  NobodyIsRefused() : KeeperPoisonTest(With(KickBack::kNever)) {}
};

// The mechanism off: it goes on for ever.
TEST_F(NobodyIsRefused, ItEndsThemAll) {
  StartAll();
  Post();
  const std::vector<uint16_t> heads = work_->Take(1);
  for (int i = 0; i < 6; ++i) {
    EndsByItsOwnFault();
    ASSERT_EQ(LifeTakes(1), heads) << i;
  }
  EXPECT_THAT(vmm_->driver(0).Collect(), SizeIs(0));
}

}  // namespace
}  // namespace holdfast::keeper
