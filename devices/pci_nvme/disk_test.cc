#include "devices/pci_nvme/disk.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "devices/bus/dma_windows.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kRam = 64 * kPageSize;
constexpr uint64_t kDisk = 2048 * 512;  // Bytes.

// A disk in memory that writes down what it is asked, and fails as told.
class MemoryEngine final : public block::BlockEngine {
 public:
  explicit MemoryEngine(uint32_t block_size)
      : bytes(kDisk), block_size_(block_size) {}

  uint32_t BlockSize() const override { return block_size_; }
  absl::StatusOr<uint64_t> Size() const override { return bytes.size(); }
  absl::Status Read(uint64_t offset, absl::Span<const Buffer> to) override {
    log.push_back("read");
    for (const Buffer& buffer : to) {
      std::memcpy(buffer.data, bytes.data() + offset, buffer.size);
      offset += buffer.size;
    }
    return result;
  }
  absl::Status Write(uint64_t offset, absl::Span<const Buffer> from) override {
    log.push_back("write");
    for (const Buffer& buffer : from) {
      std::memcpy(bytes.data() + offset, buffer.data, buffer.size);
      offset += buffer.size;
    }
    return result;
  }
  absl::Status Flush() override {
    log.push_back("flush");
    return result;
  }
  absl::Status Discard(uint64_t offset, uint64_t size) override {
    log.push_back(absl::StrCat("discard ", offset, "+", size));
    return result;
  }
  absl::Status WriteZeroes(uint64_t offset, uint64_t size,
                           bool unmap) override {
    log.push_back(absl::StrCat(unmap ? "unmap " : "zero ", offset, "+", size));
    return result;
  }

  std::vector<uint8_t> bytes;
  std::vector<std::string> log;
  absl::Status result;

 private:
  const uint32_t block_size_;
};

// Memory that the VMM moves by messages.
class Messenger final : public DmaMessenger {
 public:
  explicit Messenger(std::vector<uint8_t>& ram) : ram_(ram) {}
  size_t max_transfer() const override { return 700; }
  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override {
    std::memcpy(out.data(), ram_.data() + ToInt(address), out.size());
    return absl::OkStatus();
  }
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override {
    std::memcpy(ram_.data() + ToInt(address), bytes.data(), bytes.size());
    return absl::OkStatus();
  }

 private:
  std::vector<uint8_t>& ram_;
};

class DiskTest : public ::testing::Test {
 protected:
  DiskTest() : ram_(kRam), messenger_(ram_), dma_(&messenger_) { Make(512); }

  void Make(uint32_t block_size, Disk::Options options = {}) {
    auto engine = std::make_unique<MemoryEngine>(block_size);
    engine_ = engine.get();
    disk_ = std::make_unique<Disk>(std::move(engine), kDisk, options);
    std::iota(engine_->bytes.begin(), engine_->bytes.end(), 0);
  }
  void Grant(uint64_t address, uint64_t size, bool mapped = true,
             DmaAccess access = DmaAccess::kReadWrite) {
    ASSERT_OK(dma_.Add({GuestAddress{address}, size, access,
                        mapped ? ram_.data() + address : nullptr, nullptr}));
  }
  static Command Io(IoOpcode opcode, uint64_t lba, uint32_t blocks) {
    Command command = {};
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = 1;
    command.prp1 = 0x1000;
    command.prp2 = 0x2000;
    command.cdw10 = static_cast<uint32_t>(lba);
    command.cdw11 = static_cast<uint32_t>(lba >> 32);
    command.cdw12 = blocks - 1;
    return command;
  }
  Status Execute(const Command& command, bool write_through = false) {
    return disk_->Execute(command, write_through, dma_, scratch_);
  }

  std::vector<uint8_t> ram_;
  Messenger messenger_;
  DmaWindows dma_;
  MemoryEngine* engine_;
  std::unique_ptr<Disk> disk_;
  Scratch scratch_;
};

TEST_F(DiskTest, MovesBlocksFromAndToTheGuest) {
  Grant(0, kRam);
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 2, 16)), Status::kSuccess);
  EXPECT_EQ(
      std::memcmp(ram_.data() + 0x1000, engine_->bytes.data() + 1024, 8192), 0);
  EXPECT_EQ(ram_[0x3000], 0);
  ram_[0x1000] = 99;
  EXPECT_EQ(Execute(Io(IoOpcode::kWrite, 2047, 1)), Status::kSuccess);
  EXPECT_EQ(engine_->bytes[kDisk - 512], 99);
  EXPECT_THAT(engine_->log, ElementsAre("read", "write"));
}

