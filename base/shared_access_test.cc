#include "base/shared_access.h"

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr uint64_t kRounds = 100'000;

TEST(SharedAccess, StoresAndLoadsEverySize) {
  uint8_t byte = 0;
  uint16_t half = 0;
  uint32_t word = 0;
  uint64_t wide = 0;
  SharedAccess::Store<uint8_t>(&byte, 0xab);
  SharedAccess::Store<uint16_t>(&half, 0xabcd);
  SharedAccess::StoreRelease<uint32_t>(&word, 0x01234567);
  SharedAccess::StoreRelease<uint64_t>(&wide, 0x0123456789abcdef);
  EXPECT_EQ(SharedAccess::Load(&byte), 0xab);
  EXPECT_EQ(SharedAccess::Load(&half), 0xabcd);
  EXPECT_EQ(SharedAccess::LoadAcquire(&word), 0x01234567u);
  EXPECT_EQ(SharedAccess::LoadAcquire(&wide), 0x0123456789abcdefu);
}

// What was stored before the release, plain memory included, is there for
// whoever has seen it. ThreadSanitizer calls it a race when it is none.
TEST(SharedAccess, WhoeverAcquiresSeesWhatWasReleased) {
  uint64_t published = 0;
  uint64_t taken = 0;
  std::vector<uint64_t> payload(8);
  std::thread writer([&] {
    for (uint64_t n = 1; n <= kRounds; ++n) {
      while (SharedAccess::LoadAcquire(&taken) != n - 1) {
        std::this_thread::yield();
      }
      for (uint64_t& word : payload) word = n;
      SharedAccess::StoreRelease(&published, n);
    }
  });
  uint64_t wrong = 0;
  for (uint64_t n = 1; n <= kRounds; ++n) {
    while (SharedAccess::LoadAcquire(&published) != n) {
      std::this_thread::yield();
    }
    for (uint64_t word : payload) wrong += word != n;
    SharedAccess::StoreRelease(&taken, n);
  }
  writer.join();
  EXPECT_EQ(wrong, 0u);
}

// Of two that say "here I am" and then look for the other, one sees the other:
// the question of the last barrier in the ring. Without the fence both may
// miss it.
TEST(SharedAccess, TheFenceOrdersAStoreBeforeALoad) {
  uint64_t mine = 0;
  uint64_t other = 0;
  std::vector<uint8_t> seen_by_main(kRounds / 10);
  std::vector<uint8_t> seen_by_thread(kRounds / 10);
  std::thread thread([&] {
    for (uint64_t n = 1; n <= seen_by_thread.size(); ++n) {
      SharedAccess::Store(&other, n);
      SharedAccess::Fence();
      seen_by_thread[n - 1] = SharedAccess::Load(&mine) >= n;
    }
  });
  for (uint64_t n = 1; n <= seen_by_main.size(); ++n) {
    SharedAccess::Store(&mine, n);
    SharedAccess::Fence();
    seen_by_main[n - 1] = SharedAccess::Load(&other) >= n;
  }
  thread.join();
  for (size_t i = 0; i < seen_by_main.size(); ++i) {
    ASSERT_TRUE(seen_by_main[i] || seen_by_thread[i]) << "round " << i;
  }
}

TEST(SharedAccess, CopiesFromAnyAlignment) {
  const char source[] = "0123456789abcdef";
  for (size_t begin = 0; begin < 8; ++begin) {
    char copy[9] = {};
    SharedAccess::Copy(copy, source + begin, 8);
    EXPECT_EQ(std::string(copy), std::string(source + begin, 8));
  }
}

}  // namespace
}  // namespace holdfast
