#include "launcher/cli/profile.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cli/files.h"
#include "launcher/cli/render.h"

namespace holdfast::cli {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kBlockdev[] =
    "driver=file,node-name=d,locking=off,filename=/srv/disk0.img";
constexpr char kExport[] = "type=vhost-user-blk,id=e,node-name=d,writable=on";

auto Refused(const std::string& text) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text));
}

// One that is shipped.
v1::Profile Shipped(const std::string& name) {
  const std::string path =
      absl::StrCat("launcher/profiles/", name, ".textproto");
  const auto text = ReadFile(path, kMaxProfileFile);
  EXPECT_OK(text);
  const auto profile = ParseProfile(text.value_or(""), path);
  EXPECT_OK(profile);
  return profile.value_or(v1::Profile());
}

v1::Profile Parsed(const std::string& text) {
  const auto profile = ParseProfile("summary: 'p' " + text, "p");
  EXPECT_OK(profile);
  return profile.value_or(v1::Profile());
}

Wrapping Of(const std::string& program, std::vector<std::string> args) {
  Wrapping wrapping;
  wrapping.name = "disk0";
  wrapping.socket_path = "/run/holdfast/disk0.sock";
  wrapping.keeper = "/usr/lib/holdfast/holdfast-keeper";
  wrapping.policy_directory = "/usr/lib/holdfast/policies";
  wrapping.program = program;
  wrapping.args = std::move(args);
  return wrapping;
}

Wrapping StorageDaemon(const std::string& blockdev, const std::string& what) {
  return Of("/usr/bin/qemu-storage-daemon",
            {"--blockdev", blockdev, "--export", what});
}

// The arguments that the back-end gets.
std::vector<std::string> ArgumentsOf(const v1::Profile& profile,
                                     std::vector<std::string> args) {
  const auto spec = WrappedSpec(profile, Of("/bin/b", std::move(args)));
  EXPECT_OK(spec);
  if (!spec.ok()) return {};
  return {spec->backend().args().begin(), spec->backend().args().end()};
}

// ---- What is shipped ----

TEST(ShippedProfile, MakesTheSpecOfTheGoldenFile) {
  std::string text;
  const auto add = [&](const std::string& name, const Wrapping& wrapping) {
    const auto spec = WrappedSpec(Shipped(name), wrapping);
    ASSERT_OK(spec);
    absl::StrAppend(&text, "# ", name, "\n", RenderText(*spec), "\n");
  };
  add("qemu-storage-daemon", StorageDaemon(kBlockdev, kExport));
  add("vhost-user", Of("/usr/bin/vhost-device-rng", {"--period=10"}));
  add("vhost-user-path", Of("/usr/bin/vhost-device-rng", {"--period=10"}));
  add("dpdk-testpmd", Of("/usr/bin/dpdk-testpmd", {"--vdev=net_vhost0", "--"}));
  add("vhost-device-vsock",
      Of("/usr/bin/vhost-device-vsock", {"--uds-path=/s"}));
  const auto golden = ReadFile("launcher/cli/golden/profile.txt", 1 << 16);
  ASSERT_OK(golden);
  EXPECT_EQ(text, *golden);
}

TEST(ShippedProfile, SaysWhatItIsFor) {
  int count = 0;
  for (const auto& file :
       std::filesystem::directory_iterator("launcher/profiles")) {
    if (file.path().extension() != ".textproto") continue;
    ++count;
    const v1::Profile profile = Shipped(file.path().stem().string());
    EXPECT_FALSE(profile.summary().empty());
    EXPECT_FALSE(profile.notes().empty());
  }
  EXPECT_EQ(count, 8);
}

TEST(ShippedProfile, SaysWhyAProgramIsNotWrapped) {
  for (const char* name : {"virtiofsd", "passt", "vhost-user-gpu"}) {
    EXPECT_THAT(WrappedSpec(Shipped(name), Of("/usr/bin/it", {})),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr("/usr/bin/it is not wrapped: "),
                               HasSubstr("the process"))));
  }
}

