// What the command line says to a person: of a launcher that does not run, of
// what is not there, of what was mistyped; what it completes; and events that
// are followed over the deaths of those who tell them.

#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cli/testing/cli_fixture.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kAsking[] = {"list",
                                   "status",
                                   "status d",
                                   "events",
                                   "events -f",
                                   "stop d",
                                   "restart d",
                                   "resize d",
                                   "state dump d",
                                   "inject d kill",
                                   "inject kill --target=core"};

TEST(CliAlone, SaysThatNobodyRunsWhereItLookedAndWhatToDo) {
  const testing::TempDir dir;
  for (const char* words : kAsking) {
    const Output output = Holdfast(dir.path(), words);
    EXPECT_EQ(output.status, 1) << words;
    EXPECT_THAT(output.text,
                AllOf(StartsWith("holdfast: holdfastd is not running: "),
                      HasSubstr(dir.path() + "/api.sock"),
                      HasSubstr("start it with --run-dir=" + dir.path()),
                      HasSubstr("--api=")))
        << words;
  }
  const Output elsewhere = Holdfast(dir.path() + "/nowhere", "list");
  EXPECT_EQ(elsewhere.status, 1);
  EXPECT_THAT(elsewhere.text, HasSubstr(dir.path() + "/nowhere/api.sock"));
}

TEST(CliAlone, SaysThatNobodyAnswersAtASocketThatWasLeft) {
  const testing::TempDir dir;
  ASSERT_EQ(Shell("python3 -c 'import socket; s = socket.socket(socket.AF_UNIX)"
                  "; s.bind(\"" +
                  dir.path() + "/api.sock\")'")
                .status,
            0);
  const Output list = Holdfast(dir.path(), "list");
  EXPECT_EQ(list.status, 1);
  EXPECT_THAT(list.text, AllOf(HasSubstr("holdfastd is not running"),
                               HasSubstr("nobody answers at " + dir.path())));
}

TEST(CliAlone, WrongUsageIsStatusTwoAndNamesTheWord) {
  const testing::TempDir dir;
  const struct {
    const char* words;
    const char* named;
  } kCases[] = {{"", "which command?"},
                {"fly", "no command 'fly': there is "},
                {"help fly", "no command 'fly'"},
                {"list --follow", "list: unknown option --follow"},
                {"stop",
                 "stop: too few arguments: holdfast stop INSTANCE (see "
                 "holdfast stop --help)"},
                {"stop a b", "stop: too many arguments"},
                {"events --since", "events: --since needs a value"},
                {"state", "state: dump or diff?"},
                {"inject d hug", "'hug' is none of kill, stop, segv"},
                {"completion fish", "is none of bash, zsh"},
                {"profile", "profile: list, show or new?"},
                {"run --profile=x", "run: --profile needs -- PROGRAM"},
                {"run -- x", "needs --profile"}};
  for (const auto& usage : kCases) {
    const Output output = Holdfast(dir.path(), usage.words);
    EXPECT_EQ(output.status, 2) << usage.words;
    EXPECT_THAT(output.text,
                AllOf(StartsWith("holdfast: "), HasSubstr(usage.named),
                      HasSubstr("--help)\n")));
  }
}

TEST(CliAlone, HelpOfEachCommandHasExamplesAndTheExitStatus) {
  const testing::TempDir dir;
  for (const char* words :
       {"--help", "help", "run --help", "list --help", "status -h",
        "events --help", "stop --help", "restart --help", "resize --help",
        "state --help", "state dump --help", "state diff --help",
        "inject --help", "completion --help", "help state diff",
        "profile --help"}) {
    const Output output = Holdfast(dir.path(), words);
    EXPECT_EQ(output.status, 0) << words;
    EXPECT_THAT(output.text,
                AllOf(StartsWith("usage: holdfast "), HasSubstr("examples:\n"),
                      HasSubstr("exit status: 0 done; 1 it failed")))
        << words;
  }
}

