#include "devices/vfio_user/codec.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// What a peer would be told about this message; 0: nothing is wrong with it.
uint32_t ErrorOf(const Bytes& message, size_t fds = 0) {
  return ErrorNumber(Parse(message, fds).malformed);
}

// ---- Message boundaries ----

TEST(MessageSize, IsThatOfTheHeader) {
  EXPECT_THAT(MessageSize(CommandMessage(Command::kDeviceReset)),
              IsOkAndHolds(16u));
  EXPECT_THAT(MessageSize(CommandMessage(Command::kDmaMap, Join(DmaMap{}))),
              IsOkAndHolds(48u));
}

TEST(MessageSize, NeedsAHeader) {
  Bytes message = CommandMessage(Command::kDeviceReset);
  message.pop_back();
  EXPECT_THAT(MessageSize(message),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_TRUE(Parse(message, 0).boundary_lost);
}

TEST(MessageSize, AnImpossibleSizeIsRefusedOnceAndLosesTheBoundary) {
  for (const uint32_t size :
       {0u, 1u, 15u, static_cast<uint32_t>(kMaxMessageSize) + 1, 0xffffffffu}) {
    const Bytes message = Join(MessageHeader{9, 9, size, 0, 0});
    EXPECT_THAT(MessageSize(message), IsOkAndHolds(16u));
    const Request request = Parse(message, 0);
    EXPECT_TRUE(request.boundary_lost) << size;
    EXPECT_EQ(request.id, 9);
    EXPECT_EQ(ErrorNumber(request.malformed), EINVAL) << size;
  }
}

TEST(MessageSize, TheLargestMessageIsAWriteOfTheLargestTransfer) {
  Bytes payload = Join(RegionAccess{0, 1, kMaxTransfer});
  payload.resize(payload.size() + kMaxTransfer);
  const Bytes message = CommandMessage(Command::kRegionWrite, payload);
  EXPECT_EQ(message.size(), kMaxMessageSize);
  EXPECT_THAT(MessageSize(message), IsOkAndHolds(kMaxMessageSize));
  EXPECT_EQ(Parse(message, 0).data.size(), kMaxTransfer);
}

// ---- Headers ----

TEST(Parse, ReadsTheHeader) {
  const Request request =
      Parse(CommandMessage(Command::kDeviceReset, {}, kFlagNoReply, 0xabcd), 0);
  EXPECT_OK(request.malformed);
  EXPECT_EQ(request.id, 0xabcd);
  EXPECT_EQ(request.command, Command::kDeviceReset);
  EXPECT_TRUE(request.no_reply);
  EXPECT_FALSE(request.is_reply);
}

TEST(Parse, UnknownCommandsAreNamedByNumber) {
  for (const uint16_t number : {0, 19, 99, 0xffff}) {
    const Request request = Parse(CommandMessage(Command{number}), 0);
    EXPECT_THAT(request.malformed,
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("command ", number, ": "))));
    EXPECT_FALSE(request.boundary_lost);
  }
}

TEST(Parse, CommandsOfAServerAreRefused) {
  EXPECT_EQ(ErrorOf(CommandMessage(Command::kDmaRead, Join(DmaAccess{}))),
            EINVAL);
  EXPECT_EQ(ErrorOf(CommandMessage(Command::kDmaWrite, Join(DmaAccess{}))),
            EINVAL);
}

TEST(Parse, UserDirtyPagesIsNotSupportedAnyMore) {
  EXPECT_EQ(ErrorOf(CommandMessage(Command::kUserDirtyPages, Bytes(8))),
            ENOTSUP);
}

TEST(Parse, ATypeThatIsNeitherCommandNorReplyIsRefused) {
  for (const uint32_t type : {2u, 3u, 15u}) {
    EXPECT_EQ(ErrorOf(CommandMessage(Command::kDeviceReset, {}, type)), EINVAL);
  }
}

