// What a broken or hostile guest can write into a ring, and a VMM say about it:
// the ring is lost, and nothing else.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "devices/vhost_user/testing/front_end.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/recovery/bad_input_fixture.h"

namespace holdfast::testing {
namespace {

using namespace ::holdfast::vhost_user;

struct RingCase {
  const char* name;
  std::function<void(FakeDriver&)> spoil;
  const char* said;
};

void MakeAvailable(FakeDriver& driver, uint16_t head) {
  driver.avail_ring(driver.avail_index() % 128) = head;
  __atomic_store_n(&driver.avail_index(), driver.avail_index() + 1,
                   __ATOMIC_RELEASE);
}

// One descriptor, made available.
void Post(FakeDriver& driver, vring::Descriptor descriptor) {
  driver.descriptor(5) = descriptor;
  MakeAvailable(driver, 5);
}

const std::vector<RingCase>& RingCases() {
  static const auto* const cases = new std::vector<RingCase>{
      {"a loop",
       [](FakeDriver& driver) {
         Post(driver, {kGuest, 16, vring::kWrite | vring::kNext, 5});
       },
       "chain"},
      {"a loop of two",
       [](FakeDriver& driver) {
         driver.descriptor(6) = {kGuest, 16, vring::kWrite | vring::kNext, 5};
         Post(driver, {kGuest, 16, vring::kWrite | vring::kNext, 6});
       },
       "chain"},
      {"a next outside the table",
       [](FakeDriver& driver) {
         Post(driver, {kGuest, 16, vring::kWrite | vring::kNext, 500});
       },
       "descriptor"},
      {"an address outside memory",
       [](FakeDriver& driver) {
         Post(driver, {0x10, 16, vring::kWrite, 0});
       },
       "memory"},
      {"a buffer over the end of memory",
       [](FakeDriver& driver) {
         Post(driver, {kGuest + kMemory - 8, 16, vring::kWrite, 0});
       },
       "memory"},
      {"an absurd length",
       [](FakeDriver& driver) {
         Post(driver, {kGuest, ~0u, vring::kWrite, 0});
       },
       "memory"},
      {"an address that wraps",
       [](FakeDriver& driver) {
         Post(driver, {~uint64_t{0}, 16, vring::kWrite, 0});
       },
       "memory"},
      {"an indirect table of a crooked size",
       [](FakeDriver& driver) {
         Post(driver, {kGuest, 17, vring::kIndirect, 0});
       },
       "indirect"},
      {"an indirect table outside memory",
       [](FakeDriver& driver) {
         Post(driver, {0x10, 16, vring::kIndirect, 0});
       },
       "indirect"},
      {"a table in a table",
       [](FakeDriver& driver) {
         // The table is the ring's own: its first entry is indirect, too.
         driver.descriptor(0) = {kGuest, 16, vring::kIndirect, 0};
         Post(driver, {kGuest, 16, vring::kIndirect, 0});
       },
       "indirect"},
      {"an index that jumps",
       [](FakeDriver& driver) { driver.avail_index() += 1000; },
       "available index jumped"},
      {"an index that goes back",
       [](FakeDriver& driver) { driver.avail_index() -= 1; },
       "available index jumped"},
      {"a head outside the table",
       [](FakeDriver& driver) { MakeAvailable(driver, 4000); },
       "head outside the table"},
  };
  return *cases;
}

TEST_F(BadInput, ARingThatTheGuestBreaksIsItsOwnLoss) {
  for (const RingCase& bad : RingCases()) {
    SCOPED_TRACE(bad.name);
    SkipLog();
    const auto vmm = Started();
    ASSERT_OK(vmm->Transact(0, {FrontEndBuffer::Writable(64)}));
    bad.spoil(vmm->driver(0));
    ASSERT_OK(vmm->Kick(0));
    for (int i = 0; i < 1000 && Log().empty(); ++i) usleep(1000);
    EXPECT_THAT(Log(), ::testing::HasSubstr(bad.said));
    // The connection is well, and the queue can be stopped and started anew.
    EXPECT_OK(vmm->AskNumber(RequestType::kGetFeatures));
    EXPECT_OK(vmm->StopQueue(0));
    EXPECT_EQ(device_->active_pid(), pid_);
  }
}

TEST_F(BadInput, AHeadTwiceBreaksTheRing) {
  const auto vmm = Started();
  FakeDriver& driver = vmm->driver(0);
  // Many, so that two are in the ring at once.
  for (int i = 0; i < 64; ++i) {
    driver.descriptor(5) = {kGuest + kMemory / 2, 16, vring::kWrite, 0};
    driver.avail_ring(i) = 5;
  }
  __atomic_store_n(&driver.avail_index(), 64, __ATOMIC_RELEASE);
  ASSERT_OK(vmm->Kick(0));
  EXPECT_OK(vmm->AskNumber(RequestType::kGetFeatures));
  EXPECT_OK(vmm->StopQueue(0));
}

// The rings on top of each other, and of the data.
TEST_F(BadInput, RingsMayOverlap) {
  const auto vmm = Connect();
  ASSERT_OK(vmm->Negotiate());
  ASSERT_OK(vmm->ShareMemory());
  const UniqueFd kick(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  using R = RequestType;
  ASSERT_OK(vmm->Command(R::kSetVringNum, Vring(0, 128)));
  ASSERT_OK(
      vmm->Command(R::kSetVringAddr,
                   BytesOf(VringAddress{0, 0, kUser, kUser, kUser, kGuest})));
  std::fill(vmm->memory().begin(), vmm->memory().end(), 0x41);
  ASSERT_OK(vmm->Command(R::kSetVringKick, U64(0), {kick.get()}));
  ASSERT_OK(vmm->Command(R::kSetVringEnable, Vring(0, 1)));
  for (int i = 0; i < 20; ++i) eventfd_write(kick.get(), 1);
  EXPECT_OK(vmm->AskNumber(RequestType::kGetFeatures));
}

// Ring addresses are the guest's: outside memory they hurt nobody.
TEST_F(BadInput, RingsOutsideMemoryAreLeftAlone) {
  const auto vmm = Connect();
  ASSERT_OK(vmm->Negotiate());
  ASSERT_OK(vmm->ShareMemory());
  const UniqueFd kick(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  using R = RequestType;
  ASSERT_OK(vmm->Command(R::kSetVringNum, Vring(0, 128)));
  ASSERT_OK(vmm->Command(R::kSetVringKick, U64(0), {kick.get()}));
  ASSERT_OK(vmm->Command(R::kSetVringEnable, Vring(0, 1)));
  for (uint64_t at : {uint64_t{0}, uint64_t{8}, kUser + kMemory - 16, kUser + 1,
                      ~uint64_t{0} - 15}) {
    SCOPED_TRACE(at);
    ASSERT_OK(
        vmm->Command(R::kSetVringAddr,
                     BytesOf(VringAddress{0, 0, at, at, at, ~uint64_t{0}})));
    eventfd_write(kick.get(), 1);
  }
  EXPECT_OK(vmm->AskNumber(RequestType::kGetFeatures));
}

}  // namespace
}  // namespace holdfast::testing
