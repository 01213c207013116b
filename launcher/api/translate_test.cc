#include "launcher/api/translate.h"

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Translate, AbsentFieldsHaveTheDefaultsOfTheSpec) {
  v1::LaunchSpec proto;
  proto.set_name("disk0");
  proto.set_binary("/bin/disk");
  const auto spec = FromProto(proto);
  ASSERT_OK(spec);
  LaunchSpec wanted;
  wanted.name = "disk0";
  wanted.binary = "/bin/disk";
  EXPECT_EQ(EncodeSpec(*spec), EncodeSpec(wanted));
}

TEST(Translate, EveryFieldArrives) {
  v1::LaunchSpec proto;
  proto.set_name("disk0");
  proto.set_binary("/bin/disk");
  proto.add_args("--readonly");
  proto.set_socket_path("/run/disk0.sock");
  proto.set_socket_owner("libvirt-qemu");
  proto.set_socket_group("kvm");
  proto.set_socket_mode(0660);
  v1::Resource* const resource = proto.add_resources();
  resource->set_name("image");
  resource->set_path("/srv/a.img");
  resource->set_access(v1::Resource::READ_ONLY);
  resource->set_kind(v1::Resource::BLOCK_DEVICE);
  resource->set_lock(v1::Resource::SHARED);
  resource->set_direct(true);
  proto.set_segment_bytes(8192);
  proto.set_uid(861007);
  proto.mutable_limits()->set_open_files(100);
  proto.mutable_limits()->set_threads(2);
  proto.mutable_limits()->set_file_size_bytes(1 << 20);
  proto.mutable_limits()->set_locked_memory_bytes(1 << 21);
  proto.mutable_group_limits()->set_memory_bytes(64 << 20);
  proto.mutable_group_limits()->set_tasks(100);
  proto.mutable_group_limits()->set_cpu_percent(150);
  proto.set_policy("/etc/disk.policy");
  proto.set_confined(false);
  proto.set_standby(false);
  proto.set_realtime_priority(5);
  proto.mutable_restart()->set_budget(0);
  proto.mutable_restart()->set_refill_every_ms(1);
  proto.mutable_restart()->set_backoff_base_ms(2);
  proto.mutable_restart()->set_backoff_max_ms(3);
  proto.mutable_restart()->set_healthy_after_ms(4);
  proto.mutable_backend()->set_binary("/usr/bin/qemu-storage-daemon");
  proto.mutable_backend()->add_args("--export");
  proto.mutable_backend()->set_handover(v1::Backend::CONNECTED_FD);
  proto.mutable_backend()->set_standby(true);
  proto.mutable_backend()->set_polls(true);
  proto.mutable_backend()->set_synchronous(true);

  LaunchSpec wanted;
  wanted.name = "disk0";
  wanted.binary = "/bin/disk";
  wanted.args = {"--readonly"};
  wanted.socket_path = "/run/disk0.sock";
  wanted.socket_owner = "libvirt-qemu";
  wanted.socket_group = "kvm";
  wanted.socket_mode = 0660;
  wanted.resources = {{"image", "/srv/a.img", ResourceAccess::kReadOnly,
                       ResourceKind::kBlockDevice, ResourceLock::kShared,
                       /*direct=*/true}};
  wanted.segment_bytes = 8192;
  wanted.uid = 861007;
  wanted.limits = {100, 2, 1 << 20, 1 << 21};
  wanted.group_limits = {64 << 20, 100, 150};
  wanted.policy = "/etc/disk.policy";
  wanted.confined = false;
  wanted.standby = false;
  wanted.realtime_priority = 5;
  wanted.restart.budget = 0;
  wanted.restart.refill_every = absl::Milliseconds(1);
  wanted.restart.backoff_base = absl::Milliseconds(2);
  wanted.restart.backoff_max = absl::Milliseconds(3);
  wanted.restart.healthy_after = absl::Milliseconds(4);
  wanted.backend = {"/usr/bin/qemu-storage-daemon",
                    {"--export"},
                    BackendHandover::kConnectedFd,
                    /*standby=*/true,
                    /*polls=*/true,
                    /*synchronous=*/true};
  const auto spec = FromProto(proto);
  ASSERT_OK(spec);
  EXPECT_EQ(EncodeSpec(*spec), EncodeSpec(wanted));
}

