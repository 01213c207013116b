#include "devices/keeper/handshake.h"

#include <sys/socket.h>

#include <memory>
#include <utility>

#include "base/testing/matchers.h"
#include "devices/keeper/testing/fake_backend.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::Contains;
using testing::FakeBackend;
using ::testing::HasSubstr;
using ::testing::Not;

class HandshakeTest : public ::testing::Test {
 protected:
  void Begin(FakeBackend::Options options = {}) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ours_ = UniqueFd(pair[0]);
    backend_ =
        std::make_unique<FakeBackend>(UniqueFd(pair[1]), std::move(options));
    link_ = std::make_unique<BackendLink>(BorrowedFd(ours_));
  }
  absl::StatusOr<Offer> Shake(uint32_t expected_config = 0) {
    return ShakeHands(*link_, traits_, expected_config);
  }

  BackendTraits traits_;
  UniqueFd ours_;
  std::unique_ptr<FakeBackend> backend_;
  std::unique_ptr<BackendLink> link_;
};

TEST_F(HandshakeTest, LearnsWhatTheBackEndIs) {
  Begin();
  const auto offer = Shake();
  ASSERT_OK(offer);
  EXPECT_EQ(offer->queue_count, 2u);
  EXPECT_EQ(offer->max_mem_slots, 32u);
  EXPECT_EQ(offer->config_size, 60u);
  EXPECT_EQ(offer->config[59], 0x11);
  EXPECT_EQ(offer->known, 1u);
}

TEST_F(HandshakeTest, AsksForNoMoreThanIsOffered) {
  FakeBackend::Options options;
  options.protocol_features = vhost_user::kProtocolReplyAck;
  Begin(options);
  const auto offer = Shake();
  ASSERT_OK(offer);
  EXPECT_EQ(offer->queue_count, 1u);
  EXPECT_EQ(offer->config_size, 0u);
  EXPECT_THAT(backend_->told(), Not(Contains("GET_QUEUE_NUM")));
  EXPECT_THAT(backend_->told(), Not(Contains("GET_CONFIG")));
}

// virtio-user's, for one, has none.
TEST_F(HandshakeTest, ABackEndWithoutProtocolFeaturesIsOne) {
  FakeBackend::Options options;
  options.features = 0x3;
  Begin(options);
  const auto offer = Shake();
  ASSERT_OK(offer);
  EXPECT_EQ(offer->protocol_features, 0u);
  EXPECT_THAT(backend_->told(), Not(Contains("GET_PROTOCOL_FEATURES")));
}

// The bit that libvhost-user obeys though it does not offer it.
TEST_F(HandshakeTest, TrackingCanBeForced) {
  FakeBackend::Options options;
  options.protocol_features = vhost_user::kProtocolReplyAck;
  Begin(options);
  traits_.tracking = Tracking::kForced;
  ASSERT_OK(Shake());
  EXPECT_TRUE(backend_->WaitFor("SET_PROTOCOL_FEATURES 1008"));
}

TEST_F(HandshakeTest, ABackEndInOrderIsNotAskedToTrack) {
  Begin();
  traits_.tracking = Tracking::kInOrder;
  ASSERT_OK(Shake());
  EXPECT_TRUE(backend_->WaitFor("SET_PROTOCOL_FEATURES 8209"));
}

TEST_F(HandshakeTest, WhatIsExpectedIsReadAtOnce) {
  Begin();
  ASSERT_OK(Shake(60));
  int reads = 0;
  for (const std::string& text : backend_->told()) {
    reads += text == "GET_CONFIG" ? 1 : 0;
  }
  EXPECT_EQ(reads, 1);
}

TEST_F(HandshakeTest, ABackEndThatDiesIsNoOffer) {
  FakeBackend::Options options;
  options.go_on = [](vhost_user::RequestType type) {
    return type != vhost_user::RequestType::kGetQueueNum;
  };
  Begin(options);
  EXPECT_FALSE(Shake().ok());
}

TEST_F(HandshakeTest, ARefusalIsTold) {
  FakeBackend::Options options;
  options.verdict = [](vhost_user::RequestType type) {
    return type == vhost_user::RequestType::kSetFeatures ? uint64_t{3}
                                                         : uint64_t{0};
  };
  Begin(options);
  ASSERT_OK(Shake());
  const uint64_t number = 1;
  EXPECT_THAT(link_->Command(
                  vhost_user::RequestType::kSetFeatures,
                  {reinterpret_cast<const uint8_t*>(&number), sizeof(number)}),
              StatusIs(absl::StatusCode::kAborted,
                       HasSubstr("refuses SET_FEATURES with 3")));
}

