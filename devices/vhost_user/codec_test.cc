#include "devices/vhost_user/codec.h"

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Eq;
using ::testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr size_t kHeader = sizeof(MessageHeader);

// Every request that is served, with the only payload size it may have.
struct FixedSize {
  RequestType type;
  const char* name;
  size_t payload;
};
constexpr FixedSize kFixedSizes[] = {
    {RequestType::kGetFeatures, "GET_FEATURES", 0},
    {RequestType::kSetFeatures, "SET_FEATURES", 8},
    {RequestType::kSetOwner, "SET_OWNER", 0},
    {RequestType::kResetOwner, "RESET_OWNER", 0},
    {RequestType::kSetLogBase, "SET_LOG_BASE", 16},
    {RequestType::kSetLogFd, "SET_LOG_FD", 0},
    {RequestType::kSetVringNum, "SET_VRING_NUM", 8},
    {RequestType::kSetVringAddr, "SET_VRING_ADDR", 40},
    {RequestType::kSetVringBase, "SET_VRING_BASE", 8},
    {RequestType::kGetVringBase, "GET_VRING_BASE", 8},
    {RequestType::kSetVringKick, "SET_VRING_KICK", 8},
    {RequestType::kSetVringCall, "SET_VRING_CALL", 8},
    {RequestType::kSetVringErr, "SET_VRING_ERR", 8},
    {RequestType::kGetProtocolFeatures, "GET_PROTOCOL_FEATURES", 0},
    {RequestType::kSetProtocolFeatures, "SET_PROTOCOL_FEATURES", 8},
    {RequestType::kGetQueueNum, "GET_QUEUE_NUM", 0},
    {RequestType::kSetVringEnable, "SET_VRING_ENABLE", 8},
    {RequestType::kSetBackendReqFd, "SET_BACKEND_REQ_FD", 0},
    {RequestType::kSetVringEndian, "SET_VRING_ENDIAN", 8},
    {RequestType::kGetInflightFd, "GET_INFLIGHT_FD", 24},
    {RequestType::kSetInflightFd, "SET_INFLIGHT_FD", 24},
    {RequestType::kResetDevice, "RESET_DEVICE", 0},
    {RequestType::kGetMaxMemSlots, "GET_MAX_MEM_SLOTS", 0},
    {RequestType::kAddMemReg, "ADD_MEM_REG", 40},
    {RequestType::kRemMemReg, "REM_MEM_REG", 40},
    {RequestType::kSetStatus, "SET_STATUS", 8},
    {RequestType::kGetStatus, "GET_STATUS", 0},
};

TEST(Codec, FixedSizesAreAcceptedAndCarryTheirName) {
  for (const FixedSize& row : kFixedSizes) {
    const auto request =
        Parse(Message(row.type, std::vector<uint8_t>(row.payload, 0)));
    ASSERT_OK(request) << row.name;
    EXPECT_EQ(request->type, row.type);
    EXPECT_TRUE(request->supported) << row.name;
    EXPECT_FALSE(request->need_reply);
    EXPECT_EQ(RequestName(row.type), row.name);
  }
}

TEST(Codec, EveryOtherSizeIsRefusedWithTheMessageNamed) {
  for (const FixedSize& row : kFixedSizes) {
    for (size_t size = 0; size <= 300; ++size) {
      if (size == row.payload) continue;
      EXPECT_THAT(Parse(Message(row.type, std::vector<uint8_t>(size, 0))),
                  StatusIs(kInvalid,
                           AllOf(HasSubstr(row.name),
                                 HasSubstr(absl::StrCat(size, " bytes")),
                                 HasSubstr(absl::StrCat("not ", row.payload)))))
          << row.name << " " << size;
    }
  }
}

