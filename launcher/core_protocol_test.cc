#include "launcher/core_protocol.h"

#include <csignal>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Request InjectRequest() {
  Request request;
  request.op = Op::kInject;
  request.tag = 77;
  request.instance = "disk0";
  request.spec = {1, 2, 3};
  request.fault = Fault::kSegv;
  request.target = FaultTarget::kStandby;
  request.since = 99;
  request.wait = true;
  request.file = "disk0.textproto";
  request.refusal = "disk0.textproto:2: binary: is missing";
  return request;
}

InstanceStatus FullStatus() {
  InstanceStatus status;
  status.name = "disk0";
  status.state = "RUNNING";
  status.binary = "/b";
  status.socket_path = "/s";
  status.active_pid = 10;
  status.standby_pid = 11;
  status.standby_ready = true;
  status.connected = true;
  status.epoch = 3;
  status.last_recovery_us = 123;
  status.median_recovery_us = 120;
  status.last_exit_cause = "SIGKILL";
  status.last_exit_pid = 9;
  status.last_exit_unix_ns = 1234567;
  status.restarts = {{"SIGKILL", 2}, {"SIGSEGV", 1}};
  status.degraded = {"degraded: locked memory: 8 MiB"};
  status.backend = {"/q", "LIVING", 20, 21, 4, "forced"};
  return status;
}

TEST(CoreProtocol, RequestReadsBack) {
  const absl::StatusOr<Request> request =
      DecodeRequest(EncodeRequest(InjectRequest()));
  ASSERT_OK(request);
  EXPECT_EQ(request->op, Op::kInject);
  EXPECT_EQ(request->tag, 77u);
  EXPECT_EQ(request->instance, "disk0");
  EXPECT_THAT(request->spec, ElementsAre(1, 2, 3));
  EXPECT_EQ(request->fault, Fault::kSegv);
  EXPECT_EQ(request->target, FaultTarget::kStandby);
  EXPECT_EQ(request->since, 99u);
  EXPECT_TRUE(request->wait);
  EXPECT_EQ(request->file, "disk0.textproto");
  EXPECT_EQ(request->refusal, InjectRequest().refusal);
}

TEST(CoreProtocol, AnswerReadsBack) {
  Answer answer;
  answer.tag = 5;
  answer.status = absl::NotFoundError("no instance 'x'");
  answer.statuses = {FullStatus()};
  LaunchEvent event;
  event.sequence = 8;
  event.unix_ns = 1234567;
  event.type = "exited";
  event.instance = "disk0";
  event.pid = 10;
  event.cause = "SIGKILL";
  event.microseconds = 143;
  event.detail = "text";
  answer.events = {event};
  answer.servants = {{"api", 12, 2, "SIGKILL", {"degraded: x"}}};
  answer.last_sequence = 8;
  answer.events_lost = 2;
  answer.file = {"disk0.textproto", "name: \"disk0\"\n"};
  const absl::StatusOr<Answer> read = DecodeAnswer(EncodeAnswer(answer));
  ASSERT_OK(read);
  EXPECT_THAT(read->status,
              StatusIs(absl::StatusCode::kNotFound, "no instance 'x'"));
  ASSERT_EQ(read->statuses.size(), 1u);
  EXPECT_EQ(read->statuses[0].restarts, FullStatus().restarts);
  EXPECT_EQ(read->statuses[0].median_recovery_us, 120u);
  EXPECT_EQ(read->statuses[0].last_exit_cause, "SIGKILL");
  EXPECT_EQ(read->statuses[0].last_exit_pid, 9);
  EXPECT_EQ(read->statuses[0].last_exit_unix_ns, 1234567);
  EXPECT_EQ(read->statuses[0].degraded, FullStatus().degraded);
  EXPECT_EQ(read->statuses[0].backend.binary, "/q");
  EXPECT_EQ(read->statuses[0].backend.pid, 20);
  EXPECT_EQ(read->statuses[0].backend.lives, 4u);
  EXPECT_EQ(read->statuses[0].backend.tracking, "forced");
  EXPECT_EQ(read->events[0].cause, "SIGKILL");
  ASSERT_EQ(read->servants.size(), 1u);
  EXPECT_EQ(read->servants[0].pid, 12);
  EXPECT_EQ(read->servants[0].lost, 2u);
  EXPECT_EQ(read->servants[0].last_loss, "SIGKILL");
  EXPECT_EQ(read->events_lost, 2u);
  EXPECT_EQ(read->file.name, "disk0.textproto");
  EXPECT_EQ(read->file.text, "name: \"disk0\"\n");
  EXPECT_EQ(EncodeAnswer(*read), EncodeAnswer(answer));
}

