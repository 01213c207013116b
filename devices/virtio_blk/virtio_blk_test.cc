#include "devices/virtio_blk/virtio_blk.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "devices/testing/fake_context.h"
#include "gtest/gtest.h"

namespace holdfast::virtio_blk {
namespace {

using ::holdfast::testing::FakeContext;
using ::holdfast::testing::FakeRequest;
using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kDiskSize = 1 << 20;
constexpr char kOk = 0, kIoError = 1, kUnsupported = 2;

std::string Header(RequestType type, uint64_t sector) {
  const RequestHeader header = {static_cast<uint32_t>(type), 0, sector};
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header));
}

std::string Range(uint64_t sector, uint32_t count, uint32_t flags) {
  const RangeSegment segment = {sector, count, flags};
  return std::string(reinterpret_cast<const char*>(&segment), sizeof(segment));
}

// The real engine over a real file.
class VirtioBlkTest : public ::testing::Test {
 protected:
  explicit VirtioBlkTest(std::map<std::string, std::string> options = {})
      : context_(*VirtioBlk::Spec(DeviceOptions(options)),
                 DeviceOptions(options)),
        image_(open(dir_.File("disk").c_str(), O_CREAT | O_RDWR, 0600)) {
    EXPECT_EQ(ftruncate(image_.get(), kDiskSize), 0);
    context_.SetResource("image", image_);
    device_ = std::move(*VirtioBlk::Make(context_));
    device_->OnFeatures(kFeatureFlush);
  }

  // Runs a request; the last byte of what was written is the status.
  std::string Run(std::vector<std::string> readable,
                  std::vector<size_t> writable) {
    FakeRequest request(std::move(readable), std::move(writable));
    const FakeContext::Result result =
        context_.Run(*device_, request.request());
    EXPECT_OK(result.status);
    last_written_ = result.written;
    return request.written();
  }

  Config ReadConfig() {
    Config config;
    device_->ReadConfig(0,
                        {reinterpret_cast<uint8_t*>(&config), sizeof(config)});
    return config;
  }

  testing::TempDir dir_;
  FakeContext context_;
  UniqueFd image_;
  std::unique_ptr<VirtioDevice> device_;
  size_t last_written_ = 0;
};

class ReadOnlyTest : public VirtioBlkTest {
 protected:
  ReadOnlyTest() : VirtioBlkTest({{"read-only", ""}}) {}
};

TEST_F(VirtioBlkTest, ReadsBackWhatWasWritten) {
  const std::string data(4096, 'x');
  EXPECT_EQ(Run({Header(RequestType::kOut, 8), data}, {1}),
            std::string(1, kOk));
  EXPECT_EQ(last_written_, 1u);
  EXPECT_EQ(Run({Header(RequestType::kIn, 8)}, {4096, 1}),
            data + std::string(1, kOk));
  EXPECT_EQ(last_written_, 4097u);
}

// VIRTIO 1.2, 2.7.4.1: no assumption on framing.
TEST_F(VirtioBlkTest, ServesAnySplitOfTheBuffers) {
  const std::string all = Header(RequestType::kOut, 1) + std::string(512, 'a') +
                          std::string(512, 'b');
  EXPECT_EQ(Run({all.substr(0, 3), all.substr(3, 500), all.substr(503)}, {1}),
            std::string(1, kOk));
  EXPECT_EQ(
      Run({Header(RequestType::kIn, 1)}, {100, 412, 513}),
      std::string(512, 'a') + std::string(512, 'b') + std::string(1, kOk));
}

TEST_F(VirtioBlkTest, RefusesWhatLiesOutsideTheDisk) {
  const uint64_t end = kDiskSize / kSectorSize;
  EXPECT_EQ(Run({Header(RequestType::kIn, end)}, {512, 1}).back(), kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, end - 1)}, {1024, 1}).back(),
            kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, ~0ull)}, {512, 1}).back(), kIoError);
  EXPECT_EQ(
      Run({Header(RequestType::kOut, ~0ull / 512), std::string(512, 0)}, {1})
          .back(),
      kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, end - 1)}, {512, 1}).back(), kOk);
}

