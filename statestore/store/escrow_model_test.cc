// The successor gets every descriptor that was acknowledged, and the newest one
// of its slot, in every interleaving of deaths of the store and of children.
// See testing/escrow_model.h.

#include "statestore/store/testing/escrow_model.h"

#include <cstdlib>
#include <ostream>
#include <string>

#include "gtest/gtest.h"

namespace holdfast::store {
namespace {

using testing::ExploreEscrow;
using testing::ModelLimits;
using testing::ModelMistakes;
using testing::ModelResult;

// HOLDFAST_KILLS, whatever its value, asks for the long run: some minutes with
// -c opt (two deaths of each: 3,627,883 states in 139 s).
bool IsLong() { return std::getenv("HOLDFAST_KILLS") != nullptr; }

ModelLimits Deaths(int stores, int children) {
  ModelLimits limits;
  limits.store_deaths = stores;
  limits.child_deaths = children;
  limits.values = IsLong() ? 2 : 1;
  return limits;
}

ModelResult ExpectNothingLost(const ModelLimits& limits) {
  ModelResult result = ExploreEscrow(limits);
  EXPECT_EQ(result.problem, "");
  EXPECT_GT(result.promotions, 0u);
  ::testing::Test::RecordProperty("states", std::to_string(result.states));
  ::testing::Test::RecordProperty("promotions",
                                  std::to_string(result.promotions));
  return result;
}

TEST(EscrowModel, ChildrenDieUnderOneStore) {
  EXPECT_TRUE(ExpectNothingLost(Deaths(0, 2)).complete);
}
TEST(EscrowModel, StoreAndOneChildDie) {
  EXPECT_TRUE(ExpectNothingLost(Deaths(1, 1)).complete);
}
TEST(EscrowModel, StoreAndTwoChildrenDie) {
  EXPECT_TRUE(ExpectNothingLost(Deaths(1, 2)).complete);
}

// The store after the first may die before it is filled again, too.
TEST(EscrowModel, TwoStoresAndTwoChildrenDie) {
  ModelLimits limits = Deaths(2, 2);
  if (!IsLong()) limits.states = 30'000;
  EXPECT_EQ(ExpectNothingLost(limits).complete, IsLong());
}

struct Mistake {
  const char* name;
  bool ModelMistakes::*made;
};

void PrintTo(const Mistake& mistake, std::ostream* os) { *os << mistake.name; }

class EscrowModelControl : public ::testing::TestWithParam<Mistake> {};

TEST_P(EscrowModelControl, MistakeIsFound) {
  ModelMistakes mistakes;
  mistakes.*GetParam().made = true;
  EXPECT_NE(ExploreEscrow(Deaths(1, 2), mistakes).problem, "");
}

INSTANTIATE_TEST_SUITE_P(
    All, EscrowModelControl,
    ::testing::Values(
        Mistake{"LastWordsNotHeard", &ModelMistakes::forget_last_words},
        Mistake{"StandbyIgnored", &ModelMistakes::ignore_standby},
        Mistake{"DeadActiveOnesWordReplaced",
                &ModelMistakes::last_depositor_wins},
        Mistake{"AnswerNotAwaited", &ModelMistakes::trust_sending},
        Mistake{"DepositorNotAwaited", &ModelMistakes::await_nobody}),
    [](const auto& info) { return std::string(info.param.name); });

// The order that is left out would have shown nothing else.
TEST(EscrowModelReduction, KeepsTheVerdictOfEveryOrder) {
  ModelLimits all = Deaths(0, 2), some = all;
  all.every_order = true;
  const ModelResult whole = ExpectNothingLost(all);
  const ModelResult reduced = ExpectNothingLost(some);
  EXPECT_TRUE(whole.complete && reduced.complete);
  EXPECT_LT(reduced.states, whole.states / 2);
  for (bool ModelMistakes::*made :
       {&ModelMistakes::ignore_standby, &ModelMistakes::last_depositor_wins,
        &ModelMistakes::trust_sending}) {
    ModelMistakes mistakes;
    mistakes.*made = true;
    all = some = Deaths(1, 2);
    all.every_order = true;
    EXPECT_NE(ExploreEscrow(all, mistakes).problem, "");
    EXPECT_NE(ExploreEscrow(some, mistakes).problem, "");
  }
}

}  // namespace
}  // namespace holdfast::store