TEST(Codec, MessageSizeCountsTheHeader) {
  EXPECT_THAT(MessageSize(Message(RequestType::kGetFeatures)),
              IsOkAndHolds(Eq(kHeader)));
  EXPECT_THAT(MessageSize(Message(RequestType::kSetFeatures, BytesOf(1ull))),
              IsOkAndHolds(Eq(kHeader + 8)));
  EXPECT_THAT(MessageSize(RawMessage(3, kVersion, kMaxPayloadSize, {})),
              IsOkAndHolds(Eq(kMaxMessageSize)));
}

TEST(Codec, HeaderThatLostTheBoundaryIsRefused) {
  EXPECT_THAT(MessageSize(std::vector<uint8_t>(kHeader - 1)),
              StatusIs(kInvalid, HasSubstr("12 bytes, not 11")));
  for (const uint32_t version : {0u, 2u, 3u}) {
    EXPECT_THAT(MessageSize(RawMessage(1, version, 0, {})),
                StatusIs(kInvalid, AllOf(HasSubstr("GET_FEATURES"),
                                         HasSubstr("version"))));
  }
  EXPECT_THAT(MessageSize(RawMessage(1, kVersion | kFlagReply, 0, {})),
              StatusIs(kInvalid, HasSubstr("flag of a reply")));
  EXPECT_THAT(MessageSize(RawMessage(5, kVersion, kMaxPayloadSize + 1, {})),
              StatusIs(kInvalid, AllOf(HasSubstr("SET_MEM_TABLE"),
                                       HasSubstr("4097 bytes"))));
  EXPECT_THAT(MessageSize(RawMessage(5, kVersion, 0xffffffff, {})),
              StatusIs(kInvalid, HasSubstr("4294967295 bytes")));
}

TEST(Codec, ReservedFlagsAreIgnored) {
  const auto request = Parse(RawMessage(1, kVersion | 0xfffffff0u, 0, {}));
  ASSERT_OK(request);
  EXPECT_FALSE(request->need_reply);
}

TEST(Codec, NeedReplyIsSeen) {
  const auto request = Parse(Message(RequestType::kSetOwner, {}, true));
  ASSERT_OK(request);
  EXPECT_TRUE(request->need_reply);
}

TEST(Codec, PartOfAMessageIsRefused) {
  std::vector<uint8_t> bytes =
      Message(RequestType::kSetFeatures, BytesOf(uint64_t{7}));
  bytes.pop_back();
  EXPECT_THAT(Parse(bytes),
              StatusIs(kInvalid, HasSubstr("SET_FEATURES: 19 bytes of a "
                                           "message of 20")));
  bytes.resize(bytes.size() + 2);
  EXPECT_THAT(Parse(bytes), StatusIs(kInvalid, HasSubstr("21 bytes")));
}

TEST(Codec, RequestsThatAreNotServedAreReadWhateverTheyCarry) {
  for (const uint32_t number : {0u, 19u, 20u, 22u, 26u, 28u, 33u, 35u, 41u, 42u,
                                43u, 44u, 45u, 1000u, 0xffffffffu}) {
    const std::vector<uint8_t> payload(number % 64, 0xab);
    const auto request = Parse(RawMessage(
        number, kVersion, static_cast<uint32_t>(payload.size()), payload));
    ASSERT_OK(request) << number;
    EXPECT_FALSE(request->supported) << number;
  }
  EXPECT_EQ(RequestName(RequestType{99}), "request 99");
  EXPECT_EQ(RequestName(RequestType::kIotlbMsg), "IOTLB_MSG");
}