// ---- Structures ----

// A message that is right, and how many descriptors it may bring.
struct Sample {
  Command command;
  Bytes payload;
  size_t max_fds;
  bool extensible;  // Trailing bytes are a later version's.
};

std::vector<Sample> Samples() {
  return {
      {Command::kVersion, Join(Version{0, 1}), 0, false},
      {Command::kDmaMap, Join(DmaMap{32, 3, 0, 0x1000, 0x1000}), 1, true},
      {Command::kDmaUnmap, Join(DmaUnmap{24, 0, 0x1000, 0x1000}), 0, true},
      {Command::kDeviceGetInfo, Join(DeviceInfo{16, 0, 0, 0}), 0, true},
      {Command::kDeviceGetRegionInfo, Join(RegionInfo{32, 0, 1, 0, 0, 0}), 0,
       true},
      {Command::kDeviceGetRegionIoFds, Join(RegionIoFds{16, 0, 0, 0}), 0, true},
      {Command::kDeviceGetIrqInfo, Join(IrqInfo{16, 0, 2, 0}), 0, true},
      {Command::kDeviceSetIrqs,
       Join(IrqSet{20, kIrqDataNone | kIrqActionTrigger, 0, 0, 0}), 16, true},
      {Command::kDeviceSetIrqs,
       Join(IrqSet{22, kIrqDataBool | kIrqActionTrigger, 0, 0, 2},
            uint16_t{0x0100}),
       16, false},
      {Command::kRegionRead, Join(RegionAccess{4, 0, 4}), 0, false},
      {Command::kRegionWrite, Join(RegionAccess{4, 0, 4}, uint32_t{1}), 0,
       false},
      {Command::kDeviceReset, {}, 0, false},
      {Command::kRegionWriteMulti,
       Join(uint64_t{1}, SmallWrite{8, 0, 4, {1, 2, 3, 4}}), 0, false},
      {Command::kDeviceFeature, Join(DeviceFeature{16, kFeatureGet | 1}), 0,
       true},
      {Command::kMigDataRead, Join(MigrationData{12, 4}), 0, false},
      {Command::kMigDataWrite, Join(MigrationData{12, 4}, uint32_t{5}), 0,
       false},
  };
}

TEST(Parse, TakesEveryCommandOfAClient) {
  for (const Sample& sample : Samples()) {
    const Bytes message = CommandMessage(sample.command, sample.payload);
    const Request request = Parse(message, 0);
    EXPECT_OK(request.malformed);
    EXPECT_EQ(request.command, sample.command);
  }
}

TEST(Parse, EveryTruncatedMessageIsRefused) {
  for (const Sample& sample : Samples()) {
    for (size_t size = 0; size < sample.payload.size(); ++size) {
      const Bytes cut(sample.payload.begin(), sample.payload.begin() + size);
      EXPECT_EQ(ErrorOf(CommandMessage(sample.command, cut)), EINVAL)
          << CommandName(sample.command) << " of " << size;
    }
  }
}

TEST(Parse, TrailingBytesBelongOnlyWhereAStructureMayGrow) {
  for (const Sample& sample : Samples()) {
    Bytes longer = sample.payload;
    longer.push_back(1);  // A NUL would end the data of VERSION.
    const uint32_t error = ErrorOf(CommandMessage(sample.command, longer));
    EXPECT_EQ(error, sample.extensible ? 0 : EINVAL)
        << CommandName(sample.command);
  }
}

TEST(Parse, DescriptorsAreRefusedWhereNoneBelong) {
  for (const Sample& sample : Samples()) {
    const Bytes message = CommandMessage(sample.command, sample.payload);
    EXPECT_EQ(ErrorOf(message, sample.max_fds), 0u)
        << CommandName(sample.command);
    EXPECT_EQ(ErrorOf(message, sample.max_fds + 1), EINVAL)
        << CommandName(sample.command);
    EXPECT_EQ(ErrorOf(message, 253), EINVAL) << CommandName(sample.command);
  }
}

