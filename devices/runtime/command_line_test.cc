#include "devices/runtime/command_line.h"

#include "base/testing/matchers.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

const std::vector<OptionSpec> kOptions = {{"num-queues", "N", "queues"},
                                          {"read-only", "", "no writes"}};

absl::StatusOr<CommandLine> Parse(const std::vector<std::string>& arguments) {
  return ParseCommandLine(arguments, kOptions, {"image"});
}

TEST(CommandLine, TakesBothFormsOfAValue) {
  auto line = Parse({"--socket-path", "/s", "--image=/i", "--num-queues=4",
                     "--read-only", "--compat-version=1"});
  ASSERT_OK(line);
  EXPECT_EQ(line->socket_path, "/s");
  EXPECT_EQ(line->resources["image"], "/i");
  EXPECT_EQ(line->compat_version, 1u);
  EXPECT_THAT(line->options.Number("num-queues", 1, 1, 16),
              testing::IsOkAndHolds(4));
  EXPECT_THAT(line->options.Switch("read-only", false),
              testing::IsOkAndHolds(true));
}

TEST(CommandLine, DefaultsWhenNothingIsSaid) {
  auto line = Parse({});
  ASSERT_OK(line);
  EXPECT_EQ(line->fd, -1);
  EXPECT_FALSE(line->help);
  EXPECT_THAT(line->options.Number("num-queues", 1, 1, 16),
              testing::IsOkAndHolds(1));
  EXPECT_EQ(line->options.Text("serial", "none"), "none");
  EXPECT_EQ(line->protocol, "") << "the device's first";
}

TEST(CommandLine, TakesAProtocol) {
  auto line = Parse({"--protocol=vfio-user"});
  ASSERT_OK(line);
  EXPECT_EQ(line->protocol, "vfio-user");
}

TEST(CommandLine, SaysWhatIsWrong) {
  const auto error = [](const std::vector<std::string>& arguments) {
    return std::string(Parse(arguments).status().message());
  };
  EXPECT_THAT(error({"--nonsense"}), HasSubstr("unknown option --nonsense"));
  EXPECT_THAT(error({"image.raw"}), HasSubstr("unexpected argument"));
  EXPECT_THAT(error({"--image"}), HasSubstr("--image needs a value"));
  EXPECT_THAT(error({"--fd=x"}), HasSubstr("--fd=x: give a number"));
  EXPECT_THAT(error({"--fd=-1"}), HasSubstr("give a number"));
  EXPECT_THAT(error({"--compat-version=0"}), HasSubstr("begin with 1"));
  EXPECT_THAT(error({"--compat-version=99999999999"}),
              HasSubstr("give a number"));
  EXPECT_THAT(error({"--fd=3", "--socket-path=/s"}),
              HasSubstr("exclude each other"));
}

TEST(CommandLine, SwitchesTakeOnAndOff) {
  const auto read_only = [](const std::string& argument) {
    return Parse({argument})->options.Switch("read-only", true);
  };
  EXPECT_THAT(read_only("--read-only=off"), testing::IsOkAndHolds(false));
  EXPECT_THAT(read_only("--read-only=maybe"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("give 'on' or 'off'")));
}

TEST(CommandLine, HelpNamesEveryOption) {
  const std::string help = HelpText("dev", "vhost-user", kOptions, {"image"});
  for (const char* name :
       {"--socket-path=PATH", "--fd=N", "--image=PATH", "--num-queues=N",
        "--read-only", "--print-capabilities", "--compat-version=N"}) {
    EXPECT_THAT(help, HasSubstr(name));
  }
}

}  // namespace
}  // namespace holdfast
