#include "devices/keeper/kick_back.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::FakeDriver;
using Buffer = FakeDriver::Buffer;

class AnswerTest : public ::testing::Test {
 protected:
  // What the driver finds, of a request with these buffers.
  FakeDriver::Answer Answer(KickBack kind, std::vector<uint32_t> sizes) {
    std::vector<Buffer> buffers = {Buffer::Readable({1, 2, 3})};
    for (const uint32_t size : sizes) buffers.push_back(Buffer::Writable(size));
    EXPECT_TRUE(driver_.Post(buffers).has_value());
    SplitRing ring =
        *SplitRing::Create(driver_.config(), &driver_.memory(), {});
    EXPECT_OK(ring.Recover(0));
    const Popped popped = ring.Pop();
    EXPECT_OK(ring.ReadChain(popped.head, chain_));
    for (const ChainSegment& segment : chain_.writable()) {
      std::fill_n(segment.data, segment.size, uint8_t{0xee});
    }
    const Completion completion = AnswerWithError(kind, chain_);
    EXPECT_EQ(completion.head, popped.head);
    EXPECT_OK(ring.Publish({&completion, 1}));
    const auto answers = driver_.Collect();
    EXPECT_EQ(answers.size(), 1u);
    EXPECT_TRUE(driver_.violations().empty());
    return answers.at(0);
  }

  FakeDriver driver_{FakeDriver::Options()};
  Chain chain_;
};

TEST_F(AnswerTest, OfADiskIsAnErrorInTheLastByte) {
  const auto answer = Answer(KickBack::kBlock, {4, 3, 1});
  EXPECT_EQ(answer.data, std::vector<uint8_t>(
                             {0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 1}));
  EXPECT_EQ(answer.written, 1u);
}

TEST_F(AnswerTest, OfAScsiHostIsAFailureInTheResponse) {
  const auto answer = Answer(KickBack::kScsi, {8, 20, 512});
  EXPECT_EQ(answer.written, 12u);
  std::vector<uint8_t> begin(answer.data.begin(), answer.data.begin() + 13);
  EXPECT_EQ(begin,
            std::vector<uint8_t>({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xee}));
}

TEST_F(AnswerTest, WithoutAPlaceForItIsNothing) {
  EXPECT_EQ(Answer(KickBack::kBlock, {}).written, 0u);
}

TEST_F(AnswerTest, WithAPlaceThatIsTooShortIsNothing) {
  EXPECT_EQ(Answer(KickBack::kScsi, {11}).written, 0u);
}

TEST_F(AnswerTest, OfAnythingElseIsNothing) {
  const auto answer = Answer(KickBack::kNothing, {2});
  EXPECT_EQ(answer.written, 0u);
  EXPECT_EQ(answer.data, std::vector<uint8_t>({0xee, 0xee}));
}

constexpr Suspect kAlone = {2, 5, 77};

TEST(Blame, IsOfTheLastLifesOwnFaultAlone) {
  Blame blame;
  std::optional<Suspect> convicted;
  blame.Ended(11, kAlone);
  EXPECT_FALSE(blame.TakeFault(convicted)) << "nobody has said so";
  EXPECT_FALSE(convicted.has_value());
  blame.Ended(12, kAlone);
  blame.Fault(11);
  blame.Fault(0);
  EXPECT_FALSE(blame.TakeFault(convicted)) << "of another one";
  blame.Ended(13, std::nullopt);
  blame.Fault(13);
  EXPECT_TRUE(blame.TakeFault(convicted));
  EXPECT_FALSE(convicted.has_value()) << "it had several";
  blame.Ended(14, kAlone);
  blame.Fault(14);
  EXPECT_TRUE(blame.TakeFault(convicted));
  ASSERT_TRUE(convicted.has_value());
  EXPECT_EQ(convicted->counter, 77u);
  convicted.reset();
  blame.Fault(14);
  EXPECT_FALSE(blame.TakeFault(convicted)) << "once";
  blame.Fault(15);
  EXPECT_FALSE(blame.TakeFault(convicted)) << "one that was never seen";
}

}  // namespace
}  // namespace holdfast::keeper