TEST(CliAlone, AFileThatIsNoSegmentIsNamedBeforeAnybodyIsAsked) {
  const testing::TempDir dir;
  const Output missing = Holdfast(dir.path(), "state diff d /no/such.seg");
  EXPECT_EQ(missing.status, 1);
  EXPECT_EQ(missing.text,
            "holdfast: /no/such.seg: cannot be read: No such file or "
            "directory\n");
  const std::string file = dir.File("text");
  std::ofstream(file) << "hello";
  const Output text = Holdfast(dir.path(), "state diff d " + file);
  EXPECT_EQ(text.status, 1);
  EXPECT_THAT(text.text, AllOf(HasSubstr(file + ": is no segment: has 5 bytes"),
                               HasSubstr("state dump INSTANCE --output=FILE")));
}

TEST(CliAlone, ProfilesLieBesideTheProgram) {
  const testing::TempDir dir;
  const Output list = Holdfast(dir.path(), "profile list");
  EXPECT_EQ(list.status, 0);
  EXPECT_THAT(list.text, AllOf(StartsWith("NAME "),
                               HasSubstr("\nqemu-storage-daemon  disks of"),
                               HasSubstr("\nvhost-user ")));
  const Output show = Holdfast(dir.path(), "profile show vhost-user");
  EXPECT_EQ(show.status, 0);
  EXPECT_THAT(show.text, HasSubstr("\nsocket { text: \"--fd={fd}\" }\n"));
  // A copy is a profile.
  const std::string mine = dir.File("mine.textproto");
  std::ofstream(mine) << show.text;
  const Output run = Holdfast(
      dir.path(), "run --print --name=d --profile=" + mine + " -- true -v");
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.text,
              AllOf(HasSubstr("/holdfast-keeper\"\n"),
                    HasSubstr("/policies/keeper.policy\"\n"),
                    HasSubstr("socket_path: \"" + dir.path() + "/d.sock\""),
                    HasSubstr("args: \"-v\"\n  args: \"--fd={fd}\"\n")));
}

TEST(CliAlone, WhatCannotBeWrappedIsSaidBeforeAnybodyIsAsked) {
  const testing::TempDir dir;
  const struct {
    const char* words;
    const char* said;
  } kCases[] = {
      {"--profile=fly -- true",
       "no profile 'fly': there is dpdk-testpmd, passt, qemu-storage-daemon, "
       "vhost-device-vsock, vhost-user, vhost-user-gpu, vhost-user-path, "
       "virtiofsd;"},
      {"--profile=virtiofsd -- true",
       "is not wrapped: what the guest has open"},
      {"--profile=vhost-user -- no-such-program",
       "no-such-program: no such program in PATH"},
      {"--profile=qemu-storage-daemon -- true --export type=nbd",
       "no argument holds {fd}"},
      {"--profile=qemu-storage-daemon -- true --blockdev filename=/i "
       "--export type=vhost-user-blk",
       "'filename=/i': a second process cannot open an image that is locked"}};
  for (const auto& wrong : kCases) {
    const Output run = Holdfast(dir.path(), std::string("run ") + wrong.words);
    EXPECT_EQ(run.status, 1) << wrong.words;
    EXPECT_THAT(run.text, HasSubstr(wrong.said));
  }
}

// A segment of the format's golden image, with `change` made.
class CliSegment : public ::testing::Test {
 protected:
  std::string Changed(const std::function<void(std::string&)>& change) const {
    std::ifstream golden("statestore/golden/v1.bin", std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(golden)), {});
    EXPECT_GT(bytes.size(), 8192u);
    change(bytes);
    std::ofstream(File(), std::ios::binary) << bytes;
    return File();
  }
  std::string File() const { return dir_.File("saved.seg"); }
  // Of a dump, and of a diff, which says the same of the file before anybody
  // is asked.
  Output Dump(const std::string& options = "") const {
    return Holdfast(dir_.path(), "state dump --input=" + File() + options);
  }
  Output Diff() const {
    return Holdfast(dir_.path(), "state diff disk0 " + File());
  }
  testing::TempDir dir_;
};

TEST_F(CliSegment, ThatWasSavedIsShown) {
  Changed([](std::string&) {});
  const Output dump = Dump();
  EXPECT_EQ(dump.status, 0) << dump.text;
  EXPECT_THAT(dump.text, StartsWith("verdict: whole\ndevice: "));
  const Output json = Dump(" --json");
  EXPECT_EQ(json.status, 0);
  EXPECT_THAT(json.text, StartsWith("{\"verdict\": \"whole\""));
}

