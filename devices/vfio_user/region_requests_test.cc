// Regions: what they are, reads, writes, and what becomes of bad ones.

#include <cerrno>
#include <limits>

#include "base/testing/matchers.h"
#include "devices/vfio_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::Each;
using ::testing::ElementsAre;

class RegionRequests : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(session_.Negotiate()); }

  Outcome Info(uint32_t index, uint32_t argsz = 32) {
    return *session_.Send(Command::kDeviceGetRegionInfo,
                          Join(RegionInfo{argsz, 0, index, 0, 0, 0}));
  }
  // The data of a read; empty: refused.
  Bytes Read(uint32_t region, uint64_t offset, uint32_t count) {
    const auto outcome = session_.Send(
        Command::kRegionRead, Join(RegionAccess{offset, region, count}));
    Bytes payload = outcome->payload();
    if (payload.size() < sizeof(RegionAccess)) return {};
    return Bytes(payload.begin() + sizeof(RegionAccess), payload.end());
  }
  uint32_t Write(uint32_t region, uint64_t offset, const Bytes& data) {
    return session_.ErrorOf(
        Command::kRegionWrite,
        Join(Join(RegionAccess{offset, region,
                               static_cast<uint32_t>(data.size())}),
             data));
  }

  TestSession session_{BorrowedFd(0)};  // Anything that is open.
};

TEST_F(RegionRequests, InfoOfAPlainRegion) {
  EXPECT_EQ(
      Info(0).payload(),
      Join(RegionInfo{32, kRegionReadable | kRegionWriteable, 0, 0, 4096, 0}));
  EXPECT_EQ(Info(6).As<RegionInfo>().flags, kRegionReadable);
  EXPECT_EQ(Info(1).As<RegionInfo>().size, 0u);
}

TEST_F(RegionRequests, InfoOfARegionWithWindowsHasThemAndADescriptor) {
  const Outcome outcome = Info(2, 1000);
  const auto info = outcome.As<RegionInfo>();
  EXPECT_EQ(info.argsz, 80u);
  EXPECT_EQ(info.flags, 15u);
  EXPECT_EQ(info.cap_offset, 32u);
  EXPECT_EQ(
      outcome.payload(),
      Join(Join(info), Join(SparseMmap{{1, 1, 0}, 2, 0}, SparseArea{0, 4096},
                            SparseArea{4096, 4096})));
  EXPECT_EQ(session_.state.reply_region, 3);
  Info(0);
  EXPECT_EQ(session_.state.reply_region, 0);
}

// With the flag of capabilities that are not there QEMU gives the device up.
TEST_F(RegionRequests, InfoThatDoesNotFitHasNeitherCapabilitiesNorDescriptor) {
  for (const uint32_t argsz : {32u, 79u}) {
    const Outcome outcome = Info(2, argsz);
    const auto info = outcome.As<RegionInfo>();
    EXPECT_EQ(info.argsz, 80u);
    EXPECT_EQ(info.flags & (kRegionMappable | kRegionHasCaps), kRegionMappable);
    EXPECT_EQ(outcome.payload().size(), sizeof(RegionInfo));
    EXPECT_EQ(session_.state.reply_region, 0);
  }
}

TEST_F(RegionRequests, AClientThatTakesNoDescriptorsMapsNothing) {
  TestSession session{BorrowedFd(0)};
  ASSERT_OK(session.Deliver(
      VersionMessage(0, 1, "{\"capabilities\":{\"max_msg_fds\":0}}")));
  const auto outcome = session.Send(Command::kDeviceGetRegionInfo,
                                    Join(RegionInfo{1000, 0, 2, 0, 0, 0}));
  EXPECT_EQ(outcome->As<RegionInfo>().flags, 3u);
  EXPECT_EQ(outcome->payload().size(), sizeof(RegionInfo));
}

