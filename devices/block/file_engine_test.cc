#include "devices/block/file_engine.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::block {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kFileSize = 1 << 20;

// A file in memory whose calls do what the test says. Like the kernel it takes
// nothing that is not aligned when it is direct.
class MemoryFile final : public ImageFile {
 public:
  // `alignment`: of direct I/O; 0: a block.
  MemoryFile(uint32_t block_size, bool direct, uint32_t alignment)
      : content(kFileSize, '.'),
        block_size_(block_size),
        direct_(direct),
        alignment_(alignment == 0 ? block_size : alignment) {}

  uint32_t block_size() const override { return block_size_; }
  bool direct() const override { return direct_; }
  uint32_t alignment() const override { return alignment_; }
  int64_t Size() const override { return size_error ? -size_error : Length(); }

  int64_t Read(uint64_t offset, absl::Span<const Buffer> buffers) override {
    Say("read", offset, buffers);
    const int64_t allowed = Allowed(offset, buffers);
    if (allowed < 0) return allowed;
    std::lock_guard<std::mutex> lock(mutex_);
    return Each(offset, buffers, allowed,
                [&](uint8_t* memory, size_t at, size_t size) {
                  std::memcpy(memory, content.data() + at, size);
                });
  }
  int64_t Write(uint64_t offset, absl::Span<const Buffer> buffers) override {
    Say("write", offset, buffers);
    if (on_write) on_write();
    const int64_t allowed = Allowed(offset, buffers);
    if (allowed < 0) return allowed;
    std::lock_guard<std::mutex> lock(mutex_);
    return Each(offset, buffers, allowed,
                [&](const uint8_t* memory, size_t at, size_t size) {
                  std::memcpy(content.data() + at, memory, size);
                });
  }
  int Sync() override {
    log.push_back("sync");
    return static_cast<int>(Next(0));
  }
  int PunchHole(uint64_t offset, uint64_t size) override {
    log.push_back("punch " + std::to_string(offset) + "+" +
                  std::to_string(size));
    return Zero(offset, size);
  }
  int ZeroRange(uint64_t offset, uint64_t size) override {
    log.push_back("zero " + std::to_string(offset) + "+" +
                  std::to_string(size));
    return Zero(offset, size);
  }

  std::string content;
  int size_error = 0;
  // Results of the next calls: an errno with its sign turned, or how many bytes
  // they move at most. Empty: as many as they can, or `at_most`.
  std::deque<int64_t> results;
  size_t at_most = kFileSize;
  std::function<void()> on_write;
  bool keeps_log = true;
  std::vector<std::string> log;

 private:
  int64_t Length() const { return static_cast<int64_t>(content.size()); }

  void Say(const char* what, uint64_t offset,
           absl::Span<const Buffer> buffers) {
    EXPECT_LE(buffers.size(), kMaxBuffers);
    size_t size = 0;
    for (const Buffer& buffer : buffers) size += buffer.size;
    if (!keeps_log) return;
    log.push_back(std::string(what) + " " + std::to_string(offset) + "+" +
                  std::to_string(size));
  }

  int64_t Next(int64_t otherwise) {
    if (results.empty()) return otherwise;
    const int64_t result = results.front();
    results.pop_front();
    return result;
  }

  int64_t Allowed(uint64_t offset, absl::Span<const Buffer> buffers) {
    for (const Buffer& buffer : buffers) {
      if (direct_ && ((offset | buffer.size) % alignment_ != 0 ||
                      reinterpret_cast<uintptr_t>(buffer.data) % 512 != 0)) {
        return -EINVAL;
      }
    }
    return Next(static_cast<int64_t>(at_most));
  }

  template <typename Copy>
  int64_t Each(uint64_t offset, absl::Span<const Buffer> buffers,
               int64_t allowed, Copy copy) {
    size_t left = std::min<size_t>(
        allowed, offset < content.size() ? content.size() - offset : 0);
    size_t done = 0;
    for (const Buffer& buffer : buffers) {
      const size_t step = std::min(left - done, buffer.size);
      if (step > 0) copy(buffer.data, offset + done, step);
      done += step;
    }
    return static_cast<int64_t>(done);
  }

