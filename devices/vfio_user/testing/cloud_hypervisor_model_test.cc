// What Cloud Hypervisor makes of a server's mistakes, by its source: the golden
// table says what the guest sees, and what becomes of the machine.
#include "devices/vfio_user/testing/cloud_hypervisor_model.h"

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "devices/vfio_user/testing/server_faults.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

// What the guest sees of a fault, of the access after it and of the third.
std::string Reaction(const FaultRow& row) {
  ScriptedServer server(row.fault);
  CloudHypervisorModel machine(server);
  std::string guest;
  if (row.write) {
    machine.Write(/*region=*/7, 0x40, 0x55, 2);
    guest = "-";
  } else {
    guest = absl::StrFormat("%08x", machine.Read(0, 0x10, 4));
  }
  for (int i = 0; i < 2; ++i) {
    absl::StrAppend(&guest, " ",
                    absl::Hex(machine.Read(0, 0x10, 4), absl::kZeroPad8));
  }
  return absl::StrCat(
      row.name, " | ", guest, " | ",
      machine.stands_still() ? "stands still" : "goes on", " | ",
      machine.dead() ? "dead" : "lives", " | ",
      machine.said().empty() ? "nothing" : absl::StrJoin(machine.said(), "; "),
      "\n");
}

TEST(CloudHypervisorModel, ReactsAsTheTableSays) {
  std::string table =
      "server | guest reads | machine | connection | its log says\n";
  for (const auto& rows : {RowsOfTime(), RowsOfShape()}) {
    for (const FaultRow& row : rows) table += Reaction(row);
  }
  std::ifstream file("devices/vfio_user/golden/cloud_hypervisor_reactions.txt");
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(table, golden.str()) << "the whole table now:\n" << table;
}

ScriptedServer::Fault AnswerVersion(const char* json) {
  return [json](const Bytes&, const Bytes&) {
    return Arrivals{
        {WithHeader(VersionMessage(0, 0, json), [](MessageHeader& header) {
          header.flags = kFlagReply;
          header.id = 0;
        })}};
  };
}

TEST(CloudHypervisorModel, DoesNotStartWithHalfOfMigration) {
  ScriptedServer server(AnswerVersion(
      R"({"capabilities":{"migration":{"max_bitmap_size":4096}}})"));
  CloudHypervisorModel machine(server);
  EXPECT_FALSE(machine.Add());
  EXPECT_EQ(machine.sent().size(), 1u);
}

TEST(CloudHypervisorModel, DoesNotStartWithAPlatformDevice) {
  ScriptedServer server(AnswerVersion(R"({"capabilities":{}})"));
  CloudHypervisorModel machine(server);
  EXPECT_FALSE(machine.Add());
  EXPECT_EQ(absl::StrJoin(machine.said(), ""), "Not a PCI device");
  EXPECT_EQ(machine.sent().back(), "GET_INFO argsz=32");
}

// All of one message at a time, so that a kill has nothing to reorder.
TEST(CloudHypervisorModel, SendsNothingMoreWhileItWaits) {
  ScriptedServer server([](const Bytes&, const Bytes&) {
    return Arrivals{{{}, 0, ClientWire::Came::kNothing}};
  });
  CloudHypervisorModel machine(server);
  machine.Write(0, 0, 1, 4);
  machine.Write(0, 4, 1, 4);
  EXPECT_TRUE(machine.stands_still());
  EXPECT_EQ(machine.sent().size(), 1u);
}

}  // namespace
}  // namespace holdfast::vfio_user