// The memory that the guest names may be anywhere and in several pieces.
TEST_F(DiskTest, MovesThemByMessageWhereNothingIsMapped) {
  Grant(0, 0x1800, /*mapped=*/false);
  Grant(0x1800, kRam - 0x1800);
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 2, 16)), Status::kSuccess);
  EXPECT_EQ(
      std::memcmp(ram_.data() + 0x1000, engine_->bytes.data() + 1024, 8192), 0);
  std::fill_n(ram_.begin() + 0x1000, 8192, 7);
  EXPECT_EQ(Execute(Io(IoOpcode::kWrite, 4, 16)), Status::kSuccess);
  EXPECT_THAT(absl::MakeSpan(engine_->bytes).subspan(2048, 8192), Each(7));
  EXPECT_EQ(Execute(Io(IoOpcode::kCompare, 4, 16)), Status::kSuccess);
}

TEST_F(DiskTest, KeepsNoWindowAfterACommand) {
  Grant(0, kRam);
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 0, 1)), Status::kSuccess);
  EXPECT_OK(dma_.RemoveAll());
}

TEST_F(DiskTest, ReachesNothingThatWasNotGranted) {
  Grant(0x1000, 0x1000);
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 0, 9)), Status::kDataTransferError);
  EXPECT_EQ(Execute(Io(IoOpcode::kWrite, 0, 9)), Status::kDataTransferError);
  std::memcpy(ram_.data() + 0x1000, engine_->bytes.data(), kPageSize);
  EXPECT_EQ(Execute(Io(IoOpcode::kCompare, 0, 9)), Status::kDataTransferError);
  ASSERT_OK(dma_.RemoveAll());
  Grant(0x1000, 0x1000, /*mapped=*/true, DmaAccess::kRead);
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 0, 1)), Status::kDataTransferError);
  EXPECT_EQ(Execute(Io(IoOpcode::kWrite, 0, 1)), Status::kSuccess);
}

TEST_F(DiskTest, RefusesBlocksBeyondTheEnd) {
  Grant(0, kRam);
  for (const IoOpcode opcode : {IoOpcode::kRead, IoOpcode::kWrite,
                                IoOpcode::kCompare, IoOpcode::kWriteZeroes}) {
    EXPECT_EQ(Execute(Io(opcode, 2048, 1)), Status::kLbaOutOfRange);
    EXPECT_EQ(Execute(Io(opcode, 2047, 2)), Status::kLbaOutOfRange);
    EXPECT_EQ(Execute(Io(opcode, ~uint64_t{0}, 2)), Status::kLbaOutOfRange);
  }
  EXPECT_THAT(engine_->log, IsEmpty());
}

TEST_F(DiskTest, RefusesWhatItHasNotPromised) {
  Grant(0, kRam);
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 0, 1025)), Status::kInvalidField)
      << "more than MDTS";
  EXPECT_EQ(Execute(Io(static_cast<IoOpcode>(0x7f), 0, 1)),
            Status::kInvalidOpcode);
  Command command = Io(IoOpcode::kRead, 0, 1);
  command.flags = 0x40;
  EXPECT_EQ(Execute(command), Status::kInvalidField) << "SGL";
  command.flags = 0x01;
  EXPECT_EQ(Execute(command), Status::kInvalidField) << "fused";
  command.flags = 0;
  for (const uint32_t nsid : {0u, 2u, 0xffffffffu}) {
    command.nsid = nsid;
    EXPECT_EQ(Execute(command), Status::kInvalidNamespace);
  }
  command.opcode = static_cast<uint8_t>(IoOpcode::kFlush);
  EXPECT_EQ(Execute(command), Status::kSuccess) << "all namespaces";
}

TEST_F(DiskTest, WritesThroughWhereItIsAsked) {
  Grant(0, kRam);
  Command command = Io(IoOpcode::kWrite, 0, 1);
  EXPECT_EQ(Execute(command, /*write_through=*/true), Status::kSuccess);
  command.cdw12 |= 1u << 30;
  EXPECT_EQ(Execute(command), Status::kSuccess) << "FUA";
  EXPECT_EQ(Execute(Io(IoOpcode::kWriteZeroes, 0, 1), true), Status::kSuccess);
  EXPECT_THAT(engine_->log, ElementsAre("write", "flush", "write", "flush",
                                        "zero 0+512", "flush"));
}