  int Zero(uint64_t offset, uint64_t size) {
    const int64_t result = Next(0);
    if (result < 0) return static_cast<int>(result);
    if ((offset | size) % block_size_ != 0) return -EINVAL;
    std::fill_n(content.begin() + offset, size, '\0');
    return 0;
  }

  const uint32_t block_size_;
  const bool direct_;
  const uint32_t alignment_;
  std::mutex mutex_;
};

// An engine over a MemoryFile, and memory that a guest could have.
struct Rig {
  explicit Rig(uint32_t block_size = 512, bool direct = false,
               uint32_t alignment = 0) {
    auto owned = std::make_unique<MemoryFile>(block_size, direct, alignment);
    file = owned.get();
    engine = std::make_unique<FileEngine>(std::move(owned));
  }

  absl::Status Write(uint64_t offset, std::string data) {
    const Buffer buffer = {reinterpret_cast<uint8_t*>(data.data()),
                           data.size()};
    return engine->Write(offset, {&buffer, 1});
  }
  absl::StatusOr<std::string> Read(uint64_t offset, size_t size) {
    std::string data(size, '?');
    const Buffer buffer = {reinterpret_cast<uint8_t*>(data.data()), size};
    const absl::Status status = engine->Read(offset, {&buffer, 1});
    if (!status.ok()) return status;
    return data;
  }

  MemoryFile* file;
  std::unique_ptr<FileEngine> engine;
};

std::string Pattern(size_t size, uint32_t seed) {
  std::mt19937 source(seed);
  std::string data(size, 0);
  for (char& c : data) c = static_cast<char>('A' + source() % 26);
  return data;
}

// ---- What calls leave undone ----

TEST(FileEngine, GoesOnWhereACallStopped) {
  for (size_t at_most : {1, 511, 512, 700, 4096}) {
    Rig rig;
    rig.file->at_most = at_most;
    const std::string data = Pattern(6000, 1);
    ASSERT_OK(rig.Write(100, data));
    EXPECT_EQ(rig.file->content.substr(100, data.size()), data) << at_most;
    EXPECT_EQ(rig.file->content.substr(6100, 3), "...");
    EXPECT_THAT(rig.Read(100, data.size()), IsOkAndHolds(data));
  }
}

TEST(FileEngine, GoesOnInsideAnyOfManyBuffers) {
  Rig rig;
  rig.file->at_most = 333;
  std::string data = Pattern(200 * 50, 2);
  std::vector<Buffer> buffers;
  for (size_t i = 0; i < 200; ++i) {
    buffers.push_back({reinterpret_cast<uint8_t*>(data.data()) + i * 50, 50});
    if (i % 7 == 0) buffers.push_back({nullptr, 0});
  }
  ASSERT_OK(rig.engine->Write(0, buffers));
  EXPECT_EQ(rig.file->content.substr(0, data.size()), data);
  const std::string before = data;
  std::fill(data.begin(), data.end(), '?');
  ASSERT_OK(rig.engine->Read(0, buffers));
  EXPECT_EQ(data, before);
}

TEST(FileEngine, NothingToMoveIsNoCall) {
  Rig rig;
  EXPECT_OK(rig.engine->Write(0, {}));
  EXPECT_OK(rig.engine->Read(0, {}));
  EXPECT_THAT(rig.file->log, IsEmpty());
}

TEST(FileEngine, RepeatsWhatASignalInterrupted) {
  Rig rig;
  const std::deque<int64_t> interrupted = {-EINTR, -EINTR};
  const auto interrupt = [&] { rig.file->results = interrupted; };
  interrupt();
  EXPECT_OK(rig.Write(0, "abc"));
  interrupt();
  EXPECT_THAT(rig.Read(0, 3), IsOkAndHolds("abc"));
  interrupt();
  EXPECT_OK(rig.engine->Flush());
  interrupt();
  EXPECT_OK(rig.engine->Discard(0, 512));
  interrupt();
  EXPECT_OK(rig.engine->WriteZeroes(512, 512, /*unmap=*/false));
  EXPECT_EQ(rig.file->log.size(), 15u);
}

