#include "launcher/spec.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

LaunchSpec DiskSpec() {
  LaunchSpec spec;
  spec.name = "disk-0";
  spec.binary = "/usr/lib/holdfast/virtio-blk";
  spec.args = {"--queues=4", ""};
  spec.socket_path = "/run/vm/disk0.sock";
  spec.socket_owner = "libvirt-qemu";
  spec.socket_group = "104";
  spec.socket_mode = 0660;
  spec.resources.push_back({"image", "/srv/disk.img"});
  spec.resources.push_back({"base", "/dev/vg/base", ResourceAccess::kReadOnly,
                            ResourceKind::kBlockDevice, ResourceLock::kShared,
                            /*direct=*/true});
  spec.segment_bytes = 65536;
  spec.uid = 70001;
  spec.policy = "/usr/share/holdfast/virtio_blk.policy";
  spec.confined = false;
  spec.standby = false;
  spec.realtime_priority = 5;
  spec.restart.budget = 3;
  spec.group_limits = {64 << 20, 100, 150};
  return spec;
}

LaunchSpec WrappedSpec() {
  LaunchSpec spec = DiskSpec();
  spec.backend.binary = "/usr/bin/qemu-storage-daemon";
  spec.backend.args = {"--export", "addr.str={fd}"};
  spec.backend.handover = BackendHandover::kConnectedFd;
  spec.backend.standby = true;
  spec.backend.polls = true;
  spec.backend.synchronous = true;
  return spec;
}

TEST(Spec, ReadsBackWhatWasEncoded) {
  const std::vector<uint8_t> bytes = EncodeSpec(DiskSpec());
  const absl::StatusOr<LaunchSpec> spec = DecodeSpec(bytes);
  ASSERT_OK(spec);
  EXPECT_EQ(spec->name, "disk-0");
  EXPECT_THAT(spec->args, ElementsAre("--queues=4", ""));
  EXPECT_EQ(spec->socket_owner, "libvirt-qemu");
  EXPECT_EQ(spec->socket_group, "104");
  EXPECT_EQ(spec->socket_mode, 0660u);
  EXPECT_EQ(spec->resources[1].path, "/dev/vg/base");
  EXPECT_EQ(spec->resources[1].kind, ResourceKind::kBlockDevice);
  EXPECT_EQ(spec->resources[1].lock, ResourceLock::kShared);
  EXPECT_FALSE(spec->resources[0].direct);
  EXPECT_TRUE(spec->resources[1].direct);
  EXPECT_EQ(spec->restart.budget, 3u);
  EXPECT_EQ(spec->group_limits.memory, uint64_t{64} << 20);
  EXPECT_EQ(spec->group_limits.tasks, 100u);
  EXPECT_EQ(spec->group_limits.cpu_percent, 150u);
  // Every field: what is encoded again is the same.
  EXPECT_EQ(EncodeSpec(*spec), bytes);
}

// The bytes of a version never change; a new field is a new version.
TEST(Spec, EncodingOfVersion7IsPinned) {
  LaunchSpec spec;
  spec.name = "a";
  spec.binary = "/b";
  const std::vector<uint8_t> bytes = EncodeSpec(spec);
  ASSERT_EQ(bytes.size(), 139u);
  EXPECT_THAT(std::vector<uint8_t>(bytes.begin(), bytes.begin() + 13),
              ElementsAre('H', 'F', 'S', 'P', 7, 0, 1, 0, 'a', 2, 0, '/', 'b'));
}

TEST(Spec, ReadsBackAWrappedProgram) {
  const std::vector<uint8_t> bytes = EncodeSpec(WrappedSpec());
  const absl::StatusOr<LaunchSpec> spec = DecodeSpec(bytes);
  ASSERT_OK(spec);
  EXPECT_EQ(spec->backend.binary, "/usr/bin/qemu-storage-daemon");
  EXPECT_THAT(spec->backend.args, ElementsAre("--export", "addr.str={fd}"));
  EXPECT_EQ(spec->backend.handover, BackendHandover::kConnectedFd);
  EXPECT_TRUE(spec->backend.standby);
  EXPECT_TRUE(spec->backend.polls);
  EXPECT_TRUE(spec->backend.synchronous);
  EXPECT_EQ(EncodeSpec(*spec), bytes);
}

// As the record of a launcher before has it.
TEST(Spec, VersionsBeforeKnowLessOfAWrappedProgram) {
  LaunchSpec spec = WrappedSpec();
  spec.backend.polls = spec.backend.synchronous = false;
  const std::vector<uint8_t> bytes = EncodeSpec(spec);
  std::vector<uint8_t> old = bytes;
  for (const uint8_t version : {6, 5}) {
    old[4] = version;
    EXPECT_FALSE(DecodeSpec(old).ok()) << int{version};
    old.pop_back();
    const absl::StatusOr<LaunchSpec> read = DecodeSpec(old);
    ASSERT_OK(read);
    EXPECT_EQ(EncodeSpec(*read), bytes) << int{version};
  }
}

