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
#include "devices/virtio_blk/testing/engine_fixture.h"
#include "gtest/gtest.h"

namespace holdfast::virtio_blk {
namespace {

using ::holdfast::testing::FakeContext;
using ::holdfast::testing::FakeRequest;
using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

// ---- What the engine says, to the guest ----

TEST_F(EngineTest, EveryFailureIsAnIoErrorAndTheStatusAloneIsWritten) {
  for (const absl::Status& failure :
       {absl::ResourceExhaustedError("disk full"), absl::UnknownError("EIO"),
        absl::OutOfRangeError("cut"), absl::PermissionDeniedError("no")}) {
    engine_->result = engine_->flush_result = failure;
    EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {512, 1}), kIoError);
    EXPECT_EQ(written_, 1u) << "half a read is no read";
    EXPECT_EQ(Run({Header(RequestType::kOut, 0), std::string(512, 'x')}, {1}),
              kIoError);
    EXPECT_EQ(Run({Header(RequestType::kFlush, 0)}, {1}), kIoError);
    EXPECT_EQ(Ranges(RequestType::kDiscard, Range(0, 1, 0)), kIoError);
    EXPECT_EQ(Ranges(RequestType::kWriteZeroes, Range(0, 1, 0)), kIoError);
  }
}

TEST_F(EngineTest, OnlyADiscardMayBeUnsupported) {
  engine_->result = engine_->flush_result = absl::UnimplementedError("not so");
  EXPECT_EQ(Ranges(RequestType::kDiscard, Range(0, 1, 0)), kUnsupported);
  EXPECT_EQ(Ranges(RequestType::kWriteZeroes, Range(0, 1, 0)), kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {512, 1}), kIoError);
  EXPECT_EQ(Run({Header(RequestType::kFlush, 0)}, {1}), kIoError);
}

TEST_F(EngineTest, ServesOnAfterAnyNumberOfErrors) {
  engine_->result = absl::UnknownError("EIO");
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {512, 1}), kIoError);
  }
  engine_->result = absl::OkStatus();
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {512, 1}), kOk);
  EXPECT_EQ(written_, 513u);
}

// VIRTIO 1.2, 5.2.5.2: without FLUSH a completed write is durable.
TEST_F(EngineTest, WritesThroughUntilTheDriverCanFlush) {
  const auto write = [&] {
    return Run({Header(RequestType::kOut, 0), std::string(512, 'x')}, {1});
  };
  device_->OnFeatures(0);
  EXPECT_EQ(write(), kOk);
  EXPECT_THAT(engine_->calls, ElementsAre("write 0+512", "flush"));
  engine_->flush_result = absl::UnknownError("EIO");
  EXPECT_EQ(write(), kIoError);
  engine_->calls.clear();
  device_->OnFeatures(kFeatureFlush);
  EXPECT_EQ(write(), kOk);
  EXPECT_THAT(engine_->calls, ElementsAre("write 0+512"));
}

TEST_F(EngineTest, AWriteThatFailedIsNotFlushed) {
  device_->OnFeatures(0);
  engine_->result = absl::ResourceExhaustedError("disk full");
  EXPECT_EQ(Run({Header(RequestType::kOut, 0), std::string(512, 'x')}, {1}),
            kIoError);
  EXPECT_THAT(engine_->calls, ElementsAre("write 0+512"));
}

// ---- What never reaches the engine ----

TEST_F(EngineTest, MalformedRequestsTouchNothing) {
  const uint64_t end = kDiskSize / kSectorSize;
  for (const size_t size : std::vector<size_t>{1, 511, 513}) {
    EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {size, 1}), kIoError);
    EXPECT_EQ(Run({Header(RequestType::kOut, 0), std::string(size, 'x')}, {1}),
              kIoError);
  }
  for (const uint64_t sector :
       std::vector<uint64_t>{end, end + 1, ~0ull / 512, ~0ull}) {
    EXPECT_EQ(Run({Header(RequestType::kIn, sector)}, {512, 1}), kIoError);
    EXPECT_EQ(
        Run({Header(RequestType::kOut, sector), std::string(512, 'x')}, {1}),
        kIoError);
    EXPECT_EQ(Ranges(RequestType::kDiscard, Range(sector, 1, 0)), kIoError);
    EXPECT_EQ(Ranges(RequestType::kWriteZeroes, Range(sector, 1, 0)), kIoError);
  }
  for (const uint32_t type : {2u, 3u, 5u, 9u, 10u, 12u, 14u, ~0u}) {
    EXPECT_EQ(Run({Header(static_cast<RequestType>(type), 0)}, {512, 1}),
              kUnsupported);
    EXPECT_EQ(written_, 1u);
  }
  EXPECT_THAT(engine_->calls, IsEmpty());
}

TEST_F(EngineTest, RequestsThatHaveNoPlaceForAStatusAreRefused) {
  const std::string header = Header(RequestType::kIn, 0);
  const std::vector<std::pair<std::vector<std::string>, std::vector<size_t>>>
      broken = {{{}, {}},       {{}, {513}},
                {{""}, {1}},    {{header.substr(1)}, {513}},
                {{header}, {}}, {{header, std::string(512, 'x')}, {0}}};
  for (const auto& [readable, writable] : broken) {
    FakeRequest request(readable, writable);
    const auto result = context_.Run(*device_, request.request());
    EXPECT_TRUE(absl::IsInvalidArgument(result.status)) << result.status;
    EXPECT_EQ(result.written, 0u);
  }
  EXPECT_THAT(engine_->calls, IsEmpty());
}

