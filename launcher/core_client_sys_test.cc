// The client against a core that a thread of the test plays.

#include "launcher/core_client_sys.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/core_protocol.h"
#include "launcher/spec.h"

namespace holdfast::launcher {
namespace {

using ::testing::_;
using ::testing::HasSubstr;
using testing::StatusIs;

class CoreClientTest : public ::testing::Test {
 protected:
  CoreClientTest() {
    auto pair = *SeqpacketPair();
    client_ = std::make_unique<CoreClient>(std::move(pair.first));
    core_ = std::move(pair.second);
  }
  ~CoreClientTest() override { Join(); }

  // Plays the core for one request: notes it and has `reply` answer.
  void OnRequest(std::function<void(const Request&)> reply) {
    Join();
    thread_ = std::thread([this, reply = std::move(reply)] {
      std::vector<uint8_t> buffer(kMaxCorePacket);
      ReceivedFds fds;
      const auto got = ReceiveWithFds(core_, absl::MakeSpan(buffer), fds);
      if (!got.ok()) return;
      auto request =
          DecodeRequest(absl::MakeConstSpan(buffer.data(), got->size));
      if (!request.ok()) return;
      asked_ = *request;
      reply(asked_);
    });
  }
  void Send(const Answer& answer, int fd = -1) {
    const std::vector<int> fds(fd >= 0 ? 1 : 0, fd);
    SendWithFds(core_, EncodeAnswer(answer), fds).IgnoreError();
  }
  static Answer To(const Request& request, absl::Status status = {}) {
    Answer answer;
    answer.tag = request.tag;
    answer.status = std::move(status);
    return answer;
  }
  void AnswerOk() {
    OnRequest([this](const Request& request) { Send(To(request)); });
  }
  const Request& asked() {
    Join();
    return asked_;
  }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }

  std::unique_ptr<CoreClient> client_;
  UniqueFd core_;

 private:
  std::thread thread_;
  Request asked_;
};

TEST_F(CoreClientTest, SaysWhatIsAsked) {
  AnswerOk();
  EXPECT_OK(client_->Stop("disk0"));
  EXPECT_EQ(asked().op, Op::kStop);
  EXPECT_EQ(asked().instance, "disk0");
  AnswerOk();
  EXPECT_OK(client_->Restart("disk1"));
  EXPECT_EQ(asked().op, Op::kRestart);
  AnswerOk();
  EXPECT_OK(client_->Resize("disk1"));
  EXPECT_EQ(asked().op, Op::kResize);
  AnswerOk();
  EXPECT_OK(client_->Inject("disk0", Fault::kStop, FaultTarget::kStandby));
  EXPECT_EQ(asked().op, Op::kInject);
  EXPECT_EQ(asked().fault, Fault::kStop);
  EXPECT_EQ(asked().target, FaultTarget::kStandby);
}

TEST_F(CoreClientTest, RunSendsAValidSpecOnly) {
  LaunchSpec spec;
  EXPECT_FALSE(client_->Run(spec).ok()) << "without a name";
  spec.name = "disk0";
  spec.binary = "/bin/device";
  spec.uid = 12345;
  AnswerOk();
  EXPECT_OK(client_->Run(spec));
  const auto sent = DecodeSpec(asked().spec);
  ASSERT_OK(sent);
  EXPECT_EQ(EncodeSpec(*sent), EncodeSpec(spec));
}

TEST_F(CoreClientTest, ReplaceSendsAValidSpecOnly) {
  LaunchSpec spec;
  spec.name = "disk0";
  EXPECT_FALSE(client_->Replace(spec).ok()) << "without a keeper";
  spec.binary = "/bin/keeper";
  spec.uid = 12345;
  spec.backend.binary = "/bin/daemon";
  AnswerOk();
  EXPECT_OK(client_->Replace(spec));
  EXPECT_EQ(asked().op, Op::kReplace);
  EXPECT_EQ(asked().instance, "disk0");
  const auto sent = DecodeSpec(asked().spec);
  ASSERT_OK(sent);
  EXPECT_EQ(sent->backend.binary, "/bin/daemon");
}

// A program is waited for: the core says when that is over.
TEST_F(CoreClientTest, WhatWaitsForAProgramIsGivenMoreTime) {
  client_->set_timeout(absl::Milliseconds(20));
  const auto late = [this](const Request& request) {
    pollfd nothing = {core_.get(), POLLIN, 0};
    EXPECT_EQ(poll(&nothing, 1, /*timeout=*/100), 0);
    Send(To(request));
  };
  OnRequest(late);
  EXPECT_OK(client_->Restart("disk0"));
  // The control.
  OnRequest(late);
  EXPECT_THAT(client_->Stop("disk0"),
              StatusIs(absl::StatusCode::kDeadlineExceeded, _));
}

TEST_F(CoreClientTest, TheCoresRefusalIsTheCallers) {
  OnRequest([this](const Request& request) {
    Send(To(request, absl::NotFoundError("disk9: no such instance")));
  });
  EXPECT_THAT(client_->Stop("disk9"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("disk9")));
}

// It answered a call that had been given up.
TEST_F(CoreClientTest, LateAnswersAreNotTakenForThisOne) {
  OnRequest([this](const Request& request) {
    Answer late = To(request, absl::InternalError("of the call before"));
    late.tag = request.tag + 1000;
    Send(late);
    Send(To(request));
  });
  EXPECT_OK(client_->Restart("disk0"));
}

TEST_F(CoreClientTest, ACoreThatIsGoneIsAborted) {
  core_.Reset();
  EXPECT_THAT(client_->List(),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("say it again")));
}