TEST_F(CliSegment, OfGarbageIsNamedWithWhatIsWrong) {
  struct Garbage {
    const char* what;
    std::function<void(std::string&)> make;
  };
  std::mt19937 random(7);
  const Garbage all[] = {
      {": is no segment: segment: magic differs",
       [&random](std::string& bytes) {
         for (char& byte : bytes) byte = static_cast<char>(random());
       }},
      {": is no segment: segment: format version 9, this binary reads version ",
       [](std::string& bytes) { bytes[8] = 9; }},
      {": is no segment: segment: header checksum differs",
       [](std::string& bytes) { bytes[100] ^= 1; }},
      {": is no segment: segment: made for ",
       [](std::string& bytes) { bytes.resize(4096); }},
      {": is no segment: has 4095 bytes",
       [](std::string& bytes) { bytes.resize(4095); }},
      {": is no segment: has 0 bytes",
       [](std::string& bytes) { bytes.clear(); }}};
  for (const Garbage& garbage : all) {
    Changed(garbage.make);
    for (const Output& output : {Dump(), Dump(" --json"), Diff()}) {
      EXPECT_EQ(output.status, 1) << garbage.what;
      EXPECT_THAT(output.text,
                  AllOf(HasSubstr("holdfast: " + File() + garbage.what),
                        HasSubstr("state dump INSTANCE --output=FILE")));
    }
  }
}

// Whatever byte is wrong: it is whole, or said to be not, and nobody crashes.
TEST_F(CliSegment, WithAnyByteWrongIsJudged) {
  std::mt19937 random(11);
  int damaged = 0;
  for (int i = 0; i < 30; ++i) {
    Changed([&random](std::string& bytes) {
      bytes[random() % bytes.size()] ^= static_cast<char>(1 + random() % 255);
    });
    const Output dump = Dump();
    const bool whole = dump.text.compare(0, 14, "verdict: whole") == 0;
    EXPECT_EQ(dump.status, whole ? 0 : 1) << dump.text;
    if (!whole) ++damaged;
  }
  EXPECT_GT(damaged, 0);
}

TEST_F(CliSegment, OfZeroesHoldsNoState) {
  Changed([](std::string& bytes) { bytes.assign(8192, '\0'); });
  const Output dump = Dump();
  EXPECT_EQ(dump.status, 0);
  EXPECT_THAT(dump.text, StartsWith("verdict: empty\n"));
  const Output diff = Diff();
  EXPECT_EQ(diff.status, 1);
  EXPECT_THAT(diff.text, HasSubstr(": holds no state: its device has not "));
}

TEST_F(CliSegment, OfAnySizeDoesNotFillMemory) {
  const Output output = Holdfast(dir_.path(), "state dump --input=/dev/zero");
  EXPECT_EQ(output.status, 1);
  EXPECT_THAT(output.text,
              HasSubstr("/dev/zero: has more than 268435456 bytes"));
}

using Words = CliTest;

TEST_F(Words, NamesTheInstancesThatThereAre) {
  AwaitApi();
  EXPECT_EQ(Holdfast("stop disk0").text,
            "holdfast: no instance 'disk0': there is none at all\n");
  for (const char* name : {"disk0", "disk1"}) {
    ASSERT_EQ(Holdfast("run " + SpecFile(name)).status, 0);
    ASSERT_OK(launcher_.AwaitWhole(name));
  }
  for (const char* words :
       {"stop disc0", "status disc0", "restart disc0", "resize disc0",
        "state dump disc0", "inject disc0 kill"}) {
    const Output output = Holdfast(words);
    EXPECT_EQ(output.status, 1) << words;
    EXPECT_EQ(output.text,
              "holdfast: no instance 'disc0': there is disk0, disk1\n")
        << words;
  }
}

// Of a launcher that runs: not that it does not.
TEST_F(Words, WhoIsNotRootIsToldSo) {
  AwaitApi();
  // Where everybody may read it.
  const std::string program = launcher_.File("holdfast");
  ASSERT_EQ(Shell("cp " + Runfile("launcher/cli/holdfast") + " " + program +
                  " && chmod 755 " + program)
                .status,
            0);
  const Output list =
      Shell("setpriv --reuid=65534 --regid=65534 --clear-groups " + program +
            " list --run-dir=" + RunDir() + " 2>&1");
  EXPECT_EQ(list.status, 1);
  EXPECT_EQ(list.text, "holdfast: " + RunDir() +
                           "/api.sock: not permitted: only root may use it\n");
}