TEST(Parse, AnArgszTooSmallForTheReplyIsRefused) {
  const std::vector<std::pair<Command, Bytes>> messages = {
      {Command::kDmaMap, Join(DmaMap{31, 3, 0, 0, 0x1000})},
      {Command::kDmaUnmap, Join(DmaUnmap{23, 0, 0, 0x1000})},
      {Command::kDeviceGetInfo, Join(DeviceInfo{15, 0, 0, 0})},
      {Command::kDeviceGetRegionInfo, Join(RegionInfo{31, 0, 0, 0, 0, 0})},
      {Command::kDeviceGetRegionIoFds, Join(RegionIoFds{15, 0, 0, 0})},
      {Command::kDeviceGetIrqInfo, Join(IrqInfo{15, 0, 0, 0})},
      {Command::kDeviceSetIrqs, Join(IrqSet{19, 0x21, 0, 0, 0})},
      {Command::kDeviceFeature, Join(DeviceFeature{7, kFeatureProbe | 1})},
      {Command::kMigDataRead, Join(MigrationData{11, 4})},
  };
  for (const auto& [command, payload] : messages) {
    const Bytes message = CommandMessage(command, payload);
    EXPECT_THAT(
        Parse(message, 0).malformed,
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("argsz")))
        << CommandName(command);
  }
}

TEST(Parse, ARefusedMessageHasNoContents) {
  const Bytes message = CommandMessage(Command::kRegionWrite,
                                       Join(RegionAccess{8, 3, 5}, uint32_t{}));
  const Request request = Parse(message, 0);
  EXPECT_FALSE(request.malformed.ok());
  EXPECT_EQ(request.region.count, 0u);
  EXPECT_TRUE(request.data.empty());
}

TEST(ParseVersion, DataIsOptionalAndEndsWithANul) {
  EXPECT_FALSE(Parse(CommandMessage(Command::kVersion, Join(Version{0, 0})), 0)
                   .has_json);
  const Bytes message = VersionMessage(0, 1, "{}");
  const Request request = Parse(message, 0);
  EXPECT_EQ(request.version.minor, 1);
  EXPECT_EQ(request.json, "{}");
  EXPECT_EQ(ErrorOf(CommandMessage(Command::kVersion,
                                   Join(Version{0, 1}, uint16_t{0x7d7b}))),
            EINVAL);
}

TEST(ParseDmaMap, ReadsEveryField) {
  const Bytes message = CommandMessage(
      Command::kDmaMap, Join(DmaMap{32, 2, 0x3000, 0x8000, 0x1000}));
  const Request request = Parse(message, 1);
  EXPECT_EQ(request.dma_map.flags, kDmaWriteable);
  EXPECT_EQ(request.dma_map.offset, 0x3000u);
  EXPECT_EQ(request.dma_map.address, 0x8000u);
  EXPECT_EQ(request.dma_map.size, 0x1000u);
  EXPECT_EQ(request.fd_count, 1u);
}

TEST(ParseIrqSet, BooleansAreAsManyAsTheCount) {
  const uint32_t flags = kIrqDataBool | kIrqActionTrigger;
  const Bytes right = CommandMessage(
      Command::kDeviceSetIrqs, Join(IrqSet{23, flags, 2, 0, 3}, SparseArea{}));
  Bytes cut(right.begin(), right.begin() + 16 + 20 + 3);
  const uint32_t size = static_cast<uint32_t>(cut.size());
  std::memcpy(cut.data() + 4, &size, sizeof(size));
  EXPECT_EQ(Parse(cut, 0).data.size(), 3u);
  EXPECT_EQ(ErrorOf(right), EINVAL);
  EXPECT_EQ(ErrorOf(CommandMessage(Command::kDeviceSetIrqs,
                                   Join(IrqSet{20, flags, 2, 0, 0xffffffff}))),
            EINVAL);
}