TEST_F(VirtioBlkTest, RefusesPartsOfSectors) {
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {100, 1}).back(), kIoError);
}

TEST_F(VirtioBlkTest, RequestWithoutRoomForItsPartsIsAnErrorNotACrash) {
  FakeRequest no_status({Header(RequestType::kFlush, 0)}, {});
  EXPECT_FALSE(context_.Run(*device_, no_status.request()).status.ok());
  FakeRequest half_header({"short"}, {1});
  EXPECT_THAT(context_.Run(*device_, half_header.request()).status,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("16 bytes of header")));
}

TEST_F(VirtioBlkTest, TellsItsSerial) {
  const std::string id = Run({Header(RequestType::kGetId, 0)}, {20, 1});
  EXPECT_EQ(std::string(id.c_str()), "holdfast");
  EXPECT_EQ(id.back(), kOk);
  // A driver with less room gets what fits.
  EXPECT_EQ(Run({Header(RequestType::kGetId, 0)}, {4, 1}),
            "hold" + std::string(1, kOk));
}

TEST_F(VirtioBlkTest, DiscardAndWriteZeroesLeaveZeroes) {
  const std::string data(8192, 'd');
  Run({Header(RequestType::kOut, 0), data}, {1});
  const auto zeroed = [&](RequestType type, uint64_t sector) {
    EXPECT_EQ(Run({Header(type, 0), Range(sector, 1, 0)}, {1}).back(), kOk);
    return Run({Header(RequestType::kIn, sector)}, {512, 1}).substr(0, 512);
  };
  EXPECT_EQ(zeroed(RequestType::kDiscard, 0), std::string(512, '\0'));
  EXPECT_EQ(zeroed(RequestType::kWriteZeroes, 3), std::string(512, '\0'));
  EXPECT_EQ(Run({Header(RequestType::kIn, 1)}, {512, 1})[0], 'd');
}

TEST_F(VirtioBlkTest, ChecksRangesBeforeItTouchesAnything) {
  const uint64_t end = kDiskSize / kSectorSize;
  const auto run = [&](const std::string& ranges) {
    return Run({Header(RequestType::kWriteZeroes, 0), ranges}, {1}).back();
  };
  EXPECT_EQ(run(Range(end, 1, 0)), kIoError);
  EXPECT_EQ(run(Range(0, ~0u, 0)), kIoError);
  EXPECT_EQ(run(Range(0, 1, 2)), kUnsupported);
  EXPECT_EQ(run(std::string(15, '\0')), kUnsupported);
  std::string many;
  for (int i = 0; i < 17; ++i) many += Range(0, 1, 0);
  EXPECT_EQ(run(many), kUnsupported);
}

TEST_F(VirtioBlkTest, UnknownRequestsAreUnsupported) {
  EXPECT_EQ(Run({Header(static_cast<RequestType>(99), 0)}, {1}).back(),
            kUnsupported);
}

TEST_F(VirtioBlkTest, APoisonedRequestIsAnIoError) {
  FakeRequest request({Header(RequestType::kIn, 0)}, {512, 1});
  context_.Run(*device_, request.request(), /*poisoned=*/true);
  EXPECT_EQ(request.written().back(), kIoError);
}

TEST_F(VirtioBlkTest, ConfigurationSpaceDescribesTheDisk) {
  const Config config = ReadConfig();
  EXPECT_EQ(config.capacity, kDiskSize / kSectorSize);
  EXPECT_EQ(config.num_queues, 1);
  EXPECT_EQ(config.seg_max, 254u);
}

TEST_F(VirtioBlkTest, TellsTheDriverOfAnotherSizeOnce) {
  ASSERT_EQ(ftruncate(image_.get(), 2 * kDiskSize), 0);
  device_->OnResourceChanged();
  device_->OnResourceChanged();
  EXPECT_EQ(context_.config_changes(), 1);
  EXPECT_EQ(ReadConfig().capacity, 2 * kDiskSize / kSectorSize);
}

