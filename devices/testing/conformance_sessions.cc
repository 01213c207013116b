// Clients of vfio-user that come, go, come back, and come beside one another.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "devices/testing/conformance.h"
#include "devices/testing/conformance_steps.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/client_sys.h"
#include "devices/vfio_user/testing/message_builder.h"

namespace holdfast::testing {
namespace {

using ::holdfast::vfio_user::Bytes;
using ::holdfast::vfio_user::Client;
using ::holdfast::vfio_user::Command;
using ::holdfast::vfio_user::DeviceInfo;
using ::holdfast::vfio_user::Join;
using ::holdfast::vfio_user::RegionInfo;

// Of each region, from its beginning. Reason: a guest's driver finds all that
// is peculiar to a device there, and a read takes a message.
constexpr uint64_t kLookedAt = 128;

absl::StatusOr<std::unique_ptr<Client>> ConnectOnly(
    ServedDevice& device, const ConformanceTarget& target) {
  const absl::Time deadline = absl::Now() + target.patience;
  while (true) {
    RETURN_IF_ERROR(device.CheckAlive());
    auto client = Client::Connect(device.socket_path());
    if (client.ok() || absl::Now() > deadline) return client;
    absl::SleepFor(absl::Milliseconds(5));
  }
}

absl::StatusOr<std::unique_ptr<Client>> Connect(
    ServedDevice& device, const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(auto client, ConnectOnly(device, target));
  RETURN_IF_ERROR(client->Negotiate());
  return client;
}

template <typename T>
absl::StatusOr<T> AskFor(Client& client, Command command, const T& request) {
  ASSIGN_OR_RETURN(const Bytes reply, client.Ask(command, Join(request)));
  T answer = {};
  if (reply.size() < sizeof(answer)) {
    return absl::InternalError(
        absl::StrCat("an answer of ", reply.size(), " bytes"));
  }
  std::memcpy(&answer, reply.data(), sizeof(answer));
  return answer;
}

// Sizes by number.
absl::StatusOr<std::vector<uint64_t>> Regions(Client& client) {
  ASSIGN_OR_RETURN(const auto device,
                   AskFor(client, Command::kDeviceGetInfo,
                          DeviceInfo{sizeof(DeviceInfo), 0, 0, 0}));
  std::vector<uint64_t> sizes;
  for (uint32_t i = 0; i < device.region_count; ++i) {
    ASSIGN_OR_RETURN(const auto region,
                     AskFor(client, Command::kDeviceGetRegionInfo,
                            RegionInfo{sizeof(RegionInfo), 0, i, 0, 0, 0}));
    sizes.push_back(region.size);
  }
  return sizes;
}

template <typename Do>
absl::Status ForEachWord(const std::vector<uint64_t>& sizes, Do what) {
  for (uint32_t region = 0; region < sizes.size(); ++region) {
    for (uint64_t at = 0; at + 4 <= sizes[region] && at < kLookedAt; at += 4) {
      RETURN_IF_ERROR(what(region, at));
    }
  }
  return absl::OkStatus();
}

// What a new client finds, for people.
absl::StatusOr<std::string> Look(Client& client) {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> sizes, Regions(client));
  std::string seen;
  for (const uint64_t size : sizes) absl::StrAppend(&seen, size, " ");
  RETURN_IF_ERROR(
      ForEachWord(sizes, [&](uint32_t region, uint64_t at) -> absl::Status {
        // What the device refuses to read it refuses each time.
        const absl::StatusOr<uint64_t> word = client.Read(region, at, 4);
        absl::StrAppend(&seen, "\n", region, ":", at, "=",
                        word.ok() ? absl::StrCat(absl::Hex(*word)) : "refused");
        return absl::OkStatus();
      }));
  return seen;
}

absl::Status Scribble(Client& client) {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> sizes, Regions(client));
  return ForEachWord(sizes, [&](uint32_t region, uint64_t at) {
    return client.PostWrite(region, at, 0x5a5a5a5b, 4);
  });
}

absl::Status ExpectSame(const std::string& want, const std::string& got,
                        const char* when) {
  if (got == want) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("a client ", when, " finds\n", got, "\ninstead of\n", want));
}

absl::Status AnotherClientWaitsUntilTheFirstIsGone(
    const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(auto first, Connect(*device, target));
  ASSIGN_OR_RETURN(const std::string want, Look(*first));
  ASSIGN_OR_RETURN(const auto second, ConnectOnly(*device, target));
  ASSIGN_OR_RETURN(const auto third, ConnectOnly(*device, target));
  for (int i = 0; i < 3; ++i) RETURN_IF_ERROR(Regions(*first).status());
  first.reset();
  RETURN_IF_ERROR(second->Negotiate());
  ASSIGN_OR_RETURN(const std::string got, Look(*second));
  return ExpectSame(want, got, "that had to wait");
}

absl::Status AReconnectedClientFindsANewDevice(
    const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  std::string want;
  for (int round = 0; round < 4; ++round) {
    ASSIGN_OR_RETURN(const auto client, Connect(*device, target));
    ASSIGN_OR_RETURN(const std::string got, Look(*client));
    if (round == 0) want = got;
    RETURN_IF_ERROR(ExpectSame(want, got, "that comes back"));
    // The last of them are still on their way when it goes.
    RETURN_IF_ERROR(Scribble(*client));
  }
  return device->CheckAlive();
}

// Whatever they say, and in whatever part of it they go.
absl::Status ClientsThatGoDoNoHarm(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(auto first, Connect(*device, target));
  ASSIGN_OR_RETURN(const std::string want, Look(*first));
  first.reset();
  for (uint16_t command = 0; command < 20; ++command) {
    ASSIGN_OR_RETURN(const auto client, ConnectOnly(*device, target));
    if (command % 2 == 0) RETURN_IF_ERROR(client->Negotiate());
    (void)client->Post(Command{command}, Bytes(command));
  }
  ASSIGN_OR_RETURN(const auto last, Connect(*device, target));
  ASSIGN_OR_RETURN(const std::string got, Look(*last));
  return ExpectSame(want, got, "after those");
}

constexpr ConformanceCheck kChecks[] = {
    {"AnotherClientWaitsUntilTheFirstIsGone",
     AnotherClientWaitsUntilTheFirstIsGone},
    {"AReconnectedClientFindsANewDevice", AReconnectedClientFindsANewDevice},
    {"ClientsThatGoDoNoHarm", ClientsThatGoDoNoHarm},
};

}  // namespace

absl::Span<const ConformanceCheck> SessionChecks() { return kChecks; }

}  // namespace holdfast::testing