TEST(ParseRegionAccess, ACountBeyondTheTransferIsRefused) {
  EXPECT_EQ(ErrorOf(CommandMessage(Command::kRegionRead,
                                   Join(RegionAccess{0, 0, kMaxTransfer}))),
            0u);
  for (const uint32_t count : {kMaxTransfer + 1, 0xffffffffu}) {
    for (const Command command :
         {Command::kRegionRead, Command::kRegionWrite}) {
      EXPECT_EQ(
          ErrorOf(CommandMessage(command, Join(RegionAccess{0, 0, count}))),
          EINVAL);
    }
  }
}

TEST(ParseSmallWrites, AreReadOneByOne) {
  const Bytes message =
      CommandMessage(Command::kRegionWriteMulti,
                     Join(uint64_t{2}, SmallWrite{8, 0, 4, {1, 2, 3, 4}},
                          SmallWrite{16, 2, 8, {5}}));
  const Request request = Parse(message, 0);
  ASSERT_EQ(request.small_writes, 2u);
  EXPECT_EQ(SmallWriteAt(request, 0).data[3], 4);
  EXPECT_EQ(SmallWriteAt(request, 1).offset, 16u);
  EXPECT_EQ(SmallWriteAt(request, 1).region, 2u);
}

TEST(ParseSmallWrites, ALongWriteOrAWrongNumberIsRefused) {
  const SmallWrite nine{0, 0, 9, {}};
  EXPECT_EQ(ErrorOf(CommandMessage(Command::kRegionWriteMulti,
                                   Join(uint64_t{1}, nine))),
            EINVAL);
  for (const uint64_t count : {uint64_t{0}, uint64_t{2}, kMaxSmallWrites + 1,
                               uint64_t{1} << 61, ~uint64_t{0}}) {
    EXPECT_EQ(ErrorOf(CommandMessage(Command::kRegionWriteMulti,
                                     Join(count, SmallWrite{0, 0, 1, {}}))),
              EINVAL)
        << count;
  }
  Bytes many = Join(uint64_t{kMaxSmallWrites});
  many.resize(many.size() + kMaxSmallWrites * sizeof(SmallWrite));
  EXPECT_EQ(ErrorOf(CommandMessage(Command::kRegionWriteMulti, many)), 0u);
}

TEST(ParseMigration, DataIsAsLongAsItSays) {
  const Bytes message = CommandMessage(
      Command::kMigDataWrite, Join(MigrationData{16, 8}, uint64_t{77}));
  EXPECT_EQ(Parse(message, 0).data.size(), 8u);
  EXPECT_EQ(ErrorOf(CommandMessage(
                Command::kMigDataWrite,
                Join(MigrationData{16, 0xffffffff}, uint64_t{77}))),
            EINVAL);
  EXPECT_EQ(ErrorOf(CommandMessage(
                Command::kMigDataRead,
                Join(MigrationData{0xffffffff, kMaxTransfer + 1}))),
            EINVAL);
}

TEST(ParseFeature, KeepsItsDataForWhoKnowsTheFeature) {
  const Bytes message = CommandMessage(
      Command::kDeviceFeature,
      Join(DeviceFeature{16, kFeatureSet | 2}, MigrationStateData{3, 0}));
  const Request request = Parse(message, 0);
  EXPECT_EQ(request.feature.flags & kFeatureIndexMask, kFeatureMigrationState);
  EXPECT_EQ(request.data.size(), sizeof(MigrationStateData));
}

// ---- Replies of the client ----

TEST(ParseReply, OfADmaRead) {
  const Bytes message =
      ReplyMessage(Command::kDmaRead, Join(DmaAccess{0x1000, 4}, uint32_t{9}));
  const Request reply = Parse(message, 0);
  EXPECT_OK(reply.malformed);
  EXPECT_TRUE(reply.is_reply);
  EXPECT_EQ(reply.dma.address, 0x1000u);
  EXPECT_THAT(reply.data, ElementsAre(9, 0, 0, 0));
}