TEST_F(Words, SaysWhatAnInjectionHit) {
  AwaitApi();
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  EXPECT_EQ(
      Holdfast("inject disk0 stop").text,
      "hung the active process of disk0; to end it: holdfast inject disk0 "
      "kill\n");
  EXPECT_EQ(Holdfast("inject disk0 kill").text,
            "killed the active process of disk0\n");
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  EXPECT_EQ(Holdfast("inject disk0 segv --target=standby").text,
            "crashed the standby process of disk0\n");
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  EXPECT_EQ(Holdfast("inject kill --target=store").text, "killed the store\n");
  const LaunchSpec spec = launcher_.Spec("disk1", {"--never-ready"});
  ASSERT_OK(launcher_.Run(spec));
  const Output none = Holdfast("inject disk1 kill");
  EXPECT_EQ(none.status, 1);
  EXPECT_EQ(none.text,
            "holdfast: disk1 has no active process at the moment (STARTING): "
            "say it again when it runs: see holdfast status disk1\n");
}

// The fake device writes no format that anybody knows.
TEST_F(Words, ASegmentOfGarbageIsSaidToBeOne) {
  AwaitApi();
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  const Output status = Holdfast("status disk0");
  EXPECT_EQ(status.status, 0);
  EXPECT_THAT(status.text, AllOf(HasSubstr("state:          RUNNING"),
                                 HasSubstr("commits:        -"),
                                 HasSubstr("figures: none: segment: ")));
  const Output dump = Holdfast("state dump disk0");
  EXPECT_EQ(dump.status, 1);
  EXPECT_THAT(
      dump.text,
      AllOf(HasSubstr("verdict: damaged\nproblem: "),
            HasSubstr("figures: none: "),
            HasSubstr("holdfast: the segment of disk0: is no segment: "),
            HasSubstr("stop the instance and run it again")));
  const std::string file = launcher_.File("before.seg");
  ASSERT_EQ(Holdfast("state dump disk0 --output=" + file).text, "");
  const Output diff = Holdfast("state diff disk0 " + file);
  EXPECT_EQ(diff.status, 1);
  EXPECT_THAT(diff.text, HasSubstr("before.seg: is no segment: segment: "));
  EXPECT_THAT(Holdfast("state dump disk0 --output=/no/where").text,
              HasSubstr("/no/where: cannot be written: No such file"));
}

// What the script of `completion bash` offers for these words of a line; the
// last one is being typed.
class Completion : public CliTest {
 protected:
  std::string For(const std::string& words) {
    const std::string script =
        "source <(\"$0\" completion bash); COMP_WORDS=(\"$0\" --run-dir = " +
        RunDir() + " " + words +
        "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _holdfast; "
        "echo \"${COMPREPLY[@]}\"";
    const Output output = Shell("bash -uc '" + script + "' " +
                                Runfile("launcher/cli/holdfast") + " 2>&1");
    EXPECT_EQ(output.status, 0) << output.text;
    return output.text.substr(0, output.text.find('\n'));
  }
};