TEST(ShippedProfile, AProgramThatListensAtAPathIsToldOne) {
  EXPECT_THAT(
      WrappedSpec(Shipped("dpdk-testpmd"),
                  Of("/usr/bin/dpdk-testpmd", {"--vdev=net_vhost0,iface=/s"})),
      AllOf(Refused("names a socket of its own"),
            Refused("takes the path that it listens at, as in "
                    "',iface={path}'")));
  // A descriptor is no path.
  EXPECT_THAT(ParseProfile("summary: 's' handover: LISTENING_PATH "
                           "socket { text: '--fd={fd}' }",
                           "f"),
              Refused("socket.text: has no {path}"));
}

TEST(StorageDaemonProfile, RefusesASecondOneThatCannotOpenTheImage) {
  const v1::Profile profile = Shipped("qemu-storage-daemon");
  for (const char* locked :
       {"driver=file,node-name=d,filename=/srv/disk0.img",
        "driver=file,node-name=d,locking=auto,filename=/srv/disk0.img",
        "{\"driver\": \"file\", \"filename\": \"/srv/disk0.img\"}"}) {
    Wrapping wrapping = StorageDaemon(locked, kExport);
    EXPECT_THAT(WrappedSpec(profile, wrapping),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(StartsWith(absl::StrCat("'", locked, "': ")),
                               HasSubstr("add locking=off"),
                               HasSubstr("--no-standby"))));
    wrapping.no_standby = true;
    const auto alone = WrappedSpec(profile, wrapping);
    ASSERT_OK(alone);
    EXPECT_FALSE(alone->backend().standby());
  }
}

TEST(StorageDaemonProfile, RefusesASecondOneOfAFormatWithTables) {
  const v1::Profile profile = Shipped("qemu-storage-daemon");
  for (const char* format :
       {"driver=qcow2,node-name=d,file.driver=file,file.locking=off,"
        "file.filename=/srv/disk0.qcow2",
        "{\"driver\":\"qcow2\", \"file\": \"d\"}"}) {
    EXPECT_THAT(WrappedSpec(profile, StorageDaemon(format, kExport)),
                Refused("use a raw image, or --no-standby"));
  }
}

TEST(StorageDaemonProfile, TakesJsonThatSaysTheSame) {
  EXPECT_OK(WrappedSpec(
      Shipped("qemu-storage-daemon"),
      StorageDaemon("{\"driver\": \"file\", \"node-name\": \"d\", \"locking\": "
                    "\"off\", \"filename\": \"/srv/disk0.img\"}",
                    kExport)));
}

TEST(StorageDaemonProfile, RefusesAnExportWithASocketOfItsOwn) {
  const v1::Profile profile = Shipped("qemu-storage-daemon");
  EXPECT_THAT(
      WrappedSpec(profile, StorageDaemon(kBlockdev,
                                         "type=vhost-user-blk,id=e,node-name=d,"
                                         "addr.type=unix,addr.path=/s")),
      AllOf(Refused("names a socket of its own"),
            Refused("as in ',addr.type=fd,addr.str={fd}'")));
  EXPECT_THAT(WrappedSpec(profile, StorageDaemon(kBlockdev, "type=nbd,id=e")),
              Refused("0 hold 'type=vhost-user-blk'"));
  Wrapping two = StorageDaemon(kBlockdev, kExport);
  two.args.insert(two.args.end(), {"--export", kExport});
  EXPECT_THAT(WrappedSpec(profile, two),
              Refused("2 hold 'type=vhost-user-blk'"));
  EXPECT_THAT(WrappedSpec(profile, StorageDaemon(
                                       kBlockdev,
                                       "{\"type\": \"vhost-user-blk\", \"id\": "
                                       "\"e\", \"node-name\": \"d\"}")),
              Refused("has no {fd}"));
}

