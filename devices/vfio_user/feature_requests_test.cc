// Device features: migration and the log of dirty pages.

#include <cerrno>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vfio_user/migration.h"
#include "devices/vfio_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using State = MigrationState;
constexpr State kStates[] = {State::kStop, State::kRunning, State::kStopCopy,
                             State::kResuming, State::kPreCopy};

// "2136": all states on the way, both ends included; empty: no way.
std::string Way(State from, State to) {
  std::string way(1, static_cast<char>('0' + static_cast<int>(from)));
  while (from != to && way.size() < 9) {
    const auto next = NextOnTheWay(from, to);
    if (!next) return "";
    from = *next;
    way += static_cast<char>('0' + static_cast<int>(from));
  }
  return way;
}

TEST(Migration, EveryWayIsTheShortestWithoutASavingStateInside) {
  std::vector<std::string> ways;
  for (const State from : kStates) {
    for (const State to : kStates) ways.push_back(Way(from, to));
  }
  EXPECT_THAT(ways, ElementsAre("1", "12", "13", "14", "126",      // From stop.
                                "21", "2", "213", "214", "26",     // Running.
                                "31", "312", "3", "314", "",       // Stop-copy.
                                "41", "412", "413", "4", "4126",   // Resuming.
                                "621", "62", "63", "6214", "6"));  // Pre-copy.
}

TEST(Migration, NoWayLeadsToOrFromOtherStates) {
  for (const State other :
       {State::kError, State::kRunningP2p, State::kPreCopyP2p}) {
    for (const State state : kStates) {
      EXPECT_FALSE(NextOnTheWay(state, other));
      EXPECT_FALSE(NextOnTheWay(other, state));
    }
  }
  EXPECT_FALSE(NextOnTheWay(State::kStop, static_cast<State>(8)));
}

class FeatureRequests : public ::testing::Test {
 protected:
  void SetUp() override {
    session_.serving.max_transfer = 4096;
    ASSERT_OK(session_.Negotiate());
  }

  Outcome Ask(uint32_t flags, const Bytes& data = {}, uint32_t argsz = 4096) {
    return *session_.Send(Command::kDeviceFeature,
                          Join(Join(DeviceFeature{argsz, flags}), data));
  }
  uint32_t Enter(uint32_t state) {
    return Ask(kFeatureSet | kFeatureMigrationState,
               Join(MigrationStateData{state, 0}))
        .error();
  }
  uint32_t Start(uint64_t page_size, uint32_t count, const Bytes& ranges = {}) {
    return Ask(kFeatureSet | kFeatureDmaLoggingStart,
               Join(Join(LoggingControl{page_size, count, 0}), ranges))
        .error();
  }
  Outcome Report(uint64_t address, uint64_t size, uint64_t page_size,
                 uint32_t argsz = 4096) {
    return Ask(kFeatureGet | kFeatureDmaLoggingReport,
               Join(LoggingReport{address, size, page_size}), argsz);
  }

  TestSession session_;
};

TEST_F(FeatureRequests, MigrationIsOffered) {
  EXPECT_EQ(
      Ask(kFeatureGet | kFeatureMigration).payload(),
      Join(DeviceFeature{16, kFeatureGet | kFeatureMigration}, uint64_t{5}));
  EXPECT_EQ(Ask(kFeatureGet | kFeatureMigration, {}, 15).error(), EINVAL);
}

TEST_F(FeatureRequests, ADeviceThatCannotMigrateOffersNothing) {
  session_.environment.can_migrate = false;
  for (const uint32_t index : {1u, 2u, 6u, 7u, 8u}) {
    EXPECT_EQ(Ask(kFeatureProbe | index).error(), EINVAL);
  }
}

TEST_F(FeatureRequests, AProbeSaysWhichMethodsThereAre) {
  for (uint32_t index = 0; index < 10; ++index) {
    const bool get = index == 1 || index == 2 || index == 8;
    const bool set = index == 2 || index == 6 || index == 7;
    const auto probe = [&](uint32_t methods) {
      return Ask(kFeatureProbe | methods | index).error() == 0;
    };
    EXPECT_EQ(probe(0), get || set) << index;
    EXPECT_EQ(probe(kFeatureGet), get) << index;
    EXPECT_EQ(probe(kFeatureSet), set) << index;
    EXPECT_EQ(probe(kFeatureGet | kFeatureSet), get && set) << index;
  }
  EXPECT_THAT(session_.TakeEffects(), IsEmpty());
}

TEST_F(FeatureRequests, AProbeIsSentBack) {
  const Bytes request = Join(DeviceFeature{8, kFeatureProbe | 1});
  EXPECT_EQ(session_.Send(Command::kDeviceFeature, request)->payload(),
            request);
}

