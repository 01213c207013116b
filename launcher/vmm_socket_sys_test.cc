#include "launcher/vmm_socket_sys.h"

#include <sys/stat.h>

#include <string>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/spec.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::StartsWith;

class VmmSocket : public ::testing::Test {
 protected:
  VmmSocket() { spec_.socket_path = dir_.File("s"); }
  mode_t Mode() const {
    struct stat file = {};
    return stat(spec_.socket_path.c_str(), &file) == 0 ? file.st_mode & 07777
                                                       : 0;
  }

  testing::TempDir dir_;
  LaunchSpec spec_;
};

TEST_F(VmmSocket, IsForItsOwnerAloneAndListens) {
  const auto listener = MakeVmmSocket(spec_);
  ASSERT_OK(listener);
  EXPECT_EQ(Mode(), 0600u);
  EXPECT_OK(ConnectTo(spec_.socket_path));
}

TEST_F(VmmSocket, HasTheModeThatItsSpecSays) {
  spec_.socket_mode = 0666;
  ASSERT_OK(MakeVmmSocket(spec_));
  EXPECT_EQ(Mode(), 0666u);
}

TEST_F(VmmSocket, IsAlsoForItsGroupIfThereIsOne) {
  spec_.socket_group = "root";
  ASSERT_OK(MakeVmmSocket(spec_));
  EXPECT_EQ(Mode(), 0660u);
}

TEST_F(VmmSocket, UnknownNamesAreRefusedByTheirField) {
  spec_.socket_owner = "holdfast-nobody";
  EXPECT_THAT(
      MakeVmmSocket(spec_),
      StatusIs(absl::StatusCode::kNotFound,
               "socket_owner: 'holdfast-nobody' is not in /etc/passwd: correct "
               "it, or give a number"));
  spec_.socket_owner.clear();
  spec_.socket_group = "holdfast-nobodies";
  EXPECT_THAT(MakeVmmSocket(spec_),
              StatusIs(absl::StatusCode::kNotFound,
                       StartsWith("socket_group: 'holdfast-nobodies'")));
  // Nothing was made.
  EXPECT_EQ(Mode(), 0u);
}

TEST_F(VmmSocket, PathThatCannotBeHadIsNamedByItsField) {
  const auto first = MakeVmmSocket(spec_);
  ASSERT_OK(first);
  EXPECT_THAT(MakeVmmSocket(spec_),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       "socket_path: another process listens on " +
                           spec_.socket_path + ": end it or use another path"));
  spec_.socket_path = dir_.File("no/where");
  EXPECT_THAT(MakeVmmSocket(spec_), StatusIs(absl::StatusCode::kNotFound,
                                             StartsWith("socket_path: ")));
}

}  // namespace
}  // namespace holdfast::launcher