TEST_F(RegionRequests, InfoWithoutReplyBringsNoDescriptor) {
  ASSERT_OK(session_.Send(Command::kDeviceGetRegionInfo,
                          Join(RegionInfo{1000, 0, 2, 0, 0, 0}), 0,
                          kFlagNoReply));
  EXPECT_EQ(session_.state.reply_region, 0);
}

TEST_F(RegionRequests, InfoOfNoRegionIsRefused) {
  EXPECT_EQ(Info(9).error(), EINVAL);
  EXPECT_EQ(Info(0xffffffff).error(), EINVAL);
}

TEST_F(RegionRequests, ThereAreNoIoDescriptors) {
  const auto outcome = session_.Send(Command::kDeviceGetRegionIoFds,
                                     Join(RegionIoFds{16, 0, 0, 0}));
  EXPECT_EQ(outcome->payload(), Join(RegionIoFds{16, 0, 0, 0}));
  for (const RegionIoFds& bad :
       {RegionIoFds{16, 1, 0, 0}, RegionIoFds{16, 0, 9, 0},
        RegionIoFds{16, 0, 0, 1}}) {
    EXPECT_EQ(session_.ErrorOf(Command::kDeviceGetRegionIoFds, Join(bad)),
              EINVAL);
  }
}

TEST_F(RegionRequests, AReadReturnsWhatTheDeviceSays) {
  EXPECT_THAT(Read(7, 16, 4), ElementsAre(16, 17, 18, 19));
  const auto outcome =
      session_.Send(Command::kRegionRead, Join(RegionAccess{16, 7, 4}));
  EXPECT_EQ(outcome->As<RegionAccess>().offset, 16u);
  EXPECT_EQ(outcome->As<RegionAccess>().region, 7u);
  EXPECT_EQ(outcome->As<RegionAccess>().count, 4u);
}

// Every message is decided twice, as after a crash.
TEST_F(RegionRequests, AReadWithASideEffectHappensOnce) {
  EXPECT_EQ(Read(0, 0, 8)[0], 1);
  EXPECT_EQ(Read(0, 0, 8)[0], 2);
  EXPECT_EQ(session_.device.bank().reads, 2u);
}

TEST_F(RegionRequests, WritesHappenOnceAndInOrder) {
  EXPECT_EQ(Write(0, 8, Join(uint64_t{5})), 0u);
  EXPECT_EQ(Write(0, 8, Join(uint64_t{7})), 0u);
  EXPECT_EQ(session_.device.bank().accumulator, 31u * 5 + 7);
  EXPECT_EQ(session_.device.bank().writes, 2u);
}

TEST_F(RegionRequests, AWriteIsAcknowledgedWithItsRange) {
  const auto outcome =
      session_.Send(Command::kRegionWrite,
                    Join(RegionAccess{64, 0, 4}, uint32_t{0x01020304}));
  EXPECT_EQ(outcome->payload(), Join(RegionAccess{64, 0, 4}));
}

TEST_F(RegionRequests, APostedWriteIsDoneAndNotAcknowledged) {
  const auto outcome =
      session_.Send(Command::kRegionWrite,
                    Join(RegionAccess{8, 0, 8}, uint64_t{9}), 0, kFlagNoReply);
  EXPECT_TRUE(outcome->reply.empty());
  EXPECT_EQ(session_.device.bank().accumulator, 9u);
}

// QEMU begins with a read of the whole configuration space.
TEST_F(RegionRequests, LongAccessesAreCut) {
  const Bytes all = Read(7, 0, 256);
  ASSERT_EQ(all.size(), 256u);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], i);
  EXPECT_EQ(session_.device.done, 4u);
  EXPECT_EQ(Read(7, 60, 100).size(), 100u);
  EXPECT_EQ(session_.device.done, 4u + 3u);
}