TEST_F(FeatureRequests, OtherFlagsAreRefused) {
  for (const uint32_t flags :
       {0u, 2u, kFeatureGet | kFeatureSet | 2, kFeatureSet | 1, kFeatureGet | 6,
        kFeatureGet | 1 | 1u << 19, kFeatureGet | 1 | 1u << 31,
        kFeatureGet | 0xffff}) {
    EXPECT_EQ(Ask(flags, Bytes(24)).error(), EINVAL) << flags;
  }
}

TEST_F(FeatureRequests, ADeviceRunsAtFirst) {
  EXPECT_EQ(Ask(kFeatureGet | kFeatureMigrationState).payload(),
            Join(DeviceFeature{16, kFeatureGet | kFeatureMigrationState},
                 MigrationStateData{2, 0}));
}

TEST_F(FeatureRequests, AStateIsEnteredArcByArc) {
  EXPECT_EQ(Enter(3), 0u);
  EXPECT_THAT(session_.TakeEffects(), ElementsAre("2 to 1", "1 to 3"));
  EXPECT_EQ(MigrationOf(session_.state), State::kStopCopy);
  EXPECT_EQ(Enter(3), 0u);
  EXPECT_THAT(session_.TakeEffects(), IsEmpty());
}

TEST_F(FeatureRequests, StatesThatCannotBeEnteredAreRefused) {
  for (const uint32_t state : {0u, 5u, 7u, 8u, 9u, 258u, 0xffffffffu}) {
    EXPECT_EQ(Enter(state), EINVAL) << state;
  }
  ASSERT_EQ(Enter(3), 0u);
  EXPECT_EQ(Enter(6), EINVAL);
  EXPECT_EQ(MigrationOf(session_.state), State::kStopCopy);
  EXPECT_EQ(Ask(kFeatureSet | 2, Bytes(7)).error(), EINVAL);
}

TEST_F(FeatureRequests, AStateThatTheDeviceRefusesIsNotEntered) {
  session_.environment.state_status = absl::DataLossError("no sense");
  EXPECT_EQ(Enter(1), EIO);
  EXPECT_EQ(MigrationOf(session_.state), State::kRunning);
}

TEST_F(FeatureRequests, AResetMakesTheDeviceRun) {
  ASSERT_EQ(Enter(4), 0u);
  ASSERT_EQ(session_.ErrorOf(Command::kDeviceReset, {}), 0u);
  EXPECT_EQ(MigrationOf(session_.state), State::kRunning);
}

TEST_F(FeatureRequests, DataAreReadToTheEndAndNotTwice) {
  ASSERT_EQ(Enter(3), 0u);
  for (const uint32_t size : {60u, 40u, 0u}) {
    const auto outcome =
        session_.Send(Command::kMigDataRead, Join(MigrationData{100, 60}));
    EXPECT_EQ(outcome->As<MigrationData>().size, size);
    EXPECT_EQ(outcome->As<MigrationData>().argsz, size + 8);
    EXPECT_EQ(outcome->payload().size(), size + 8);
  }
  ASSERT_EQ(Enter(1), 0u);
  ASSERT_EQ(Enter(3), 0u);
  EXPECT_EQ(session_.state.migrated, 0u);
}

TEST_F(FeatureRequests, TheStreamGoesOnFromPreCopyToStopCopy) {
  ASSERT_EQ(Enter(6), 0u);
  ASSERT_OK(session_.Send(Command::kMigDataRead, Join(MigrationData{100, 60})));
  ASSERT_EQ(Enter(3), 0u);
  EXPECT_EQ(session_.state.migrated, 60u);
}

TEST_F(FeatureRequests, DataAreWrittenInOrder) {
  ASSERT_EQ(Enter(4), 0u);
  session_.TakeEffects();
  const Bytes data = Join(MigrationData{12, 4}, uint32_t{1});
  const auto outcome = session_.Send(Command::kMigDataWrite, data);
  EXPECT_EQ(outcome->reply.size(), sizeof(MessageHeader));
  EXPECT_EQ(session_.ErrorOf(Command::kMigDataWrite, data), 0u);
  EXPECT_THAT(session_.TakeEffects(), ElementsAre("data 0+4", "data 4+4"));
}

