#include "devices/keeper/probe/findings.h"

#include <string>
#include <vector>

#include "devices/vhost_user/message.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

Findings Found() {
  Findings findings;
  findings.program = "/opt/bin/my-back-end";
  findings.taken = CandidatesFor({})[0];
  findings.offer.queue_count = 2;
  findings.offer.config_size = 60;
  findings.offer.features = 0x150000000;
  findings.start_ms = 12.34;
  findings.ends_with_connection = true;
  return findings;
}

TEST(Candidates, TheConventionFirst) {
  const auto all = CandidatesFor({"--image=/x"});
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_THAT(all[0].arguments, ElementsAre("--image=/x", "--fd={fd}"));
  EXPECT_EQ(all[0].handover, Handover::kConnected);
  EXPECT_EQ(all[1].arguments, all[0].arguments);
  EXPECT_EQ(all[1].handover, Handover::kListening);
  EXPECT_EQ(all[0].Name(), "'--fd={fd}', connected");
  EXPECT_THAT(all[0].With(7, ""), ElementsAre("--image=/x", "--fd=7"));
  EXPECT_EQ(all[2].handover, Handover::kPath);
  EXPECT_EQ(all[2].Name(), "'--socket-path={path}', a path");
  EXPECT_THAT(all[2].With(7, "/s"),
              ElementsAre("--image=/x", "--socket-path=/s"));
}

TEST(Candidates, WhereTheUserSaysSo) {
  const auto all = CandidatesFor({"-s", "fd:{fd}"});
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_THAT(all[1].With(3, ""), ElementsAre("-s", "fd:3"));
  EXPECT_EQ(all[1].text, "");
  EXPECT_EQ(all[1].Name(), "{fd} as given, listening");
  const auto by_path = CandidatesFor({"iface={path},{fd}"});
  ASSERT_THAT(by_path, SizeIs(1));
  EXPECT_THAT(by_path[0].With(3, "/s"), ElementsAre("iface=/s,{fd}"));
  EXPECT_EQ(by_path[0].Name(), "{path} as given, a path");
}

TEST(Candidates, AnExportOfQemus) {
  const auto all = CandidatesFor(
      {"--blockdev", "x", "--export", "id=e,type=vhost-user-blk,node-name=x"});
  ASSERT_THAT(all, SizeIs(1));
  EXPECT_THAT(all[0].With(3, ""),
              ElementsAre("--blockdev", "x", "--export",
                          "id=e,type=vhost-user-blk,node-name=x,addr.type=fd,"
                          "addr.str=3"));
  EXPECT_EQ(all[0].end_of, "type=vhost-user-blk");
  EXPECT_EQ(all[0].handover, Handover::kListening);
  EXPECT_EQ(CandidatesFor({"--export=type=vhost-user-fs"})[0].end_of,
            "type=vhost-user-fs");
}

TEST(Type, OfWhatABackEndSaysOfItself) {
  EXPECT_EQ(TypeIn("{\"type\": \"block\", \"features\": []}"), "block");
  EXPECT_EQ(TypeIn("{\n  \"features\": [\n],\n \"type\" :\n\"9p\"}"), "9p");
}

TEST(Type, NothingElseIsOne) {
  for (const char* text :
       {"", "type", "\"type\"", "\"type\":", "\"type\": block",
        "\"type\": \"block", "\"type\": \"\n\"", "\"type\": \"Block\"",
        "\"type\": \"a-name-that-is-longer-than-any-type-is\""}) {
    EXPECT_EQ(TypeIn(text), "") << text;
  }
}

TEST(Profile, OfOneThatFollowsTheConventions) {
  Findings findings = Found();
  findings.type = "block";
  findings.offer.protocol_features = vhost_user::kProtocolInflightShmfd;
  const std::string text = ProfileText(findings);
  EXPECT_THAT(text, HasSubstr("summary: \"my-back-end, block\"\n"));
  EXPECT_THAT(text, HasSubstr("socket {\n  text: \"--fd={fd}\"\n}\n"
                              "handover: CONNECTED_FD\n"
                              "# It ended with its connection.\n"));
  EXPECT_THAT(text, HasSubstr("\ntracking: OFFERED\n"));
  EXPECT_THAT(text, HasSubstr("after 12.3 ms: 2 queues, 60 bytes"));
  EXPECT_THAT(text,
              HasSubstr("features 0x150000000, protocol features 0x1000"));
  EXPECT_THAT(Undecided(findings), ElementsAre(HasSubstr("standby")));
}

TEST(Profile, OfOneThatTakesAPath) {
  Findings findings = Found();
  findings.taken = CandidatesFor({})[2];
  const std::string text = ProfileText(findings);
  EXPECT_THAT(text, HasSubstr("socket {\n  text: \"--socket-path={path}\"\n}\n"
                              "handover: LISTENING_PATH\n"));
  findings.taken = CandidatesFor({"iface={path}"})[0];
  EXPECT_THAT(ProfileText(findings),
              HasSubstr("# {path} in the arguments says where"));
}

TEST(Profile, OfOneBuiltOnLibvhostUser) {
  Findings findings = Found();
  findings.taken = CandidatesFor({"--export=type=vhost-user-blk"})[0];
  findings.libvhost_user = "/opt/lib/blk.so";
  findings.ends_with_connection = false;
  findings.stop_ms = 2.6;
  const std::string text = ProfileText(findings);
  EXPECT_THAT(text, HasSubstr("  end_of: \"type=vhost-user-blk\"\n"
                              "  unless: \"addr.\"\n}\n"
                              "handover: LISTENING_FD\n"
                              "# SIGTERM ended it after 3 ms.\n"));
  EXPECT_THAT(text, HasSubstr("/opt/lib/blk.so has libvhost-user"));
  EXPECT_THAT(text, HasSubstr("\ntracking: FORCED\n"));
}

TEST(Profile, WhatMustBeDecidedIsNoProfileYet) {
  Findings findings = Found();
  findings.taken = CandidatesFor({"{fd}"})[0];
  findings.ends_with_connection = false;
  std::string text = ProfileText(findings);
  EXPECT_THAT(text, HasSubstr("\ntracking: DECIDE\n"));
  EXPECT_THAT(text, Not(HasSubstr("usually")));
  EXPECT_THAT(text, Not(HasSubstr("socket {")));
  EXPECT_THAT(text, HasSubstr("it is killed"));
  EXPECT_THAT(Undecided(findings), SizeIs(2));
  findings.type = "rng";
  EXPECT_THAT(ProfileText(findings), HasSubstr("of type rng usually does"));
}

TEST(Profile, StaysOneWhateverAProgramIsCalled) {
  Findings findings = Found();
  findings.program = "/opt/a\"\nb\\\xff";
  const std::string text = ProfileText(findings);
  EXPECT_THAT(text, HasSubstr("summary: \"a??b??\"\n"));
  EXPECT_THAT(text, HasSubstr("new for /opt/a??b??.\n"));
}

TEST(Profile, HasNoBlanksAtTheEndOfALine) {
  EXPECT_THAT(ProfileText(Found()), Not(HasSubstr(" \n")));
  EXPECT_THAT(CandidatesFor({})[0].With(3, ""), Not(IsEmpty()));
}

}  // namespace
}  // namespace holdfast::keeper
