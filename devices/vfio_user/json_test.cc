#include "devices/vfio_user/json.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Show(const JsonValue& value) {
  switch (value.kind) {
    case JsonValue::Kind::kNull:
      return "null";
    case JsonValue::Kind::kBool:
      return value.boolean ? "true" : "false";
    case JsonValue::Kind::kNumber:
      return value.is_unsigned ? absl::StrCat(value.number) : "number";
    case JsonValue::Kind::kString:
      return "string";
    case JsonValue::Kind::kArray:
      return "array";
    case JsonValue::Kind::kObject:
      return "object";
  }
  return "?";
}

// "name.name=value" for every value, in the order in which they are visited.
absl::StatusOr<std::vector<std::string>> Visits(absl::string_view text) {
  std::vector<std::string> visits;
  const absl::Status status = ReadJson(
      text, [&](absl::Span<const std::string> path, const JsonValue& value) {
        visits.push_back(
            absl::StrCat(absl::StrJoin(path, "."), "=", Show(value)));
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return visits;
}

TEST(Json, VisitsEveryValueWithItsPath) {
  EXPECT_THAT(
      Visits(R"({"a": {"b": 1, "c": [true, null]}, "d": "x"})"),
      IsOkAndHolds(ElementsAre("=object", "a=object", "a.b=1", "a.c=array",
                               "a.c.=true", "a.c.=null", "d=string")));
}

TEST(Json, TakesWhatIsNoObjectAtTheTop) {
  EXPECT_THAT(Visits("false"), IsOkAndHolds(ElementsAre("=false")));
  EXPECT_THAT(Visits(" [ ] "), IsOkAndHolds(ElementsAre("=array")));
  EXPECT_THAT(Visits("\t{\r\n}"), IsOkAndHolds(ElementsAre("=object")));
}

TEST(Json, NumbersKnowWhetherTheyAreWhole) {
  EXPECT_THAT(Visits("[0,18446744073709551615,18446744073709551616,-1,1.0,1e2,"
                     "-0,2E+3,2e-3]"),
              IsOkAndHolds(ElementsAre(
                  "=array", "=0", "=18446744073709551615", "=number", "=number",
                  "=number", "=number", "=number", "=number", "=number")));
}

TEST(Json, NamesAreUnescaped) {
  EXPECT_THAT(Visits(R"({"a\u0062\n\/\\\"": 1})"),
              IsOkAndHolds(ElementsAre("=object", "ab\n/\\\"=1")));
  EXPECT_THAT(Visits(R"({"\u00e9\u20ac\ud83d\ude00": 1})"),
              IsOkAndHolds(ElementsAre("=object", "é€😀=1")));
}

TEST(Json, EqualNamesAreVisitedInOrder) {
  EXPECT_THAT(Visits(R"({"a":1,"a":2})"),
              IsOkAndHolds(ElementsAre("=object", "a=1", "a=2")));
}

TEST(Json, WhatIsNotJsonIsRefused) {
  for (const char* text : {"",          " ",         "{",
                           "}",         "[",         "[1",
                           "[1,",       "[1,]",      "{,}",
                           "{\"a\"}",   "{\"a\":}",  "{\"a\":1",
                           "{a:1}",     "{'a':1}",   "{1:2}",
                           "{\"a\":1,", "{\"a\" 1}", "tru",
                           "nul",       "True",      "01",
                           "+1",        "-",         "1.",
                           ".5",        "1e",        "1e+",
                           "0x10",      "1 2",       "{}{}",
                           "\"",        "\"a",       "\"\\\"",
                           "\"\\x\"",   "\"\\u12\"", "\"\\",
                           "\"\\u\"",   "[1 2]",     "{\"a\":1 \"b\":2}",
                           "// c\n1",   "NaN",       "\"\t\"",
                           "[1}",       "{\"a\":1]", "Infinity",
                           "[,1]",      "\"\n\""}) {
    EXPECT_THAT(Visits(text), StatusIs(absl::StatusCode::kInvalidArgument, _))
        << text;
  }
}

TEST(Json, WhatIsNotUtf8IsRefused) {
  for (const char* bytes :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf",
        "\xe2\x82", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_THAT(Visits(absl::StrCat("\"", bytes, "\"")),
                StatusIs(absl::StatusCode::kInvalidArgument, _));
  }
  for (const char* text : {"é", "€", "\xee\x80\x80", "😀", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_OK(Visits(absl::StrCat("\"", text, "\""))) << text;
  }
}

TEST(Json, HalfSurrogatesAreRefused) {
  for (const char* text : {R"("\ud83d")", R"("\ud83dx")", R"("\ud83d\u0041")",
                           R"("\ude00")", R"("\ud83d\ud83d")"}) {
    EXPECT_THAT(Visits(text), StatusIs(absl::StatusCode::kInvalidArgument, _))
        << text;
  }
}

TEST(Json, ANulByteIsRefused) {
  EXPECT_THAT(Visits(absl::string_view("{}\0", 3)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(Visits(absl::string_view("\"\0\"", 3)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST(Json, DepthIsBounded) {
  const std::string deep =
      std::string(kMaxJsonDepth, '[') + "1" + std::string(kMaxJsonDepth, ']');
  EXPECT_OK(Visits(deep));
  EXPECT_THAT(Visits("[" + deep + "]"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("deeper than 8 at byte 9")));
  EXPECT_THAT(Visits(std::string(kMaxJsonSize, '[')),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST(Json, SizeIsBounded) {
  EXPECT_OK(Visits("1" + std::string(kMaxJsonSize - 1, ' ')));
  EXPECT_THAT(
      Visits("1" + std::string(kMaxJsonSize, ' ')),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 4096")));
}

TEST(Json, AnErrorOfTheVisitorEndsTheReading) {
  int visits = 0;
  EXPECT_THAT(ReadJson("[1,2,3]",
                       [&](absl::Span<const std::string>, const JsonValue&) {
                         return ++visits == 3 ? absl::OutOfRangeError("enough")
                                              : absl::OkStatus();
                       }),
              StatusIs(absl::StatusCode::kOutOfRange, _));
  EXPECT_EQ(visits, 3);
}

TEST(Json, ErrorsSayWhere) {
  EXPECT_THAT(Visits(R"({"a": 1, "b")"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a colon is missing at byte 12")));
}

}  // namespace
}  // namespace holdfast::vfio_user