// ---- Any profile ----

TEST(Profile, TheDescriptorStandsWhereTheArgumentsSay) {
  EXPECT_THAT(ArgumentsOf(Parsed(""), {"--socket", "{fd}"}),
              ElementsAre("--socket", "{fd}"));
  EXPECT_THAT(ArgumentsOf(Parsed("socket { text: '--fd={fd}' }"),
                          {"-s", "fd:{fd}", "-v"}),
              ElementsAre("-s", "fd:{fd}", "-v"));
}

TEST(Profile, TheDescriptorIsPutWhereTheProfileSays) {
  EXPECT_THAT(ArgumentsOf(Parsed("socket { text: '--fd={fd}' }"), {"-v"}),
              ElementsAre("-v", "--fd={fd}"));
  EXPECT_THAT(
      ArgumentsOf(Parsed("socket { text: ',fd={fd}' end_of: 'type=vu' }"),
                  {"-e", "type=vu,id=1", "-v"}),
      ElementsAre("-e", "type=vu,id=1,fd={fd}", "-v"));
}

TEST(Profile, WithoutAPlaceForTheDescriptorItIsAskedFor) {
  EXPECT_THAT(WrappedSpec(Parsed(""), Of("/bin/b", {"-v"})),
              Refused("no argument holds {fd}: say where the program takes"));
}

TEST(Profile, AProgramMayHangForSoLong) {
  const auto spec = WrappedSpec(
      Parsed("socket { text: '{fd}' } hang_seconds: 60"), Of("/bin/b", {}));
  ASSERT_OK(spec);
  EXPECT_THAT(spec->args(),
              ElementsAre("--tracking=offered", "--hang-ms=60000"));
}

TEST(Profile, AProgramThatPollsIsSaidTo) {
  const auto polling = WrappedSpec(
      Parsed("socket { text: '{fd}' } polls: true"), Of("/bin/b", {}));
  ASSERT_OK(polling);
  EXPECT_TRUE(polling->backend().polls());
  const auto waiting =
      WrappedSpec(Parsed("socket { text: '{fd}' }"), Of("/bin/b", {}));
  ASSERT_OK(waiting);
  EXPECT_FALSE(waiting->backend().polls());
}

TEST(Profile, WhatWorksBesideItsThreadsIsNotSynchronous) {
  const auto synchronous = [](const std::string& profile,
                              const std::string& arg) {
    const auto spec = WrappedSpec(Parsed("socket { text: '{fd}' } " + profile),
                                  Of("/bin/b", {arg}));
    EXPECT_OK(spec);
    return spec.ok() && spec->backend().synchronous();
  };
  const std::string profile = "synchronous: true asynchronous: 'aio=native'";
  EXPECT_FALSE(synchronous("", "aio=threads"));
  EXPECT_TRUE(synchronous(profile, "driver=file,aio=threads"));
  EXPECT_FALSE(synchronous(profile, "driver=file,aio=native"));
  EXPECT_FALSE(synchronous(profile,
                           "{\"driver\": \"file\", "
                           "\"aio\": \"native\"}"));
}

TEST(Profile, BitsThatAreMaskedBecomeTheKeepersMasks) {
  const auto spec = WrappedSpec(
      Parsed("masked_features: [0, 34] masked_protocol_features: 63 "
             "config_may_differ: [1, 3] "
             "socket { text: '{fd}' } tracking: IN_ORDER "
             "handover: CONNECTED_FD keeper_policy: 'mine.policy'"),
      Of("/bin/b", {}));
  ASSERT_OK(spec);
  EXPECT_THAT(spec->args(),
              ElementsAre("--tracking=in-order", "--mask-features=17179869185",
                          "--mask-protocol-features=9223372036854775808",
                          "--config-may-differ=10"));
  EXPECT_EQ(spec->backend().handover(), v1::Backend::CONNECTED_FD);
  EXPECT_EQ(spec->policy(), "/usr/lib/holdfast/policies/mine.policy");
}

