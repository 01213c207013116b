#include "launcher/cli/render.h"

#include <google/protobuf/text_format.h>

#include <fstream>
#include <iterator>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

template <typename Message>
Message FromText(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

constexpr char kDisk[] = R"pb(
  name: "disk0"
  state: "RUNNING"
  binary: "/usr/lib/holdfast/disk"
  socket_path: "/run/holdfast/disk0.sock"
  active_pid: 4711
  standby_pid: 4712
  standby_ready: true
  connected: true
  epoch: 4
  uptime_us: 7384000000
  recoveries: 3
  last_recovery_us: 57
  max_recovery_us: 12345
  segment_bytes: 1048576
  crash_budget: 7
  restarts { cause: "SIGKILL" count: 2 }
  restarts { cause: "sandbox violation (SIGSYS)" count: 1 }
  degraded: "degraded: selinux: this kernel has none"
  median_recovery_us: 61
  last_exit { cause: "SIGKILL" pid: 4710 unix_ns: 1700000001000000000 }
  segment {
    device: "virtio-blk"
    epoch: 4
    commits: 12
    queues {
      requests: 123456
      in_flight: 3
      resubmitted: 9
      errors: 1
      poisoned: 1
      last_answer_ago_us: 2500
      last_poisoned { head: 17 deaths: 2 ago_us: 90000000 }
    }
    queues { queue: 1 }
    queues { queue: 2 error: "9 requests in flight, of 8 at most" }
  }
)pb";

std::string Golden() {
  std::ifstream file("launcher/cli/golden/render.txt");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string RenderAll() {
  v1::ListResponse list;
  std::string text = "# list, empty\n" + RenderList(list);
  *list.add_instances() = FromText<v1::InstanceStatus>(kDisk);
  *list.add_instances() = FromText<v1::InstanceStatus>(
      "name: \"a-long-name-of-an-rng\" state: \"QUARANTINED\" "
      "uptime_us: 59000000 segment { error: \"segment: not formatted\" }");
  text += "# list\n" + RenderList(list);
  text += "# status\n" + RenderStatus(list.instances(0));
  text += "# status, nothing there\n" + RenderStatus(v1::InstanceStatus());
  v1::ListResponse everything = list;
  *everything.add_processes() =
      FromText<v1::ProcessStatus>("name: \"core\" pid: 5");
  *everything.add_processes() = FromText<v1::ProcessStatus>(
      "name: \"api\" lost: 2 last_loss: \"hung\" "
      "degraded: \"degraded: startup filter: none given\"");
  text += "# everything\n" + RenderEverything(everything);
  text += "# everything, no instances\n" + RenderEverything({});
  text += "# events\n" + RenderEvents(FromText<v1::EventsResponse>(R"pb(
            lost: 3
            events { unix_ns: 1700000000123456789 type: "core-started" pid: 9 }
            events {
              unix_ns: 1700000001000000000
              type: "promoted"
              instance: "disk0"
              pid: 4712
              cause: "SIGKILL"
              microseconds: 57
              detail: "d"
            }
          )pb"));
  text += "# json\n" + RenderJson(list.instances(1));
  return text;
}

TEST(Render, IsAsInTheGoldenFile) { EXPECT_EQ(RenderAll(), Golden()); }

TEST(Render, TextCannotPlayWithTheTerminal) {
  const auto events = FromText<v1::EventsResponse>(
      "events { type: \"x\" detail: \"a\\033[2Jb\\nc\" }");
  EXPECT_THAT(RenderEvents(events), HasSubstr("a?[2Jb?c\n"));
  EXPECT_THAT(RenderEvents(events), Not(HasSubstr("\033")));
}

TEST(Render, WhatIsWrappedSaysHowItRecovers) {
  v1::InstanceStatus status;
  EXPECT_THAT(RenderStatus(status), Not(HasSubstr("recovery ")));
  v1::InstanceStatus::Backend& backend = *status.mutable_backend();
  backend.set_binary("/q");
  const struct {
    const char* tracking;
    const char* text;
  } kCases[] = {{"offered", "recovery exact, by its own in-flight"},
                {"forced", "(level B)\n"},
                {"in-order", "what was in flight is done again (level C)"},
                {"shadow", "recovery exact, by shadow rings"},
                {"of\033a newer one", "recovery of?a newer one\n"},
                {"", "recovery -\n"}};
  for (const auto& level : kCases) {
    backend.set_tracking(level.tracking);
    EXPECT_THAT(RenderStatus(status), HasSubstr(level.text));
  }
}

TEST(Render, MomentsArePutInAUnitThatFits) {
  v1::InstanceStatus status;
  v1::QueueFigures* const queue = status.mutable_segment()->add_queues();
  const struct {
    uint64_t us;
    const char* text;
  } kCases[] = {{0, " now "},
                {999, " now "},
                {1000, " 1ms ago"},
                {999999, " 999ms ago"},
                {1000000, " 1s ago"},
                {119999999, " 119s ago"},
                {120000000, " 2min ago"},
                {7200000000, " 2h ago"},
                {UINT64_MAX, "h ago"}};
  for (const auto& moment : kCases) {
    queue->set_last_answer_ago_us(moment.us);
    EXPECT_THAT(RenderStatus(status), HasSubstr(moment.text)) << moment.us;
  }
}

TEST(Render, WhatADeviceWroteCannotPlayWithTheTerminal) {
  v1::InstanceStatus status;
  status.mutable_segment()->set_error("bad \033[2J");
  EXPECT_THAT(RenderStatus(status), HasSubstr("figures: none: bad ?[2J\n"));
  status.mutable_segment()->clear_error();
  status.mutable_segment()->add_queues()->set_error("\033[31m");
  EXPECT_THAT(RenderStatus(status), Not(HasSubstr("\033")));
}

TEST(Render, MissingEventsAreSaidToBeOverwrittenOrOfAnotherCore) {
  const auto events =
      FromText<v1::EventsResponse>("lost: 1 events { type: \"promoted\" }");
  EXPECT_THAT(RenderEvents(events),
              StartsWith("(events before these were overwritten)\n"));
  v1::EventsResponse restarted = events;
  restarted.add_events()->set_type("core-started");
  EXPECT_THAT(RenderEvents(restarted), StartsWith("(the core was restarted: "));
  restarted.set_lost(0);
  EXPECT_THAT(RenderEvents(restarted), Not(HasSubstr("(")));
}

TEST(Render, FiguresThatDifferAreNamedWithTheirQueue) {
  const auto before = FromText<v1::InstanceStatus>(kDisk).segment();
  v1::SegmentFigures after = before;
  EXPECT_EQ(RenderFiguresDiff(before, after), "");
  after.mutable_queues(0)->set_requests(123460);
  after.mutable_queues(0)->set_in_flight(0);
  after.mutable_queues(1)->set_poisoned(1);
  EXPECT_EQ(RenderFiguresDiff(before, after),
            "queue 0: requests 123456 -> 123460\n"
            "queue 0: in flight 3 -> 0\n"
            "queue 1: poisoned 0 -> 1\n");
  // One side has none: there is nothing to compare.
  EXPECT_EQ(RenderFiguresDiff(before, v1::SegmentFigures()), "");
}

TEST(Render, JsonHasEveryFieldOnOneLine) {
  const std::string json = RenderJson(v1::InstanceStatus());
  EXPECT_THAT(json, HasSubstr("\"standby_ready\":false"));
  EXPECT_THAT(json, HasSubstr("\"degraded\":[]"));
  EXPECT_EQ(json.find('\n'), json.size() - 1);
}

}  // namespace
}  // namespace holdfast::cli
