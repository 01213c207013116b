#include "devices/bus/areas.h"

#include <cstdint>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Areas Of(std::initializer_list<std::pair<const char*, uint32_t>> all) {
  Areas areas;
  for (const auto& [name, size] : all) areas.Add(name, size);
  return areas;
}

TEST(Areas, FollowOneAnother) {
  const Areas areas = Of({{"a", 64}, {"b", 192}});
  EXPECT_OK(areas.Check("device"));
  EXPECT_EQ(areas.all()[1].offset, 64u);
  EXPECT_EQ(areas.size(), 256u);
  EXPECT_EQ(Areas().size(), 0u);
}

TEST(Areas, AreFoundByName) {
  const Areas areas = Of({{"a", 64}, {"b", 128}});
  alignas(64) uint8_t memory[192];
  EXPECT_EQ(areas.Find("b", absl::MakeSpan(memory)).data(), memory + 64);
  EXPECT_EQ(areas.Find("b", absl::MakeSpan(memory)).size(), 128u);
  EXPECT_TRUE(areas.Find("c", absl::MakeSpan(memory)).empty());
  EXPECT_TRUE(areas.Find("a", {}).empty()) << "nothing was taken over yet";
}

TEST(Areas, MistakesAreNamed) {
  const struct {
    Areas areas;
    const char* says;
  } all[] = {
      {Of({{"", 64}}), "device: area \"\" needs a name"},
      {Of({{"a", 64}, {"a", 64}}), "area \"a\" needs a name"},
      {Of({{"a", 0}}), "area a: 0 bytes"},
      {Of({{"a", 96}}), "area a: 96 bytes"},
      {Of({{"a", 64}, {"b", Areas::kMaxSize}}), "area b: more than"},
      {Of({{"a", ~63u}, {"b", ~63u}}), "area a: more than"},
  };
  for (const auto& wrong : all) {
    EXPECT_THAT(wrong.areas.Check("device"),
                StatusIs(kInvalid, HasSubstr(wrong.says)));
  }
}

TEST(Areas, TheirMemoryIsAllOfItAndAligned) {
  const Areas areas = Of({{"a", 64}});
  alignas(64) uint8_t memory[192];
  const absl::Span<uint8_t> all = absl::MakeSpan(memory);
  EXPECT_OK(areas.CheckMemory("device", all.first(64)));
  EXPECT_OK(Areas().CheckMemory("device", {}));
  for (const auto& wrong :
       {all.first(63), all.first(128), all.subspan(1, 64)}) {
    EXPECT_THAT(areas.CheckMemory("device", wrong),
                StatusIs(kInvalid, HasSubstr("device: areas:")));
  }
}

}  // namespace
}  // namespace holdfast