TEST_F(DiskTest, AFailureOfTheStorageIsOne) {
  Grant(0, kRam);
  engine_->result = absl::DataLossError("a bad sector");
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 0, 1)), Status::kUnrecoveredRead);
  EXPECT_EQ(Execute(Io(IoOpcode::kCompare, 0, 1)), Status::kUnrecoveredRead);
  EXPECT_EQ(Execute(Io(IoOpcode::kWrite, 0, 1)), Status::kWriteFault);
  EXPECT_EQ(Execute(Io(IoOpcode::kFlush, 0, 1)), Status::kWriteFault);
  EXPECT_EQ(Execute(Io(IoOpcode::kWriteZeroes, 0, 1)), Status::kWriteFault);
}

TEST_F(DiskTest, ComparesWithoutChangingAnything) {
  Grant(0, kRam);
  std::memcpy(ram_.data() + 0x1000, engine_->bytes.data(), 8192);
  EXPECT_EQ(Execute(Io(IoOpcode::kCompare, 0, 16)), Status::kSuccess);
  ram_[0x2fff] ^= 1;
  EXPECT_EQ(Execute(Io(IoOpcode::kCompare, 0, 16)), Status::kCompareFailure);
  EXPECT_THAT(engine_->log, ElementsAre("read", "read"));
}

TEST_F(DiskTest, WritesZeroesOfAnyLength) {
  Command command = Io(IoOpcode::kWriteZeroes, 0, 2048);
  EXPECT_EQ(Execute(command), Status::kSuccess);
  command.cdw12 |= 1u << 25;
  EXPECT_EQ(Execute(command), Status::kSuccess) << "may deallocate";
  EXPECT_THAT(engine_->log, ElementsAre("zero 0+1048576", "unmap 0+1048576"));
}

TEST_F(DiskTest, DeallocatesRanges) {
  Grant(0, kRam);
  const Range ranges[3] = {{0, 4, 8}, {0, 0, 9999}, {0, 1, 2047}};
  std::memcpy(ram_.data() + 0x1000, ranges, sizeof(ranges));
  Command command = Io(IoOpcode::kDatasetManagement, 1, 1);
  command.cdw11 = 1u << 2;
  EXPECT_EQ(Execute(command), Status::kLbaOutOfRange) << "the empty one";
  EXPECT_THAT(engine_->log, IsEmpty()) << "all are checked first";
  const Range inside = {0, 0, 9};
  std::memcpy(ram_.data() + 0x1010, &inside, sizeof(inside));
  command.cdw10 = 2;
  EXPECT_EQ(Execute(command), Status::kSuccess);
  EXPECT_THAT(engine_->log,
              ElementsAre("discard 4096+2048", "discard 1048064+512"));
  engine_->log.clear();
  command.cdw11 = 0;
  EXPECT_EQ(Execute(command), Status::kSuccess) << "mere advice";
  EXPECT_THAT(engine_->log, IsEmpty());
  command.cdw11 = 1u << 2;
  engine_->result = absl::UnimplementedError("cannot");
  EXPECT_EQ(Execute(command), Status::kSuccess) << "advice, too";
  engine_->result = absl::InternalError("broken");
  EXPECT_EQ(Execute(command), Status::kWriteFault);
  command.prp1 = kRam;
  EXPECT_EQ(Execute(command), Status::kDataTransferError);
}

TEST_F(DiskTest, AReadOnlyDiskIsReadOnly) {
  Grant(0, kRam);
  Make(512, {/*read_only=*/true});
  EXPECT_EQ(Execute(Io(IoOpcode::kWrite, 0, 1)), Status::kWriteProtected);
  EXPECT_EQ(Execute(Io(IoOpcode::kWriteZeroes, 0, 1)), Status::kWriteProtected);
  Command command = Io(IoOpcode::kDatasetManagement, 0, 1);
  command.cdw11 = 1u << 2;
  EXPECT_EQ(Execute(command), Status::kWriteProtected);
  EXPECT_THAT(engine_->log, IsEmpty());
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 0, 1)), Status::kSuccess);
  EXPECT_EQ(Execute(Io(IoOpcode::kFlush, 0, 1)), Status::kSuccess);
}

TEST_F(DiskTest, BlocksAreThoseOfTheStorage) {
  Make(4096);
  EXPECT_EQ(disk_->block_shift(), 12u);
  EXPECT_EQ(disk_->blocks(), kDisk / 4096);
  Grant(0, kRam);
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 255, 1)), Status::kSuccess);
  EXPECT_EQ(Execute(Io(IoOpcode::kRead, 256, 1)), Status::kLbaOutOfRange);
  Make(65536);
  EXPECT_EQ(disk_->block_shift(), 9u) << "no driver knows such blocks";
}

}  // namespace
}  // namespace holdfast::nvme