Offer Example() {
  Offer offer = {};
  offer.known = 1;
  offer.features = vhost_user::kFeatureProtocolFeatures | 0x7;
  offer.protocol_features = vhost_user::kProtocolReplyAck |
                            vhost_user::kProtocolMq |
                            vhost_user::kProtocolConfig;
  offer.queue_count = 4;
  offer.max_mem_slots = 8;
  offer.config_size = 16;
  return offer;
}

void ExpectRefused(const Offer& now, const char* why) {
  EXPECT_THAT(CheckSuccessor(Example(), now, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(why)));
}

TEST(Successor, AsMuchOrMoreWillDo) {
  EXPECT_OK(CheckSuccessor(Example(), Example(), {}));
  Offer more = Example();
  more.features |= 0x8;
  more.protocol_features |= vhost_user::kProtocolStatus;
  more.queue_count = 8;
  more.max_mem_slots = 9;
  EXPECT_OK(CheckSuccessor(Example(), more, {}));
}

TEST(Successor, LessOfAnythingWillNot) {
  Offer less = Example();
  less.features &= ~uint64_t{2};
  ExpectRefused(less, "features 0x2");
  less = Example();
  less.protocol_features &= ~vhost_user::kProtocolConfig;
  ExpectRefused(less, "protocol features");
  less = Example();
  less.queue_count = 3;
  ExpectRefused(less, "3 queues");
  less = Example();
  less.max_mem_slots = 7;
  ExpectRefused(less, "regions");
  less = Example();
  less.config_size = 12;
  ExpectRefused(less, "12 bytes");
}

// A disk of another size is another disk; what the guest has written is the
// keeper's to say again.
TEST(Successor, ConfigurationSpaceIsTheSameWhereTheGuestHasNotWritten) {
  Offer other = Example();
  other.config[9] = 1;
  ExpectRefused(other, "byte 9");
  Offer first = Example();
  first.config_written[1] = 1 << 1;
  EXPECT_OK(CheckSuccessor(first, other, {}));
}

// Nobody was told of it.
TEST(Successor, WhatIsMaskedMayBeMissing) {
  BackendTraits traits;
  traits.masked_features = uint64_t{1} << 5;
  Offer first = Example();
  first.features |= uint64_t{1} << 5;
  EXPECT_FALSE(CheckSuccessor(first, Example(), {}).ok());
  EXPECT_OK(CheckSuccessor(first, Example(), traits));
}

TEST(Successor, BytesThatMayDifferMay) {
  BackendTraits traits;
  traits.config_may_differ = uint64_t{1} << 3;
  Offer first = Example();
  ++first.config[3];
  EXPECT_FALSE(CheckSuccessor(first, Example(), {}).ok());
  EXPECT_OK(CheckSuccessor(first, Example(), traits));
  ++first.config[4];
  EXPECT_FALSE(CheckSuccessor(first, Example(), traits).ok());
}

TEST(Info, WhatCannotBeToldAgainIsNotOffered) {
  Offer offer = Example();
  offer.features |= 1ull << 34 | 1ull << 33 | vhost_user::kFeatureLogAll;
  BackendTraits traits;
  traits.masked_features = 0x4;
  const vhost_user::BackendInfo info = InfoFor(offer, traits, 16);
  EXPECT_EQ(info.features, 0x3u);
  EXPECT_EQ(info.queue_count, 4u);
  EXPECT_EQ(info.max_mem_slots, 8u);
  EXPECT_EQ(info.config_size, 16u);
}

TEST(Info, TheRegionHasAsManyQueuesAsTheBackEnd) {
  BackendTraits traits;
  traits.tracking = Tracking::kForced;
  const Agreement agreement = AgreementWith(Example(), traits);
  EXPECT_EQ(agreement.inflight_queues, 4u);
  // Where it is becomes known later.
  EXPECT_EQ(agreement.inflight_size, 0u);
}

TEST(Info, AProfileMasksProtocolFeatures) {
  BackendTraits traits;
  traits.masked_protocol_features = vhost_user::kProtocolMq;
  EXPECT_EQ(AgreementWith(Example(), traits).protocol_features,
            vhost_user::kProtocolReplyAck | vhost_user::kProtocolConfig);
}

}  // namespace
}  // namespace holdfast::keeper
