#ifndef HOLDFAST_DEVICES_KEEPER_TESTING_SHADOW_FIXTURE_H_
#define HOLDFAST_DEVICES_KEEPER_TESTING_SHADOW_FIXTURE_H_

#include <poll.h>
#include <sys/eventfd.h>

#include <vector>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "devices/keeper/shadow_session.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/keeper/testing/shadow_worker.h"
#include "devices/vhost_user/message.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gtest/gtest.h"

namespace holdfast::keeper::testing {

// Ring 0 as a life has it.
class Work {
 public:
  explicit Work(FakeBackend& life)
      : memory_(*MapShared(
            BorrowedFd(life.fd_of(vhost_user::RequestType::kSetMemTable)), 0,
            kShadowBytes, MapAccess::kReadWrite)),
        kick_(life.fd_of(vhost_user::RequestType::kSetVringKick)),
        call_(life.fd_of(vhost_user::RequestType::kSetVringCall)),
        worker_(memory_.data() + ShadowAvailableAt(0),
                memory_.data() + ShadowUsedAt(0),
                FrontEnd::Options().queue_size) {}

  // So many requests, as soon as they are there.
  std::vector<uint16_t> Take(size_t count) {
    std::vector<uint16_t> heads;
    while (heads.size() < count) {
      pollfd kick = {kick_, POLLIN, 0};
      if (poll(&kick, 1, 20'000) != 1) break;
      eventfd_t kicks;
      eventfd_read(kick_, &kicks);
      for (const uint16_t head : worker_.Take()) heads.push_back(head);
    }
    return heads;
  }
  // Whether there is another one already.
  bool HasMore() { return !worker_.Take().empty(); }
  void Answer(uint32_t id, uint32_t written = 4) {
    worker_.Answer(id, written);
    eventfd_write(call_, 1);
  }

 private:
  const Mapping memory_;
  const int kick_;
  const int call_;
  ShadowWorker worker_;
};

// A VMM whose ring 0 lives of a back-end serve by shadow rings.
class ShadowTest : public KeeperTest {
 protected:
  explicit ShadowTest(BackendTraits traits = {})
      : KeeperTest(Shadowed(traits)) {}

  static BackendTraits Shadowed(BackendTraits traits) {
    traits.tracking = Tracking::kShadow;
    return traits;
  }
  uint64_t Post() {
    const auto posted = vmm_->driver(0).Post(
        {holdfast::testing::FakeDriver::Buffer::Writable(4)});
    EXPECT_TRUE(posted.has_value());
    EXPECT_OK(vmm_->Kick(0));
    return posted.value_or(0);
  }
  // The next answers, by their numbers.
  std::vector<uint64_t> Answers(size_t count) {
    std::vector<uint64_t> numbers;
    while (numbers.size() < count && vmm_->WaitForCall(0).ok()) {
      for (const auto& answer : vmm_->driver(0).Collect()) {
        numbers.push_back(answer.request);
      }
    }
    return numbers;
  }
};

}  // namespace holdfast::keeper::testing

#endif  // HOLDFAST_DEVICES_KEEPER_TESTING_SHADOW_FIXTURE_H_
