#include "devices/bus/work_keeper.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/testing/state_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StateMemory;
using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A function that has nothing but work.
class WorkKeeperTest : public ::testing::Test {
 protected:
  WorkKeeperTest() : bank_(MakeBank()), memory_(MakeSchema()) {
    EXPECT_OK(bank_.Bind(memory_.schema()));
    Begin();
  }

  absl::Status Transact(WorkKeeper::Change change) {
    WorkKeeper::View view;
    return access_->Transact(
        [&](StateTxn& txn) -> absl::Status {
          const absl::Status changed = change(txn);
          view = work_->Look(txn);
          return changed;
        },
        [&] { work_->Publish(view); });
  }
  void Order(uint32_t number) {
    EXPECT_OK(Transact([&](StateTxn& txn) {
      work::Order(bank_, txn, number);
      return absl::OkStatus();
    }));
  }
  absl::Status Reset() {
    return Transact([&](StateTxn& txn) {
      work_->Reset(txn);
      return absl::OkStatus();
    });
  }
  absl::Status Run() {
    return work_->Run(
        [&](WorkKeeper::Change change) { return Transact(change); },
        [&](uint32_t number) {
          done_.push_back(number);
          return during_ ? during_(number) : absl::OkStatus();
        });
  }
  // What a successor has.
  void Restart() {
    memory_.Restart();
    Begin();
    EXPECT_OK(Transact([](StateTxn&) { return absl::OkStatus(); }));
  }

  RegisterBank bank_;
  StateMemory memory_;
  std::unique_ptr<AccessKeeper> access_;
  std::unique_ptr<WorkKeeper> work_;
  std::function<absl::Status(uint32_t)> during_;
  std::vector<uint32_t> done_;

 private:
  static RegisterBank MakeBank() {
    return *RegisterBank::Create(
        "own", access::kBank,
        {access::kName, work::kOrdered, work::kRunning, work::kResets,
         access::kReady, access::kAnswer});
  }
  Schema MakeSchema() {
    Schema schema;
    EXPECT_OK(bank_.AddFields(schema));
    return schema;
  }
  void Begin() {
    access_ = std::make_unique<AccessKeeper>("test");
    work_ = std::make_unique<WorkKeeper>();
    work_->SetBank(bank_);
    access_->TakeOver(bank_, memory_.bank(), [] {});
  }
};

TEST_F(WorkKeeperTest, DoesWhatWasOrderedOnce) {
  EXPECT_FALSE(work_->pending());
  Order(63);
  Order(2);
  Order(2);
  EXPECT_TRUE(work_->pending());
  EXPECT_OK(Run());
  EXPECT_OK(Run());
  EXPECT_FALSE(work_->pending());
  EXPECT_OK(Run());
  EXPECT_THAT(done_, ElementsAre(2, 63));
}

TEST_F(WorkKeeperTest, WhatAPredecessorHadBegunComesFirst) {
  Order(5);
  during_ = [&](uint32_t) {
    Order(1);
    memory_.Overtake();  // The process is dead from here on.
    return absl::OkStatus();
  };
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kAborted, _));
  during_ = nullptr;
  done_.clear();
  Restart();
  EXPECT_OK(Run());
  EXPECT_OK(Run());
  EXPECT_OK(Run());
  EXPECT_THAT(done_, ElementsAre(5, 1));
}

TEST_F(WorkKeeperTest, DoneInATransactionOfTheWorkIsDone) {
  Order(5);
  during_ = [&](uint32_t) {
    EXPECT_OK(Transact([&](StateTxn& txn) {
      work::Done(bank_, txn, 5);
      return absl::OkStatus();
    }));
    memory_.Overtake();
    return absl::OkStatus();
  };
  EXPECT_FALSE(Run().ok());
  Restart();
  EXPECT_FALSE(work_->pending());
}

TEST_F(WorkKeeperTest, AResetForgetsWorkAndCutsOffWhatIsBeingDone) {
  Order(3);
  Order(4);
  during_ = [&](uint32_t) {
    EXPECT_TRUE(work_->active());
    EXPECT_EQ(work_->Current(), 3u);
    EXPECT_FALSE(work_->CutOff());
    EXPECT_OK(Reset());
    EXPECT_TRUE(work_->CutOff());
    EXPECT_THAT(
        Transact([&](StateTxn& txn) { return work_->CheckNotCutOff(txn); }),
        StatusIs(absl::StatusCode::kCancelled, _));
    return absl::InternalError("what nobody hears of");
  };
  EXPECT_OK(Run()) << "it was cut off";
  EXPECT_FALSE(work_->active());
  EXPECT_EQ(work_->Current(), kMaxWorks) << "none";
  EXPECT_FALSE(work_->pending());
  EXPECT_FALSE(work_->CutOff()) << "nobody works";
  EXPECT_THAT(done_, ElementsAre(3));
}

TEST_F(WorkKeeperTest, AMistakeOfTheWorkIsTold) {
  Order(3);
  during_ = [](uint32_t) { return absl::NotFoundError("no memory there"); };
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kNotFound, _));
  EXPECT_FALSE(work_->pending()) << "it has ended all the same";
}

TEST_F(WorkKeeperTest, WorkOfOneIsNotWorkOfAnother) {
  WorkKeeper other;
  other.SetBank(bank_);
  Order(3);
  during_ = [&](uint32_t) {
    EXPECT_OK(Reset());
    EXPECT_FALSE(other.CutOff());
    return absl::OkStatus();
  };
  EXPECT_OK(Run());
}

TEST_F(WorkKeeperTest, CallsAreForgottenWithTheProcess) {
  work_->CallAll(0x6);
  EXPECT_TRUE(work_->pending());
  EXPECT_OK(Run());
  Restart();
  EXPECT_FALSE(work_->pending());
  EXPECT_THAT(done_, ElementsAre(1));
}

TEST_F(WorkKeeperTest, NothingIsDoneOfAStateThatIsAnothers) {
  Order(3);
  memory_.Overtake();
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kAborted, _));
  EXPECT_THAT(done_, IsEmpty());
  EXPECT_FALSE(work_->active());
}

}  // namespace
}  // namespace holdfast
