#include "launcher/api/grpc_log.h"

#include <grpc/support/log.h>

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/log_limiter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// What `say` writes to standard error.
template <typename Say>
std::string Said(Say say) {
  ::testing::internal::CaptureStderr();
  say();
  return ::testing::internal::GetCapturedStderr();
}

size_t Lines(const std::string& text) {
  return std::vector<std::string>(absl::StrSplit(text, '\n')).size() - 1;
}

class GrpcLog : public ::testing::Test {
 protected:
  // The first one, before anything is routed, is the control: gRPC's own form,
  // and no limit.
  static void SetUpTestSuite() {
    gpr_log_verbosity_init();  // As grpc_init() does.
    unrouted_ = Said([] {
      for (int i = 0; i < kMany; ++i) gpr_log(GPR_ERROR, "trouble %d", i);
    });
    RouteGrpcLog();
  }
  static constexpr int kMany = 1000;
  static std::string unrouted_;
};
std::string GrpcLog::unrouted_;

TEST_F(GrpcLog, ErrorsAreLinesOfOurLogAndLimited) {
  EXPECT_EQ(Lines(unrouted_), size_t{kMany});
  const std::string said = Said([] {
    gpr_log(GPR_ERROR, "peer %s\nE holdfastd: forged", "x");
    for (int i = 0; i < kMany; ++i) gpr_log(GPR_ERROR, "trouble %d", i);
  });
  EXPECT_EQ(Lines(said), size_t{LogLimiter::kBurst});
  EXPECT_THAT(said, AllOf(HasSubstr(": gRPC: trouble 1\n"),
                          HasSubstr("gRPC: peer x?E holdfastd: forged\n"),
                          Not(HasSubstr("grpc_log_test.cc"))));
}

TEST_F(GrpcLog, WhatIsNoErrorIsNotWritten) {
  EXPECT_EQ(Said([] {
              gpr_log(GPR_DEBUG, "detail");
              gpr_log(GPR_INFO, "news");
            }),
            "");
}

}  // namespace
}  // namespace holdfast::launcher
