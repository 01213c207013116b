#include "devices/runtime/window_maps_sys.h"

#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "devices/vfio_user/message.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using vfio_user::SessionState;
using vfio_user::WindowState;

constexpr store::Slot kSlot = store::kSlotFirstSession;
constexpr uint64_t kSize = 8192;

// A file whose bytes are all `fill`.
UniqueFd FileOf(char fill) {
  UniqueFd fd(memfd_create("window-file", MFD_CLOEXEC));
  const std::string bytes(kSize, fill);
  EXPECT_EQ(write(fd.get(), bytes.data(), bytes.size()),
            static_cast<ssize_t>(bytes.size()));
  return fd;
}

int MappingsOfFiles() {
  std::ifstream maps("/proc/self/maps");
  int found = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:window-file") != std::string::npos) ++found;
  }
  return found;
}

class WindowMapsTest : public ::testing::Test {
 protected:
  // Window `i` is the first 4096 bytes of what the slot holds.
  void SetWindow(size_t i, uint64_t address) {
    WindowState window{};
    window.address = address;
    window.size = 4096;
    window.slot = kSlot;
    window.file = *IdentifyFile(slots_.Get(kSlot));
    window.access = vfio_user::kDmaReadable | vfio_user::kDmaWriteable;
    window.crc = vfio_user::WindowCrc(window);
    table_[i] = window;
    state_.windows[i / 64] |= uint64_t{1} << (i % 64);
  }
  void Clear(size_t i) { state_.windows[i / 64] &= ~(uint64_t{1} << (i % 64)); }
  // What the device reads at `address`; 0 if it may not.
  char At(uint64_t address) {
    uint8_t byte = 0;
    const absl::Status read = windows_.Read(GuestAddress{address}, {&byte, 1});
    return read.ok() ? static_cast<char>(byte) : '\0';
  }

  DescriptorSlots slots_;
  DmaWindows windows_;
  std::vector<WindowState> table_ =
      std::vector<WindowState>(vfio_user::kMaxWindows);
  SessionState state_{};
  std::unique_ptr<WindowMaps> maps_ =
      std::make_unique<WindowMaps>(windows_, slots_);
};

TEST_F(WindowMapsTest, GrantsWhatTheSessionSaysAndTakesItAway) {
  slots_.Set(kSlot, FileOf('a'));
  SetWindow(3, 0x1000);
  SetWindow(2000, 0x8000);
  ASSERT_OK(maps_->Apply(state_, table_));
  EXPECT_EQ(At(0x1000), 'a');
  EXPECT_EQ(At(0x8000), 'a');
  EXPECT_EQ(MappingsOfFiles(), 1);
  ASSERT_OK(maps_->Apply(state_, table_));
  Clear(3);
  ASSERT_OK(maps_->Apply(state_, table_));
  EXPECT_EQ(At(0x1000), '\0');
  EXPECT_EQ(At(0x8000), 'a');
}

// The entry of a window that is gone serves another one.
TEST_F(WindowMapsTest, AnEntryMayBeUsedAgain) {
  slots_.Set(kSlot, FileOf('a'));
  SetWindow(0, 0x1000);
  ASSERT_OK(maps_->Apply(state_, table_));
  Clear(0);
  ASSERT_OK(maps_->Apply(state_, table_));
  SetWindow(0, 0x5000);
  ASSERT_OK(maps_->Apply(state_, table_));
  EXPECT_EQ(At(0x1000), '\0');
  EXPECT_EQ(At(0x5000), 'a');
}

// What was released and is still in the session comes back.
TEST_F(WindowMapsTest, ARefusedUnmapIsTakenBack) {
  slots_.Set(kSlot, FileOf('a'));
  SetWindow(0, 0x1000);
  ASSERT_OK(maps_->Apply(state_, table_));
  maps_->Release(table_[0]);
  EXPECT_EQ(At(0x1000), '\0');
  ASSERT_OK(maps_->Apply(state_, table_));
  EXPECT_EQ(At(0x1000), 'a');
}

TEST_F(WindowMapsTest, AStandbyIsNotDeceivedByASlotThatIsUsedAgain) {
  slots_.Set(kSlot, FileOf('a'));
  SetWindow(0, 0x1000);
  maps_->MapAhead(state_, table_);
  EXPECT_EQ(MappingsOfFiles(), 1);
  EXPECT_EQ(At(0x1000), '\0');  // Not granted yet.
  slots_.Set(kSlot, FileOf('b'));
  SetWindow(0, 0x1000);
  maps_->MapAhead(state_, table_);
  EXPECT_EQ(MappingsOfFiles(), 1);
  ASSERT_OK(maps_->Apply(state_, table_));
  EXPECT_EQ(At(0x1000), 'b');
}

// The session is newer than the descriptor.
TEST_F(WindowMapsTest, AnotherFileThanTheSessionsIsNotMapped) {
  UniqueFd late = FileOf('b');
  slots_.Set(kSlot, UniqueFd(dup(late.get())));
  SetWindow(0, 0x1000);
  slots_.Set(kSlot, FileOf('a'));
  maps_->MapAhead(state_, table_);
  EXPECT_EQ(MappingsOfFiles(), 0);
  slots_.Set(kSlot, std::move(late));
  ASSERT_OK(maps_->Apply(state_, table_));
  EXPECT_EQ(At(0x1000), 'b');
}

TEST_F(WindowMapsTest, WhatNobodyNamesIsNotMapped) {
  slots_.Set(kSlot, FileOf('a'));
  SetWindow(0, 0x1000);
  ASSERT_OK(maps_->Apply(state_, table_));
  Clear(0);
  ASSERT_OK(maps_->Apply(state_, table_));
  EXPECT_EQ(MappingsOfFiles(), 1);
  maps_->Keep({});
  EXPECT_EQ(MappingsOfFiles(), 0);
  // A standby finds it out by itself.
  SetWindow(0, 0x1000);
  maps_->MapAhead(state_, table_);
  Clear(0);
  maps_->MapAhead(state_, table_);
  EXPECT_EQ(MappingsOfFiles(), 0);
}

TEST_F(WindowMapsTest, ATornOrDamagedWindowIsSkippedAhead) {
  slots_.Set(kSlot, FileOf('a'));
  SetWindow(0, 0x1000);
  table_[0].size = 1 << 20;
  maps_->MapAhead(state_, table_);
  EXPECT_EQ(MappingsOfFiles(), 0);
}

TEST_F(WindowMapsTest, AFileThatWasCutIsNotGranted) {
  slots_.Set(kSlot, FileOf('a'));
  SetWindow(0, 0x1000);
  ASSERT_EQ(ftruncate(slots_.Get(kSlot).get(), 0), 0);
  EXPECT_FALSE(maps_->Apply(state_, table_).ok());
  EXPECT_EQ(At(0x1000), '\0');
  EXPECT_EQ(windows_.size(), 0u);  // Else it would be asked for by message.
}

}  // namespace
}  // namespace holdfast
