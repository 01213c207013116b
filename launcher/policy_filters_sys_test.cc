#include "launcher/policy_filters_sys.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/bpf_eval.h"
#include "sandbox/filter_memfd_sys.h"
#include "sandbox/policy.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// As a child reads it.
std::vector<sock_filter> Steady(const PolicyFilters& filters) {
  const auto bytes = sandbox::ReadFilter(filters.steady);
  EXPECT_OK(bytes);
  if (!bytes.ok()) return {};
  std::vector<sock_filter> program(bytes->size() / sizeof(sock_filter));
  std::memcpy(program.data(), bytes->data(),
              program.size() * sizeof(sock_filter));
  return program;
}

bool Allows(const std::vector<sock_filter>& program, long call) {
  sandbox::SyscallRecord record;
  record.number = static_cast<uint32_t>(call);
  record.arch = AUDIT_ARCH_X86_64;
  const auto value = sandbox::RunFilter(program, record);
  EXPECT_OK(value);
  return value.ok() &&
         sandbox::VerdictOf(*value).action == sandbox::Action::kAllow;
}

class PolicyFiltersFile : public ::testing::Test {
 protected:
  // Writes it and returns its path.
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_.File(name)) << text;
    return dir_.File(name);
  }
  testing::TempDir dir_;
};

TEST_F(PolicyFiltersFile, StartupAndSteadyStateAreCompiledApart) {
  const auto filters = LoadFilters(
      Write("p", "startup:\nexecve  # begins\nsteady:\nclose  # ends\n"), {});
  ASSERT_OK(filters);
  const std::vector<sock_filter> steady = Steady(*filters);
  EXPECT_TRUE(Allows(filters->startup, SYS_execve));
  EXPECT_FALSE(Allows(steady, SYS_execve));
  EXPECT_TRUE(Allows(steady, SYS_close));
  // Startup has all that the steady state needs, and nothing else.
  EXPECT_TRUE(Allows(filters->startup, SYS_close));
  EXPECT_FALSE(Allows(filters->startup, SYS_socket));
}

TEST_F(PolicyFiltersFile, WithoutAPolicyAChildStillFindsOneThatAllowsAll) {
  const auto filters = LoadFilters("", {});
  ASSERT_OK(filters);
  EXPECT_THAT(filters->startup, IsEmpty());
  const std::vector<sock_filter> steady = Steady(*filters);
  for (long call : {SYS_execve, SYS_socket, SYS_ptrace, SYS_close}) {
    EXPECT_TRUE(Allows(steady, call)) << call;
  }
}

// A child that was taken over must not choose its successor's filter.
TEST_F(PolicyFiltersFile, SteadyFilterCannotBeChanged) {
  for (const std::string& path :
       {std::string(), Write("p", "steady:\nclose  # ends\n")}) {
    const auto filters = LoadFilters(path, {});
    ASSERT_OK(filters);
    const sock_filter allow = {0x06, 0, 0, 0x7fff0000};
    EXPECT_EQ(pwrite(filters->steady.get(), &allow, sizeof(allow), 0), -1);
    EXPECT_NE(ftruncate(filters->steady.get(), 0), 0);
  }
}

TEST_F(PolicyFiltersFile, IncludesAreFoundInTheirDirectory) {
  testing::TempDir common;
  std::ofstream(common.File("part.policy")) << "steady:\nread  # shared\n";
  const std::string path =
      Write("p", "@include part.policy  # a part\nsteady:\nclose  # own\n");
  const auto filters = LoadFilters(path, {common.path()});
  ASSERT_OK(filters);
  EXPECT_TRUE(Allows(Steady(*filters), SYS_read));
  EXPECT_THAT(LoadFilters(path, {dir_.path()}).status().message(),
              HasSubstr("part.policy"));
}

TEST_F(PolicyFiltersFile, FileThatIsNotThereIsNamed) {
  EXPECT_THAT(LoadFilters(dir_.File("none.policy"), {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.policy")));
  EXPECT_THAT(LoadFilters(dir_.path(), {}).status().message(),
              HasSubstr(dir_.path()));
}

TEST_F(PolicyFiltersFile, MistakesHaveTheirLine) {
  struct Mistake {
    const char* text;
    const char* line;
  };
  for (const Mistake& mistake :
       {Mistake{"steady:\nclose  # ends\nopne  # typo\n", ":3"},
        Mistake{"steady:\nclose\n", ":2"},
        Mistake{"close  # of no section\n", ":1"},
        Mistake{"steady:\nclose: arg9 == 1  # no such argument\n", ":2"}}) {
    const std::string path = Write("bad.policy", mistake.text);
    EXPECT_THAT(LoadFilters(path, {}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("bad.policy" + std::string(mistake.line))))
        << mistake.text;
  }
}

TEST_F(PolicyFiltersFile, GarbageIsRefused) {
  const std::string garbage("\0\xff\x7f\n\x01steady:\r\n%%%", 16);
  EXPECT_THAT(LoadFilters(Write("g", garbage), {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("g"), Not(HasSubstr("\x01")))));
}

}  // namespace
}  // namespace holdfast::launcher
