#include "devices/keeper/shadow_ring.h"

#include <vector>

#include "base/testing/matchers.h"
#include "devices/keeper/testing/shadow_worker.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ShadowWorker;

constexpr uint16_t kSize = 8;

class ShadowRingTest : public ::testing::TestWithParam<bool> {
 protected:
  // What is in the memory from before is nobody's.
  std::vector<uint64_t> available_ = std::vector<uint64_t>(64, ~0ull);
  std::vector<uint64_t> used_ = std::vector<uint64_t>(64, ~0ull);
  uint8_t* const available_bytes_ =
      reinterpret_cast<uint8_t*>(available_.data());
  uint8_t* const used_bytes_ = reinterpret_cast<uint8_t*>(used_.data());
  ShadowRing ring_{available_bytes_, used_bytes_, kSize, GetParam()};
  ShadowWorker worker_{available_bytes_, used_bytes_, kSize};

  std::vector<uint16_t> Answered() {
    std::vector<uint16_t> heads;
    const auto answers = ring_.Take();
    EXPECT_OK(answers);
    if (!answers.ok()) return heads;
    for (const Completion& each : *answers) heads.push_back(each.head);
    return heads;
  }
  void ExpectALie(const char* how) {
    EXPECT_THAT(ring_.Take(),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(how)));
  }
  void Give(const std::vector<uint16_t>& heads) {
    for (const uint16_t head : heads) ring_.Push(head);
    ring_.Expose();
  }
};

INSTANTIATE_TEST_SUITE_P(EventIndex, ShadowRingTest, ::testing::Bool());

TEST_P(ShadowRingTest, RequestsArriveInOrderAndAnswersInAny) {
  ring_.Push(5);
  ring_.Push(0);
  ring_.Push(7);
  EXPECT_THAT(worker_.Take(), IsEmpty()) << "not yet exposed";
  ring_.Expose();
  EXPECT_THAT(worker_.Take(), ElementsAre(5, 0, 7));
  worker_.Answer(7, 100);
  worker_.Answer(5, 0);
  const auto answers = ring_.Take();
  ASSERT_OK(answers);
  ASSERT_EQ(answers->size(), 2u);
  EXPECT_EQ((*answers)[0].head, 7);
  EXPECT_EQ((*answers)[0].written, 100u);
  EXPECT_EQ((*answers)[1].head, 5);
  EXPECT_EQ(ring_.outstanding(), 1);
  // What was answered can be given again.
  Give({7});
  EXPECT_THAT(worker_.Take(), ElementsAre(7));
}

TEST_P(ShadowRingTest, IndicesWrap) {
  for (uint32_t i = 0; i < 70'000; ++i) {
    const auto head = static_cast<uint16_t>(i % kSize);
    Give({head});
    ASSERT_THAT(worker_.Take(), ElementsAre(head));
    worker_.Answer(head, i);
    ASSERT_THAT(Answered(), ElementsAre(head));
  }
}

TEST_P(ShadowRingTest, LiesAreFoundOut) {
  Give({1, 2});
  worker_.Answer(3, 0);
  ExpectALie("request 3, which it does not have");
}

TEST_P(ShadowRingTest, OneThatIsOutsideTheRing) {
  Give({1});
  worker_.Answer(0x10001, 0);
  ExpectALie("request 65537");
}

TEST_P(ShadowRingTest, TwoForOne) {
  Give({1, 2});
  worker_.Answer(1, 0);
  worker_.Answer(1, 0);
  ExpectALie("request 1, which");
}

TEST_P(ShadowRingTest, TwoForOneOneAfterTheOther) {
  Give({1, 2});
  worker_.Answer(1, 0);
  EXPECT_THAT(Answered(), ElementsAre(1));
  worker_.Answer(1, 0);
  ExpectALie("request 1, which");
}

TEST_P(ShadowRingTest, AnIndexThatGoesAstray) {
  Give({1, 2});
  worker_.MoveUsed(3);
  ExpectALie("answers 3 requests and has 2");
  worker_.MoveUsed(static_cast<uint16_t>(-4));
  ExpectALie("answers 65535 requests");
}

TEST(ShadowRingFlags, KicksAndCallsAsTheFlagsSay) {
  std::vector<uint64_t> memory(128);
  auto* const bytes = reinterpret_cast<uint8_t*>(memory.data());
  ShadowRing ring(bytes, bytes + 512, kSize, /*event_idx=*/false);
  ShadowWorker worker(bytes, bytes + 512, kSize);
  EXPECT_FALSE(ring.Expose()) << "nothing is new";
  ring.Push(0);
  EXPECT_TRUE(ring.Expose());
  worker.DisableKicks();
  ring.Push(1);
  EXPECT_FALSE(ring.Expose());
  ring.DisableCalls();
  EXPECT_FALSE(worker.WantsCall());
  EXPECT_FALSE(ring.EnableCalls());
  EXPECT_TRUE(worker.WantsCall());
  worker.Answer(0, 0);
  EXPECT_TRUE(ring.EnableCalls()) << "there is one already";
}

TEST(ShadowRingEvents, KicksAndCallsAsTheIndicesSay) {
  std::vector<uint64_t> memory(128);
  auto* const bytes = reinterpret_cast<uint8_t*>(memory.data());
  ShadowRing ring(bytes, bytes + 512, kSize, /*event_idx=*/true);
  ShadowWorker worker(bytes, bytes + 512, kSize);
  ring.Push(0);
  EXPECT_TRUE(ring.Expose()) << "the first one";
  worker.KickAfter(2);
  ring.Push(1);
  EXPECT_FALSE(ring.Expose());
  ring.Push(2);
  EXPECT_TRUE(ring.Expose());
  worker.Answer(1, 0);
  ASSERT_OK(ring.Take());
  EXPECT_FALSE(ring.EnableCalls());
  EXPECT_EQ(worker.used_event(), 1) << "a call for the second answer";
  // The flag has no meaning then.
  ring.DisableCalls();
  EXPECT_TRUE(worker.WantsCall());
}

}  // namespace
}  // namespace holdfast::keeper