TEST(Translate, ValuesOfALaterReleaseAreRefusedByName) {
  v1::LaunchSpec proto;
  proto.add_resources()->set_kind(static_cast<v1::Resource::Kind>(9));
  EXPECT_THAT(FromProto(proto), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("resources[0].kind")));
  EXPECT_THAT(
      FromProto(static_cast<v1::Fault>(9)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("release")));
  EXPECT_THAT(
      FromProto(static_cast<v1::FaultTarget>(9)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("release")));
}

TEST(Translate, HugeDurationsAreRefusedAndDoNotOverflow) {
  v1::LaunchSpec proto;
  proto.set_name("disk0");
  proto.set_binary("/bin/disk");
  proto.mutable_restart()->set_backoff_max_ms(UINT64_MAX);
  const auto spec = FromProto(proto);
  ASSERT_OK(spec);
  EXPECT_THAT(ValidateSpec(*spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("restart.backoff_max")));
}

TEST(Translate, FaultsAndTargetsKeepTheirMeaning) {
  for (int i = v1::Fault_MIN; i <= v1::Fault_MAX; ++i) {
    const auto fault = FromProto(static_cast<v1::Fault>(i));
    ASSERT_OK(fault);
    EXPECT_EQ(static_cast<int>(*fault), i);
  }
  for (int i = v1::FaultTarget_MIN; i <= v1::FaultTarget_MAX; ++i) {
    const auto target = FromProto(static_cast<v1::FaultTarget>(i));
    ASSERT_OK(target);
    EXPECT_EQ(static_cast<int>(*target), i);
  }
}

TEST(Translate, StatusKeepsListsAndNumbers) {
  InstanceStatus status;
  status.name = "disk0";
  status.state = "RUNNING";
  status.active_pid = 7;
  status.standby_ready = true;
  status.epoch = 3;
  status.max_recovery_us = 99;
  status.median_recovery_us = 66;
  EXPECT_FALSE(ToProto(status).has_last_exit());
  status.last_exit_cause = "SIGKILL";
  status.last_exit_pid = 6;
  status.last_exit_unix_ns = 1234567;
  status.restarts = {{"SIGKILL", 2}};
  status.degraded = {"degraded: x"};
  const v1::InstanceStatus proto = ToProto(status);
  EXPECT_EQ(proto.name(), "disk0");
  EXPECT_EQ(proto.active_pid(), 7);
  EXPECT_TRUE(proto.standby_ready());
  EXPECT_EQ(proto.epoch(), 3u);
  EXPECT_EQ(proto.max_recovery_us(), 99u);
  EXPECT_EQ(proto.median_recovery_us(), 66u);
  EXPECT_EQ(proto.last_exit().ShortDebugString(),
            "cause: \"SIGKILL\" pid: 6 unix_ns: 1234567");
  ASSERT_EQ(proto.restarts_size(), 1);
  EXPECT_EQ(proto.restarts(0).cause(), "SIGKILL");
  EXPECT_EQ(proto.restarts(0).count(), 2u);
  EXPECT_THAT(proto.degraded(), ElementsAre("degraded: x"));
  EXPECT_FALSE(proto.has_backend());
  status.backend = {
      "/usr/bin/qemu-storage-daemon", "LIVING", 8, 9, 3, "shadow"};
  EXPECT_EQ(ToProto(status).backend().ShortDebugString(),
            "binary: \"/usr/bin/qemu-storage-daemon\" state: \"LIVING\" pid: 8 "
            "spare_pid: 9 lives: 3 tracking: \"shadow\"");
}

TEST(Translate, ProcessKeepsEverything) {
  EXPECT_EQ(
      ToProto(ServantStatus{"api", 7, 2, "hung", {"d"}}).ShortDebugString(),
      "name: \"api\" pid: 7 lost: 2 last_loss: \"hung\" degraded: \"d\"");
}

TEST(Translate, EventKeepsEverything) {
  LaunchEvent event;
  event.sequence = 5;
  event.unix_ns = 6;
  event.type = "promoted";
  event.instance = "disk0";
  event.pid = 7;
  event.cause = "SIGKILL";
  event.microseconds = 8;
  event.detail = "d";
  EXPECT_EQ(ToProto(event).ShortDebugString(),
            "sequence: 5 unix_ns: 6 type: \"promoted\" instance: \"disk0\" "
            "pid: 7 cause: \"SIGKILL\" microseconds: 8 detail: \"d\"");
}

}  // namespace
}  // namespace holdfast::launcher
