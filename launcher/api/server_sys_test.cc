// The service as clients see it, in front of a core that is a few lines long.

#include "launcher/api/server_sys.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/core_protocol.h"
#include "launcher/spec.h"
#include "protos/management.grpc.pb.h"

namespace holdfast::launcher {
namespace {

using ::testing::HasSubstr;

// Answers every request until the other end closes.
void ActAsCore(const UniqueFd& link,
               const std::function<Answer(const Request&)>& answer) {
  while (true) {
    std::vector<uint8_t> buffer(kMaxCorePacket);
    ReceivedFds fds;
    const auto got = ReceiveWithFds(link, absl::MakeSpan(buffer), fds);
    if (!got.ok() || got->size == 0) return;
    const auto request =
        DecodeRequest(absl::MakeConstSpan(buffer.data(), got->size));
    if (!request.ok() || request->instance == "the-end") return;
    Answer reply = answer(*request);
    reply.tag = request->tag;
    if (!SendWithFds(link, EncodeAnswer(reply), {}).ok()) return;
  }
}

class Server : public ::testing::Test {
 protected:
  void Start(std::function<Answer(const Request&)> answer) {
    const std::string path = dir_.File("api.sock");
    auto listener = ListenAt(path);
    ASSERT_OK(listener);
    auto link = SeqpacketPair();
    ASSERT_OK(link);
    core_ =
        std::thread([answer = std::move(answer), end = std::move(link->first)] {
          ActAsCore(end, answer);
        });
    auto watch = SeqpacketPair();
    ASSERT_OK(watch);
    watch_ = std::move(watch->first);
    ApiDescriptors descriptors;
    descriptors.listener = *std::move(listener);
    descriptors.watch = std::move(watch->second);
    descriptors.links.push_back(std::move(link->second));
    api_ = std::thread([this, descriptors = std::move(descriptors)]() mutable {
      result_ = Serve(std::move(descriptors), [this] {
        ++tightened_;
        return absl::OkStatus();
      });
    });
    channel_ =
        grpc::CreateChannel("unix:" + path, grpc::InsecureChannelCredentials());
    stub_ = v1::Management::NewStub(channel_);
  }

  // The core closes: the api must end by itself.
  void TearDown() override {
    grpc::ClientContext context;
    v1::StopRequest request;
    request.set_instance("the-end");
    v1::StopResponse response;
    EXPECT_EQ(stub_->Stop(&context, request, &response).error_code(),
              grpc::StatusCode::ABORTED);
    core_.join();
    watch_.Reset();
    api_.join();
    EXPECT_OK(result_);
    EXPECT_EQ(tightened_, 1);
  }

  // Calls a method that this test has no messages for; the bytes of the answer.
  std::string CallRaw(const std::string& method, const std::string& bytes) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    const auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    grpc::Slice answer;
    if (!status.ok() || !response.DumpToSingleSlice(&answer).ok()) return "";
    return std::string(reinterpret_cast<const char*>(answer.begin()),
                       answer.size());
  }

