// The successor gets every descriptor that was acknowledged, and the newest one
// of its slot, in every interleaving of deaths of the store and of children.
// See testing/escrow_model.h.

#include "statestore/store/testing/escrow_model.h"

#include <cstdlib>
#include <string>

#include "gtest/gtest.h"

namespace holdfast::store {
namespace {

using testing::ExploreEscrow;
using testing::ModelLimits;
using testing::ModelMistakes;
using testing::ModelResult;

// HOLDFAST_KILLS, whatever its value, asks for the long run: some minutes.
bool IsLong() { return std::getenv("HOLDFAST_KILLS") != nullptr; }

ModelLimits Deaths(int stores, int children) {
  ModelLimits limits;
  limits.store_deaths = stores;
  limits.child_deaths = children;
  limits.values = IsLong() ? 2 : 1;
  // About as many as the model has with one death of each kind.
  if (!IsLong()) limits.states = 150'000;
  return limits;
}

void ExpectNothingLost(const ModelLimits& limits) {
  const ModelResult result = ExploreEscrow(limits);
  EXPECT_EQ(result.problem, "");
  EXPECT_GT(result.promotions, 0u);
  EXPECT_TRUE(result.complete || !IsLong());
  ::testing::Test::RecordProperty("states", std::to_string(result.states));
  ::testing::Test::RecordProperty("promotions",
                                  std::to_string(result.promotions));
}

TEST(EscrowModel, ChildrenDieUnderOneStore) { ExpectNothingLost(Deaths(0, 2)); }
TEST(EscrowModel, StoreAndOneChildDie) { ExpectNothingLost(Deaths(1, 1)); }
TEST(EscrowModel, StoreAndTwoChildrenDie) { ExpectNothingLost(Deaths(1, 2)); }

std::string ProblemWith(const ModelMistakes& mistakes) {
  return ExploreEscrow(Deaths(1, 2), mistakes).problem;
}

TEST(EscrowModel, FindsLastWordsThatAreNotHeard) {
  ModelMistakes mistakes;
  mistakes.forget_last_words = true;
  EXPECT_NE(ProblemWith(mistakes), "");
}

TEST(EscrowModel, FindsAStandbyThatIsIgnored) {
  ModelMistakes mistakes;
  mistakes.ignore_standby = true;
  EXPECT_NE(ProblemWith(mistakes), "");
}

TEST(EscrowModel, FindsAStandbyThatReplacesADeadActiveOnesWord) {
  ModelMistakes mistakes;
  mistakes.last_depositor_wins = true;
  EXPECT_NE(ProblemWith(mistakes), "");
}

TEST(EscrowModel, FindsAChildThatDoesNotWaitForItsAnswer) {
  ModelMistakes mistakes;
  mistakes.trust_sending = true;
  EXPECT_NE(ProblemWith(mistakes), "");
}

}  // namespace
}  // namespace holdfast::store
