#include "devices/bus/dma_windows.h"

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr uint64_t kPage = 4096;

// The VMM's own memory, reached by message.
class FakeVmm : public DmaMessenger {
 public:
  size_t max_transfer() const override { return 6; }
  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override {
    transfers.push_back({ToInt(address), out.size()});
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = memory[ToInt(address) % memory.size() + i];
    }
    return answer;
  }
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override {
    transfers.push_back({ToInt(address), bytes.size()});
    for (size_t i = 0; i < bytes.size(); ++i) {
      memory[ToInt(address) % memory.size() + i] = bytes[i];
    }
    return answer;
  }

  std::vector<uint8_t> memory = std::vector<uint8_t>(kPage);
  std::vector<std::pair<uint64_t, size_t>> transfers;
  absl::Status answer;
};

class FakeLog : public DirtyLog {
 public:
  void Mark(GuestAddress address, uint64_t size) override {
    marks.push_back({ToInt(address), size});
  }
  std::vector<std::pair<uint64_t, uint64_t>> marks;
};

class DmaWindowsTest : public ::testing::Test {
 protected:
  DmaWindow Mapped(uint64_t address, uint64_t size,
                   DmaAccess access = DmaAccess::kReadWrite) {
    memory_.push_back(std::make_shared<std::vector<uint8_t>>(size));
    return {GuestAddress{address}, size, access, memory_.back()->data(),
            memory_.back()};
  }
  static DmaWindow Asked(uint64_t address, uint64_t size) {
    return {GuestAddress{address}, size, DmaAccess::kReadWrite, nullptr,
            nullptr};
  }

  FakeVmm vmm_;
  FakeLog log_;
  DmaWindows windows_{&vmm_, &log_};
  std::vector<std::shared_ptr<std::vector<uint8_t>>> memory_;
};

TEST_F(DmaWindowsTest, MovesBytesOfAMappedWindow) {
  ASSERT_OK(windows_.Add(Mapped(0x1000, kPage)));
  ASSERT_OK(windows_.Write(GuestAddress{0x1ffc}, {1, 2, 3, 4}));
  EXPECT_EQ((*memory_[0])[0xffd], 2);
  uint8_t out[3];
  ASSERT_OK(windows_.Read(GuestAddress{0x1ffd}, absl::MakeSpan(out)));
  EXPECT_THAT(out, ElementsAre(2, 3, 4));
  EXPECT_THAT(vmm_.transfers, ElementsAre());
}

TEST_F(DmaWindowsTest, ListsWhatIsMapped) {
  EXPECT_OK(windows_.Add(Mapped(2 * kPage, kPage)));
  EXPECT_OK(windows_.Add(
      {GuestAddress{kPage}, kPage, DmaAccess::kRead, nullptr, nullptr}));
  EXPECT_OK(windows_.Add(Mapped(0, kPage)));
  const std::vector<DmaWindow> mapped = windows_.Mapped();
  ASSERT_EQ(mapped.size(), 2u);
  EXPECT_EQ(mapped[0].address, GuestAddress{0});
  EXPECT_EQ(mapped[1].address, GuestAddress{2 * kPage});
}

