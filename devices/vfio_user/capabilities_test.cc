#include "devices/vfio_user/capabilities.h"

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

absl::StatusOr<Capabilities> ParseInner(absl::string_view members) {
  return ParseCapabilities(absl::StrCat("{\"capabilities\":{", members, "}}"));
}

TEST(Capabilities, AreTheDefaultsOfTheSpecificationWhenNothingIsSaid) {
  for (const char* json : {"{}", "{\"capabilities\":{}}", "{\"other\":[1]}"}) {
    const auto parsed = ParseCapabilities(json);
    ASSERT_OK(parsed) << json;
    EXPECT_EQ(parsed->max_message_fds, 1u);
    EXPECT_EQ(parsed->max_transfer, 1048576u);
    EXPECT_EQ(parsed->max_dma_maps, 65535u);
    EXPECT_EQ(parsed->page_sizes, 4096u);
    EXPECT_FALSE(parsed->twin_socket);
    EXPECT_FALSE(parsed->write_multiple);
  }
}

TEST(Capabilities, OfQemu) {
  const auto parsed = ParseInner(
      "\"max_msg_fds\":8,\"max_data_xfer_size\":1048576,"
      "\"max_dma_maps\":65535,\"pgsizes\":4096,\"write_multiple\":true,"
      "\"migration\":{\"pgsize\":4096,\"max_bitmap_size\":268435456}");
  ASSERT_OK(parsed);
  EXPECT_EQ(parsed->max_message_fds, 8u);
  EXPECT_TRUE(parsed->write_multiple);
}

TEST(Capabilities, OfCloudHypervisor) {
  const auto parsed = ParseInner(
      "\"max_msg_fds\":1,\"max_data_xfer_size\":1048576,"
      "\"migration\":{\"pgsize\":4096}");
  ASSERT_OK(parsed);
  EXPECT_EQ(parsed->max_message_fds, 1u);
}

TEST(Capabilities, OfATwinSocket) {
  EXPECT_TRUE(ParseInner("\"twin_socket\":{\"supported\":true}")->twin_socket);
  EXPECT_FALSE(
      ParseInner("\"twin_socket\":{\"supported\":false}")->twin_socket);
  EXPECT_FALSE(ParseInner("\"twin_socket\":{\"fd_index\":7}")->twin_socket);
}

TEST(Capabilities, WhatIsTooLargeToMatterIsCapped) {
  EXPECT_EQ(ParseInner("\"max_msg_fds\":99999999999")->max_message_fds,
            0xffffffffu);
  EXPECT_EQ(ParseInner("\"max_msg_fds\":0")->max_message_fds, 0u);
}

TEST(Capabilities, UnknownNamesAreSkippedWhateverTheyHold) {
  EXPECT_OK(ParseInner("\"x\":{\"max_msg_fds\":\"y\"},\"z\":[[1]]"));
  EXPECT_OK(ParseCapabilities("{\"x\":{\"max_msg_fds\":\"y\"}}"));
  EXPECT_OK(ParseInner("\"twin_socket\":{\"x\":{\"supported\":3}}"));
}

TEST(Capabilities, ValuesOfAnotherTypeAreRefusedByName) {
  for (const char* members :
       {"\"max_msg_fds\":\"8\"", "\"max_msg_fds\":-1", "\"max_msg_fds\":1.5",
        "\"max_msg_fds\":null", "\"max_msg_fds\":{}",
        "\"max_data_xfer_size\":[]", "\"max_data_xfer_size\":0",
        "\"max_dma_maps\":true", "\"pgsizes\":1e3", "\"pgsizes\":8192",
        "\"pgsizes\":0", "\"twin_socket\":true",
        "\"twin_socket\":{\"supported\":1}", "\"write_multiple\":1",
        "\"write_multiple\":\"true\""}) {
    EXPECT_THAT(ParseInner(members),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("capabilities.")))
        << members;
  }
  for (const char* json : {"[]", "1", "null", "{\"capabilities\":1}",
                           "{\"capabilities\":[{}]}", "", "{"}) {
    EXPECT_THAT(ParseCapabilities(json),
                StatusIs(absl::StatusCode::kInvalidArgument, _))
        << json;
  }
}

TEST(Capabilities, OfAServer) {
  Capabilities capabilities;
  capabilities.max_message_fds = 16;
  capabilities.max_dma_maps = 2048;
  EXPECT_EQ(EncodeCapabilities(capabilities),
            "{\"capabilities\":{\"max_msg_fds\":16,"
            "\"max_data_xfer_size\":1048576,\"max_dma_maps\":2048,"
            "\"pgsizes\":4096}}");
}

TEST(Capabilities, ComeBackAsTheyWere) {
  Capabilities capabilities;
  capabilities.max_message_fds = 16;
  capabilities.max_transfer = 65536;
  capabilities.max_dma_maps = 7;
  capabilities.page_sizes = 4096 | 1u << 21;
  capabilities.twin_socket = true;
  capabilities.write_multiple = true;
  const auto parsed = ParseCapabilities(EncodeCapabilities(capabilities));
  ASSERT_OK(parsed);
  EXPECT_EQ(parsed->max_message_fds, 16u);
  EXPECT_EQ(parsed->max_transfer, 65536u);
  EXPECT_EQ(parsed->max_dma_maps, 7u);
  EXPECT_EQ(parsed->page_sizes, 4096u | 1u << 21);
  EXPECT_TRUE(parsed->twin_socket);
  EXPECT_TRUE(parsed->write_multiple);
}

}  // namespace
}  // namespace holdfast::vfio_user