// Bytes of a spec that wraps nothing: binary, arguments, four choices.
constexpr size_t kNoBackendBytes = 8;

// As the record of a launcher before has it.
TEST(Spec, Version4WrapsNothing) {
  const std::vector<uint8_t> bytes = EncodeSpec(DiskSpec());
  std::vector<uint8_t> old = bytes;
  old[4] = 4;
  EXPECT_FALSE(DecodeSpec(old).ok());
  old.resize(old.size() - kNoBackendBytes);
  const absl::StatusOr<LaunchSpec> read = DecodeSpec(old);
  ASSERT_OK(read);
  EXPECT_EQ(EncodeSpec(*read), bytes);
}

TEST(Spec, AWrappedProgramIsChecked) {
  LaunchSpec spec = WrappedSpec();
  spec.backend.binary = "qemu-storage-daemon";
  EXPECT_THAT(ValidateSpec(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("backend.binary: 'qemu-storage-daemon' is "
                                 "not absolute")));
  spec.backend.binary = "";
  EXPECT_THAT(ValidateSpec(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("backend.binary: is "
                                                     "empty")));
  spec = WrappedSpec();
  spec.backend.args.assign(kMaxArguments + 1, "x");
  EXPECT_THAT(ValidateSpec(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                           StartsWith("backend.args: has 65")));
  spec = WrappedSpec();
  spec.resources[1].name = "backend";
  EXPECT_THAT(ValidateSpec(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       StartsWith("resources[1].name: is taken")));
  spec = WrappedSpec();
  spec.resources.clear();
  for (size_t i = 0; i < kMaxResources; ++i) {
    spec.resources.push_back({absl::StrCat("r", i), "/r"});
  }
  EXPECT_THAT(ValidateSpec(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                           StartsWith("resources: has 15")));
}

// As the record of a launcher before has it.
TEST(Spec, Version3HasNoDirectResources) {
  LaunchSpec spec = DiskSpec();
  spec.resources[1].direct = false;
  const std::vector<uint8_t> bytes = EncodeSpec(spec);
  std::vector<uint8_t> old = bytes;
  old[4] = 3;
  old.resize(old.size() - kNoBackendBytes);
  for (const ResourceSpec& resource : spec.resources) {
    const auto path = std::search(old.begin(), old.end(), resource.path.begin(),
                                  resource.path.end());
    ASSERT_NE(path, old.end());
    // Behind access, kind and lock.
    old.erase(path + static_cast<ptrdiff_t>(resource.path.size()) + 3);
  }
  const absl::StatusOr<LaunchSpec> read = DecodeSpec(old);
  ASSERT_OK(read);
  EXPECT_EQ(EncodeSpec(*read), bytes);
  for (uint8_t version : {2, 4, 5, 6, 7}) {
    old[4] = version;
    EXPECT_FALSE(DecodeSpec(old).ok()) << int{version};
  }
}

TEST(Spec, EveryTruncationIsRefused) {
  const std::vector<uint8_t> bytes = EncodeSpec(DiskSpec());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeSpec(absl::MakeConstSpan(bytes.data(), size)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("")))
        << size;
  }
}

TEST(Spec, BytesAfterTheEndAreRefused) {
  std::vector<uint8_t> bytes = EncodeSpec(DiskSpec());
  bytes.push_back(0);
  EXPECT_THAT(DecodeSpec(bytes), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("malformed")));
}

TEST(Spec, UnknownVersionIsNamed) {
  std::vector<uint8_t> bytes = EncodeSpec(DiskSpec());
  bytes[4] = 9;
  EXPECT_THAT(DecodeSpec(bytes), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("version 9")));
}