TEST_F(DmaWindowsTest, CrossesWindowsMappedOrNot) {
  ASSERT_OK(windows_.Add(Mapped(0x1000, kPage)));
  ASSERT_OK(windows_.Add(Asked(0x2000, 8)));
  ASSERT_OK(windows_.Add(Mapped(0x2008, 16)));
  const std::vector<uint8_t> bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  ASSERT_OK(windows_.Write(GuestAddress{0x1ffe}, bytes));
  EXPECT_EQ((*memory_[0])[0xfff], 2);
  EXPECT_THAT(absl::MakeSpan(vmm_.memory).first(8),
              ElementsAre(3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_EQ((*memory_[1])[1], 12);
  std::vector<uint8_t> out(bytes.size());
  ASSERT_OK(windows_.Read(GuestAddress{0x1ffe}, absl::MakeSpan(out)));
  EXPECT_EQ(out, bytes);
  // In pieces that the messenger takes.
  EXPECT_THAT(vmm_.transfers, ElementsAre(Pair(0x2000, 6), Pair(0x2006, 2),
                                          Pair(0x2000, 6), Pair(0x2006, 2)));
  // The VMM notes itself what it writes itself.
  EXPECT_THAT(log_.marks, ElementsAre(Pair(0x1ffe, 2), Pair(0x2008, 2)));
}

TEST_F(DmaWindowsTest, MovesNothingOfARangeThatIsNotGrantedWhole) {
  ASSERT_OK(windows_.Add(Mapped(0x1000, kPage)));
  EXPECT_THAT(windows_.Write(GuestAddress{0x1ffe}, {1, 2, 3}),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("0x2000")));
  EXPECT_EQ((*memory_[0])[0xffe], 0);
  uint8_t out[2];
  EXPECT_THAT(windows_.Read(GuestAddress{0xfff}, absl::MakeSpan(out)),
              StatusIs(absl::StatusCode::kOutOfRange, _));
  EXPECT_THAT(windows_.Map(GuestAddress{0}, 1, DmaAccess::kRead),
              StatusIs(absl::StatusCode::kOutOfRange, _));
}

TEST_F(DmaWindowsTest, KeepsToTheRightsOfTheWindow) {
  ASSERT_OK(windows_.Add(Mapped(0x1000, kPage, DmaAccess::kRead)));
  ASSERT_OK(windows_.Add(Mapped(0x2000, kPage, DmaAccess::kWrite)));
  uint8_t byte = 0;
  ASSERT_OK(windows_.Read(GuestAddress{0x1000}, {&byte, 1}));
  ASSERT_OK(windows_.Write(GuestAddress{0x2000}, {byte}));
  EXPECT_THAT(windows_.Write(GuestAddress{0x1000}, {byte}),
              StatusIs(absl::StatusCode::kPermissionDenied, _));
  EXPECT_THAT(windows_.Read(GuestAddress{0x2000}, {&byte, 1}),
              StatusIs(absl::StatusCode::kPermissionDenied, _));
  EXPECT_THAT(windows_.Map(GuestAddress{0x1000}, 1, DmaAccess::kReadWrite),
              StatusIs(absl::StatusCode::kPermissionDenied, _));
}

TEST_F(DmaWindowsTest, ReachesBothEndsOfTheAddressSpaceAndDoesNotWrap) {
  const uint64_t top = ~uint64_t{0} - (kPage - 1);
  ASSERT_OK(windows_.Add(Mapped(top, kPage)));
  ASSERT_OK(windows_.Add(Mapped(0, kPage)));
  ASSERT_OK(windows_.Write(GuestAddress{~uint64_t{0}}, {7}));
  EXPECT_EQ((*memory_[0])[kPage - 1], 7);
  EXPECT_THAT(windows_.Write(GuestAddress{~uint64_t{0}}, {7, 8}),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("wraps")));
  EXPECT_THAT(windows_.Add(Asked(~uint64_t{0}, 2)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_F(DmaWindowsTest, RefusesWindowsThatAreEmptyOrOverlap) {
  ASSERT_OK(windows_.Add(Asked(0x2000, 0x1000)));
  EXPECT_THAT(windows_.Add(Asked(0x8000, 0)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  for (const auto& [address, size] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0x2000, 0x1000}, {0x1000, 0x1001}, {0x2fff, 1}, {0, 0x10000}}) {
    EXPECT_THAT(windows_.Add(Asked(address, size)),
                StatusIs(absl::StatusCode::kAlreadyExists, _));
  }
  ASSERT_OK(windows_.Add(Asked(0x1000, 0x1000)));
  ASSERT_OK(windows_.Add(Asked(0x3000, 0x1000)));
  EXPECT_EQ(windows_.size(), 3u);
}

TEST_F(DmaWindowsTest, RemovesExactlyWhatWasGranted) {
  ASSERT_OK(windows_.Add(Mapped(0x2000, 0x1000)));
  EXPECT_THAT(windows_.Remove(GuestAddress{0x2000}, 0x800),
              StatusIs(absl::StatusCode::kNotFound, _));
  EXPECT_THAT(windows_.Remove(GuestAddress{0x2800}, 0x800),
              StatusIs(absl::StatusCode::kNotFound, _));
  ASSERT_OK(windows_.Remove(GuestAddress{0x2000}, 0x1000));
  EXPECT_THAT(windows_.Remove(GuestAddress{0x2000}, 0x1000),
              StatusIs(absl::StatusCode::kNotFound, _));
  EXPECT_THAT(windows_.Write(GuestAddress{0x2000}, {1}),
              StatusIs(absl::StatusCode::kOutOfRange, _));
  EXPECT_EQ(memory_[0].use_count(), 1) << "its memory is let go";
}

TEST_F(DmaWindowsTest, DoesNotTakeAWindowFromUnderAMapping) {
  ASSERT_OK(windows_.Add(Mapped(0x2000, 0x1000)));
  ASSERT_OK(windows_.Add(Mapped(0x5000, 0x1000)));
  absl::StatusOr<DmaMapping> mapping =
      windows_.Map(GuestAddress{0x2010}, 16, DmaAccess::kReadWrite);
  ASSERT_OK(mapping);
  EXPECT_EQ(mapping->bytes().data(), memory_[0]->data() + 16);
  EXPECT_THAT(windows_.Remove(GuestAddress{0x2000}, 0x1000),
              StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_THAT(windows_.Map(GuestAddress{0x2010}, 16, DmaAccess::kRead),
              StatusIs(absl::StatusCode::kOutOfRange, _))
      << "nothing new begins";
  EXPECT_THAT(windows_.RemoveAll(),
              StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_EQ(windows_.size(), 1u);
  mapping->bytes()[0] = 9;
  *mapping = DmaMapping();
  ASSERT_OK(windows_.Remove(GuestAddress{0x2000}, 0x1000));
  EXPECT_EQ((*memory_[0])[16], 9);
  ASSERT_OK(windows_.RemoveAll());
}

// The VMM may be taking that window away, and answer when it is gone.
TEST_F(DmaWindowsTest, NobodyAsksWithAMappingInHand) {
  ASSERT_OK(windows_.Add(Mapped(0x1000, kPage)));
  ASSERT_OK(windows_.Add(Asked(0x8000, kPage)));
  std::vector<uint8_t> out(4);
  const auto read = [&](uint64_t address) {
    return windows_.Read(GuestAddress{address}, absl::MakeSpan(out));
  };
  EXPECT_FALSE(DmaMapping::HeldByThisThread());
  {
    absl::StatusOr<DmaMapping> first =
        windows_.Map(GuestAddress{0x1000}, 16, DmaAccess::kRead);
    ASSERT_OK(first);
    DmaMapping second(*std::move(first));
    first = windows_.Map(GuestAddress{0x1010}, 16, DmaAccess::kRead);
    EXPECT_TRUE(DmaMapping::HeldByThisThread());
    EXPECT_THAT(read(0x8000),
                StatusIs(absl::StatusCode::kFailedPrecondition, _));
    EXPECT_THAT(windows_.Write(GuestAddress{0x8000}, {1, 2}),
                StatusIs(absl::StatusCode::kFailedPrecondition, _));
    EXPECT_TRUE(vmm_.transfers.empty());
    EXPECT_OK(read(0x1000)) << "what is mapped needs nobody";
    // Another thread may.
    std::thread([&] { EXPECT_OK(read(0x8000)); }).join();
    second = *std::move(first);
    EXPECT_TRUE(DmaMapping::HeldByThisThread());
    second = DmaMapping();
    EXPECT_FALSE(DmaMapping::HeldByThisThread());
  }
  EXPECT_FALSE(DmaMapping::HeldByThisThread());
  EXPECT_OK(read(0x8000));
}

TEST_F(DmaWindowsTest, MapsOnlyWhatIsMappedInOnePiece) {
  ASSERT_OK(windows_.Add(Mapped(0x1000, kPage)));
  ASSERT_OK(windows_.Add(Mapped(0x2000, kPage)));
  ASSERT_OK(windows_.Add(Asked(0x3000, kPage)));
  EXPECT_THAT(windows_.Map(GuestAddress{0x1fff}, 2, DmaAccess::kRead),
              StatusIs(absl::StatusCode::kFailedPrecondition, _));
  EXPECT_THAT(windows_.Map(GuestAddress{0x3000}, 2, DmaAccess::kRead),
              StatusIs(absl::StatusCode::kFailedPrecondition, _));
  EXPECT_OK(windows_.Map(GuestAddress{0x9000}, 0, DmaAccess::kRead));
}

TEST_F(DmaWindowsTest, SaysWhatTheVmmAnswered) {
  ASSERT_OK(windows_.Add(Asked(0x1000, kPage)));
  vmm_.answer = absl::UnavailableError("gone");
  EXPECT_THAT(windows_.Write(GuestAddress{0x1000}, std::vector<uint8_t>(20)),
              StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_EQ(vmm_.transfers.size(), 1u) << "and goes no further";
  DmaWindows nobody;
  ASSERT_OK(nobody.Add(Asked(0x1000, kPage)));
  EXPECT_THAT(nobody.Write(GuestAddress{0x1000}, {1}),
              StatusIs(absl::StatusCode::kUnavailable, _));
}

TEST_F(DmaWindowsTest, HoldsABoundedNumber) {
  for (size_t i = 0; i < DmaWindows::kMaxWindows; ++i) {
    ASSERT_OK(windows_.Add(Asked(i * kPage, kPage)));
  }
  EXPECT_THAT(windows_.Add(Asked(uint64_t{1} << 40, kPage)),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  ASSERT_OK(windows_.Remove(GuestAddress{0}, kPage));
  EXPECT_OK(windows_.Add(Asked(uint64_t{1} << 40, kPage)));
}

}  // namespace
}  // namespace holdfast
