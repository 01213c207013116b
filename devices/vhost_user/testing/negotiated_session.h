#ifndef HOLDFAST_DEVICES_VHOST_USER_TESTING_NEGOTIATED_SESSION_H_
#define HOLDFAST_DEVICES_VHOST_USER_TESTING_NEGOTIATED_SESSION_H_

#include <cstdint>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/test_session.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {

// Sessions that have come some way, for tests that begin there.

inline constexpr MemoryRegion kRam{0, 0x100000, 0x7f0000000000, 0};
inline constexpr uint64_t kRings = kRam.user_address;

inline std::vector<uint8_t> AddressPayload(uint32_t index, uint32_t flags = 0,
                                           uint64_t at = kRings) {
  const uint64_t start = at + index * 0x10000;
  return BytesOf(VringAddress{index, flags, start, start + 0x2000,
                              start + 0x1000, 0x5000});
}

// A session with REPLY_ACK and memory.
inline TestSession Negotiated() {
  TestSession session;
  EXPECT_OK(session.Send(RequestType::kSetOwner));
  EXPECT_OK(session.SendNumber(RequestType::kSetProtocolFeatures,
                               session.info.protocol_features));
  EXPECT_OK(
      session.SendNumber(RequestType::kSetFeatures,
                         session.info.features | kFeatureProtocolFeatures));
  EXPECT_OK(
      session.Send(RequestType::kSetMemTable, MemoryTablePayload({kRam}), 1));
  return session;
}

// The same with queue 0 running.
inline TestSession Running() {
  TestSession session = Negotiated();
  EXPECT_OK(session.SendVring(RequestType::kSetVringNum, 0, 128));
  EXPECT_OK(session.SendVring(RequestType::kSetVringBase, 0, 7));
  EXPECT_OK(session.Send(RequestType::kSetVringAddr, AddressPayload(0)));
  EXPECT_OK(session.SendNumber(RequestType::kSetVringKick, 0, 1));
  EXPECT_OK(session.SendNumber(RequestType::kSetVringCall, 0, 1));
  EXPECT_OK(session.SendVring(RequestType::kSetVringEnable, 0, 1));
  EXPECT_TRUE(QueueRuns(session.state, 0));
  session.TakeEffects();
  return session;
}

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_TESTING_NEGOTIATED_SESSION_H_