TEST(Spec, OversizedBytesAreRefusedUnread) {
  EXPECT_THAT(
      DecodeSpec(std::vector<uint8_t>(kMaxSpecBytes + 1)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 32768")));
}

struct Mistake {
  const char* message;  // How it begins: the field.
  std::function<void(LaunchSpec&)> make;
};

class SpecMistake : public ::testing::TestWithParam<Mistake> {};

TEST_P(SpecMistake, IsRefusedWithItsField) {
  LaunchSpec spec = DiskSpec();
  GetParam().make(spec);
  EXPECT_THAT(ValidateSpec(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                           StartsWith(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, SpecMistake,
    ::testing::Values(
        Mistake{"name: ''", [](LaunchSpec& s) { s.name = ""; }},
        Mistake{"name: 'Disk'", [](LaunchSpec& s) { s.name = "Disk"; }},
        Mistake{"name: '../x'", [](LaunchSpec& s) { s.name = "../x"; }},
        Mistake{"name: ", [](LaunchSpec& s) { s.name.assign(33, 'a'); }},
        Mistake{"binary: is empty", [](LaunchSpec& s) { s.binary = ""; }},
        Mistake{"binary: 'sh' is not absolute",
                [](LaunchSpec& s) { s.binary = "sh"; }},
        Mistake{"args: has 65", [](LaunchSpec& s) { s.args.resize(65); }},
        Mistake{"args[1]: is longer",
                [](LaunchSpec& s) { s.args[1].assign(1025, 'x'); }},
        Mistake{"args[0]: contains a NUL",
                [](LaunchSpec& s) { s.args[0].push_back('\0'); }},
        Mistake{"socket_path: is 108 bytes",
                [](LaunchSpec& s) { s.socket_path = std::string(108, '/'); }},
        Mistake{"socket_owner: 'a b' is no name",
                [](LaunchSpec& s) { s.socket_owner = "a b"; }},
        Mistake{"socket_group: 'x?y' is no name",
                [](LaunchSpec& s) { s.socket_group = "x\ny"; }},
        Mistake{"socket_owner: ",
                [](LaunchSpec& s) { s.socket_owner.assign(33, 'a'); }},
        Mistake{"socket_mode: 660 is 01224: write it in octal",
                [](LaunchSpec& s) { s.socket_mode = 660; }},
        Mistake{"socket_mode: 511 is 0777",
                [](LaunchSpec& s) { s.socket_mode = 0777; }},
        Mistake{"socket_owner: needs a socket_path",
                [](LaunchSpec& s) { s.socket_path.clear(); }},
        Mistake{"socket_mode: needs a socket_path",
                [](LaunchSpec& s) {
                  s.socket_path.clear();
                  s.socket_owner.clear();
                  s.socket_group.clear();
                }},
        Mistake{"resources: has 16",
                [](LaunchSpec& s) { s.resources.resize(16); }},
        Mistake{"resources[0].name: 'A=B'",
                [](LaunchSpec& s) { s.resources[0].name = "A=B"; }},
        Mistake{"resources[1].name: 'image' stands twice",
                [](LaunchSpec& s) { s.resources[1].name = "image"; }},
        Mistake{"resources[0].path: 'disk.img' is not absolute: give the",
                [](LaunchSpec& s) { s.resources[0].path = "disk.img"; }},
        Mistake{"resources[0].path: contains a NUL",
                [](LaunchSpec& s) { s.resources[0].path.push_back('\0'); }},
        Mistake{
            "resources[0].lock: is shared",
            [](LaunchSpec& s) { s.resources[0].lock = ResourceLock::kShared; }},
        Mistake{"segment_bytes: 4097",
                [](LaunchSpec& s) { s.segment_bytes = 4097; }},
        Mistake{"segment_bytes: 0", [](LaunchSpec& s) { s.segment_bytes = 0; }},
        Mistake{"limits.open_files",
                [](LaunchSpec& s) { s.limits.open_files = 3; }},
        Mistake{"limits.threads", [](LaunchSpec& s) { s.limits.threads = 0; }},
        Mistake{"group_limits.memory: 4096 is out of range",
                [](LaunchSpec& s) { s.group_limits.memory = 4096; }},
        Mistake{"group_limits.tasks: is out of range",
                [](LaunchSpec& s) { s.group_limits.tasks = 1; }},
        Mistake{"group_limits.cpu_percent: is above 100000",
                [](LaunchSpec& s) { s.group_limits.cpu_percent = 100001; }},
        Mistake{"policy: 'x' is not absolute",
                [](LaunchSpec& s) { s.policy = "x"; }},
        Mistake{"realtime_priority",
                [](LaunchSpec& s) { s.realtime_priority = 50; }},
        Mistake{"restart.backoff_max: -1ns",
                [](LaunchSpec& s) {
                  s.restart.backoff_max = -absl::Nanoseconds(1);
                }},
        Mistake{"restart.budget",
                [](LaunchSpec& s) { s.restart.budget = 2000000; }}));

// Whoever forgets the 0 in front is told.
TEST(Spec, NoPermissionsInDecimalAreTakenForOthers) {
  for (uint32_t digits = 600; digits <= 677; ++digits) {
    LaunchSpec spec = DiskSpec();
    spec.socket_mode = digits;
    EXPECT_FALSE(ValidateSpec(spec).ok()) << digits;
  }
}

TEST(Spec, ControlCharactersNeverReachAMessage) {
  LaunchSpec spec = DiskSpec();
  spec.name = "x\nE holdfastd: forged";
  EXPECT_THAT(ValidateSpec(spec).message(), ::testing::Not(HasSubstr("\n")));
}

TEST(Spec, LargestSpecFitsItsLimit) {
  LaunchSpec spec = DiskSpec();
  spec.args.clear();
  spec.resources.clear();
  for (size_t i = 0; i < kMaxResources; ++i) {
    spec.resources.push_back(
        {"r" + std::to_string(i), "/" + std::string(kMaxPath - 1, 'x')});
  }
  for (int i = 0; i < 10; ++i) spec.args.emplace_back(kMaxArgument, 'a');
  ASSERT_OK(ValidateSpec(spec));
  EXPECT_OK(DecodeSpec(EncodeSpec(spec)));
}

}  // namespace
}  // namespace holdfast::launcher
