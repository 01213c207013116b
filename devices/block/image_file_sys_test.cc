#include "devices/block/image_file_sys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "devices/block/file_engine.h"
#include "devices/block/topology.h"
#include "gtest/gtest.h"

namespace holdfast::block {
namespace {

constexpr size_t kSize = 1 << 20;
// A test's PATH may lack the directories of the administrator's programs.
const char kPath[] = "PATH=$PATH:/usr/sbin:/sbin ";

// Runs a command; the first line that it says.
std::string OutputOf(const std::string& command) {
  FILE* const pipe = popen(command.c_str(), "re");
  if (pipe == nullptr) return "";
  std::string output(200, '\0');
  output.resize(fread(output.data(), 1, output.size(), pipe));
  pclose(pipe);
  return output.substr(0, output.find('\n'));
}

class ImageFileTest : public ::testing::Test {
 protected:
  UniqueFd Create(size_t size) {
    UniqueFd fd(open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    return fd;
  }
  std::string path() const { return dir_.File("disk"); }

  testing::TempDir dir_;
};

TEST_F(ImageFileTest, AFileHasSectorsAndCallsThatMove) {
  const UniqueFd fd = Create(kSize);
  const auto file = OpenImageFile(fd);
  ASSERT_OK(file);
  EXPECT_EQ((*file)->block_size(), 512u);
  EXPECT_FALSE((*file)->direct());
  EXPECT_EQ((*file)->Size(), static_cast<int64_t>(kSize));
  uint8_t a[] = {'a', 'b'}, b[] = {'c', 'd', 'e'};
  const Buffer buffers[] = {{a, sizeof(a)}, {b, sizeof(b)}};
  EXPECT_EQ((*file)->Write(1000, buffers), 5);
  std::memset(a, 0, sizeof(a));
  EXPECT_EQ((*file)->Read(1002, {buffers, 1}), 2);
  EXPECT_EQ(std::memcmp(a, "cd", 2), 0);
  EXPECT_EQ((*file)->Sync(), 0);
}

TEST_F(ImageFileTest, TheEndIsShortThenNothing) {
  const UniqueFd fd = Create(kSize);
  const auto file = OpenImageFile(fd);
  ASSERT_OK(file);
  uint8_t memory[512];
  const Buffer buffer = {memory, sizeof(memory)};
  EXPECT_EQ((*file)->Read(kSize - 100, {&buffer, 1}), 100);
  EXPECT_EQ((*file)->Read(kSize, {&buffer, 1}), 0);
}

TEST_F(ImageFileTest, HolesAndZeroesKeepTheSize) {
  const UniqueFd fd = Create(4096);
  const auto file = OpenImageFile(fd);
  ASSERT_OK(file);
  // Not every file system has both; those that have must not let the file grow.
  for (const int result :
       {(*file)->PunchHole(0, kSize), (*file)->ZeroRange(0, kSize)}) {
    EXPECT_TRUE(result == 0 || result == -EOPNOTSUPP) << result;
  }
  EXPECT_EQ((*file)->Size(), 4096);
}

TEST_F(ImageFileTest, ErrorsAreErrnosWithTheirSignTurned) {
  Create(kSize);
  const UniqueFd read_only(open(path().c_str(), O_RDONLY | O_CLOEXEC));
  auto file = OpenImageFile(read_only);
  ASSERT_OK(file);
  uint8_t memory[512] = {};
  const Buffer buffer = {memory, sizeof(memory)};
  EXPECT_EQ((*file)->Write(0, {&buffer, 1}), -EBADF);
  EXPECT_EQ((*file)->PunchHole(0, 512), -EBADF);

  const UniqueFd full(open("/dev/full", O_RDWR | O_CLOEXEC));
  file = OpenImageFile(full);
  ASSERT_OK(file);
  EXPECT_EQ((*file)->Write(0, {&buffer, 1}), -ENOSPC);
  EXPECT_EQ((*file)->Sync(), -EINVAL);

  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd in(ends[0]), out(ends[1]);
  file = OpenImageFile(in);
  ASSERT_OK(file);
  EXPECT_EQ((*file)->Size(), -ESPIPE);
}

TEST_F(ImageFileTest, WithoutADescriptorThereIsNoFile) {
  EXPECT_FALSE(OpenImageFile(BorrowedFd(-1)).ok());
}

TEST_F(ImageFileTest, TopologyOfAFileIsThatOfItsFileSystem) {
  const UniqueFd fd = Create(kSize);
  struct stat file = {};
  ASSERT_EQ(fstat(fd.get(), &file), 0);
  const Topology topology = TopologyOf(fd);
  const auto blocks = static_cast<uint32_t>(file.st_blksize);
  const bool usual = blocks >= 512 && blocks <= 65536;
  EXPECT_EQ(topology.physical_block, usual ? blocks : 0);
  EXPECT_EQ(topology.min_io, topology.physical_block);
  EXPECT_EQ(topology.optimal_io, 0u);
  EXPECT_EQ(TopologyOf(BorrowedFd(-1)).physical_block, 0u);
}

class DirectFileTest : public ImageFileTest {
 protected:
  // Invalid where the file system has no direct I/O.
  UniqueFd CreateDirect(size_t size) {
    Create(size);
    return UniqueFd(open(path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  }
};

TEST_F(DirectFileTest, HasTheBlocksOfAnyFileAndServesThem) {
  const UniqueFd fd = CreateDirect(kSize);
  if (!fd.valid()) {
    GTEST_SKIP() << "set TMPDIR to a file system with direct I/O";
  }
  auto opened = OpenImageFile(fd);
  ASSERT_OK(opened);
  EXPECT_TRUE((*opened)->direct());
  EXPECT_EQ((*opened)->block_size(), 512u);
  EXPECT_GE((*opened)->alignment(), 512u);
  FileEngine engine(*std::move(opened));
  std::string data(1536, 'd'), back(1536, '?');
  const Buffer out = {reinterpret_cast<uint8_t*>(data.data()), data.size()};
  const Buffer in = {reinterpret_cast<uint8_t*>(back.data()), back.size()};
  ASSERT_OK(engine.Write(512, {&out, 1}));
  ASSERT_OK(engine.Read(512, {&in, 1}));
  EXPECT_EQ(back, data);
}

TEST_F(DirectFileTest, ThatEndsAmidABlockIsRefusedWithWhatToDo) {
  const UniqueFd fd = CreateDirect(kSize + 100);
  if (!fd.valid()) {
    GTEST_SKIP() << "set TMPDIR to a file system with direct I/O";
  }
  const auto opened = OpenImageFile(fd);
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(opened.status().message().find("make it longer by truncate"),
            absl::string_view::npos)
      << opened.status();
}

// A disk whose sectors are 4 KiB, as the kernel makes one.
class LoopTest : public ImageFileTest {
 protected:
  void SetUp() override {
    Create(kSize);
    device_ = OutputOf(std::string(kPath) +
                       "losetup --find --show --sector-size 4096 " + path() +
                       " 2>&1");
    if (device_.rfind("/dev/", 0) != 0) {
      GTEST_SKIP() << "no loop device with sectors of 4 KiB: " << device_;
    }
    image_.Reset(open(device_.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
    // The last one that closes it ends it, however the test ends.
    OutputOf(std::string(kPath) + "losetup --detach " + device_);
    ASSERT_TRUE(image_.valid());
    auto file = OpenImageFile(image_);
    ASSERT_OK(file);
    file_ = file->get();
    engine_ = std::make_unique<FileEngine>(*std::move(file));
  }

  std::string device_;
  UniqueFd image_;
  ImageFile* file_ = nullptr;
  std::unique_ptr<FileEngine> engine_;
};

TEST_F(LoopTest, TellsItsTopology) {
  const Topology topology = TopologyOf(image_);
  EXPECT_EQ(topology.physical_block, 4096u);
  EXPECT_EQ(topology.alignment_offset, 0u);
  EXPECT_EQ(topology.min_io % 4096, 0u);
}

TEST_F(LoopTest, TellsItsSectorsAndTakesNoSmallerOnes) {
  EXPECT_EQ(file_->block_size(), 4096u);
  EXPECT_TRUE(file_->direct());
  EXPECT_EQ(engine_->BlockSize(), 4096u);
  EXPECT_EQ(file_->Size(), static_cast<int64_t>(kSize));
  alignas(4096) static uint8_t memory[4096];
  const Buffer sector = {memory, 512}, block = {memory, 4096};
  EXPECT_EQ(file_->Write(0, {&sector, 1}), -EINVAL);
  EXPECT_EQ(file_->Write(512, {&block, 1}), -EINVAL);
  EXPECT_EQ(file_->Write(4096, {&block, 1}), 4096);
}

TEST_F(LoopTest, TheEngineServesSmallerOnesAllTheSame) {
  std::string model(64 * 1024, '\0');
  for (size_t sector = 1; sector < 100; sector += 3) {
    std::string data(512 * (1 + sector % 12), static_cast<char>(sector));
    const Buffer buffer = {reinterpret_cast<uint8_t*>(data.data()),
                           data.size()};
    ASSERT_OK(engine_->Write(sector * 512, {&buffer, 1}));
    model.replace(sector * 512, data.size(), data);
  }
  ASSERT_OK(engine_->WriteZeroes(512, 3 * 4096, /*unmap=*/true));
  model.replace(512, 3 * 4096, std::string(3 * 4096, '\0'));
  ASSERT_OK(engine_->Flush());
  std::string found(model.size(), '?');
  const Buffer buffer = {reinterpret_cast<uint8_t*>(found.data()),
                         found.size()};
  ASSERT_OK(engine_->Read(0, {&buffer, 1}));
  EXPECT_TRUE(found == model);
}

TEST_F(LoopTest, DiscardsWholeBlocks) {
  const absl::Status status = engine_->Discard(512, 3 * 4096);
  EXPECT_TRUE(status.ok() || absl::IsUnimplemented(status)) << status;
}

}  // namespace
}  // namespace holdfast::block