TEST_F(FeatureRequests, DataMoveOnlyInTheirStates) {
  const Bytes read = Join(MigrationData{12, 4});
  const Bytes write = Join(MigrationData{12, 4}, uint32_t{1});
  for (const uint32_t state : {1u, 2u, 3u, 4u, 2u, 6u}) {
    ASSERT_EQ(Enter(state), 0u);
    EXPECT_EQ(session_.ErrorOf(Command::kMigDataRead, read),
              state == 3 || state == 6 ? 0 : EINVAL);
    EXPECT_EQ(session_.ErrorOf(Command::kMigDataWrite, write),
              state == 4 ? 0 : EINVAL);
  }
  EXPECT_EQ(
      session_.ErrorOf(Command::kMigDataRead, Join(MigrationData{10000, 4097})),
      EINVAL);
}

TEST_F(FeatureRequests, RegistersRestWhileTheyAreCopied) {
  ASSERT_EQ(Enter(3), 0u);
  EXPECT_EQ(session_.ErrorOf(Command::kRegionRead, Join(RegionAccess{0, 0, 8})),
            EINVAL);
  ASSERT_EQ(Enter(2), 0u);
  EXPECT_EQ(session_.ErrorOf(Command::kRegionRead, Join(RegionAccess{0, 0, 8})),
            0u);
}

TEST_F(FeatureRequests, LoggingStartsWithPagesOf4096Bytes) {
  const auto outcome =
      Ask(kFeatureSet | kFeatureDmaLoggingStart,
          Join(LoggingControl{65536, 1, 0}, LoggingRange{0, 1u << 30}));
  EXPECT_EQ(outcome.payload(),
            Join(DeviceFeature{40, kFeatureSet | kFeatureDmaLoggingStart},
                 LoggingControl{4096, 1, 0}, LoggingRange{0, 1u << 30}));
  EXPECT_THAT(session_.TakeEffects(), ElementsAre("log 4096 1"));
  EXPECT_EQ(session_.state.logging, 1);
  EXPECT_EQ(Ask(kFeatureSet | kFeatureDmaLoggingStop).error(), 0u);
  EXPECT_EQ(session_.state.logging, 0);
}

TEST_F(FeatureRequests, LoggingOfBadRangesIsRefused) {
  for (const uint64_t size : {0ull, 1ull, 2048ull, 4097ull, 12288ull, ~0ull}) {
    EXPECT_EQ(Start(size, 0), EINVAL) << size;
  }
  EXPECT_EQ(Start(4096, 1), EINVAL);
  EXPECT_EQ(Start(4096, 0, Join(LoggingRange{0, 1})), EINVAL);
  EXPECT_EQ(Start(4096, 0xffffffff, Join(LoggingRange{0, 1})), EINVAL);
  EXPECT_EQ(Start(4096, kMaxLoggingRanges + 1,
                  Bytes((kMaxLoggingRanges + 1) * sizeof(LoggingRange), 1)),
            EINVAL);
  EXPECT_EQ(Start(4096, 1, Join(LoggingRange{0, 0})), EINVAL);
  EXPECT_EQ(Start(4096, 1, Join(LoggingRange{~0ull, 2})), EINVAL);
  EXPECT_EQ(session_.state.logging, 0);
  EXPECT_EQ(Start(4096, 0), 0u);
}

TEST_F(FeatureRequests, AReportHasABitForEveryPage) {
  ASSERT_EQ(Start(4096, 0), 0u);
  const Outcome outcome = Report(0x10000, 65 * 4096, 4096);
  EXPECT_EQ(
      outcome.payload(),
      Join(DeviceFeature{48, kFeatureGet | kFeatureDmaLoggingReport},
           LoggingReport{0x10000, 65 * 4096, 4096}, uint64_t{8}, uint64_t{0}));
  EXPECT_EQ(Report(0, 1, 4096).payload().size(), 40u);
}

TEST_F(FeatureRequests, ABadReportIsRefused) {
  EXPECT_EQ(Report(0, 4096, 4096).error(), EINVAL);  // Nothing is noted.
  ASSERT_EQ(Start(4096, 0), 0u);
  EXPECT_EQ(Report(0, 0, 4096).error(), EINVAL);
  EXPECT_EQ(Report(1, 4096, 4096).error(), EINVAL);
  EXPECT_EQ(Report(0, 4096, 0).error(), EINVAL);
  EXPECT_EQ(Report(0, 4096, 6000).error(), EINVAL);
  EXPECT_EQ(Report(~0ull - 4095, 8192, 4096).error(), EINVAL);
  EXPECT_EQ(Report(0, ~0ull, 4096).error(), EINVAL);  // A large bitmap.
  EXPECT_EQ(Report(0, 4096, 4096, 39).error(), EINVAL);
  EXPECT_EQ(Ask(kFeatureGet | kFeatureDmaLoggingReport, Bytes(23)).error(),
            EINVAL);
}

}  // namespace
}  // namespace holdfast::vfio_user