TEST(CoreProtocol, EveryTruncationIsRefused) {
  const std::vector<uint8_t> request = EncodeRequest(InjectRequest());
  for (size_t size = 0; size < request.size(); ++size) {
    EXPECT_FALSE(DecodeRequest(absl::MakeConstSpan(request.data(), size)).ok());
  }
  Answer answer;
  answer.statuses = {FullStatus()};
  const std::vector<uint8_t> bytes = EncodeAnswer(answer);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeAnswer(absl::MakeConstSpan(bytes.data(), size)).ok());
  }
}

TEST(CoreProtocol, OperationsOutsideTheListAreRefused) {
  for (uint8_t op : {0, 14, 255}) {
    std::vector<uint8_t> bytes = EncodeRequest(InjectRequest());
    bytes[2] = op;
    EXPECT_THAT(
        DecodeRequest(bytes),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("malformed")));
  }
}

TEST(CoreProtocol, FaultsOutsideTheListAreRefused) {
  Request request = InjectRequest();
  request.fault = static_cast<Fault>(3);
  EXPECT_FALSE(DecodeRequest(EncodeRequest(request)).ok());
  request = InjectRequest();
  request.target = static_cast<FaultTarget>(6);
  EXPECT_FALSE(DecodeRequest(EncodeRequest(request)).ok());
}

TEST(CoreProtocol, TextsOfARequestAreCut) {
  Request request = InjectRequest();
  request.file = request.refusal = std::string(100000, 'x');
  const absl::StatusOr<Request> read = DecodeRequest(EncodeRequest(request));
  ASSERT_OK(read);
  EXPECT_EQ(read->file.size(), kMaxSpecFileName);
  EXPECT_EQ(read->refusal.size(), kMaxRefusal);
}

TEST(CoreProtocol, OtherVersionIsNamed) {
  std::vector<uint8_t> bytes = EncodeRequest(InjectRequest());
  bytes[0] = 1;
  EXPECT_THAT(DecodeRequest(bytes), StatusIs(absl::StatusCode::kInvalidArgument,
                                             HasSubstr("protocol version 1")));
}

TEST(CoreProtocol, LargestAnswersFitInOnePacket) {
  const std::string text(10000, 'x');
  InstanceStatus status = FullStatus();
  status.binary = status.socket_path = status.state = text;
  status.backend.binary = status.backend.state = text;
  status.restarts.assign(100, {text, 1});
  status.degraded.assign(100, text);
  Answer all_statuses;
  all_statuses.statuses.assign(100, status);
  all_statuses.servants.assign(
      100, {text, 1, 1, text, std::vector<std::string>(100, text)});
  LaunchEvent event;
  event.type = event.instance = event.cause = event.detail = text;
  Answer all_events;
  all_events.events.assign(1000, event);
  Answer largest_file;
  largest_file.file = {text, std::string(100000, 'x')};
  for (Answer* answer : {&all_statuses, &all_events, &largest_file}) {
    answer->status = absl::InternalError(text);
    const std::vector<uint8_t> bytes = EncodeAnswer(*answer);
    EXPECT_LE(bytes.size(), kMaxCorePacket);
    EXPECT_OK(DecodeAnswer(bytes));
  }
}

TEST(CoreProtocol, EveryFaultIsASignalOfItsOwn) {
  EXPECT_EQ(SignalOf(Fault::kKill), SIGKILL);
  EXPECT_EQ(SignalOf(Fault::kStop), SIGSTOP);
  EXPECT_EQ(SignalOf(Fault::kSegv), SIGSEGV);
}

}  // namespace
}  // namespace holdfast::launcher