TEST_F(Completion, OffersCommandsInstancesOptionsAndValues) {
  AwaitApi();
  for (const char* name : {"disk0", "net0"}) {
    ASSERT_EQ(Holdfast("run " + SpecFile(name)).status, 0);
  }
  EXPECT_EQ(For("st"), "status stop state");
  EXPECT_EQ(For("state \"\""), "dump diff");
  for (const char* words : {"status \"\"", "stop \"\"", "restart \"\"",
                            "resize \"\"", "state dump \"\""}) {
    EXPECT_EQ(For(words), "disk0 net0") << words;
  }
  EXPECT_EQ(For("stop d"), "disk0");
  EXPECT_EQ(For("inject d"), "disk0");
  EXPECT_EQ(For("inject disk0 \"\""), "kill stop segv");
  EXPECT_EQ(For("inject disk0 kill --t"), "--target=");
  EXPECT_EQ(For("inject disk0 kill --target ="),
            "active standby store api core backend");
  EXPECT_EQ(For("inject disk0 kill --target = st"), "standby store");
  EXPECT_EQ(For("inject disk0 kill --target st"), "standby store");
  EXPECT_EQ(For("events --"), "--json --run-dir= --help --follow --since=");
  EXPECT_EQ(For("list -"), "--json --run-dir= --help");
  EXPECT_EQ(For("run " + launcher_.File("disk0.t")),
            launcher_.File("disk0.textproto"));
  EXPECT_EQ(For("stop disk0 \"\""), "");
  EXPECT_EQ(For("\"\""),
            "run list status events stop restart replace resize state "
            "inject profile completion help");
  EXPECT_EQ(For("profile \"\""), "list show new");
  for (const char* words : {"profile show \"\"", "run --profile = \"\""}) {
    EXPECT_EQ(For(words),
              "dpdk-testpmd passt qemu-storage-daemon vhost-device-vsock "
              "vhost-user vhost-user-gpu vhost-user-path virtiofsd")
        << words;
  }
  EXPECT_EQ(For("run --profile = vhost-user -- " + launcher_.File("disk0.t")),
            launcher_.File("disk0.textproto"));
  EXPECT_EQ(For("state dump --"),
            "--json --run-dir= --help --output= --input=");
  for (const char* words :
       {"state diff disk0 ", "state dump --input = ", "state dump --output "}) {
    EXPECT_EQ(For(words + launcher_.File("net0.t")),
              launcher_.File("net0.textproto"))
        << words;
  }
  EXPECT_EQ(For("events --since \"\""), "");
  EXPECT_EQ(For("completion \"\""), "bash zsh");
  EXPECT_EQ(For("help re"), "restart replace resize");
}

// The same of `completion zsh`: what it gives to zsh's own functions, which
// stand in for themselves here.
class ZshCompletion : public CliTest {
 protected:
  void SetUp() override {
    if (Shell("zsh -fc true 2>&1").status != 0) {
      GTEST_SKIP() << "zsh is not there: apt-get install zsh";
    }
  }
  // `words` of a line, the last one being typed.
  std::string For(const std::string& words) {
    const std::string script =
        "compdef() {}; compset() { cur=${cur#*=}; }; "
        "_files() { print -r -- files; }; "
        "_describe() { print -r -- ${${(P)4}%%:*}; }; "
        "compadd() { [[ $1 = -S ]] && shift 2; [[ $1 = -- ]] && shift; "
        "for w; do [[ $w = $cur* ]] && print -rn -- \"$w \"; done; }; "
        "source <(\"$HOLDFAST\" completion zsh); "
        "words=(\"$HOLDFAST\" --run-dir=" +
        RunDir() + " " + words + "); CURRENT=$#words; _holdfast";
    const Output output = Shell("HOLDFAST=" + Runfile("launcher/cli/holdfast") +
                                " zsh -fc '" + script + "' 2>&1");
    EXPECT_EQ(output.status, 0) << output.text;
    return std::string(absl::StripTrailingAsciiWhitespace(output.text));
  }
};

TEST_F(ZshCompletion, OffersCommandsInstancesOptionsAndValues) {
  AwaitApi();
  for (const char* name : {"disk0", "net0"}) {
    ASSERT_EQ(Holdfast("run " + SpecFile(name)).status, 0);
  }
  EXPECT_EQ(For("\"\""),
            "run list status events stop restart replace resize state "
            "inject profile completion help");
  EXPECT_EQ(For("profile show v"),
            "vhost-device-vsock vhost-user vhost-user-gpu vhost-user-path "
            "virtiofsd");
  EXPECT_EQ(For("run --profile=q"), "qemu-storage-daemon");
  EXPECT_EQ(For("run --profile=vhost-user -- \"\""), "files");
  EXPECT_EQ(For("state \"\""), "dump diff");
  for (const char* words : {"status \"\"", "stop \"\"", "restart \"\"",
                            "resize \"\"", "state dump \"\""}) {
    EXPECT_EQ(For(words), "disk0 net0") << words;
  }
  EXPECT_EQ(For("stop d"), "disk0");
  EXPECT_EQ(For("inject n"), "net0");
  EXPECT_EQ(For("inject disk0 \"\""), "kill stop segv");
  EXPECT_EQ(For("inject disk0 kill --t"), "--target=");
  EXPECT_EQ(For("inject disk0 kill --target="),
            "active standby store api core backend");
  EXPECT_EQ(For("inject disk0 kill --target st"), "standby store");
  EXPECT_EQ(For("events --"), "--json --help --follow --run-dir= --since=");
  for (const char* words : {"run \"\"", "state diff disk0 \"\"",
                            "state dump --input=", "list --run-dir \"\""}) {
    EXPECT_EQ(For(words), "files") << words;
  }
  EXPECT_EQ(For("stop disk0 \"\""), "");
  EXPECT_EQ(For("completion z"), "zsh");
}