TEST_F(EngineTest, AReadOnlyDiskIsReadAndFlushedOnly) {
  Make(kDiskSize, /*read_only=*/true);
  EXPECT_EQ(Run({Header(RequestType::kOut, 0), std::string(512, 'x')}, {1}),
            kIoError);
  EXPECT_EQ(Ranges(RequestType::kDiscard, Range(0, 1, 0)), kIoError);
  EXPECT_EQ(Ranges(RequestType::kWriteZeroes, Range(0, 1, 0)), kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {512, 1}), kOk);
  EXPECT_EQ(Run({Header(RequestType::kFlush, 0)}, {1}), kOk);
  EXPECT_THAT(engine_->calls, ElementsAre("read 0+512", "flush"));
}

// ---- Limits ----

TEST_F(EngineTest, TheLastSectorIsPartOfTheDisk) {
  const uint64_t last = kDiskSize / kSectorSize - 1;
  EXPECT_EQ(Run({Header(RequestType::kIn, last)}, {512, 1}), kOk);
  EXPECT_EQ(Run({Header(RequestType::kIn, last)}, {1024, 1}), kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {kDiskSize, 1}), kOk);
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {kDiskSize + 512, 1}), kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, last + 1)}, {1}), kOk)
      << "nothing, at the end";
}

TEST_F(EngineTest, RangesAreLimitedInLengthAndNumber) {
  constexpr uint32_t kMost = 1u << 21;
  Make(/*capacity=*/uint64_t{8} << 30);
  EXPECT_EQ(Ranges(RequestType::kDiscard, Range(0, kMost, 0)), kOk);
  EXPECT_EQ(Ranges(RequestType::kDiscard, Range(0, kMost + 1, 0)), kIoError);
  EXPECT_EQ(Ranges(RequestType::kWriteZeroes, Range(0, ~0u, 0)), kIoError);
  EXPECT_THAT(engine_->calls, ElementsAre("discard 0+1073741824"));
  engine_->calls.clear();
  std::string ranges;
  for (int i = 0; i < 16; ++i) ranges += Range(i * 8, 1, 0);
  EXPECT_EQ(Ranges(RequestType::kDiscard, ranges), kOk);
  EXPECT_EQ(engine_->calls.size(), 16u);
  EXPECT_EQ(engine_->calls.back(), "discard 61440+512");
  EXPECT_EQ(Ranges(RequestType::kDiscard, ranges + Range(0, 1, 0)),
            kUnsupported);
  EXPECT_EQ(Ranges(RequestType::kDiscard, ""), kUnsupported);
  EXPECT_EQ(Ranges(RequestType::kDiscard, ranges.substr(1)), kUnsupported);
  EXPECT_EQ(engine_->calls.size(), 16u);
}

TEST_F(EngineTest, TheFirstRangeThatFailsEndsTheRequest) {
  EXPECT_EQ(Ranges(RequestType::kWriteZeroes,
                   Range(0, 1, 0) + Range(8, 1, 4) + Range(16, 1, 0)),
            kUnsupported);
  EXPECT_THAT(engine_->calls, ElementsAre("zeroes 0+512"));
}

// VIRTIO 1.2, 5.2.6.2.
TEST_F(EngineTest, FlagsOfRangesMeanWhatTheySay) {
  EXPECT_EQ(Ranges(RequestType::kWriteZeroes, Range(0, 8, kRangeFlagUnmap)),
            kOk);
  EXPECT_EQ(Ranges(RequestType::kWriteZeroes, Range(0, 8, 0)), kOk);
  EXPECT_EQ(Ranges(RequestType::kDiscard, Range(0, 8, kRangeFlagUnmap)),
            kUnsupported);
  EXPECT_EQ(Ranges(RequestType::kWriteZeroes, Range(0, 8, 1u << 31)),
            kUnsupported);
  EXPECT_EQ(Ranges(RequestType::kDiscard, Range(0, 0, 0)), kOk);
  EXPECT_THAT(engine_->calls, ElementsAre("unmap 0+4096", "zeroes 0+4096"));
}

TEST_F(EngineTest, SerialsAreTwentyBytesAtMost) {
  Make(kDiskSize, false, "12345678901234567890");
  EXPECT_EQ(Run({Header(RequestType::kGetId, 0)}, {20, 1}), kOk);
  EXPECT_EQ(data_.substr(0, 20), "12345678901234567890");
  EXPECT_EQ(written_, 21u);
  EXPECT_EQ(Run({Header(RequestType::kGetId, 0)}, {1}), kOk);
  EXPECT_EQ(written_, 1u);
  EXPECT_EQ(Run({Header(RequestType::kGetId, 0)}, {64, 1}), kOk);
  EXPECT_EQ(written_, 21u) << "no more than there is";
}

TEST_F(EngineTest, AStatusIsTheLastByteWhereverThatIs) {
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {500, 0, 13}), kOk);
  EXPECT_EQ(data_, std::string(500, 'r') + std::string(13, '\0'));
  engine_->result = absl::UnknownError("EIO");
  EXPECT_EQ(Run({Header(RequestType::kOut, 0), std::string(512, 'x')}, {5}),
            kIoError);
  EXPECT_EQ(data_.substr(0, 4), std::string(4, '\0'));
}

TEST_F(EngineTest, APoisonedRequestIsAnsweredAsFarAsItCanBe) {
  FakeRequest none({Header(RequestType::kIn, 0)}, {});
  EXPECT_EQ(context_.Run(*device_, none.request(), /*poisoned=*/true).written,
            0u);
  FakeRequest some({Header(RequestType::kIn, 0)}, {512, 1});
  EXPECT_EQ(context_.Run(*device_, some.request(), /*poisoned=*/true).written,
            1u);
  EXPECT_THAT(engine_->calls, IsEmpty());
}

}  // namespace
}  // namespace holdfast::virtio_blk
