#include "statestore/segment_sys.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/cell.h"
#include "statestore/transaction.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

struct PairState {
  static constexpr SchemaId kSchema{"pair", 1};
  Cell<uint64_t> left{"left"};
  Cell<uint64_t> right{"right"};
};

SegmentSpec PairSpec() {
  SegmentSpec spec;
  spec.device = "pair";
  spec.state = *DescribeState<PairState>();
  return spec;
}

TEST(CreateSegment, MakesAFormattedSegmentThatNobodyCanResize) {
  const absl::StatusOr<UniqueFd> fd = CreateSegment(PairSpec());
  ASSERT_OK(fd);
  EXPECT_NE(ftruncate(fd->get(), 0), 0);
  EXPECT_NE(ftruncate(fd->get(), 1 << 20), 0);
  absl::StatusOr<OwnedSegment> owned = OpenSegment(*fd, PairSpec());
  ASSERT_OK(owned);
  EXPECT_EQ(owned->segment.device(), "pair");
}

TEST(OpenSegment, FormatsAnEmptyOneAndFindsItAgain) {
  const absl::StatusOr<UniqueFd> fd = CreateEmptySegment(65536);
  ASSERT_OK(fd);
  SegmentSpec spec = PairSpec();
  ASSERT_OK(OpenSegment(*fd, spec));
  spec.device = "other";  // Not asked for any more.
  absl::StatusOr<OwnedSegment> again = OpenSegment(*fd, spec);
  ASSERT_OK(again);
  EXPECT_EQ(again->segment.device(), "pair");
}

TEST(MapSegment, LocksEveryPage) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer's mlock() locks nothing";
#endif
  const absl::StatusOr<UniqueFd> fd = CreateEmptySegment(65536);
  ASSERT_OK(fd);
  const absl::StatusOr<Mapping> mapping = MapSegment(*fd);
  ASSERT_OK(mapping);
  unsigned char resident[16] = {};
  ASSERT_EQ(mincore(mapping->data(), mapping->size(), resident), 0);
  for (unsigned char page : resident) EXPECT_EQ(page & 1, 1);
  std::ifstream status("/proc/self/status");
  std::string word;
  long locked_kib = 0;
  while (status >> word) {
    if (word == "VmLck:") status >> locked_kib;
  }
  EXPECT_GE(locked_kib, 64);
}

// In a child, since the limit cannot be raised again. Whoever may lock without
// limit is not bound by it.
TEST(MapSegment, NamesBothFiguresWhenTheLockLimitIsTooSmall) {
  const absl::StatusOr<UniqueFd> fd = CreateEmptySegment(1 << 20);
  ASSERT_OK(fd);
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{65536, 65536};
    setrlimit(RLIMIT_MEMLOCK, &limit);
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    const absl::StatusOr<Mapping> mapping = MapSegment(*fd);
    const bool right =
        absl::IsResourceExhausted(mapping.status()) &&
        absl::StrContains(mapping.status().message(), "1048576 bytes") &&
        absl::StrContains(mapping.status().message(), "is 65536");
    _exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
    GTEST_SKIP() << "cannot become another user here";
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(MapSegment, RefusesAnUnsealedDescriptorAndOddSizes) {
  const UniqueFd unsealed(memfd_create("x", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(unsealed.get(), 4096), 0);
  EXPECT_THAT(MapSegment(unsealed),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not a memfd sealed")));
  EXPECT_THAT(
      CreateEmptySegment(0),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 bytes")));
  EXPECT_THAT(CreateEmptySegment(100),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("pages")));
  EXPECT_THAT(CreateEmptySegment(kMaxSegmentSize + kPageSize),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("pages")));
}

TEST(CopySegment, WorksOnAReadOnlyDescriptor) {
  const absl::StatusOr<UniqueFd> fd = CreateSegment(PairSpec());
  ASSERT_OK(fd);
  const std::string path = "/proc/self/fd/" + std::to_string(fd->get());
  const UniqueFd read_only(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(read_only.valid());
  const absl::StatusOr<std::vector<uint8_t>> copy = CopySegment(read_only);
  ASSERT_OK(copy);
  EXPECT_OK(ReadLayout(*copy));
}

// Commits pairs of equal numbers until it is killed or something fails.
void CommitForever(BorrowedFd fd) {
  absl::StatusOr<OwnedSegment> owned = OpenSegment(fd, PairSpec());
  if (!owned.ok()) return;
  absl::StatusOr<StateBank> bank =
      StateBank::Attach(owned->segment.section(SectionType::kState), 1);
  const absl::StatusOr<PairState> cells =
      BindState<PairState>(owned->segment.schema());
  if (!bank.ok() || !cells.ok()) return;
  absl::Status status;
  for (uint64_t i = 1; status.ok(); ++i) {
    StateTxn txn = bank->Begin();
    txn.Set(cells->left, i);
    txn.Set(cells->right, i);
    status = bank->Commit(txn);
  }
}

TEST(CopySegment, SeesOneCommittedStateWhileTheOwnerCommits) {
  const absl::StatusOr<UniqueFd> fd = CreateSegment(PairSpec());
  ASSERT_OK(fd);
  const pid_t owner = fork();
  if (owner == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CommitForever(*fd);
    _exit(1);
  }
  int copies = 0;
  for (int i = 0; i < 500; ++i) {
    absl::StatusOr<std::vector<uint8_t>> copy = CopySegment(*fd);
    if (absl::IsUnavailable(copy.status())) continue;  // Allowed, not wrong.
    EXPECT_OK(copy);
    absl::StatusOr<Segment> segment = Segment::Attach(absl::MakeSpan(*copy));
    EXPECT_OK(segment);
    absl::StatusOr<StateBank> bank =
        StateBank::Attach(segment->section(SectionType::kState), 2);
    EXPECT_OK(bank);
    const PairState cells = *BindState<PairState>(segment->schema());
    StateTxn txn = bank->Begin();
    EXPECT_EQ(txn.Get(cells.left), txn.Get(cells.right));
    ++copies;
  }
  int status = 0;
  EXPECT_EQ(waitpid(owner, &status, WNOHANG), 0) << "the owner has failed";
  kill(owner, SIGKILL);
  waitpid(owner, &status, 0);
  EXPECT_GT(copies, 0);
}

}  // namespace
}  // namespace holdfast
