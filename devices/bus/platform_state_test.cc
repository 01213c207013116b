#include "devices/bus/platform_state.h"

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr Reg32 kReg{"reg", 0x00, kReadWrite};
constexpr Reg8 kOther = Reg8{"other", 0x00, kReadWrite}.InBar(1);

PlatformSpec Spec() { return PlatformSpec().Region({kReg}); }

TEST(PlatformSpec, MistakesAreNamed) {
  PlatformSpec many;
  for (int i = 0; i < 9; ++i) many.Region({kReg});
  PlatformSpec lines = Spec();
  for (int i = 0; i < 33; ++i) lines.EdgeLine();
  const struct {
    PlatformSpec spec;
    const char* says;
  } all[] = {
      {PlatformSpec(), "0 regions"},
      {many, "9 regions"},
      {lines, "33 lines"},
      {PlatformSpec().Region({kOther}), "other"},
      {Spec().WorkThreads(0), "work on 0 threads"},
      {Spec().WorkThreads(65), "work on 65 threads"},
      {Spec().Area("a", 1), "platform spec: area a: 1 bytes"},
  };
  for (const auto& wrong : all) {
    EXPECT_THAT(
        PlatformState::Create(wrong.spec),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(wrong.says)));
  }
}

TEST(PlatformState, HasAFileForEachRegionAndOneOfItsOwn) {
  const auto state = PlatformState::Create(Spec().Region({kOther}));
  ASSERT_OK(state);
  EXPECT_EQ(state->bank(0)->file(), "region0");
  EXPECT_EQ(state->bank(1)->file(), "region1");
  EXPECT_EQ(state->bank(platform::kInternal)->file(), "platform");
  EXPECT_EQ(state->bank(2), nullptr);
  EXPECT_EQ(state->bank(99), nullptr);
}

TEST(PlatformState, BindsToWhatItMadeAndNothingLess) {
  auto state = PlatformState::Create(Spec());
  ASSERT_OK(state);
  EXPECT_OK(state->Bind(state->schema()));
  EXPECT_THAT(state->Bind(Schema{}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("")));
}

}  // namespace
}  // namespace holdfast
