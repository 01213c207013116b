#include "devices/runtime/prefault.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr size_t kPages = 16;
constexpr size_t kSize = kPages * kPrefaultPage;

uint8_t* FreshPages() {
  void* const pages = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(pages, kSize, MADV_NOHUGEPAGE);
  return static_cast<uint8_t*>(pages);
}

// Pages of these that are there.
size_t Resident(const uint8_t* pages) {
  std::vector<unsigned char> flags(kPages);
  EXPECT_EQ(mincore(const_cast<uint8_t*>(pages), kSize, flags.data()), 0);
  return std::accumulate(flags.begin(), flags.end(), size_t{0},
                         [](size_t n, unsigned char f) { return n + (f & 1); });
}

long FaultsOfThisThread() {
  rusage usage = {};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

TEST(PrefaultWritable, BringsEveryPageAndChangesNoByte) {
  uint8_t* const pages = FreshPages();
  EXPECT_EQ(Resident(pages), 0u);
  pages[5] = 42;
  PrefaultWritable(pages, kSize);
  EXPECT_EQ(Resident(pages), kPages);
  EXPECT_EQ(pages[5], 42);
  pages[5] = 0;
  EXPECT_EQ(std::accumulate(pages, pages + kSize, 0), 0);
  munmap(pages, kSize);
}

TEST(PrefaultWritable, ReachesTheLastPageOfAnUnalignedPiece) {
  uint8_t* const pages = FreshPages();
  // From the end of the first page to the beginning of the third.
  PrefaultWritable(pages + kPrefaultPage - 1, kPrefaultPage + 2);
  EXPECT_EQ(Resident(pages), 3u);
  munmap(pages, kSize);
}

TEST(PrefaultWritable, LeavesNothingAlone) {
  uint8_t* const pages = FreshPages();
  PrefaultWritable(pages, 0);
  EXPECT_EQ(Resident(pages), 0u);
  munmap(pages, kSize);
}

// Uses a good part of what PrefaultStack has prepared.
__attribute__((noinline)) int UseStack() {
  volatile char depth[48 * 1024];
  for (size_t i = 0; i < sizeof(depth); i += kPrefaultPage) depth[i] = 1;
  return depth[0];
}

long FaultsOfUsingTheStack(bool prefault) {
  long faults = 0;
  std::thread([&] {
    if (prefault) PrefaultStack();
    const long before = FaultsOfThisThread();
    (void)UseStack();
    faults = FaultsOfThisThread() - before;
  }).join();
  return faults;
}

// The control stands beside it: without, each page costs a fault. (Stacks of
// earlier threads are reused with their pages, so it comes first.)
TEST(PrefaultStack, SparesAThreadItsFaults) {
  EXPECT_GE(FaultsOfUsingTheStack(false), 8);
  EXPECT_LE(FaultsOfUsingTheStack(true), 1);
}

int g_variable = 7;

TEST(PrefaultProgram, KeepsVariables) {
  g_variable = 8;
  PrefaultProgram();
  EXPECT_EQ(g_variable, 8);
}

}  // namespace
}  // namespace holdfast