TEST(Codec, VringPayloadsAreRead) {
  const auto state =
      Parse(Message(RequestType::kSetVringNum, BytesOf(VringState{3, 128})));
  ASSERT_OK(state);
  EXPECT_EQ(state->vring.index, 3u);
  EXPECT_EQ(state->vring.num, 128u);

  const auto address = Parse(Message(
      RequestType::kSetVringAddr,
      BytesOf(VringAddress{2, kVringFlagLog, 0x1000, 0x2000, 0x3000, 0x4000})));
  ASSERT_OK(address);
  EXPECT_EQ(address->address.index, 2u);
  EXPECT_EQ(address->address.flags, kVringFlagLog);
  EXPECT_EQ(address->address.descriptor, 0x1000u);
  EXPECT_EQ(address->address.used, 0x2000u);
  EXPECT_EQ(address->address.available, 0x3000u);
  EXPECT_EQ(address->address.log, 0x4000u);

  const auto kick =
      Parse(Message(RequestType::kSetVringKick, BytesOf(uint64_t{5})));
  ASSERT_OK(kick);
  EXPECT_EQ(kick->vring_index(), 5);
  EXPECT_TRUE(kick->vring_has_fd());

  const auto polled =
      Parse(Message(RequestType::kSetVringCall, BytesOf(uint64_t{0x1ff})));
  ASSERT_OK(polled);
  EXPECT_EQ(polled->vring_index(), 255);
  EXPECT_FALSE(polled->vring_has_fd());
}

TEST(Codec, MemoryTableIsReadWithZeroToEightRegions) {
  for (uint64_t count = 0; count <= kMaxTableRegions; ++count) {
    std::vector<MemoryRegion> regions;
    for (uint64_t i = 0; i < count; ++i) {
      regions.push_back({i, i + 100, i + 200, i + 300});
    }
    const auto request =
        Parse(Message(RequestType::kSetMemTable, MemoryTablePayload(regions)));
    ASSERT_OK(request);
    ASSERT_EQ(request->region_count, count);
    for (uint64_t i = 0; i < count; ++i) {
      EXPECT_EQ(request->regions[i].guest_address, i);
      EXPECT_EQ(request->regions[i].size, i + 100);
      EXPECT_EQ(request->regions[i].user_address, i + 200);
      EXPECT_EQ(request->regions[i].mmap_offset, i + 300);
    }
  }
}

TEST(Codec, MemoryTableWithAWrongCountIsRefused) {
  const std::vector<MemoryRegion> nine(9, MemoryRegion{0, 1, 2, 3});
  EXPECT_THAT(
      Parse(Message(RequestType::kSetMemTable, MemoryTablePayload(nine))),
      StatusIs(kInvalid, HasSubstr("SET_MEM_TABLE: 9 regions, at most 8")));

  // The count and the size disagree, either way; a count that would overflow.
  for (const uint32_t count : {0u, 1u, 3u, 8u, 0x08000000u, 0xffffffffu}) {
    std::vector<uint8_t> payload = MemoryTablePayload({{}, {}});
    std::memcpy(payload.data(), &count, sizeof(count));
    EXPECT_THAT(Parse(Message(RequestType::kSetMemTable, payload)),
                StatusIs(kInvalid, HasSubstr("SET_MEM_TABLE")))
        << count;
  }
  for (size_t size = 0; size < sizeof(MemoryTableHeader); ++size) {
    EXPECT_THAT(Parse(Message(RequestType::kSetMemTable,
                              std::vector<uint8_t>(size, 0))),
                StatusIs(kInvalid, HasSubstr("SET_MEM_TABLE")));
  }
}

TEST(Codec, SingleRegionsAreRead) {
  for (const RequestType type :
       {RequestType::kAddMemReg, RequestType::kRemMemReg}) {
    const auto request =
        Parse(Message(type, BytesOf(SingleMemoryRegion{~0ull, {1, 2, 3, 4}})));
    ASSERT_OK(request);
    ASSERT_EQ(request->region_count, 1u);
    EXPECT_EQ(request->regions[0].guest_address, 1u);
    EXPECT_EQ(request->regions[0].size, 2u);
    EXPECT_EQ(request->regions[0].user_address, 3u);
    EXPECT_EQ(request->regions[0].mmap_offset, 4u);
  }
}

TEST(Codec, ConfigIsReadUpToTheLargestAccess) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{60}, size_t{256}}) {
    const auto request =
        Parse(Message(RequestType::kSetConfig,
                      ConfigPayload(32, 1, std::vector<uint8_t>(size, 0x5a))));
    ASSERT_OK(request);
    EXPECT_EQ(request->config.offset, 32u);
    EXPECT_EQ(request->config.size, size);
    EXPECT_EQ(request->config.flags, 1u);
    for (size_t i = 0; i < size; ++i) {
      EXPECT_EQ(request->config_bytes[i], 0x5a);
    }
  }
}