TEST_F(RegionRequests, NothingIsReadOrWrittenWhereTheCountIsZero) {
  EXPECT_EQ(session_.ErrorOf(Command::kRegionRead, Join(RegionAccess{0, 0, 0})),
            0u);
  EXPECT_EQ(
      session_.ErrorOf(Command::kRegionRead, Join(RegionAccess{4096, 0, 0})),
      0u);
  EXPECT_EQ(Write(0, 0, {}), 0u);
  EXPECT_EQ(session_.device.done, 0u);
}

TEST_F(RegionRequests, AccessesOutsideAreRefused) {
  constexpr uint64_t kTop = std::numeric_limits<uint64_t>::max();
  for (const RegionAccess& bad :
       {RegionAccess{0, 9, 4}, RegionAccess{0, 0xffffffff, 4},
        RegionAccess{4093, 0, 4}, RegionAccess{4096, 0, 1},
        RegionAccess{kTop, 0, 4}, RegionAccess{kTop - 3, 0, 4},
        RegionAccess{0, 0, 4097}, RegionAccess{0, 1, 1},
        RegionAccess{4097, 0, 0}}) {
    EXPECT_EQ(session_.ErrorOf(Command::kRegionRead, Join(bad)), EINVAL)
        << bad.region << " " << bad.offset;
    Bytes payload = Join(bad);
    payload.resize(payload.size() + bad.count);
    EXPECT_EQ(session_.ErrorOf(Command::kRegionWrite, payload), EINVAL);
  }
  EXPECT_EQ(session_.device.done, 0u);
}

TEST_F(RegionRequests, ATransferBeyondOursIsRefused) {
  session_.serving.max_transfer = 1024;
  EXPECT_EQ(Read(0, 0, 1024).size(), 1024u);
  EXPECT_EQ(
      session_.ErrorOf(Command::kRegionRead, Join(RegionAccess{0, 0, 1025})),
      EINVAL);
}

// The guest's mistakes are not the client's: an error in the header would end
// Cloud Hypervisor's connection.
TEST_F(RegionRequests, MistakesOfTheGuestReadOnesAndForgetWrites) {
  EXPECT_EQ(Write(6, 0, Bytes(4)), 0u);  // Readable only.
  EXPECT_EQ(session_.device.done, 0u);
  for (const absl::Status& status :
       {absl::InvalidArgumentError(""), absl::OutOfRangeError(""),
        absl::UnavailableError("")}) {
    session_.device.access_status = status;
    EXPECT_THAT(Read(0, 0, 8), Each(0xff));
    EXPECT_EQ(Write(0, 8, Bytes(8)), 0u);
  }
}

TEST_F(RegionRequests, ADeviceThatMustStopSaysNothing) {
  session_.device.access_status = absl::DataLossError("damaged");
  EXPECT_THAT(session_.Send(Command::kRegionRead, Join(RegionAccess{0, 0, 8})),
              StatusIs(absl::StatusCode::kDataLoss, _));
  session_.device.access_status = absl::AbortedError("taken over");
  EXPECT_THAT(session_.Send(Command::kRegionWrite,
                            Join(RegionAccess{0, 0, 1}, uint8_t{})),
              StatusIs(absl::StatusCode::kAborted, _));
}

TEST_F(RegionRequests, SmallWritesAreDoneInOrder) {
  const auto outcome = session_.Send(
      Command::kRegionWriteMulti,
      Join(uint64_t{2}, SmallWrite{8, 0, 8, {3}}, SmallWrite{8, 0, 8, {4}}));
  EXPECT_EQ(outcome->payload(), Join(uint64_t{2}));
  EXPECT_EQ(session_.device.bank().accumulator, 31u * 3 + 4);
  EXPECT_EQ(session_.device.bank().writes, 2u);
}

TEST_F(RegionRequests, SmallWritesAreDoneAllOrNone) {
  EXPECT_EQ(session_.ErrorOf(Command::kRegionWriteMulti,
                             Join(uint64_t{2}, SmallWrite{8, 0, 8, {3}},
                                  SmallWrite{4096, 0, 8, {4}})),
            EINVAL);
  EXPECT_EQ(session_.device.done, 0u);
}