  testing::TempDir dir_;
  std::thread core_, api_;
  UniqueFd watch_;  // The core's end.
  int tightened_ = 0;
  absl::Status result_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Management::Stub> stub_;
};

TEST_F(Server, HandsCallsOnAndAnswersBack) {
  Start([](const Request& request) {
    Answer answer;
    InstanceStatus status;
    status.name = request.op == Op::kStatus ? request.instance : "all";
    answer.statuses = {status};
    if (request.op == Op::kRun) {
      const auto spec = DecodeSpec(request.spec);
      answer.status = absl::AlreadyExistsError(spec->name + " exists");
    }
    return answer;
  });
  grpc::ClientContext list_context, status_context, run_context;
  v1::ListResponse list;
  ASSERT_TRUE(stub_->List(&list_context, v1::ListRequest(), &list).ok());
  EXPECT_EQ(list.instances(0).name(), "all");
  v1::StatusRequest who;
  who.set_instance("disk0");
  v1::InstanceStatus status;
  ASSERT_TRUE(stub_->Status(&status_context, who, &status).ok());
  EXPECT_EQ(status.name(), "disk0");
  v1::RunRequest run;
  run.mutable_spec()->set_name("disk0");
  run.mutable_spec()->set_binary("/bin/disk");
  v1::RunResponse nothing;
  const grpc::Status ran = stub_->Run(&run_context, run, &nothing);
  EXPECT_EQ(ran.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ran.error_message(), "disk0 exists");
}

TEST_F(Server, RefusesASpecBeforeTheCoreSeesIt) {
  Start([](const Request& request) {
    EXPECT_NE(request.op, Op::kRun);
    return Answer();
  });
  grpc::ClientContext context;
  v1::RunResponse nothing;
  const grpc::Status ran = stub_->Run(&context, v1::RunRequest(), &nothing);
  EXPECT_EQ(ran.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ran.error_message(), HasSubstr("name: "));
}

TEST_F(Server, ReadsTheSpecsOfTheCoreBeforeItServes) {
  Start([pending = 2](const Request& request) mutable {
    Answer answer;
    if (request.op == Op::kNextSpec && pending == 2) {
      answer.file = {"a.textproto", "name: \"a\"\nbinary: \"/bin/disk\"\n"};
    } else if (request.op == Op::kNextSpec && pending == 1) {
      answer.file = {"b.textproto", "name: \"b\"\nbinary: \"disk\"\n"};
    } else if (request.op == Op::kSpecRead) {
      EXPECT_EQ(request.refusal.empty(), pending == 2) << request.refusal;
      EXPECT_EQ(DecodeSpec(request.spec).ok(), pending == 2);
      --pending;
    } else if (request.op == Op::kList) {
      EXPECT_EQ(pending, 0);
    }
    return answer;
  });
  grpc::ClientContext context;
  v1::ListResponse list;
  EXPECT_TRUE(stub_->List(&context, v1::ListRequest(), &list).ok());
}

TEST_F(Server, FollowersGetWhatComesLater) {
  // One event for each question, but none for the second.
  Start([asked = 0](const Request& request) mutable {
    Answer answer;
    if (request.op != Op::kEvents || ++asked == 2) return answer;
    LaunchEvent event;
    event.sequence = request.since + 10;
    answer.events = {event};
    answer.last_sequence = event.sequence;
    answer.events_lost = 9;
    return answer;
  });
  grpc::ClientContext context;
  v1::EventsRequest request;
  request.set_follow(true);
  const auto reader = stub_->Events(&context, request);
  v1::EventsResponse first, second;
  ASSERT_TRUE(reader->Read(&first));
  ASSERT_TRUE(reader->Read(&second));
  EXPECT_EQ(first.last_sequence(), 10u);
  EXPECT_EQ(first.lost(), 0u);
  EXPECT_EQ(second.last_sequence(), 20u);
  EXPECT_EQ(second.lost(), 9u);
  context.TryCancel();
  while (reader->Read(&second)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(Server, SaysThatItIsHealthy) {
  Start([](const Request&) { return Answer(); });
  // HealthCheckResponse { status: SERVING }.
  EXPECT_EQ(CallRaw("/grpc.health.v1.Health/Check", ""), "\x08\x01");
  EXPECT_EQ(CallRaw("/grpc.health.v1.Health/NoSuchMethod", ""), "");
}

TEST_F(Server, DescribesItself) {
  Start([](const Request&) { return Answer(); });
  // ServerReflectionRequest { list_services: "" }.
  EXPECT_THAT(
      CallRaw("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              std::string("\x3a\x00", 2)),
      HasSubstr("holdfast.v1.Management"));
}

TEST_F(Server, SaysThatItLivesAsLongAsItDoes) {
  Start([](const Request&) { return Answer(); });
  for (int beat = 0; beat < 2; ++beat) {
    std::vector<uint8_t> buffer(kMaxCorePacket);
    ReceivedFds fds;
    const auto got = ReceiveWithFds(watch_, absl::MakeSpan(buffer), fds);
    ASSERT_OK(got);
    const auto request =
        DecodeRequest(absl::MakeConstSpan(buffer.data(), got->size));
    ASSERT_OK(request);
    EXPECT_EQ(request->op, Op::kBeat);
  }
}

TEST(ServerAlone, NeedsALinkToTheCore) {
  EXPECT_FALSE(Serve(ApiDescriptors(), [] { return absl::OkStatus(); }).ok());
}

TEST(ServerAlone, ServesNobodyWhenItCannotBeConfined) {
  auto watch = SeqpacketPair();
  auto link = SeqpacketPair();
  ASSERT_OK(watch);
  ASSERT_OK(link);
  ApiDescriptors descriptors;
  descriptors.watch = std::move(watch->second);
  descriptors.links.push_back(std::move(link->second));
  EXPECT_THAT(Serve(std::move(descriptors),
                    [] { return absl::InternalError("no filter"); }),
              testing::StatusIs(absl::StatusCode::kInternal, "no filter"));
}

}  // namespace
}  // namespace holdfast::launcher
