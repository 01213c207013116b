#include "launcher/event_log.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

LaunchEvent Named(const std::string& type) {
  LaunchEvent event;
  event.type = type;
  return event;
}

TEST(EventLog, NumbersEventsInOrder) {
  EventLog log;
  EXPECT_EQ(log.Add(Named("a")), 1u);
  EXPECT_EQ(log.Add(Named("b")), 2u);
  Answer answer;
  log.Read(0, answer);
  ASSERT_EQ(answer.events.size(), 2u);
  EXPECT_EQ(answer.events[1].type, "b");
  EXPECT_EQ(answer.last_sequence, 2u);
}

TEST(EventLog, ReadsOnlyWhatIsNew) {
  EventLog log;
  for (int i = 0; i < 5; ++i) log.Add(Named("x"));
  Answer answer;
  log.Read(3, answer);
  EXPECT_EQ(answer.events.size(), 2u);
  Answer nothing;
  log.Read(5, nothing);
  EXPECT_TRUE(nothing.events.empty());
  EXPECT_EQ(nothing.last_sequence, 5u);
}

TEST(EventLog, SaysHowManyWereOverwritten) {
  EventLog log(1, /*capacity=*/4);
  for (int i = 0; i < 10; ++i) log.Add(Named("x"));
  Answer answer;
  log.Read(2, answer);
  EXPECT_EQ(answer.events_lost, 4u);
  EXPECT_EQ(answer.events.front().sequence, 7u);
}

TEST(EventLog, LongBacklogComesInSeveralAnswers) {
  EventLog log;
  for (int i = 0; i < 300; ++i) log.Add(Named("x"));
  uint64_t since = 0;
  size_t total = 0;
  for (int i = 0; i < 3; ++i) {
    Answer answer;
    log.Read(since, answer);
    since = answer.last_sequence;
    total += answer.events.size();
  }
  EXPECT_EQ(total, 300u);
}

TEST(EventLog, NumberFromAnEarlierLifeStartsOver) {
  EventLog log;
  log.Add(Named("x"));
  log.Add(Named("y"));
  Answer answer;
  log.Read(1000, answer);
  ASSERT_EQ(answer.events.size(), 2u);
  EXPECT_EQ(answer.events[0].type, "x");
  EXPECT_EQ(answer.last_sequence, 2u);
  EXPECT_EQ(answer.events_lost, 1u);
  // Once: the next question is one of this life.
  Answer next;
  log.Read(answer.last_sequence, next);
  EXPECT_TRUE(next.events.empty());
  EXPECT_EQ(next.events_lost, 0u);
}

TEST(EventLog, NumbersGoOnAfterARestartOfTheCore) {
  EventLog log(/*next_sequence=*/42);
  EXPECT_EQ(log.Add(Named("x")), 42u);
}

TEST(EventLog, TextHoldsOnlyWhatIsThere) {
  LaunchEvent event = Named("promoted");
  EXPECT_EQ(EventText(event), "promoted");
  event.instance = "disk0";
  event.pid = 12;
  event.cause = "SIGKILL";
  event.microseconds = 143;
  event.detail = "why";
  EXPECT_EQ(EventText(event), "promoted disk0 pid=12 cause=SIGKILL 143us why");
}

}  // namespace
}  // namespace holdfast::launcher