TEST(ParseReply, OfADmaReadInTheLayoutOfQemu10) {
  const Bytes message = ReplyMessage(
      Command::kDmaRead,
      Join(Join(uint64_t{0x1000}), Join(uint32_t{4}, uint32_t{9})));
  const Request reply = Parse(message, 0);
  EXPECT_OK(reply.malformed);
  EXPECT_EQ(reply.dma.count, 4u);
  EXPECT_THAT(reply.data, ElementsAre(9, 0, 0, 0));
}

TEST(ParseReply, OfADmaReadWithAnotherNumberOfBytesIsRefused) {
  for (const uint64_t count : {uint64_t{0}, uint64_t{3}, uint64_t{5},
                               uint64_t{1} << 32, ~uint64_t{0}}) {
    EXPECT_EQ(ErrorOf(ReplyMessage(Command::kDmaRead,
                                   Join(DmaAccess{0, count}, uint32_t{9}))),
              EINVAL)
        << count;
  }
}

TEST(ParseReply, OfADmaWriteHasOneOfThreeSizes) {
  for (const size_t size : {0u, 12u, 16u}) {
    EXPECT_EQ(ErrorOf(ReplyMessage(Command::kDmaWrite, Bytes(size))), 0u);
  }
  for (const size_t size : {1u, 8u, 11u, 13u, 15u, 17u, 24u}) {
    EXPECT_EQ(ErrorOf(ReplyMessage(Command::kDmaWrite, Bytes(size))), EINVAL)
        << size;
  }
  const Bytes message = ReplyMessage(
      Command::kDmaWrite, Join(Join(uint64_t{0x2000}), Join(uint32_t{8})));
  EXPECT_EQ(Parse(message, 0).dma.count, 8u);
}

TEST(ParseReply, ErrorsAreAHeader) {
  EXPECT_EQ(Parse(ErrorMessage(Command::kDmaRead, ENOENT), 0).error,
            static_cast<uint32_t>(ENOENT));
  EXPECT_EQ(Parse(ErrorMessage(Command::kDmaWrite, 0), 0).error,
            static_cast<uint32_t>(EIO));
}

TEST(ParseReply, BringsNoDescriptors) {
  for (const Bytes& message :
       {ReplyMessage(Command::kDmaWrite), ErrorMessage(Command::kDmaWrite, EIO),
        ErrorMessage(Command{161}, EIO)}) {
    EXPECT_EQ(ErrorOf(message, 0), 0u);
    EXPECT_EQ(ErrorOf(message, 1), EINVAL);
    EXPECT_EQ(ErrorOf(message, kMaxMessageFds + 1), EINVAL);
  }
}

TEST(ParseReply, OfWhatAServerNeverAsksIsRefused) {
  EXPECT_EQ(ErrorOf(ReplyMessage(Command::kRegionRead, Bytes(16))), EINVAL);
  EXPECT_EQ(ErrorOf(ReplyMessage(Command::kDmaWrite), 1), EINVAL);
}

// ---- Errors ----

TEST(ErrorNumber, OfEveryCodeThatIsUsed) {
  EXPECT_EQ(ErrorNumber(absl::OkStatus()), 0u);
  EXPECT_EQ(ErrorNumber(absl::InvalidArgumentError("")), EINVAL);
  EXPECT_EQ(ErrorNumber(absl::OutOfRangeError("")), EINVAL);
  EXPECT_EQ(ErrorNumber(absl::FailedPreconditionError("")), EINVAL);
  EXPECT_EQ(ErrorNumber(absl::AlreadyExistsError("")), EEXIST);
  EXPECT_EQ(ErrorNumber(absl::NotFoundError("")), ENOENT);
  EXPECT_EQ(ErrorNumber(absl::ResourceExhaustedError("")), ENOSPC);
  EXPECT_EQ(ErrorNumber(absl::UnimplementedError("")), ENOTSUP);
  EXPECT_EQ(ErrorNumber(absl::PermissionDeniedError("")), EACCES);
  EXPECT_EQ(ErrorNumber(absl::UnavailableError("")), EBUSY);
  EXPECT_EQ(ErrorNumber(absl::InternalError("")), EIO);
  EXPECT_EQ(ErrorNumber(absl::DataLossError("")), EIO);
}