TEST(FileEngine, AnInterruptionInTheMiddleLosesNothing) {
  Rig rig;
  rig.file->results = {2, -EINTR, 1};
  ASSERT_OK(rig.Write(10, "abcdef"));
  EXPECT_THAT(rig.file->log, ElementsAre("write 10+6", "write 12+4",
                                         "write 12+4", "write 13+3"));
  EXPECT_EQ(rig.file->content.substr(9, 8), ".abcdef.");
}

// ---- Errors ----

TEST(FileEngine, ErrorsSayWhatWasDone) {
  Rig rig;
  rig.file->results = {-EIO};
  EXPECT_THAT(rig.Read(0, 512).status().ToString(),
              HasSubstr("reading the image"));
  rig.file->results = {-ENOSPC};
  EXPECT_THAT(rig.Write(0, "x"), StatusIs(absl::StatusCode::kResourceExhausted,
                                          HasSubstr("writing the image")));
  rig.file->results = {-EIO};
  EXPECT_THAT(rig.engine->Flush().ToString(), HasSubstr("fdatasync"));
  rig.file->size_error = EBADF;
  EXPECT_FALSE(rig.engine->Size().ok());
}

TEST(FileEngine, AnErrorAfterAPartIsAnError) {
  Rig rig;
  rig.file->results = {512, -ENOSPC};
  EXPECT_FALSE(rig.Write(0, std::string(1024, 'x')).ok());
  rig.file->results = {512, -EIO};
  EXPECT_FALSE(rig.Read(0, 1024).ok());
}

TEST(FileEngine, TheEndOfTheFileIsAnErrorAndNoLoop) {
  Rig rig;
  EXPECT_THAT(rig.Read(kFileSize - 100, 512).status(),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("it was cut")));
  EXPECT_THAT(
      rig.Write(kFileSize - 100, std::string(512, 'x')),
      StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("no more bytes")));
  EXPECT_THAT(rig.engine->Size(), IsOkAndHolds(kFileSize));
}

// The kernel says once that it lost something; a second attempt would succeed.
TEST(FileEngine, AFailedFlushIsNotTriedAgain) {
  Rig rig;
  rig.file->results = {-EIO, 0};
  EXPECT_FALSE(rig.engine->Flush().ok());
  EXPECT_THAT(rig.file->log, ElementsAre("sync"));
}

// ---- Discard and zeroes ----

TEST(FileEngine, DiscardsWholeBlocksOnly) {
  Rig rig(/*block_size=*/4096);
  ASSERT_OK(rig.engine->Discard(512, 8192));
  ASSERT_OK(rig.engine->Discard(512, 4096));  // Not one of them whole.
  ASSERT_OK(rig.engine->Discard(4096, 8192));
  EXPECT_THAT(rig.file->log, ElementsAre("punch 4096+4096", "punch 4096+8192"));
  EXPECT_EQ(rig.file->content[4095], '.');
}

TEST(FileEngine, SaysWhenTheStorageCannotDiscard) {
  Rig rig;
  rig.file->results = {-EOPNOTSUPP};
  EXPECT_TRUE(absl::IsUnimplemented(rig.engine->Discard(0, 512)));
}

TEST(FileEngine, ZeroesInTheCheapestWayThereIs) {
  Rig rig;
  const std::string zeroes(200 * 1024, '\0');
  ASSERT_OK(rig.engine->WriteZeroes(0, 512, /*unmap=*/true));
  rig.file->results = {-EOPNOTSUPP};
  ASSERT_OK(rig.engine->WriteZeroes(0, 1024, /*unmap=*/true));
  rig.file->results = {-EOPNOTSUPP};
  ASSERT_OK(rig.engine->WriteZeroes(512, zeroes.size(), /*unmap=*/false));
  EXPECT_THAT(
      rig.file->log,
      ElementsAre("punch 0+512", "punch 0+1024", "zero 0+1024",
                  "zero 512+204800", "write 512+65536", "write 66048+65536",
                  "write 131584+65536", "write 197120+8192"));
  EXPECT_EQ(rig.file->content.substr(512, zeroes.size()), zeroes);
  EXPECT_EQ(rig.file->content[512 + zeroes.size()], '.');
}