TEST(Codec, ConfigWhoseSizeLiesIsRefused) {
  EXPECT_THAT(Parse(Message(RequestType::kGetConfig,
                            ConfigPayload(0, 0, std::vector<uint8_t>(257)))),
              StatusIs(kInvalid, HasSubstr("GET_CONFIG: an access of 257")));
  for (const uint32_t claimed : {0u, 7u, 9u, 256u, 0xfffffff4u, 0xffffffffu}) {
    std::vector<uint8_t> payload = ConfigPayload(0, 0, std::vector<uint8_t>(8));
    std::memcpy(payload.data() + offsetof(ConfigHeader, size), &claimed, 4);
    EXPECT_THAT(Parse(Message(RequestType::kGetConfig, payload)),
                StatusIs(kInvalid, HasSubstr("GET_CONFIG")))
        << claimed;
  }
  EXPECT_THAT(Parse(Message(RequestType::kSetConfig,
                            std::vector<uint8_t>(sizeof(ConfigHeader) - 1))),
              StatusIs(kInvalid, HasSubstr("SET_CONFIG")));
}

TEST(Codec, RepliesCarryVersionAndReplyFlagOnly) {
  uint8_t out[kMaxReplySize];
  const auto size =
      EncodeReply(RequestType::kGetFeatures, uint64_t{0x1122}, out);
  ASSERT_THAT(size, IsOkAndHolds(Eq(kHeader + 8)));
  MessageHeader header;
  std::memcpy(&header, out, sizeof(header));
  EXPECT_EQ(header.request, 1u);
  EXPECT_EQ(header.flags, 5u);  // What QEMU compares with.
  EXPECT_EQ(header.size, 8u);
  uint64_t value;
  std::memcpy(&value, out + kHeader, sizeof(value));
  EXPECT_EQ(value, 0x1122u);
}

TEST(Codec, RepliesOfEveryKindHaveTheirWireSize) {
  uint8_t out[kMaxReplySize];
  EXPECT_THAT(EncodeReply(RequestType::kGetVringBase, VringState{1, 2}, out),
              IsOkAndHolds(Eq(kHeader + 8)));
  EXPECT_THAT(
      EncodeReply(RequestType::kGetInflightFd, InflightDescription{}, out),
      IsOkAndHolds(Eq(kHeader + 24)));
  EXPECT_THAT(
      EncodeReply(RequestType::kGetConfig, absl::Span<const uint8_t>(), out),
      IsOkAndHolds(Eq(kHeader)));
}

TEST(Codec, ReplyThatDoesNotFitIsRefusedAndNothingIsWritten) {
  uint8_t out[kHeader + 7];
  std::memset(out, 0xcc, sizeof(out));
  EXPECT_THAT(EncodeReply(RequestType::kGetFeatures, uint64_t{1}, out),
              StatusIs(kInvalid, HasSubstr("does not fit")));
  for (const uint8_t byte : out) EXPECT_EQ(byte, 0xcc);
}

TEST(Codec, BackendRequestsAreEncoded) {
  uint8_t out[kHeader];
  ASSERT_THAT(
      EncodeBackendRequest(BackendRequestType::kConfigChange, false, out),
      IsOkAndHolds(Eq(kHeader)));
  EXPECT_EQ(std::vector<uint8_t>(out, out + kHeader),
            RawMessage(2, kVersion, 0, {}));
  ASSERT_OK(EncodeBackendRequest(BackendRequestType::kConfigChange, true, out));
  EXPECT_EQ(std::vector<uint8_t>(out, out + kHeader),
            RawMessage(2, kVersion | kFlagNeedReply, 0, {}));
}

}  // namespace
}  // namespace holdfast::vhost_user