TEST_F(RegionRequests, SmallWritesMustBeOffered) {
  session_.serving.write_multiple = false;
  EXPECT_EQ(session_.ErrorOf(Command::kRegionWriteMulti,
                             Join(uint64_t{1}, SmallWrite{8, 0, 8, {3}})),
            EINVAL);
  EXPECT_EQ(session_.device.done, 0u);
}

// Dies at every access of a message that stands for several, and is followed
// by a successor that decides the message again, with the same reply buffer.
class Interrupted : public TortureDevice {
 public:
  using TortureDevice::TortureDevice;
  int64_t left = 1 << 20;  // Accesses before it dies.
  bool after = false;      // It dies with the last of them done.

  absl::Status Read(AccessId id, uint32_t region, uint64_t offset,
                    absl::Span<uint8_t> out) override {
    return Until([&] { return TortureDevice::Read(id, region, offset, out); });
  }
  absl::Status Write(AccessId id, uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> bytes) override {
    return Until(
        [&] { return TortureDevice::Write(id, region, offset, bytes); });
  }

 private:
  template <typename Call>
  absl::Status Until(Call call) {
    if (--left >= 0) return call();
    if (after) (void)call();
    return absl::AbortedError("died");
  }
};

TEST(RegionCrash, AMessageOfSeveralAccessesGoesOnWhereItWasCut) {
  const Bytes multi =
      CommandMessage(Command::kRegionWriteMulti,
                     Join(uint64_t{3}, SmallWrite{8, 0, 8, {3}},
                          SmallWrite{8, 0, 8, {4}}, SmallWrite{8, 0, 8, {5}}));
  const Bytes read =
      CommandMessage(Command::kRegionRead, Join(RegionAccess{0, 0, 200}));
  const Request requests[] = {Parse(multi, 0), Parse(read, 0), Parse(multi, 0)};
  for (int64_t cut = 0; cut < 10; ++cut) {
    for (const bool after : {false, true}) {
      TortureDevice::Memory device_memory{};
      Interrupted device(device_memory);
      FakeEnvironment environment(device);
      auto memory = std::make_unique<SessionMemory>();
      SessionState state{};
      state.version = kSessionStateVersion;
      state.negotiated = 1;
      device.left = cut;
      device.after = after;
      Bytes reply(4096 + kReplyOverhead);
      Serving serving;
      serving.max_transfer = 4096;
      for (const Request& request : requests) {
        auto decision = Decide(state, *memory, request, {}, serving, device,
                               environment, absl::MakeSpan(reply));
        if (absl::IsAborted(decision.status())) {
          device.left = 1 << 20;
          decision = Decide(state, *memory, request, {}, serving, device,
                            environment, absl::MakeSpan(reply));
        }
        ASSERT_OK(decision);
        state = decision->next;
        if (request.command == Command::kRegionRead) {
          EXPECT_EQ(reply[32], 1) << cut;  // The counter's first value.
        }
      }
      EXPECT_EQ(device.bank().writes, 6u) << cut << after;
      EXPECT_EQ(device.bank().reads, 1u) << cut << after;
      EXPECT_EQ(state.accesses, 10u);
      EXPECT_EQ(device.misnamed, 0u);
    }
  }
}

TEST_F(RegionRequests, NamesAscendFromConnectionToConnection) {
  EXPECT_EQ(Read(0, 0, 8)[0], 1);
  const uint64_t first = session_.device.bank().last_access;
  session_.state = SessionState{};
  session_.serving.connection = 2;
  ASSERT_OK(session_.Negotiate());
  EXPECT_EQ(Read(0, 0, 8)[0], 2);
  EXPECT_GT(session_.device.bank().last_access, first);
}

}  // namespace
}  // namespace holdfast::vfio_user
