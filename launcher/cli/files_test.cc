#include "launcher/cli/files.h"

#include <filesystem>
#include <string>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::cli {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::_;

class Files : public ::testing::Test {
 protected:
  testing::TempDir dir_;
};

TEST_F(Files, ReadsBackWhatWasWritten) {
  // More than one step, and any byte.
  std::string bytes(200'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i);
  const std::string path = dir_.File("f");
  ASSERT_OK(WriteFile(path, bytes));
  EXPECT_THAT(ReadFile(path, 1 << 20), IsOkAndHolds(bytes));
  ASSERT_OK(WriteFile(path, "short"));
  EXPECT_THAT(ReadFile(path, 1 << 20), IsOkAndHolds(std::string("short")));
  ASSERT_OK(WriteFile(path, ""));
  EXPECT_THAT(ReadFile(path, 1 << 20), IsOkAndHolds(std::string()));
}

TEST_F(Files, NoMoreIsReadThanAllowed) {
  const std::string path = dir_.File("f");
  ASSERT_OK(WriteFile(path, "12345"));
  EXPECT_THAT(ReadFile(path, 5), IsOkAndHolds(std::string("12345")));
  EXPECT_THAT(ReadFile(path, 4), StatusIs(absl::StatusCode::kOutOfRange,
                                          path + ": has more than 4 bytes"));
  // It has no end.
  EXPECT_THAT(ReadFile("/dev/zero", 100'000),
              StatusIs(absl::StatusCode::kOutOfRange, _));
}

TEST_F(Files, ErrorsSayWhy) {
  EXPECT_THAT(ReadFile(dir_.File("none"), 10),
              StatusIs(absl::StatusCode::kNotFound,
                       dir_.File("none") +
                           ": cannot be read: No such file or directory"));
  EXPECT_THAT(ReadFile(dir_.path(), 10),
              StatusIs(absl::StatusCode::kDataLoss,
                       dir_.path() + ": cannot be read: Is a directory"));
  EXPECT_THAT(WriteFile(dir_.File("none/f"), "x"),
              StatusIs(absl::StatusCode::kDataLoss,
                       dir_.File("none/f") +
                           ": cannot be written: No such file or directory"));
  EXPECT_THAT(
      WriteFile("/dev/full", "x"),
      StatusIs(absl::StatusCode::kDataLoss,
               "/dev/full: cannot be written: No space left on device"));
}

}  // namespace
}  // namespace holdfast::cli
