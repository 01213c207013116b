#include "devices/testing/conformance_target.h"

#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ParseRequest, ReadsBuffersInTheirOrder) {
  const auto buffers = ParseRequest("out:00fF,out:10,in:512,in:1");
  ASSERT_OK(buffers);
  ASSERT_EQ(buffers->size(), 4u);
  EXPECT_THAT((*buffers)[0].data, ElementsAre(0x00, 0xff));
  EXPECT_THAT((*buffers)[1].data, ElementsAre(0x10));
  EXPECT_EQ((*buffers)[0].writable_size, 0u);
  EXPECT_EQ((*buffers)[2].writable_size, 512u);
  EXPECT_EQ((*buffers)[3].writable_size, 1u);
}

TEST(ParseRequest, NamesThePartThatItDoesNotUnderstand) {
  for (const std::string part : {"", "out:", "out:0", "out:0g", "in:", "in:0",
                                 "in:65537", "in:-1", "both:1"}) {
    const auto buffers = ParseRequest("in:4," + part);
    EXPECT_EQ(buffers.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(buffers.status().message()),
                HasSubstr("'" + part + "'"));
  }
}

TEST(ParseTarget, ReadsEverything) {
  const auto target = ParseTarget(
      {"--program=p", "--argument=--serial=a=b", "--argument=--read-only",
       "--resource=image:4096", "--request=in:8", "--varies", "--golden=g",
       "--policy=x.policy", "--policy-include=d", "--policy-include=e",
       "--store-program=s"});
  ASSERT_OK(target);
  EXPECT_EQ(target->program, "p");
  EXPECT_THAT(target->arguments, ElementsAre("--serial=a=b", "--read-only"));
  EXPECT_THAT(target->resources,
              ElementsAre(::testing::Pair("image", uint64_t{4096})));
  EXPECT_EQ(target->request.size(), 1u);
  EXPECT_FALSE(target->repeatable);
  EXPECT_EQ(target->golden, "g");
  EXPECT_EQ(target->policy, "x.policy");
  EXPECT_THAT(target->policy_includes, ElementsAre("d", "e"));
  EXPECT_EQ(target->store_program, "s");
}

TEST(ParseTarget, RefusesWhatMakesNoSense) {
  using Arguments = std::vector<std::string>;
  for (const Arguments& arguments :
       {Arguments{}, Arguments{"--program=p"}, Arguments{"--request=in:8"},
        Arguments{"--program=p", "--request=in:8", "--other"},
        Arguments{"--program=p", "--request=in:8", "--resource=image"},
        Arguments{"--program=p", "--request=in:8", "--resource=:5"},
        Arguments{"--program=p", "--request=in:8", "--resource=image:x"}}) {
    EXPECT_EQ(ParseTarget(arguments).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace holdfast::testing