TEST_F(CoreClientTest, ACoreThatDiesOverARequestIsAborted) {
  OnRequest([this](const Request&) { core_.Reset(); });
  EXPECT_THAT(client_->Stop("disk0"), StatusIs(absl::StatusCode::kAborted, _));
}

TEST_F(CoreClientTest, ASilentCoreIsGivenUp) {
  client_->set_timeout(absl::Milliseconds(20));
  EXPECT_THAT(client_->List(),
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       HasSubstr("for 20ms: if it hangs, pkill ")));
}

TEST_F(CoreClientTest, GarbageIsAnError) {
  OnRequest([this](const Request&) {
    const std::vector<uint8_t> garbage(100, 0xff);
    SendWithFds(core_, garbage, {}).IgnoreError();
  });
  EXPECT_FALSE(client_->List().ok());
}

TEST_F(CoreClientTest, AnAnswerWithoutWhatWasAskedForIsAnError) {
  AnswerOk();
  EXPECT_THAT(client_->Status("disk0"),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("no status")));
  AnswerOk();
  EXPECT_THAT(
      client_->StateDump("disk0"),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("no descriptor")));
}

TEST_F(CoreClientTest, StatusComesThrough) {
  OnRequest([this](const Request& request) {
    Answer answer = To(request);
    answer.statuses.resize(1);
    answer.statuses[0].name = "disk0";
    answer.statuses[0].recoveries = 7;
    Send(answer);
  });
  const auto status = client_->Status("disk0");
  ASSERT_OK(status);
  EXPECT_EQ(status->recoveries, 7u);
}

TEST_F(CoreClientTest, TheSegmentsDescriptorComesThrough) {
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  OnRequest([&](const Request& request) { Send(To(request), file.get()); });
  const auto segment = client_->StateDump("disk0");
  ASSERT_OK(segment);
  EXPECT_TRUE(segment->valid());
  EXPECT_NE(fcntl(segment->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(CoreClientTest, EventsComeWithWhereToGoOn) {
  OnRequest([this](const Request& request) {
    Answer answer = To(request);
    answer.events.resize(2);
    answer.events[1].sequence = 12;
    answer.last_sequence = 12;
    answer.events_lost = 3;
    Send(answer);
  });
  const auto events = client_->ReadEvents(10, /*wait=*/true);
  ASSERT_OK(events);
  EXPECT_EQ(events->events.size(), 2u);
  EXPECT_EQ(events->last_sequence, 12u);
  EXPECT_EQ(events->lost, 3u);
  EXPECT_EQ(asked().since, 10u);
  EXPECT_TRUE(asked().wait);
}

TEST_F(CoreClientTest, ASpecThatCannotBeReadIsRefusedWithTheReason) {
  AnswerOk();
  EXPECT_OK(client_->SpecIsRead("a.textproto",
                                absl::InvalidArgumentError("line 3: no name")));
  EXPECT_EQ(asked().file, "a.textproto");
  EXPECT_EQ(asked().refusal, "line 3: no name");
  EXPECT_TRUE(asked().spec.empty());
  AnswerOk();
  EXPECT_OK(client_->SpecIsRead("b.textproto", absl::UnknownError("")));
  EXPECT_NE(asked().refusal, "") << "else it would be taken for a spec";
}

TEST_F(CoreClientTest, TheNextSpecComesThroughAsItIs) {
  OnRequest([this](const Request& request) {
    Answer answer = To(request);
    answer.file = {"\xff.textproto", "name: \"disk0\""};
    Send(answer);
  });
  const auto file = client_->NextSpec();
  ASSERT_OK(file);
  EXPECT_EQ(file->name, "\xff.textproto");
  EXPECT_EQ(file->text, "name: \"disk0\"");
}

TEST(CoreClientConnect, NamesTheSocketThatIsNotThere) {
  const auto client = CoreClient::Connect("/nonexistent/core.sock");
  EXPECT_THAT(client.status().ToString(), HasSubstr("/nonexistent/core.sock"));
}

}  // namespace
}  // namespace holdfast::launcher