// `holdfast events --follow --json`, read line by line.
class Follower {
 public:
  explicit Follower(const std::string& run_dir)
      : pipe_(popen(("exec " + Runfile("launcher/cli/holdfast") +
                     " events --follow --json --run-dir=" + run_dir)
                        .c_str(),
                    "r")) {}
  ~Follower() { pclose(pipe_); }

  // Reads until an event that is at least this one; false at the end.
  bool ReadTo(uint64_t sequence) {
    while (last_ < sequence && ReadLine()) {
    }
    return last_ >= sequence;
  }
  void ReadToTheEnd() {
    while (ReadLine()) {
    }
  }
  // Of all that was read, in its order.
  const std::vector<uint64_t>& sequences() const { return sequences_; }
  const std::vector<std::string>& markers() const { return markers_; }

 private:
  bool ReadLine() {
    std::string line;
    for (int c = fgetc(pipe_); c != '\n'; c = fgetc(pipe_)) {
      if (c == EOF) return false;
      line += static_cast<char>(c);
    }
    const std::string name = "\"sequence\":\"";
    const size_t at = line.find(name);
    EXPECT_NE(at, std::string::npos) << line;
    const uint64_t sequence = std::stoull("0" + line.substr(at + name.size()));
    if (sequence == 0) {
      markers_.push_back(line);
    } else {
      sequences_.push_back(sequence);
      last_ = sequence;
    }
    return true;
  }

  FILE* pipe_;
  uint64_t last_ = 0;
  std::vector<uint64_t> sequences_;
  std::vector<std::string> markers_;
};

std::vector<uint64_t> Missing(const std::vector<LaunchEvent>& events,
                              const std::vector<uint64_t>& seen) {
  const std::set<uint64_t> known(seen.begin(), seen.end());
  std::vector<uint64_t> missing;
  for (const LaunchEvent& event : events) {
    if (known.count(event.sequence) == 0) missing.push_back(event.sequence);
  }
  return missing;
}

TEST_F(Words, FollowedEventsGoOnOverDeathsOfApiAndCore) {
  uint64_t last = AwaitApi().sequence;
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  Follower follower(RunDir());
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Holdfast("inject kill --target=api").status, 0);
    ASSERT_EQ(Holdfast("inject disk0 kill").status, 0);
    last = AwaitApi(last).sequence;
    ASSERT_OK(launcher_.AwaitWhole("disk0"));
  }
  const std::vector<LaunchEvent> before = launcher_.Events();
  ASSERT_TRUE(follower.ReadTo(before.back().sequence));
  EXPECT_THAT(Missing(before, follower.sequences()), IsEmpty());
  EXPECT_THAT(follower.markers(), IsEmpty());

  ASSERT_EQ(Holdfast("inject kill --target=core").status, 0);
  last = AwaitApi(before.back().sequence).sequence;
  ASSERT_EQ(Holdfast("inject disk0 kill").status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  const std::vector<LaunchEvent> after = launcher_.Events();
  ASSERT_TRUE(follower.ReadTo(after.back().sequence));
  EXPECT_THAT(Missing(after, follower.sequences()), IsEmpty());
  // A new core has a new log, and that is said once.
  EXPECT_THAT(follower.markers(),
              ElementsAre(AllOf(HasSubstr("\"type\":\"events-lost\""),
                                HasSubstr("the core was restarted"))));
  launcher_.Stop();
  follower.ReadToTheEnd();
  for (size_t i = 1; i < follower.sequences().size(); ++i) {
    EXPECT_LT(follower.sequences()[i - 1], follower.sequences()[i]);
  }
}

}  // namespace
}  // namespace holdfast::launcher