TEST(Profile, EveryTrackingHasItsWord) {
  const std::pair<const char*, const char*> kWords[] = {
      {"OFFERED", "offered"},
      {"FORCED", "forced"},
      {"IN_ORDER", "in-order"},
      {"SHADOW", "shadow"}};
  for (const auto& [tracking, word] : kWords) {
    const auto spec = WrappedSpec(
        Parsed(absl::StrCat("socket { text: '{fd}' } tracking: ", tracking)),
        Of("/bin/b", {}));
    ASSERT_OK(spec);
    EXPECT_THAT(spec->args(), ElementsAre(absl::StrCat("--tracking=", word)));
  }
}

TEST(Profile, EveryKickBackHasItsWord) {
  const std::pair<const char*, const char*> kWords[] = {
      {"BLOCK", "block"}, {"SCSI", "scsi"}, {"NOTHING", "nothing"}};
  for (const auto& [kick_back, word] : kWords) {
    const auto spec = WrappedSpec(
        Parsed(absl::StrCat("socket { text: '{fd}' } tracking: SHADOW ",
                            "kick_back: ", kick_back)),
        Of("/bin/b", {}));
    ASSERT_OK(spec);
    EXPECT_THAT(spec->args(), ElementsAre("--tracking=shadow",
                                          absl::StrCat("--kick-back=", word)));
  }
}

TEST(Profile, ThereIsNoStandbyUnlessItSaysSo) {
  const auto spec = WrappedSpec(
      Parsed("socket { text: '{fd}' } standby_rules { argument: 'x' reason: "
             "'no' }"),
      Of("/bin/b", {"x"}));
  ASSERT_OK(spec);
  EXPECT_FALSE(spec->backend().standby());
}

TEST(Profile, MistakesNameFileAndField) {
  const struct {
    const char* text;
    const char* said;
  } kCases[] = {
      {"", "mine: summary: give one line"},
      {"summary: 'a\\nb'", "mine: summary: give one line"},
      {"summary: 'a'\ntracing: FORCED", "mine:2:"},
      {"summary: 'a'\ntracking: SOMETIMES", "mine:2:"},
      {"summary: 'a'\nbogus: 1", "see protos/profile.proto"},
      {"summary: 'a' socket { text: '--fd=' }", "mine: socket.text: has no"},
      {"summary: 'a' socket { end_of: 'x' }", "mine: socket.text: has no"},
      {"summary: 'a' masked_features: 64", "masked_features: 64 is no number"},
      {"summary: 'a' masked_protocol_features: 99", "99 is no number"},
      {"summary: 'a' config_may_differ: 64", "64 is no number"},
      {"summary: 'a' standby_rules { argument: 'x' }",
       "each needs an argument and a reason"},
      {"summary: 'a' standby_rules { reason: 'x' }",
       "each needs an argument and a reason"},
      {"summary: 'a' keeper_policy: '../p'", "without a path"},
      {"summary: 'a' hang_seconds: 86401", "hang_seconds: 86401 is more"},
      {"summary: 'a' asynchronous: 'x'", "asynchronous: each is a part"},
      {"summary: 'a' synchronous: true asynchronous: ''",
       "asynchronous: each is a part"},
  };
  for (const auto& mistake : kCases) {
    EXPECT_THAT(ParseProfile(mistake.text, "mine"), Refused(mistake.said))
        << mistake.text;
  }
}

TEST(Profiles, AreATable) {
  v1::ProfileList list;
  for (const char* name : {"a", "longer-name"}) {
    v1::ProfileList::Entry& entry = *list.add_profiles();
    entry.set_name(name);
    entry.mutable_profile()->set_summary("what it is");
  }
  EXPECT_EQ(RenderProfiles(list),
            "NAME         SUMMARY\n"
            "a            what it is\n"
            "longer-name  what it is\n");
}

}  // namespace
}  // namespace holdfast::cli