// ---- Writing ----

Request ReadRequest() {
  return Parse(CommandMessage(Command::kRegionRead, Join(RegionAccess{4, 2, 2}),
                              0, 0x0102),
               0);
}

// Byte for byte, as a little-endian host writes them.
TEST(MessageWriter, WritesTheReplyToARead) {
  uint8_t out[64];
  MessageWriter writer(absl::MakeSpan(out));
  writer.Append(RegionAccess{4, 2, 2});
  const absl::Span<uint8_t> space = writer.AppendSpace(2);
  space[0] = 0xaa;
  space[1] = 0xbb;
  ASSERT_THAT(writer.FinishReply(ReadRequest()), IsOkAndHolds(34u));
  EXPECT_THAT(
      absl::MakeConstSpan(out, 34),
      ElementsAre(2, 1, 9, 0, 34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,  //
                  4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0xaa, 0xbb));
}

TEST(MessageWriter, WhatDoesNotFitIsAnErrorAndNotWritten) {
  uint8_t out[20] = {};
  MessageWriter writer(absl::MakeSpan(out));
  writer.Append(uint32_t{1});
  EXPECT_TRUE(writer.AppendSpace(1).empty());
  EXPECT_THAT(writer.FinishReply(ReadRequest()),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_EQ(out[0], 0);
  uint8_t tiny[15];
  EXPECT_THAT(EncodeError(ReadRequest(), EINVAL, absl::MakeSpan(tiny)),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
}

TEST(EncodeError, WritesAHeader) {
  uint8_t out[16];
  ASSERT_THAT(EncodeError(ReadRequest(), EEXIST, absl::MakeSpan(out)),
              IsOkAndHolds(16u));
  EXPECT_THAT(out,
              ElementsAre(2, 1, 9, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 17, 0, 0, 0));
  ASSERT_THAT(EncodeError(ReadRequest(), 0, absl::MakeSpan(out)),
              IsOkAndHolds(16u));
  EXPECT_EQ(out[8], 1);
}

TEST(EncodeDma, WritesRequestsOfTheServer) {
  uint8_t out[64];
  ASSERT_THAT(EncodeDmaRead(5, {0x1000, 16}, absl::MakeSpan(out)),
              IsOkAndHolds(32u));
  EXPECT_THAT(absl::MakeConstSpan(out, 32),
              ElementsAreArray(CommandMessage(
                  Command::kDmaRead, Join(DmaAccess{0x1000, 16}), 0, 5)));
  const uint8_t data[] = {1, 2, 3};
  ASSERT_THAT(EncodeDmaWrite(6, 0x2000, data, absl::MakeSpan(out)),
              IsOkAndHolds(35u));
  EXPECT_THAT(absl::MakeConstSpan(out, 35),
              ElementsAreArray(CommandMessage(
                  Command::kDmaWrite,
                  Join(Join(DmaAccess{0x2000, 3}), Bytes{1, 2, 3}), 0, 6)));
}

TEST(CommandName, OfEveryCommand) {
  EXPECT_EQ(CommandName(Command::kVersion), "VERSION");
  EXPECT_EQ(CommandName(Command::kMigDataWrite), "MIG_DATA_WRITE");
  EXPECT_EQ(CommandName(Command{19}), "command 19");
}

}  // namespace
}  // namespace holdfast::vfio_user