TEST_F(VirtioBlkTest, AnImageThatWasCutGivesIoErrors) {
  ASSERT_EQ(ftruncate(image_.get(), 512), 0);
  EXPECT_EQ(Run({Header(RequestType::kIn, 100)}, {512, 1}).back(), kIoError);
}

TEST_F(ReadOnlyTest, RefusesWrites) {
  EXPECT_EQ(
      Run({Header(RequestType::kOut, 0), std::string(512, 'x')}, {1}).back(),
      kIoError);
  EXPECT_EQ(Run({Header(RequestType::kDiscard, 0), Range(0, 1, 0)}, {1}).back(),
            kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {512, 1}).back(), kOk);
}

// An engine that fails, and one that counts.
class OddEngine final : public BlockEngine {
 public:
  absl::StatusOr<uint64_t> Size() const override { return kDiskSize; }
  absl::Status Read(uint64_t, absl::Span<const Buffer>) override {
    return absl::ResourceExhaustedError("no");
  }
  absl::Status Write(uint64_t, absl::Span<const Buffer>) override {
    return absl::OkStatus();
  }
  absl::Status Flush() override {
    ++flushes;
    return absl::OkStatus();
  }
  absl::Status Discard(uint64_t, uint64_t) override {
    return absl::UnimplementedError("not here");
  }
  absl::Status WriteZeroes(uint64_t, uint64_t, bool) override {
    return absl::ResourceExhaustedError("disk full");
  }
  int flushes = 0;
};

TEST(VirtioBlkEngine, ErrorsReachTheGuestAsIoErrors) {
  FakeContext context(*VirtioBlk::Spec(DeviceOptions()));
  VirtioBlk device(context, std::make_unique<OddEngine>(), kDiskSize, false,
                   "s", 1, 256);
  const auto run = [&](RequestType type, std::string payload, size_t room) {
    FakeRequest request(
        {Header(type, 0), std::move(payload)},
        room > 0 ? std::vector<size_t>{room, 1} : std::vector<size_t>{1});
    context.Run(device, request.request());
    return request.written().back();
  };
  EXPECT_EQ(run(RequestType::kIn, "", 512), kIoError);
  EXPECT_EQ(run(RequestType::kWriteZeroes, Range(0, 1, 0), 0), kIoError);
  EXPECT_EQ(run(RequestType::kDiscard, Range(0, 1, 0), 0), kUnsupported);
}

// VIRTIO 1.2, 5.2.5.2: without FLUSH a completed write is durable.
TEST(VirtioBlkEngine, WritesThroughUntilTheDriverCanFlush) {
  FakeContext context(*VirtioBlk::Spec(DeviceOptions()));
  auto engine = std::make_unique<OddEngine>();
  OddEngine& counter = *engine;
  VirtioBlk device(context, std::move(engine), kDiskSize, false, "s", 1, 256);
  const auto write = [&] {
    FakeRequest request({Header(RequestType::kOut, 0), std::string(512, 'x')},
                        {1});
    context.Run(device, request.request());
  };
  device.OnFeatures(0);
  write();
  EXPECT_EQ(counter.flushes, 1);
  device.OnFeatures(kFeatureFlush);
  write();
  EXPECT_EQ(counter.flushes, 1);
}

TEST(VirtioBlkSpec, OptionsSayWhatIsWrong) {
  const auto spec = [](const char* name, const char* value) {
    return VirtioBlk::Spec(
               DeviceOptions(std::map<std::string, std::string>{{name, value}}))
        .status();
  };
  EXPECT_THAT(spec("num-queues", "99"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--num-queues=99: give a number from 1")));
  EXPECT_THAT(
      spec("queue-size", "100"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("power of 2")));
  EXPECT_THAT(
      spec("serial", "123456789012345678901"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("20 bytes")));
  EXPECT_OK(spec("num-queues", "4"));
}

}  // namespace
}  // namespace holdfast::virtio_blk