TEST(FileEngine, ZeroesThatCannotBeWrittenAreAnError) {
  Rig rig;
  rig.file->results = {-EOPNOTSUPP, -EIO};
  EXPECT_FALSE(rig.engine->WriteZeroes(0, 512, /*unmap=*/false).ok());
}

TEST(FileEngine, ZeroesOfPartsOfBlocksLeaveTheirNeighbours) {
  Rig rig(/*block_size=*/4096, /*direct=*/true);
  ASSERT_OK(rig.engine->WriteZeroes(4096 - 512, 1024, /*unmap=*/true));
  const std::string& content = rig.file->content;
  EXPECT_EQ(content.substr(4096 - 512, 1024), std::string(1024, '\0'));
  EXPECT_EQ(content.substr(0, 4096 - 512), std::string(4096 - 512, '.'));
  EXPECT_EQ(content.substr(4096 + 512, 512), std::string(512, '.'));
}

// ---- Direct I/O ----

TEST(FileEngine, AlignedDirectIoTakesNoDetour) {
  Rig rig(/*block_size=*/4096, /*direct=*/true);
  alignas(4096) static uint8_t memory[8192];
  const std::vector<Buffer> buffers = {{memory, 4096}, {memory + 4096, 4096}};
  ASSERT_OK(rig.engine->Write(4096, buffers));
  ASSERT_OK(rig.engine->Read(4096, buffers));
  EXPECT_THAT(rig.file->log, ElementsAre("write 4096+8192", "read 4096+8192"));
}

// The guest sees sectors of 512 bytes, as without direct I/O; the storage below
// the file system has larger ones.
TEST(FileEngine, BlocksSmallerThanTheAlignmentAreServed) {
  Rig rig(/*block_size=*/512, /*direct=*/true, /*alignment=*/4096);
  EXPECT_EQ(rig.engine->BlockSize(), 512u);
  alignas(4096) static uint8_t memory[512];
  const Buffer sector = {memory, sizeof(memory)};
  std::memset(memory, 'a', sizeof(memory));
  ASSERT_OK(rig.engine->Write(4096 + 512, {&sector, 1}));
  EXPECT_THAT(rig.file->log, ElementsAre("read 4096+4096", "write 4096+4096"));
  const std::string& content = rig.file->content;
  EXPECT_EQ(content.substr(4096, 512), std::string(512, '.'));
  EXPECT_EQ(content.substr(4096 + 512, 512), std::string(512, 'a'));
  EXPECT_EQ(content.substr(4096 + 1024, 512), std::string(512, '.'));
  const auto read = rig.Read(4096 + 512, 512);
  ASSERT_OK(read);
  EXPECT_EQ(*read, std::string(512, 'a'));
}

TEST(FileEngine, WholeBlocksFromUnalignedMemoryAreReadNowhereElse) {
  Rig rig(/*block_size=*/512, /*direct=*/true);
  const std::string data = Pattern(300 * 1024, 3);
  // Unaligned wherever the allocator puts it.
  std::vector<uint8_t> memory(data.size() + 513);
  const size_t shift =
      1 + (512 - reinterpret_cast<uintptr_t>(memory.data()) % 512) % 512;
  std::copy(data.begin(), data.end(), memory.begin() + shift);
  const Buffer buffer = {memory.data() + shift, data.size()};
  ASSERT_OK(rig.engine->Write(512, {&buffer, 1}));
  EXPECT_THAT(rig.file->log,
              ElementsAre("write 512+131072", "write 131584+131072",
                          "write 262656+45056"));
  EXPECT_THAT(rig.Read(512, data.size()), IsOkAndHolds(data));
}

