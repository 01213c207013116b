#include "base/text_file_sys.h"

#include <fstream>
#include <string>

#include "base/testing/temp_dir.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(TextFile, IsReadWhole) {
  testing::TempDir dir;
  const std::string text = "line\n\nlast line without an end" +
                           std::string(1, '\0') + std::string(100000, 'x');
  std::ofstream(dir.File("f")) << text;
  EXPECT_EQ(ReadTextFile(dir.File("f")), text);
}

// Its size is said to be 0.
TEST(TextFile, OfProcIsReadWhole) {
  EXPECT_NE(ReadTextFile("/proc/self/status").find("\nPid:\t"),
            std::string::npos);
}

TEST(TextFile, ThatIsNoneIsEmpty) {
  testing::TempDir dir;
  EXPECT_EQ(ReadTextFile(dir.File("none")), "");
  EXPECT_EQ(ReadTextFile(dir.path()), "");
}

}  // namespace
}  // namespace holdfast
