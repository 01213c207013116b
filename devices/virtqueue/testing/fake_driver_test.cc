#include "devices/virtqueue/testing/fake_driver.h"

#include <vector>

#include "base/shared_access.h"
#include "devices/virtqueue/vring_layout.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Buffer = FakeDriver::Buffer;

// A device that does exactly what the test says, however wrong.
class FakeDriverTest : public ::testing::Test {
 protected:
  void Use(uint32_t head, uint32_t written) {
    const uint16_t index = driver_.used().idx;
    driver_.used_ring(index % 8) = {head, written};
    SharedAccess::StoreRelease(&driver_.used().idx,
                               static_cast<uint16_t>(index + 1));
  }
  uint16_t PostOne() {
    driver_.Post({Buffer::Writable(4)});
    return driver_.avail_ring((driver_.avail_index() - 1) % 8);
  }

  FakeDriver driver_{FakeDriver::Options()};
};

TEST_F(FakeDriverTest, AcceptsWhatIsRight) {
  const uint16_t a = PostOne(), b = PostOne();
  Use(b, 4);
  Use(a, 0);
  const auto answers = driver_.Collect();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].request, 2u);
  EXPECT_EQ(answers[1].request, 1u);
  EXPECT_THAT(driver_.violations(), IsEmpty());
  EXPECT_EQ(driver_.outstanding(), 0u);
}

TEST_F(FakeDriverTest, NoticesADoubledAnswer) {
  const uint16_t a = PostOne();
  PostOne();
  Use(a, 4);
  Use(a, 4);
  driver_.Collect();
  EXPECT_THAT(driver_.violations(), ElementsAre(HasSubstr("not outstanding")));
}

TEST_F(FakeDriverTest, NoticesAnUnknownHead) {
  PostOne();
  Use(70000, 4);
  driver_.Collect();
  EXPECT_THAT(driver_.violations(), ElementsAre(HasSubstr("head 70000")));
}

TEST_F(FakeDriverTest, NoticesAnAnswerThatIsTooLong) {
  Use(PostOne(), 5);
  driver_.Collect();
  EXPECT_THAT(driver_.violations(), ElementsAre(HasSubstr("5 bytes written")));
}

TEST_F(FakeDriverTest, NoticesMoreAnswersThanRequests) {
  const uint16_t a = PostOne();
  Use(a, 4);
  Use(a, 4);
  driver_.Collect();
  EXPECT_THAT(driver_.violations(), ElementsAre(HasSubstr("used index")));
}

TEST_F(FakeDriverTest, CountsWhatIsLost) {
  PostOne();
  const uint16_t b = PostOne();
  Use(b, 4);
  driver_.Collect();
  EXPECT_EQ(driver_.outstanding(), 1u);
}

TEST_F(FakeDriverTest, RefusesMoreThanTheRingHolds) {
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(driver_.Post({Buffer::Writable(1)}).has_value());
  }
  EXPECT_FALSE(driver_.Post({Buffer::Writable(1)}).has_value());
  EXPECT_FALSE(driver_.Post({}).has_value());
  EXPECT_EQ(driver_.avail_index(), 8);
}

TEST_F(FakeDriverTest, UsesItsMemoryAgain) {
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(driver_
                    .Post({Buffer::Readable(std::vector<uint8_t>(100 + i)),
                           Buffer::Writable(300000)})
                    .has_value());
    Use(driver_.avail_ring((driver_.avail_index() - 1) % 8), 1);
    ASSERT_EQ(driver_.Collect().size(), 1u);
  }
  EXPECT_FALSE(driver_.Post({Buffer::Writable(2 << 20)}).has_value());
}

}  // namespace
}  // namespace holdfast::testing