// The control: the file refuses what the engine takes apart.
TEST(FileEngine, ADirectFileTakesNoPartsOfBlocks) {
  Rig rig(/*block_size=*/4096, /*direct=*/true);
  alignas(4096) static uint8_t memory[512];
  const Buffer sector = {memory, sizeof(memory)};
  EXPECT_EQ(rig.file->Write(512, {&sector, 1}), -EINVAL);
  EXPECT_OK(rig.engine->Write(512, {&sector, 1}));
}

TEST(FileEngine, APartOfABlockIsReadBeforeItIsWritten) {
  Rig rig(/*block_size=*/4096, /*direct=*/true);
  ASSERT_OK(rig.Write(512, Pattern(512, 4)));           // Inside one block.
  ASSERT_OK(rig.Write(4096, Pattern(4096 + 512, 5)));   // Its end.
  ASSERT_OK(rig.Write(16384 - 512, Pattern(4608, 6)));  // Its beginning.
  ASSERT_OK(rig.Write(28160, Pattern(8192, 7)));        // Both.
  EXPECT_THAT(
      rig.file->log,
      ElementsAre("read 0+4096", "write 0+4096", "read 8192+4096",
                  "write 4096+8192", "read 12288+4096", "write 12288+8192",
                  "read 24576+4096", "read 32768+4096", "write 24576+12288"));
}

TEST(FileEngine, APartOfABlockThatCannotBeReadIsNotWritten) {
  Rig rig(/*block_size=*/4096, /*direct=*/true);
  rig.file->results = {-EIO};
  EXPECT_FALSE(rig.Write(512, std::string(512, 'x')).ok());
  EXPECT_THAT(rig.file->log, ElementsAre("read 0+4096"));
}

// Any sectors of a disk whose blocks are larger, against a plain string.
TEST(FileEngine, ServesAnySectorsOfLargerBlocks) {
  for (const uint32_t block_size : {1024u, 4096u, 65536u}) {
    Rig rig(block_size, /*direct=*/true);
    rig.file->keeps_log = false;
    std::string model = rig.file->content;
    std::mt19937 source(block_size);
    const size_t sectors = kFileSize / 512;
    for (int i = 0; i < 300; ++i) {
      rig.file->at_most = block_size * (1 + source() % 3);
      const size_t begin = source() % sectors;
      const size_t count =
          1 + source() % std::min<size_t>(sectors - begin, 400);
      const size_t offset = begin * 512, size = count * 512;
      if (source() % 2 == 0) {
        const std::string data = Pattern(size, i);
        ASSERT_OK(rig.Write(offset, data));
        model.replace(offset, size, data);
      } else {
        ASSERT_THAT(rig.Read(offset, size),
                    IsOkAndHolds(model.substr(offset, size)));
      }
    }
    EXPECT_EQ(rig.file->content, model);
  }
}

// ---- Several threads ----

TEST(FileEngine, NeighboursInOneBlockKeepTheirWrites) {
  Rig rig(/*block_size=*/4096, /*direct=*/true);
  rig.file->keeps_log = false;
  rig.file->on_write = [] { std::this_thread::yield(); };
  std::vector<std::thread> threads;
  for (int sector = 0; sector < 8; ++sector) {
    threads.emplace_back([&rig, sector] {
      for (int i = 0; i < 100; ++i) {
        const std::string data(512, static_cast<char>('a' + (sector + i) % 26));
        ASSERT_OK(rig.Write(sector * 512, data));
        ASSERT_THAT(rig.Read(sector * 512, 512), IsOkAndHolds(data));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Writes of whole blocks wait for each other here, and not for their turn.
TEST(FileEngine, WholeBlocksAreWrittenAtTheSameTime) {
  Rig rig(/*block_size=*/4096, /*direct=*/true);
  rig.file->keeps_log = false;
  std::atomic<int> arrived{0};
  rig.file->on_write = [&] {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  };
  std::thread other([&] { EXPECT_OK(rig.Write(4096, Pattern(4096, 1))); });
  EXPECT_OK(rig.Write(0, Pattern(4096, 2)));
  other.join();
}

}  // namespace
}  // namespace holdfast::block
